"""Runs Chat Completions answers through the translation, as tests want them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from execution_platform.adapters.compatible.rows import ROWS
from execution_platform.adapters.openai_api.chat.stream import ChatTranslation
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.spi import Call, Events
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

PLAIN = Dialect(provider="openai", family="openai")

DIALECTS = {row.dialect.provider: row.dialect for row in ROWS}

Response = chat_pb2.CompleteChatResponse


def dialect_of(vendor: str, model: str) -> Dialect:
    """How a recorded vendor speaks to a model."""
    return DIALECTS.get(vendor.replace("-", "_"), PLAIN).for_model(model)


def translation(
    dialect: Dialect = PLAIN, *, request: chat_pb2.ChatRequest | None = None, headers: dict[str, str] | None = None
) -> ChatTranslation:
    """A fresh translation of an answer to an ordinary call."""
    call = Call(request=request or chat_pb2.ChatRequest(), model="asked", request_id="r1", unary=True)
    return ChatTranslation(dialect, call, headers)


def fold(events: Events) -> Response:
    """What events add up to."""
    folded = Fold()
    folded.add_all(events)
    return folded.response


def streamed(pieces: Iterable[bytes], dialect: Dialect = PLAIN) -> Response:
    """What a stream says."""
    translated = translation(dialect)
    events: Events = []
    for piece in pieces:
        events += translated.feed(piece)
    return fold(events + translated.end())


def sse(*chunks: dict[str, Any], done: bool = True) -> bytes:
    """A stream of chunks."""
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, *(["data: [DONE]\n\n"] if done else [])]).encode()


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk with one choice; further members of the chunk are keywords."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def whole(message: dict[str, Any], finish_reason: str | None = "stop", **more: Any) -> bytes:
    """The body of an answer that is not streamed."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return json.dumps({"id": "c1", "object": "chat.completion", "model": "m", "choices": [choice], **more}).encode()


def said(response: Response, kind: str) -> list[Any]:
    """The contents of a kind, in order."""
    return [getattr(block, kind) for block in response.message.content if block.WhichOneof("content") == kind]


def text_of(response: Response) -> str:
    """The text of the answer."""
    return "".join(text.text for text in said(response, "text"))


def counted(usage: usage_pb2.Usage) -> dict[tuple[str, str], int]:
    """Quantities by the names of kind and modality."""
    return {
        (
            usage_pb2.UsageKind.Name(item.kind).removeprefix("USAGE_KIND_"),
            content_pb2.Modality.Name(item.modality).removeprefix("MODALITY_"),
        ): item.quantity
        for item in usage.items
    }


def total(usage: usage_pb2.Usage, *kinds: usage_pb2.UsageKind.ValueType) -> int:
    """Sum over kinds."""
    return sum(item.quantity for item in usage.items if item.kind in kinds)
