"""Small answers of our own making, for cases that nobody recorded."""

from __future__ import annotations

import json
from typing import Any

from execution_platform.adapters.anthropic.stream import AnswerContext, MessagesTranslation
from execution_platform.adapters.spi import Events
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2

Json = dict[str, Any]

START: Json = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    },
}
STOP: Json = {"type": "message_stop"}


def delta(stop_reason: str | None = "end_turn", usage: Json | None = None, **more: Any) -> Json:
    """The event that tells how a message ended."""
    told = {"stop_reason": stop_reason, "stop_sequence": None, **more}
    return {"type": "message_delta", "delta": told, "usage": usage or {"output_tokens": 5}}


def block(index: int, start: Json, *deltas: Json) -> list[Json]:
    """The events of one block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": part} for part in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *pieces: str) -> list[Json]:
    """The events of a block of text."""
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def sse(*events: Json | str) -> bytes:
    """Events as a stream; a string is data that is no JSON, or JSON that stands as it is."""
    lines = []
    for event in events:
        name = event.get("type", "") if isinstance(event, dict) else ""
        data = json.dumps(event) if isinstance(event, dict) else event
        lines.append(f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n")
    return "".join(lines).encode()


def translation(**context: Any) -> MessagesTranslation:
    """A translation of an answer to nobody in particular."""
    return MessagesTranslation(AnswerContext(**{"provider": "anthropic", "model": "claude-asked", **context}))


def folded(events: Events) -> chat_pb2.CompleteChatResponse:
    """The answer that events tell."""
    fold = Fold()
    fold.add_all(events)
    return fold.response


def streamed(*events: Json | str) -> chat_pb2.CompleteChatResponse:
    """The answer that a stream of these events tells."""
    translated = translation()
    return folded([*translated.feed(sse(*events)), *translated.end()])


def whole(**message: Any) -> chat_pb2.CompleteChatResponse:
    """The answer that a body tells: a message with these members."""
    body = {**START["message"], "stop_reason": "end_turn", **message}
    return folded(translation().whole(json.dumps(body).encode()))
