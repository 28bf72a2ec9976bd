"""Streams of Responses as single servers send them, and parts that are newer than we are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.adapters.openai_responses.answers import answer_to, stream_of

REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
    "encrypted_content": "e1",
}
PARTS = [{"type": "output_text", "text": "hi", "annotations": []}]
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": PARTS}
CALLS = [
    {"type": "function_call", "id": f"fc_{n}", "call_id": f"call_{n}", "name": "f", "arguments": '{"a":1}'}
    for n in (1, 2)
]
SKETCH = {"type": "sketch", "lines": [1, 2]}
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def answer_of(*output: dict[str, Any]) -> dict[str, Any]:
    return {"id": "r1", "model": "m", "status": "completed", "output": list(output), "usage": USAGE}


def interleaved() -> list[dict[str, Any]]:
    """A stream whose items are all begun before the first one is done."""
    output: list[dict[str, Any]] = [REASONING, MESSAGE, *CALLS]
    begun = [{**REASONING, "content": []}, {**MESSAGE, "content": []}, *({**call, "arguments": ""} for call in CALLS)]
    arguments = "response.function_call_arguments.delta"
    pieces = [
        {"type": "response.reasoning_text.delta", "output_index": 0, "item_id": "rs_1", "delta": "hm"},
        {"type": "response.output_text.delta", "output_index": 1, "item_id": "msg_1", "delta": "hi"},
        {"type": arguments, "output_index": 2, "item_id": "fc_1", "delta": '{"a"'},
        {"type": arguments, "output_index": 3, "item_id": "fc_2", "delta": '{"a":1}'},
    ]
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": "r1", "model": "m"}}]
    for at, piece in enumerate(pieces):
        events += [{"type": "response.output_item.added", "output_index": at, "item": begun[at]}, piece]
    events.append({"type": arguments, "output_index": 2, "item_id": "fc_1", "delta": ":1}"})
    events += [
        {"type": "response.output_item.done", "output_index": at, "item": item} for at, item in enumerate(output)
    ]
    end = {"type": "response.completed", "response": answer_of(*output)}
    return [*events, end]


@pytest.mark.parametrize("told", [True, False])
def test_items_are_told_apart_without_their_index(told: bool) -> None:
    """Where the server tells no output_index (llama.cpp), events belong to the item of their id."""
    events = [{key: value for key, value in each.items() if told or key != "output_index"} for each in interleaved()]
    answer = answer_to(stream_of(*events))
    assert answer.message == answer_to(json.dumps(answer_of(REASONING, MESSAGE, *CALLS)).encode()).message
    calls = [block.tool_call.arguments_json for block in answer.message.content if block.HasField("tool_call")]
    assert calls == ['{"a":1}', '{"a":1}']


def test_a_newer_part_keeps_its_place() -> None:
    """A part of an unknown kind stands where the server put it, streamed or not."""
    message: dict[str, Any] = {**MESSAGE, "content": [SKETCH, *PARTS]}
    place: dict[str, Any] = {"output_index": 0, "item_id": "msg_1"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "r1", "model": "m"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": []}},
        {"type": "response.content_part.added", **place, "content_index": 0, "part": SKETCH},
        {"type": "response.content_part.done", **place, "content_index": 0, "part": SKETCH},
        {"type": "response.output_text.delta", **place, "content_index": 1, "delta": "hi"},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": answer_of(message)},
    ]
    for body in (stream_of(*events), json.dumps(answer_of(message)).encode()):
        blocks = answer_to(body).message.content
        assert [block.WhichOneof("content") for block in blocks] == ["opaque", "text"]
        assert json.loads(blocks[0].opaque.json) == SKETCH
        assert json.loads(blocks[0].provider_metadata_json)["status"] == "completed"


def test_tokens_that_fit_two_explanations_count_once() -> None:
    """Where the total exceeds its parts by what cache and reasoning both are, it is the reasoning that is outside."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 50,
        "total_tokens": 68,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens_details": {"reasoning_tokens": 8},
    }
    answer = answer_to(json.dumps({**answer_of(MESSAGE), "usage": usage}).encode())
    assert sorted(item.quantity for item in answer.finished.usage.items) == [2, 8, 8, 50]
