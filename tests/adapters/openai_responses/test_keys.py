"""Nothing in an answer is unaccounted for: every key reaches a field, the metadata, or the list here."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.adapters.openai_responses.answers import ANSWERS, CONTRADICTORY, answered, answers
from tests.adapters.openai_responses.reading import Json, read
from tests.adapters.recordings import Record, body_of, params

from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.responses.request import build_responses
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2

#: Keys of the response that have fields: Started, Usage, the blocks. The others stand in Finished's metadata.
FIELDS = {"id", "model", "output", "usage", "service_tier"}

#: Keys of a stream's events, and why each that reaches no field is not missed.
EVENT_KEYS = {
    "type": "decides what the event does",
    "response": "read as the response",
    "item": "read as the item",
    "part": "repeated in the finished item",
    "delta": "in a block_delta; of patches and commands repeated in the finished item",
    "text": "repeated in the finished item",
    "refusal": "repeated in the finished item",
    "arguments": "repeated in the finished item",
    "input": "repeated in the finished item",
    "code": "repeated in the finished item, or an error's code",
    "diff": "repeated in the finished item",
    "command": "repeated in the finished item",
    "output": "repeated in the finished item",
    "name": "repeated in the finished item",
    "logprobs": "in a block_delta",
    "annotation": "in a citation",
    "error": "in the error",
    "message": "in the error",
    "param": "in the error's field",
    "sequence_number": "events come in order",
    "obfuscation": "padding against eavesdroppers",
    "item_id": "the block's id",
    "output_index": "the order of the blocks",
    "content_index": "in the block's metadata",
    "summary_index": "in the block's metadata",
    "annotation_index": "the order of the citations",
    "command_index": "the order of the commands in the finished item",
    "partial_image_index": "in the block's metadata",
    "partial_image_b64": "the block's data",
    "size": "in the block's metadata",
    "quality": "in the block's metadata",
    "background": "in the block's metadata",
    "output_format": "in the block's metadata and media type",
}


@pytest.mark.parametrize("record", params(iter(ANSWERS)))
def test_every_key_of_a_response_is_told(record: Record) -> None:
    """What has no field of its own stands in the metadata of finished, with the values as they were."""
    response = read(body_of(record)).response
    metadata = json.loads(answered(record).finished.provider_metadata_json)
    assert metadata == {key: value for key, value in response.items() if key not in FIELDS}


@pytest.mark.parametrize("record", params(iter(ANSWERS)))
def test_every_key_of_an_item_is_told(record: Record) -> None:
    """The blocks of an answer, sent back, are its items again, key by key."""
    told = [as_replayed(item) for item in read(body_of(record)).items]
    if record["id"] not in CONTRADICTORY:
        assert replayed(answered(record)) == told


def replayed(answer: chat_pb2.CompleteChatResponse) -> list[Any]:
    request = chat_pb2.ChatRequest(messages=[answer.message])
    # Where the server keeps answers, reasoning that is not encrypted is sent back as well.
    request.provider_options.add(provider="openai", options_json='{"store": true}')
    wire = build_responses(Call(request, "gpt-5.6-sol"), DIALECT)
    assert wire.notices == ()
    items: list[Any] = json.loads(wire.body)["input"]
    return items


def as_replayed(item: Json) -> Json:
    """An item without what goes out as events only, and with what the format requires."""
    item = copy.deepcopy(item)
    for part in item.get("content") or []:
        if part["type"] == "output_text":
            part.pop("logprobs", None)  # in block_delta.logprobs; the format takes them back but does not need them
            part.setdefault("annotations", [])
    return item


@pytest.mark.parametrize("record", params(iter(answers())))
def test_every_key_of_an_event_is_known(record: Record) -> None:
    """No event holds a key that is not on the list above."""
    keys = {key for event in read(body_of(record)).events for key in event}
    assert keys <= set(EVENT_KEYS)
