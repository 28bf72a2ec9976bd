"""Recorded requests, turned into ChatRequests and back, say the same."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.adapters.openai_responses.reverse import Json, request_of
from tests.adapters.recordings import Record, params, records

from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.responses.request import build_count, build_responses
from execution_platform.adapters.spi import Call

REQUESTS = [
    record
    for provider in ("openai", "azure", "openai_compatible")
    for record in records("open", provider)
    if record["api"] in {"responses", "count_tokens"} and isinstance(record["request"]["body"], dict)
]

#: Options under which we leave the keeping of answers to the server.
KEEPING = {"background", "conversation", "previous_response_id", "store"}


def built(record: Record) -> tuple[Json, list[str]]:
    """The body that we make of a recorded one, and what the notices say."""
    told = record["request"]["body"]
    model = told["model"]
    call = Call(request_of(told), model, unary=not told.get("stream"))
    build = build_count if record["api"] == "count_tokens" else build_responses
    wire = build(call, DIALECT.for_model(model))
    return json.loads(wire.body), [f"{notice.field}: {notice.message}" for notice in wire.notices]


# What the recordings say and the contract cannot tell apart from saying nothing, or says in another form:
# - members that are null, an empty description, `stream: false`, `include: []`: the defaults;
# - `type: message` of a message: it needs none;
# - a string of content: one text; `system` for `developer`: the older name of the same role;
# - `store` and `include: [reasoning.encrypted_content]` where a body is silent: ours by default, see request.py;
# - the `status` of what is sent back, which the server set itself: kept where the platform has told it;
# - `annotations` and `logprobs` of an earlier text: the first is required by the format, the second not needed;
# - base64 that the collection has shortened: compared by its media type.
@pytest.mark.parametrize("record", params(iter(REQUESTS)))
def test_a_recorded_request_comes_back(record: Record) -> None:
    """What a recorded request says is said by the body that is built from its ChatRequest."""
    body, notices = built(record)
    told = record["request"]["body"]
    assert normal(body, told) == normal(told, told), notices
    assert notices == []


def normal(body: Json, told: Json) -> Json:
    """A body in the form in which two that say the same are equal."""
    body = _without_nothing(copy.deepcopy(body))
    if not body.get("stream"):
        body.pop("stream", None)
    body["input"] = _input(body["input"])
    if "store" not in told and body.get("store") is False:
        del body["store"]
    include = [each for each in body.pop("include", []) if each != "reasoning.encrypted_content"]
    if include:
        body["include"] = sorted(include)
    for tool in body.get("tools", []):
        if tool.get("description") == "":
            del tool["description"]
    return body


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(part) for key, part in value.items() if part is not None}
    if isinstance(value, str) and value.startswith("data:"):
        return value.partition(";base64,")[0]
    return [_without_nothing(part) for part in value] if isinstance(value, list) else value


def _input(told: Any) -> list[Json]:
    items: list[Json] = [{"role": "user", "content": told}] if isinstance(told, str) else told
    for item in items:
        item.pop("status", None)
        if item.get("type") == "message":
            del item["type"]
        if item.get("role") == "system":
            item["role"] = "developer"
        if "content" in item and "role" in item:
            item["content"] = _content(item["content"])
        if isinstance(item.get("output"), str):
            item["output"] = _content(item["output"])
    return items


def _content(content: Any) -> list[Json]:
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        if part["type"] in ("output_text", "input_text"):
            part["type"] = "text"
            part.pop("annotations", None)
            part.pop("logprobs", None)
    return list(parts)


@pytest.mark.parametrize("record", params(record for record in REQUESTS if record["api"] == "responses"))
def test_nothing_is_kept_at_the_provider_unless_asked_for(record: Record) -> None:
    """A body says store: false and asks for encrypted reasoning, unless its options are about keeping."""
    body, _ = built(record)
    told = {key for key, value in record["request"]["body"].items() if value not in (None, False)}
    if told & KEEPING:
        assert body.get("store") == record["request"]["body"].get("store")
        return
    assert body["store"] is False
    reasons = not body["model"].startswith(("gpt-4", "chatgpt"))
    assert ("reasoning.encrypted_content" in body.get("include", [])) == reasons


@pytest.mark.parametrize("record", params(iter(REQUESTS)))
def test_what_the_model_said_goes_back_byte_for_byte(record: Record) -> None:
    """Encrypted reasoning, call ids and arguments of a recorded request stand in the body as they stood."""
    body, _ = built(record)
    told = record["request"]["body"]["input"]
    for before, after in zip(told, body["input"], strict=True) if isinstance(told, list) else ():
        for key in ("id", "encrypted_content", "call_id", "arguments", "phase"):
            if before.get(key) is not None:
                assert after[key] == before[key]
