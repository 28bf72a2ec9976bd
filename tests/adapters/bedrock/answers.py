"""Made answers of Bedrock, and what the translation makes of them, checked by the conformance kit."""

from __future__ import annotations

import json
from typing import Any

from tests.adapters.bedrock.reading import Json, event

from execution_platform.adapters.bedrock.stream import AnswerContext, ConverseTranslation
from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.testing import Answer, check_translation
from execution_platform.v1 import chat_pb2

USAGE = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
START = event("messageStart", {"role": "assistant", "p": "abc"})


def context(**more: Any) -> AnswerContext:
    return AnswerContext("bedrock", more.pop("model", "us.anthropic.claude-sonnet-4-6"), request_id="chat-1", **more)


def stream_of(*events: bytes, stop: Json | None = None, metadata: Json | None = None) -> bytes:
    """A complete stream around some events."""
    stopped = event("messageStop", {"stopReason": "end_turn", **(stop or {})})
    measured = event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}, **(metadata or {})})
    return b"".join([START, *events, stopped, measured])


def delta(index: int, told: Json) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": told, "p": "ab"})


def start(index: int, told: Json) -> bytes:
    return event("contentBlockStart", {"contentBlockIndex": index, "start": told})


def stop(index: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": index})


def streamed(*events: bytes, **more: Any) -> Answer:
    """What a stream says, checked by the kit in all its ways."""
    given_context = context(**more.pop("context", {}))
    return check_translation(
        lambda: ConverseTranslation(given_context), stream=stream_of(*events, **more), family="bedrock", seeds=range(3)
    )


def whole(content: list[Json], **more: Any) -> Answer:
    """What a whole answer says, checked by the kit."""
    given_context = context(**more.pop("context", {}))
    body = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "end_turn",
        "usage": USAGE,
        "metrics": {"latencyMs": 1},
        **more,
    }
    return check_translation(
        lambda: ConverseTranslation(given_context), whole=json.dumps(body).encode(), family="bedrock", seeds=range(3)
    )


def failed(stream: bytes, error: type[AdapterError]) -> Answer:
    return check_translation(lambda: ConverseTranslation(context()), stream=stream, error=error, seeds=range(3))


def end_of(answer: Answer) -> chat_pb2.Finished:
    assert answer.finished is not None
    return answer.finished


def metadata_of(answer: Answer) -> Json:
    metadata: Json = json.loads(end_of(answer).provider_metadata_json)
    return metadata
