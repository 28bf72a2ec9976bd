"""Recorded requests of Converse and ConverseStream, turned into ChatRequests and back, say the same."""

from __future__ import annotations

import copy
import json
from typing import Any
from urllib.parse import unquote

import pytest
from tests.adapters.bedrock.reverse import Json, request_of
from tests.adapters.recordings import Record, params, records

from execution_platform.adapters.bedrock.request import build_request
from execution_platform.adapters.spi import Call

REQUESTS = [record for record in records("open", "bedrock") if record["api"] in {"converse", "converse-stream"}]

#: Recorded requests that ask for what the model is not documented to do: the field that is told, and why.
TOLD = {"bedrock-45039da7401194": {"output_format.json_schema": "no Claude before 4.5 is listed for structured output"}}


def built(record: Record) -> tuple[Json, list[str], str]:
    """The body that we make of a recorded one, the fields that notices name, and the path."""
    call = Call(request_of(record["request"]["body"]), record["model"], unary=record["api"] == "converse")
    wire = build_request(call, "bedrock", "us-east-1")
    return json.loads(wire.body), [notice.field for notice in wire.notices], wire.path


# What the recordings say and the contract cannot tell apart from saying nothing, or says in another form:
# - an empty `inferenceConfig`, `system` or list of stop sequences: the same as leaving them out;
# - `status: success` of a result: the default;
# - two messages of one role in a row: one message with both contents, since the roles have to alternate;
# - `additionalModelRequestFields.output_config.effort`, Anthropic's own words: `outputConfig.effort`, Converse's;
# - of a Claude with stop sequences we ask besides which one came;
# - base64 that the collection has shortened: compared by its shape;
# - the names of documents: without the characters that Bedrock refuses.
@pytest.mark.parametrize("record", params(iter(REQUESTS)))
def test_a_recorded_request_comes_back(record: Record) -> None:
    """What a recorded request says is said by the body that is built from its ChatRequest."""
    body, told, _ = built(record)
    expected = normal(record["request"]["body"])
    if record["id"] in TOLD:
        expected.pop("outputConfig")
    assert normal(body) == expected
    assert told == list(TOLD.get(record["id"], {}))


@pytest.mark.parametrize("record", params(iter(REQUESTS)))
def test_a_recorded_request_goes_where_it_went(record: Record) -> None:
    """The path names the operation and the model, with a colon as %3A."""
    _, _, path = built(record)
    assert unquote(path) == unquote(record["request"]["path"])
    assert ":" not in path


def normal(body: Json) -> Json:
    """A body in the form in which two that say the same are equal."""
    body = copy.deepcopy(body)
    _move_effort(body)
    body.pop("additionalModelResponseFieldPaths", None)
    config = body.get("inferenceConfig", {})
    if not config.get("stopSequences", True):
        del config["stopSequences"]
    messages: list[Json] = []
    for message in body["messages"]:
        content = [_block(block) for block in message["content"]]
        if messages and messages[-1]["role"] == message["role"]:
            messages[-1]["content"] += content
        else:
            messages.append({"role": message["role"], "content": content})
    told = {key: value for key, value in body.items() if value not in ({}, [])}
    return told | {"messages": messages}


def _move_effort(body: Json) -> None:
    effort = body.get("additionalModelRequestFields", {}).pop("output_config", None)
    if effort:
        body["outputConfig"] = {**body.get("outputConfig", {}), **effort}


def _block(block: Json) -> Any:
    [(kind, part)] = block.items()
    if kind == "toolResult":
        rest = {key: value for key, value in part.items() if (key, value) != ("status", "success")}
        return {kind: rest | {"content": [_block(one) for one in part["content"]]}}
    if kind in {"image", "document", "video"}:
        part = dict(part)
        if "bytes" in part["source"]:
            part["source"] = {"bytes": "some base64"}
        if "name" in part:
            part["name"] = part["name"].replace("_", "-")
    return {kind: part}
