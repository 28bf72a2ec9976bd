"""An output item of Responses while it is written: what is out, what is left, what has no field."""

from __future__ import annotations

from dataclasses import dataclass, field

from execution_platform.adapters.fields import Fields, clean_text, elements_if_any, json_of, object_json, value_of
from execution_platform.adapters.openai_api.responses.kinds import CALLS

__all__ = ["WORDS", "Item", "Part", "arguments_of", "missing", "rest_of"]

#: Where each kind of part keeps its words.
WORDS = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text", "summary_text": "text"}


@dataclass(slots=True)
class Part:
    """A part of a message or reasoning item while it is written.

    Attributes:
        kind: its type, as in WORDS.
        block: index of its block.
        position: what the metadata says of its place.
        sent: its words that are out, in pieces.
        citations: how many annotations are out.
        logprobs: whether log probabilities are out.
        complete: the server has said that it is whole.
        rest: its keys that have no field.
    """

    kind: str
    block: int
    position: dict[str, int]
    sent: list[str] = field(default_factory=list)
    citations: int = 0
    logprobs: bool = False
    complete: bool = False
    rest: Fields = field(default_factory=dict)


@dataclass(slots=True)
class Item:
    """An item.

    Attributes:
        kind: its type.
        id: its id.
        fields: what it says, as far as it is known.
        parts: its parts by group and position, if it is made of parts.
        newer: blocks of parts of other kinds, by their position.
        block: index of its block, if it is one; -1: none yet.
        free_text: the call's argument is free text.
        sent: the call's arguments that are out, in pieces.
        done: it is complete.
    """

    kind: str
    id: str
    fields: Fields
    parts: dict[tuple[str, int], Part] = field(default_factory=dict)
    newer: dict[int, int] = field(default_factory=dict)
    block: int = -1
    free_text: bool = False
    sent: list[str] = field(default_factory=list)
    done: bool = False


def missing(text: str, sent: list[str]) -> str:
    """Return what of a whole text is not out yet; nothing if something else is out."""
    out = "".join(sent)
    if not text.startswith(out):
        # Halves of a surrogate pair may have come one by one.
        out = out.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text[len(out) :] if text.startswith(out) else ""


def rest_of(item: Item) -> Fields:
    """Return what an item says that no field of its blocks holds."""
    own = {"id", "type"}
    if item.kind == "message":
        own.add("content")
        if clean_text(item.fields.get("role")) == "assistant":
            own.add("role")
    elif item.kind == "reasoning":
        own.add("summary")
        if elements_if_any(item.fields.get("content")):
            own.add("content")
        if isinstance(value_of(item.fields.get("encrypted_content")), str):
            own.add("encrypted_content")
    elif item.kind in CALLS:
        own |= {key for key in ("call_id", "name") if clean_text(item.fields.get(key))}
        call = CALLS[item.kind]
        # A string where the format has an object goes back as a string.
        if call.form != "value" or not isinstance(value_of(item.fields.get(call.arguments)), str):
            own.add(call.arguments)
    return {key: value for key, value in item.fields.items() if key not in own}


def arguments_of(item: Item) -> str:
    """Return a call's arguments as the caller shall see them."""
    call = CALLS[item.kind]
    raw = item.fields.get(call.arguments)
    if raw is None or bytes(raw) == b"null":
        # xAI gives its own tools' arguments as a string, and computer calls may hold several actions.
        raw = next((item.fields[key] for key in ("arguments", "actions", "prompt") if key in item.fields), None)
        if raw is None:
            return ""
        value = value_of(raw)
        if isinstance(value, str) and "arguments" in item.fields:
            return value
        key = "actions" if "actions" in item.fields else "prompt"
        return object_json({key: raw})
    value = value_of(raw)
    if call.form in ("json", "text") and isinstance(value, str):
        return value
    if call.form == "list":
        return object_json({call.arguments: raw})
    return value if isinstance(value, str) else json_of(raw)
