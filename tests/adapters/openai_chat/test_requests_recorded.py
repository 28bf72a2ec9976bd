"""Recorded Chat Completions requests, said in the contract and built again, say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.adapters.openai_chat.answers import dialect_of
from tests.adapters.openai_chat.reverse import alike, request_of
from tests.adapters.recordings import Record, params, records

from execution_platform.adapters.openai.models import DIALECT as OPENAI
from execution_platform.adapters.openai_api.chat.request import build_chat
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2

REQUESTS = [
    record
    for provider in ("openai", "azure", "openai_compatible")
    for record in records("open", provider, api="chat.completions")
    if isinstance(record["request"]["body"], dict)
]

#: What differs on purpose, by the recording's id: member, and why.
CHANGED = {
    "azure-1f56bbe98dacc6": {"model": "the deployment in the address names it; Azure takes it in the body as well"},
}


def dialect_for(record: Record) -> Dialect:
    if record["vendor"] == "openai":
        return OPENAI.for_model(record["model"] or "")
    return dialect_of(record["vendor"], record["model"] or "")


def built(request: chat_pb2.ChatRequest, record: Record) -> tuple[dict[str, Any], list[str]]:
    body = record["request"]["body"]
    model = body.get("model") or record["request"]["path"].split("/")[-3]
    wire = build_chat(Call(request=request, model=model, unary=not body.get("stream")), dialect_for(record))
    return json.loads(wire.body), [notice.field for notice in wire.notices]


@pytest.mark.parametrize("record", params(iter(REQUESTS)))
def test_a_recorded_request_is_built_again(record: Record) -> None:
    """The body that is built for a recorded request says what the recorded one says, but for listed differences."""
    recorded = record["request"]["body"]
    body, notices = built(request_of(recorded, dialect_for(record).provider), record)
    one, other = alike(recorded), alike(body)
    differing = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    assert differing == set(CHANGED.get(record["id"], {})), (
        notices,
        {key: (one.get(key), other.get(key)) for key in differing},
    )
