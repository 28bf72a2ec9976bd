"""Recorded answers of Responses, and what our translation says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.adapters.recordings import Record, body_of, records

from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.responses.stream import ResponsesTranslation
from execution_platform.adapters.spi import Call, Events
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2

NOT_RESPONSES = {"doc-azure-678d94666a30"}
"""Filed under this API, but a Chat Completions body."""

CONTRADICTORY = {"doc-openai-39a92a03ea19"}
"""The pieces are not the beginning of the finished text: what was streamed stands."""

#: Single events of the specification, without the answer around them.
FRAGMENTS = "spec_"


def answers() -> list[Record]:
    """All recorded answers with status 200."""
    return [
        record
        for split in ("open", "documented")
        for provider in ("openai", "azure", "openai_compatible")
        for record in records(split, provider, api="responses")
        if record["response"]["status"] == 200 and record["id"] not in NOT_RESPONSES
    ]


def is_fragment(record: Record) -> bool:
    """Whether a record is one event and no answer."""
    return str(record.get("kind", "")).startswith(FRAGMENTS) and "response_failed" not in record["features"]


def tells_error(record: Record) -> bool:
    """Whether an answer ends in an error."""
    return "error_in_stream" in record["features"]


ANSWERS = [record for record in answers() if not is_fragment(record) and not tells_error(record)]
BROKEN = [record for record in answers() if tells_error(record)]


def is_stream(body: bytes) -> bool:
    """Whether a body is a stream of events."""
    return not body.lstrip().startswith(b"{")


def headers_of(record: Record) -> dict[str, str]:
    """The headers of a recorded answer."""
    return {name.lower(): value for name, value in record["response"]["headers"].items()}


def translation(
    record: Record | None = None, *, provider_events: bool = False, model: str = "model-asked"
) -> ResponsesTranslation:
    """A fresh translation."""
    request = chat_pb2.ChatRequest()
    request.stream_options.provider_events = provider_events
    return ResponsesTranslation(DIALECT, Call(request, model), headers_of(record) if record else {})


def answer_to(body: bytes, record: Record | None = None) -> chat_pb2.CompleteChatResponse:
    """What a body says, folded."""
    fold = Fold()
    fold.add_all(events_of(body, record))
    assert fold.done
    return fold.response


def events_of(body: bytes, record: Record | None = None) -> Events:
    """What a body says, as events."""
    translated = translation(record)
    if is_stream(body):
        return translated.feed(body) + translated.end()
    return translated.whole(body)


def answered(record: Record) -> chat_pb2.CompleteChatResponse:
    """What a recorded answer says, folded."""
    return answer_to(body_of(record), record)


def stream_of(*events: Mapping[str, Any]) -> bytes:
    """A stream of events, as OpenAI frames them."""
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), json.dumps(event).encode()) for event in events
    )
