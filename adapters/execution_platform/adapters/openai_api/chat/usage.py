"""Chat Completions usage, made disjoint: the format does not say what is inside what, and servers differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from execution_platform.adapters.fields import fields_if_any
from execution_platform.adapters.openai_api.answer import stated_cost
from execution_platform.adapters.openai_api.chat.pieces import plain
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.usage import UsageItems
from execution_platform.adapters.wire import decode_json
from execution_platform.v1 import content_pb2, usage_pb2

__all__ = ["cost_of", "usage_of"]

_MODALITIES = (
    ("audio_tokens", content_pb2.MODALITY_AUDIO),
    ("image_tokens", content_pb2.MODALITY_IMAGE),
    ("video_tokens", content_pb2.MODALITY_VIDEO),
)

#: Lifetimes of cache entries in seconds, by the keys of ``usage.cache_creation`` (servers that pass Anthropic's on).
_CACHE_TTLS = {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 3600, "ephemeral_24h_input_tokens": 86400}

#: Counts of calls that the provider made on its side, by their key: the tool's name.
_SERVER_CALLS = {
    "num_search_queries": "search",  # Perplexity
    "num_sources_used": "search_source",  # xAI: each source of a live search is billed
}


#: No answer has as many tokens; sums below it fit into the contract's int64.
_NO_COUNT = 2**60


def usage_of(raw: msgspec.Raw, dialect: Dialect) -> usage_pb2.Usage:
    """Return a usage object as disjoint items, with its own JSON verbatim.

    Reasoning is inside ``completion_tokens`` unless ``total_tokens`` shows that it is not; cached and written
    tokens are inside ``prompt_tokens`` unless the total shows otherwise, they are more than the prompt, or the
    dialect says so.

    Args:
        raw: the usage JSON.
        dialect: as spoken to the model.
    """
    told = decode_json(bytes(raw))
    items = UsageItems()
    if isinstance(told, dict):
        cached = _add_input(items, told, dialect)
        _add_output(items, told, cached)
        _add_calls(items, told)
    usage = items.usage(bytes(raw).decode("utf-8", "replace"))
    usage.service_tier = plain(fields_if_any(raw).get("service_tier"))
    return usage


def cost_of(raw: msgspec.Raw) -> usage_pb2.Cost | None:
    """Return the cost that a usage object states, exactly; None: it states none.

    OpenRouter states ``cost`` in USD; where the caller's own key at the upstream pays (``is_byok``), that is
    OpenRouter's fee alone and the upstream's part stands in ``cost_details``. Perplexity states an object with
    ``total_cost``; xAI ticks, of which none (as on servers that resell its models) means that nothing is stated.
    """
    told = fields_if_any(raw)
    ticks = _number(told.get("cost_in_usd_ticks"))
    if ticks and ticks != "0":
        return stated_cost(ticks=ticks)
    stated = told.get("cost")
    if stated is None:
        return None
    if bytes(stated).lstrip().startswith(b"{"):
        return stated_cost(cost=_number(fields_if_any(stated).get("total_cost")))
    cost = stated_cost(cost=_number(stated))
    if cost is not None and bytes(told.get("is_byok", b"")) == b"true":
        upstream = stated_cost(cost=_number(fields_if_any(told.get("cost_details")).get("upstream_inference_cost")))
        if upstream is not None:
            line = cost.lines.add()
            line.CopyFrom(upstream.lines[0])
            line.description = "upstream_inference_cost"
            cost.lines[0].description = "cost"
    return cost


def _number(raw: msgspec.Raw | None) -> str | None:
    return None if raw is None else bytes(raw).decode("utf-8", "replace")


def _count(counts: Mapping[str, Any], key: str) -> int:
    value = counts.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _NO_COUNT else 0


def _details(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = told.get(key)
    return value if isinstance(value, dict) else {}


def _add_input(items: UsageItems, told: Mapping[str, Any], dialect: Dialect) -> int:
    """Add what went in. Returns how much of it the cache had to do with."""
    details = _details(told, "prompt_tokens_details")
    prompt = _count(told, "prompt_tokens")
    read = (
        _count(details, "cached_tokens")
        or _count(told, "prompt_cache_hit_tokens")
        or _count(told, "cache_read_input_tokens")
        or _count(told, "cached_tokens")
        or _count(told, "num_cached_tokens")
    )
    written = _count(details, "cache_write_tokens") or _count(told, "cache_creation_input_tokens")
    left = prompt
    if not _cache_is_outside(told, prompt, read, written, dialect):
        # Where one prefix was both read and written, the two overlap; each is billed, so each is told.
        left -= read + written if read + written <= prompt else max(read, written)
    for key, modality in _MODALITIES:
        # What was cached may be of any modality: the parts never exceed what is left.
        part = min(_count(details, key), left)
        items.add(usage_pb2.USAGE_KIND_INPUT, part, modality=modality)
        left -= part
    text = content_pb2.MODALITY_TEXT if _count(details, "text_tokens") else content_pb2.MODALITY_UNSPECIFIED
    items.add(usage_pb2.USAGE_KIND_INPUT, left, modality=text)
    items.add(usage_pb2.USAGE_KIND_CACHE_READ, read)
    _add_written(items, told, written)
    items.add(usage_pb2.USAGE_KIND_TOOL_INPUT, _count(told, "citation_tokens"), tool="search")
    items.add(
        usage_pb2.USAGE_KIND_MEDIA,
        _count(told, "prompt_audio_seconds"),
        modality=content_pb2.MODALITY_AUDIO,
        unit=usage_pb2.USAGE_UNIT_SECOND,
    )
    return read + written


def _cache_is_outside(told: Mapping[str, Any], prompt: int, read: int, written: int, dialect: Dialect) -> bool:
    cached = read + written
    if not cached:
        return False
    if dialect.cached_outside or max(read, written) > prompt:
        return True
    reasoning, beyond = _reasoning(told), _beyond(told)
    # What is as much as the reasoning is taken for that: servers leave it out of the answer more often.
    return beyond == cached + reasoning or (beyond == cached and beyond != reasoning)


def _add_written(items: UsageItems, told: Mapping[str, Any], written: int) -> None:
    for key, seconds in _CACHE_TTLS.items():
        part = min(_count(_details(told, "cache_creation"), key), written)
        items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, part, cache_ttl_seconds=seconds)
        written -= part
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, written)


def _add_output(items: UsageItems, told: Mapping[str, Any], cached: int) -> None:
    details = _details(told, "completion_tokens_details")
    completion, reasoning = _count(told, "completion_tokens"), _reasoning(told)
    left = completion if _reasoning_is_outside(told, completion, reasoning, cached) else completion - reasoning
    for key, modality in _MODALITIES:
        part = min(_count(details, key), left)
        items.add(usage_pb2.USAGE_KIND_OUTPUT, part, modality=modality)
        left -= part
    for key, kind in (
        ("accepted_prediction_tokens", usage_pb2.USAGE_KIND_PREDICTION_ACCEPTED),
        ("rejected_prediction_tokens", usage_pb2.USAGE_KIND_PREDICTION_REJECTED),
    ):
        part = min(_count(details, key), left)
        items.add(kind, part)
        left -= part
    text = content_pb2.MODALITY_TEXT if _count(details, "text_tokens") else content_pb2.MODALITY_UNSPECIFIED
    items.add(usage_pb2.USAGE_KIND_OUTPUT, left, modality=text)
    items.add(usage_pb2.USAGE_KIND_REASONING, reasoning)


def _reasoning(told: Mapping[str, Any]) -> int:
    return _count(_details(told, "completion_tokens_details"), "reasoning_tokens") or _count(told, "reasoning_tokens")


def _beyond(told: Mapping[str, Any]) -> int:
    """Return what the stated total has beyond prompt and answer."""
    return _count(told, "total_tokens") - _count(told, "prompt_tokens") - _count(told, "completion_tokens")


def _reasoning_is_outside(told: Mapping[str, Any], completion: int, reasoning: int, cached: int) -> bool:
    if reasoning > completion:
        return True
    beyond = _beyond(told)
    return 0 < reasoning <= beyond and (beyond == reasoning or beyond != cached)


def _add_calls(items: UsageItems, told: Mapping[str, Any]) -> None:
    calls = {tool: _count(told, key) for key, tool in _SERVER_CALLS.items()}
    for key in (
        "server_tool_use",
        "server_tool_use_details",
    ):  # OpenRouter, as Anthropic does: {"web_search_requests": 2}
        for name in _details(told, key):
            calls.setdefault(name.removesuffix("_requests"), _count(_details(told, key), name))
    for tool, quantity in calls.items():
        items.add(usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, quantity, tool=tool, unit=usage_pb2.USAGE_UNIT_CALL)
