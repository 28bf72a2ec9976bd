"""What single servers of OpenAI's formats do otherwise than most: their dialects, told in words."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tables import Row, code

from execution_platform.adapters.compatible.rows import ROWS
from execution_platform.adapters.local.adapter import DIALECT as LOCAL
from execution_platform.adapters.openai.models import DIALECT as OPENAI
from execution_platform.adapters.openai_api.dialect import COMPATIBLE_PLACES, Dialect, ModelRule

__all__ = ["dialect_rows"]

#: What the shared page tells.
_MOST = Dialect(provider="", family="")

#: Not an option but a courtesy: where it has no place nobody misses it.
_END_USER = "context.end_user_id"

_MEDIA = {
    "image": "images",
    "audio": "audio as bytes",
    "bare_audio": "audio as bytes or by its address",
    "file": "documents as bytes",
    "file_id": "files that were uploaded",
    "file_url": "documents by their address",
    "document_url": "documents as bytes or by their address (`document_url`)",
    "video": "video",
}
_ROUTES = {
    "reasoning_content": "the message's `reasoning_content`",
    "reasoning": "the message's `reasoning`",
    "reasoning_details": "the message's `reasoning_details`, each piece as it came",
    "content": "parts of the message's `content`",
}


def _json(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "`PARAM_DROPPED`"
    return code(json.dumps(value)) if value else "nothing: it is so by itself"


def _switch(field: str, value: Mapping[str, Any] | None) -> Row:
    return [field, _json(value)]


def _places(dialect: Dialect) -> Iterator[Row]:
    without = [field for field in COMPATIBLE_PLACES if field not in dialect.places and field != _END_USER]
    if without:
        yield ["`PARAM_DROPPED`", ", ".join(map(code, without))]
    if _END_USER not in dialect.places:
        yield [code(_END_USER), "not sent"]
    for field, place in dialect.places.items():
        if COMPATIBLE_PLACES.get(field) != place and (field != "cache.ttl" or dialect.cache_ttls):
            yield [code(field), code(place)]


def _rules(dialect: Dialect) -> Iterator[Row]:
    for rule in dialect.rules:
        said = "; ".join(_rule(rule))
        yield [", ".join(map(code, rule.models)), said]


def _rule(rule: ModelRule) -> Iterator[str]:
    if rule.api is not None:
        yield f"spoken to in {'Chat Completions' if rule.api == 'chat' else 'Responses'}"
    if rule.unsupported:
        yield f"`PARAM_DROPPED` for {', '.join(map(code, sorted(rule.unsupported)))}"
    if rule.without_media:
        yield f"`BLOCK_DROPPED` for media of kind {', '.join(sorted(rule.without_media))}"
    if rule.system_role:
        yield f"instructions have the role {code(json.dumps(rule.system_role))}"
    if rule.cached_outside:
        yield "cached tokens are outside `prompt_tokens`"


def _media(dialect: Dialect) -> Iterator[Row]:
    taken = [words for part, words in _MEDIA.items() if part in dialect.media]
    yield ["media in a prompt", ", ".join(taken) or "none: `BLOCK_DROPPED`"]


def _ttls(ttls: Mapping[int, str]) -> str:
    return " or ".join(code(json.dumps(word)) for word in ttls.values())


def _one(what: str, how: Callable[[Any], str]) -> Callable[[Dialect, Any], Iterator[Row]]:
    def tell(_: Dialect, value: Any) -> Iterator[Row]:
        yield [what, how(value)]

    return tell


#: How each member of a dialect is told where it is not what it is for most.
_TOLD: Mapping[str, Callable[[Dialect, Any], Iterator[Row]]] = {
    "api": _one("API", lambda _: "Responses for most models"),
    "rules": lambda dialect, _: _rules(dialect),
    "auth": _one("key", lambda header: f"in the header {code(header + ':')}"),
    "address": _one("address", lambda _: "made of the resource's, see [credentials](#credentials)"),
    "headers": _one(
        "headers of every request", lambda sent: ", ".join(code(f"{name}: {value}") for name, value in sent.items())
    ),
    "places": lambda dialect, _: _places(dialect),
    "unsupported": _one("`PARAM_DROPPED` too", lambda fields: ", ".join(map(code, sorted(fields)))),
    "body": _one("in every body", _json),
    "system_role": _one("role of instructions", lambda role: code(json.dumps(role))),
    "stream_usage": _one("`stream_options.include_usage`", lambda _: "not sent: usage comes unasked"),
    "media": lambda dialect, _: _media(dialect),
    "without_media": _one("`BLOCK_DROPPED`", lambda kinds: f"media of kind {', '.join(sorted(kinds))}"),
    "tool_media": _one("media in results of tools", lambda _: "stay in the tool's message"),
    "text_parts": _one("several texts in one message", lambda _: "joined by blank lines"),
    "named_roles": _one("`messages.name`", lambda _: "`PARAM_DROPPED`"),
    "json_schema": _one("`output_format.json_schema`", lambda _: "any JSON object, with `PARAM_ADJUSTED`"),
    "json_object": _one("`output_format.json`", lambda _: "`PARAM_DROPPED`"),
    "required_choice": _one("`tool_choice.mode` REQUIRED", lambda word: code(json.dumps(word))),
    "named_choice": _one("`tool_choice.mode` NAMED", lambda _: "only that tool is shown, and a call of it is required"),
    "allowed_tools": _one("`tool_choice.allowed_names`", lambda _: "`tool_choice.allowed_tools.tools`"),
    "strict_tools": _one("`tools.function.strict`", lambda _: "`PARAM_DROPPED`"),
    "custom_tools": _one("tools that take free text", lambda _: 'a provider tool of type `"custom"`'),
    "call_ids": _one(
        "ids of calls", lambda ids: f"must fit {code(ids[0])}; others are replaced by a digest of {ids[1]} characters"
    ),
    "cache_breakpoints": _one(
        "`cache_hint` of a block",
        lambda style: "`prompt_cache_breakpoint`" if style == "openai" else '`cache_control: {"type": "ephemeral"}`',
    ),
    "breakpoint_ttls": _one("`cache_hint.ttl`", lambda ttls: f"{_ttls(ttls)}; anything else with `PARAM_ADJUSTED`"),
    "cache_ttls": _one("`cache.ttl`", lambda ttls: f"{_ttls(ttls)}; anything else with `PARAM_ADJUSTED`"),
    "cache_on": lambda _, value: iter([_switch("`cache.automatic` true", value)]),
    "cache_off": lambda _, value: iter([_switch("`cache.automatic` false", value)]),
    "reasoning_on": lambda _, value: iter([_switch("`reasoning.enabled` true", value)]),
    "reasoning_off": lambda _, value: iter([_switch("`reasoning.enabled` false", value)]),
    "reasoning_hidden": lambda _, value: iter([_switch("`reasoning.display` OMITTED", value)]),
    "reasoning_shown": lambda _, value: iter([_switch("`reasoning.display`, any other", value)]),
    "reasoning_replay": _one("earlier reasoning goes back in", lambda place: _ROUTES[place]),
    "stream_audio_format": _one("format of audio that streams", lambda name: code(json.dumps(name))),
    "replay_annotations": _one("citations of earlier answers", lambda _: "go back in the message's `annotations`"),
    "prefix_key": _one("an answer to be gone on with", lambda key: f"the last message has {code(f'{key}: true')}"),
    "cached_outside": _one("cached tokens", lambda _: "are outside `prompt_tokens`"),
    "usage_after_error": _one("an error in the stream", lambda _: "may be followed by usage, which is read"),
}


def dialect_of(name: str) -> Dialect:
    """Return how a provider speaks OpenAI's formats. Raises KeyError where it does not."""
    known = {dialect.provider: dialect for dialect in (OPENAI, LOCAL, *(row.dialect for row in ROWS))}
    return known[name]


def dialect_rows(name: str) -> Iterator[Row]:
    """Yield what a provider's dialect does otherwise than most. Raises KeyError for a member that nobody tells."""
    dialect = dialect_of(name)
    for member in dataclasses.fields(Dialect):
        value = getattr(dialect, member.name)
        if member.name not in {"provider", "family"} and value != getattr(_MOST, member.name):
            yield from _TOLD[member.name](dialect, value)
