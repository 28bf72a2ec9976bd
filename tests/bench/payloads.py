"""What the mock upstream answers: pinned bytes, of the size and shape that the real APIs send today."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

__all__ = ["CHUNKS", "HELD_CHUNKS", "Format", "Shape", "model_of", "pieces_of", "sse_of", "text_of", "whole_of"]

CHUNKS = 50
"""Pieces of text in a streamed answer."""

HELD_CHUNKS = 80
"""The same for streams that are held open: 8 seconds at 10 a second."""


class Format(StrEnum):
    """The API that is spoken upstream."""

    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"


class Shape(StrEnum):
    """How an answer comes. The model's name carries it to the upstream."""

    UNARY = "unary"
    READY = "ready"
    """A stream in one write."""
    SEPARATE = "separate"
    """A stream with a write for each event, without a pause."""
    PACED = "paced"
    """A stream with a piece of text each 20 ms."""
    HELD = "held"
    """A stream with a piece of text each 100 ms, which many callers hold open at once."""


#: Names by which the SDKs' users and our rules for models take the wanted API.
_MODELS = {Format.CHAT: "gpt-4-bench-", Format.RESPONSES: "gpt-bench-", Format.MESSAGES: "claude-bench-"}

#: Members that every chunk of Chat Completions repeats.
_CHAT = {
    "id": "chatcmpl-made-up-of-the-bench-00000000",
    "object": "chat.completion.chunk",
    "created": 1763510400,
    "service_tier": "default",
    "system_fingerprint": "fp_44709d6fcb",
}
_ITEM = "msg_67ccd2bf17f0819081ff3bb2cf6508e6"


def model_of(api: Format, shape: Shape) -> str:
    """Return the model's name that asks the upstream for an answer of this shape."""
    return _MODELS[api] + shape


def pieces_of(shape: Shape) -> tuple[str, ...]:
    """Return the pieces of text of an answer; a unary one has the same text."""
    return tuple(f" word{number:03d}" for number in range(HELD_CHUNKS if shape is Shape.HELD else CHUNKS))


def text_of(shape: Shape) -> str:
    """Return the text of an answer."""
    return "".join(pieces_of(shape))


def sse_of(api: Format, shape: Shape) -> list[bytes]:
    """Return a streamed answer: a write's bytes for each piece of text, framing events beside the nearest."""
    before, deltas, after = _EVENTS[api](model_of(api, shape), pieces_of(shape))
    writes = [_sse(api, [event]) for event in deltas]
    writes[0] = _sse(api, before) + writes[0]
    writes[-1] += _sse(api, after) + (b"data: [DONE]\n\n" if api is Format.CHAT else b"")
    return writes


def whole_of(api: Format) -> bytes:
    """Return an unstreamed answer's body."""
    return json.dumps(_WHOLE[api](model_of(api, Shape.UNARY), text_of(Shape.UNARY))).encode()


Event = dict[str, Any]
Events = tuple[Sequence[Event], Sequence[Event], Sequence[Event]]


def _sse(api: Format, events: Sequence[Event]) -> bytes:
    lines = []
    for event in events:
        name = "" if api is Format.CHAT else f"event: {event['type']}\n"
        lines.append(f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n")
    return "".join(lines).encode()


def _chat_events(model: str, pieces: Sequence[str]) -> Events:
    def chunk(delta: Event, reason: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**_CHAT, "model": model, "choices": [choice], "usage": None, "obfuscation": "x7Qp2"}

    usage = {**_CHAT, "model": model, "choices": [], "usage": _chat_usage()}
    first = chunk({"role": "assistant", "content": "", "refusal": None})
    return [first], [chunk({"content": piece}) for piece in pieces], [chunk({}, "stop"), usage]


def _chat_usage() -> Event:
    return {
        "prompt_tokens": 19,
        "completion_tokens": 50,
        "total_tokens": 69,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _chat_whole(model: str, text: str) -> Event:
    message: Event = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_CHAT, "object": "chat.completion", "model": model, "choices": [choice], "usage": _chat_usage()}


def _responses_events(model: str, pieces: Sequence[str]) -> Events:
    at = {"item_id": _ITEM, "output_index": 0, "content_index": 0}
    text = "".join(pieces)
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"id": _ITEM, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    running = {**_response(model), "status": "in_progress", "output": [], "usage": None}
    whole = _responses_whole(model, text)
    before: list[Event] = [
        {"type": "response.created", "response": running},
        {"type": "response.in_progress", "response": running},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
    ]
    deltas: list[Event] = [
        {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": [], "obfuscation": "x7Qp2"}
        for piece in pieces
    ]
    after: list[Event] = [
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": {**part, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate([*before, *deltas, *after]):
        event["sequence_number"] = number
    return before, deltas, after


def _response(model: str) -> Event:
    return {
        "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
        "object": "response",
        "created_at": 1763510400,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        "metadata": {},
    }


def _responses_whole(model: str, text: str) -> Event:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"id": _ITEM, "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    usage = {
        "input_tokens": 19,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 69,
    }
    return {**_response(model), "status": "completed", "output": [item], "usage": usage}


def _messages_events(model: str, pieces: Sequence[str]) -> Events:
    message: Event = {**_messages_whole(model, ""), "content": [], "stop_reason": None}
    before: list[Event] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces
    ]
    after: list[Event] = [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 50},
        },
        {"type": "message_stop"},
    ]
    return before, deltas, after


def _messages_whole(model: str, text: str) -> Event:
    usage = {
        "input_tokens": 19,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 50,
        "service_tier": "standard",
    }
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


_EVENTS = {Format.CHAT: _chat_events, Format.RESPONSES: _responses_events, Format.MESSAGES: _messages_events}
_WHOLE = {Format.CHAT: _chat_whole, Format.RESPONSES: _responses_whole, Format.MESSAGES: _messages_whole}
