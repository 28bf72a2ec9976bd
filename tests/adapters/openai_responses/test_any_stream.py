"""Whatever a server sends, events that keep the promises come out, or an error of the tree."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.openai_responses.answers import translation

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.openai_api.responses.events import DELTAS, HANDLERS
from execution_platform.adapters.openai_api.responses.kinds import CALLS, OUTPUTS
from execution_platform.adapters.spi import Events
from execution_platform.adapters.testing import check_stream

CLOSING = ["response.completed", "response.incomplete", "response.failed", "error"]
TYPES = st.sampled_from(["response.created", "keepalive", "", *DELTAS, *HANDLERS, *CLOSING])
KINDS = st.sampled_from(["message", "reasoning", "newer_item", *CALLS, *OUTPUTS])
PARTS = st.sampled_from(["output_text", "refusal", "reasoning_text", "summary_text", "newer_part"])
ODD: st.SearchStrategy[Any] = st.sampled_from([None, 1, -1, 2**70, 1.5, True, [], {}, "", "x", "AAEC", [{}], {"a": {}}])


def sometimes(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, ODD)


TEXT = sometimes(st.sampled_from(["", "a", "ab", "abc", "\u00e9"]))
#: Pieces may end in half of a character.
PIECE = sometimes(st.sampled_from(["", "a", "ab", "\ud83d", "\ude00", "\ude00b"]))
LOGPROBS = sometimes(st.just([{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]))
ANNOTATION = sometimes(st.just({"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}))
PART = st.fixed_dictionaries(
    {"type": sometimes(PARTS)},
    optional={"text": TEXT, "refusal": TEXT, "logprobs": LOGPROBS, "annotations": sometimes(st.lists(ANNOTATION))},
)
ITEM = st.fixed_dictionaries(
    {"type": sometimes(KINDS), "id": sometimes(st.sampled_from(["i1", "i2"]))},
    optional={
        "content": sometimes(st.lists(PART, max_size=2)),
        "summary": sometimes(st.lists(PART, max_size=2)),
        "encrypted_content": TEXT,
        "status": TEXT,
        "call_id": TEXT,
        "name": TEXT,
        "arguments": TEXT,
        "input": TEXT,
        "action": ODD,
        "actions": ODD,
        "code": TEXT,
        "result": TEXT,
        "revised_prompt": TEXT,
        "execution": TEXT,
        "environment": ODD,
        "error": ODD,
    },
)
USAGE = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": sometimes(st.integers(0, 9)),
        "output_tokens": sometimes(st.integers(0, 9)),
        "input_tokens_details": sometimes(st.just({"cached_tokens": 3})),
        "output_tokens_details": sometimes(st.just({"reasoning_tokens": 3})),
        "cost": ODD,
        "cost_in_usd_ticks": ODD,
    },
)
RESPONSE = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXT,
        "model": TEXT,
        "status": sometimes(st.sampled_from(["completed", "incomplete", "failed", "queued"])),
        "output": sometimes(st.lists(ITEM, max_size=3)),
        "usage": sometimes(USAGE),
        "error": sometimes(st.sampled_from([None, {"code": "server_error", "message": "m"}, {"code": "bio_policy"}])),
        "incomplete_details": sometimes(st.just({"reason": "content_filter"})),
        "tools": sometimes(st.just([{"type": "custom"}])),
        "tool_usage": sometimes(st.just({"web_search": {"num_requests": 1}, "image_gen": {"input_tokens": 2}})),
        "service_tier": TEXT,
    },
)
EVENT = st.fixed_dictionaries(
    {"type": TYPES},
    optional={
        "output_index": sometimes(st.integers(0, 2)),
        "content_index": sometimes(st.integers(0, 1)),
        "summary_index": sometimes(st.integers(0, 1)),
        "item_id": TEXT,
        "delta": PIECE,
        "text": PIECE,
        "refusal": PIECE,
        "arguments": PIECE,
        "input": PIECE,
        "code": PIECE,
        "message": PIECE,
        "logprobs": LOGPROBS,
        "annotation": ANNOTATION,
        "partial_image_b64": TEXT,
        "item": sometimes(ITEM),
        "part": sometimes(PART),
        "response": sometimes(RESPONSE),
        "error": ODD,
    },
)


@given(st.lists(EVENT, max_size=12))
def test_a_stream_keeps_the_promises(events: list[Any]) -> None:
    """Events in any order and of any shape make blocks that start, grow and stop once, or an error of the tree."""
    check_stream(told(events), complete=False)


def told(events: list[Any]) -> Iterator[Events]:
    """The lists of events that a stream of these makes, up to its error."""
    translated = translation()
    try:
        for event in events:
            yield from filter(None, [translated.feed(b"data: %s\n\n" % json.dumps(event).encode())])
        yield from filter(None, [translated.end()])
    except AdapterError as error:
        yield from filter(None, [error.events])


@given(RESPONSE)
def test_a_body_keeps_the_promises(response: Any) -> None:
    """A body of any shape makes a complete answer, or an error of the tree."""
    with contextlib.suppress(AdapterError):
        check_stream([translation().whole(json.dumps(response).encode())])
