"""The events of a Responses stream about output items, and what each does. Source: openai 3.52, types/responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import fields_if_any
from execution_platform.adapters.openai_api.responses.citations import logprobs_of
from execution_platform.adapters.openai_api.responses.items import OutputItems
from execution_platform.adapters.wire import decode_json, json_text

__all__ = ["DELTAS", "HANDLERS", "Event", "decode_event", "words"]


class Event(msgspec.Struct):
    """The union of what events hold; objects stay raw. Without ``output_index`` it is -1."""

    type: str = ""
    item_id: str = ""
    delta: Any = None
    output_index: int = -1
    content_index: int = 0
    summary_index: int = 0
    logprobs: Any = None
    text: str | None = None
    refusal: str | None = None
    arguments: Any = None
    input: str | None = None
    code: str | None = None
    partial_image_b64: str | None = None
    item: msgspec.Raw = msgspec.Raw()
    part: msgspec.Raw = msgspec.Raw()
    annotation: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

_RAW = ("item", "part", "annotation", "response", "error")
_NUMBERS = ("output_index", "content_index", "summary_index")
_STRINGS = ("type", "item_id", "text", "refusal", "input", "code", "partial_image_b64")

#: Events that bring words of a part in pieces: the part's group and kind.
DELTAS: Mapping[str, tuple[str, str]] = {
    "response.output_text.delta": ("content", "output_text"),
    "response.refusal.delta": ("content", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text"),
    "response.reasoning.delta": ("content", "reasoning_text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text"),
    "response.reasoning_summary.delta": ("summary", "summary_text"),
}
_DONES: Mapping[str, tuple[str, str]] = {kind.removesuffix("delta") + "done": part for kind, part in DELTAS.items()}

#: Events that bring a call's arguments in pieces.
_ARGUMENTS = (
    "response.function_call_arguments",
    "response.mcp_call_arguments",
    "response.custom_tool_call_input",
    "response.code_interpreter_call_code",
)


def decode_event(data: bytes) -> Event:
    """Decode an event.

    Raises:
        ProtocolError: it is not a JSON object.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _lenient(data)


def _lenient(data: bytes) -> Event:
    """Decode an event with lone surrogates, bytes that are not UTF-8, or values of another type than expected."""
    value = decode_json(data)
    if not isinstance(value, dict):
        raise ProtocolError("the provider sent an event that is not a JSON object", provider_status=200)
    event = Event(delta=value.get("delta"), logprobs=value.get("logprobs"), arguments=value.get("arguments"))
    for key in _STRINGS:
        if isinstance(value.get(key), str):
            setattr(event, key, value[key])
    for key in _NUMBERS:
        if isinstance(value.get(key), int):
            setattr(event, key, value[key])
    raw = fields_if_any(data)
    for key in _RAW:
        if key in raw:
            setattr(event, key, raw[key])
    return event


def words(items: OutputItems, event: Event, kind: tuple[str, str]) -> None:
    """Append the words of one of DELTAS."""
    if isinstance(event.delta, str):
        group, name = kind
        position = event.summary_index if group == "summary" else event.content_index
        part = items.part(event.output_index, group, position, name, event.item_id)
        items.words(part, event.delta, logprobs_of(event.logprobs) if event.logprobs else ())


def _words_done(items: OutputItems, event: Event, _: bytes) -> None:
    group, kind = _DONES[event.type]
    text = event.refusal if kind == "refusal" else event.text
    position = event.summary_index if group == "summary" else event.content_index
    part = items.part(event.output_index, group, position, kind, event.item_id)
    if text is not None:
        items.all_words(part, text, logprobs_of(event.logprobs) if event.logprobs and not part.logprobs else ())


def _item_added(items: OutputItems, event: Event, _: bytes) -> None:
    items.added(event.output_index, event.item)


def _item_done(items: OutputItems, event: Event, _: bytes) -> None:
    items.done(event.output_index, event.item)


def _content_added(items: OutputItems, event: Event, _: bytes) -> None:
    items.part_added(event.output_index, "content", event.content_index, event.part)


def _content_done(items: OutputItems, event: Event, _: bytes) -> None:
    items.part_done(event.output_index, "content", event.content_index, event.part)


def _summary_added(items: OutputItems, event: Event, _: bytes) -> None:
    items.part_added(event.output_index, "summary", event.summary_index, event.part)


def _summary_done(items: OutputItems, event: Event, _: bytes) -> None:
    items.part_done(event.output_index, "summary", event.summary_index, event.part)


def _annotation(items: OutputItems, event: Event, _: bytes) -> None:
    part = items.part(event.output_index, "content", event.content_index, "output_text")
    items.annotation(part, event.annotation)


def _arguments(items: OutputItems, event: Event, _: bytes) -> None:
    items.arguments(event.output_index, event.delta if isinstance(event.delta, str) else json_text(event.delta))


def _arguments_done(items: OutputItems, event: Event, _: bytes) -> None:
    for text in (event.arguments, event.input, event.code):
        if isinstance(text, str):
            items.all_arguments(event.output_index, text)


def _partial_image(items: OutputItems, event: Event, data: bytes) -> None:
    own = {"type", "sequence_number", "item_id", "output_index", "partial_image_b64", "obfuscation"}
    fields = {key: value for key, value in fields_if_any(data).items() if key not in own}
    items.partial_image(event.output_index, event.partial_image_b64 or "", fields)


def _audio(items: OutputItems, event: Event, _: bytes) -> None:
    if isinstance(event.delta, str):
        items.audio.data(event.delta)


def _transcript(items: OutputItems, event: Event, _: bytes) -> None:
    if isinstance(event.delta, str):
        items.audio.transcript(event.delta)


HANDLERS: Mapping[str, Callable[[OutputItems, Event, bytes], None]] = {
    "response.output_item.added": _item_added,
    "response.output_item.done": _item_done,
    "response.content_part.added": _content_added,
    "response.content_part.done": _content_done,
    "response.reasoning_summary_part.added": _summary_added,
    "response.reasoning_summary_part.done": _summary_done,
    "response.output_text.annotation.added": _annotation,
    "response.image_generation_call.partial_image": _partial_image,
    "response.audio.delta": _audio,
    "response.audio.transcript.delta": _transcript,
    **dict.fromkeys(_DONES, _words_done),
    **{f"{kind}.delta": _arguments for kind in _ARGUMENTS},
    **{f"{kind}.done": _arguments_done for kind in _ARGUMENTS},
}
