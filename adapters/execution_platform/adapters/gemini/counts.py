"""Gemini's usage metadata as disjoint items.

Source: UsageMetadata of the Gemini API. The prompt's count includes the cached part; thoughts and what tools brought
in are counted beside prompt and candidates. Each count may be split by modality.
"""

from __future__ import annotations

from typing import Any

from execution_platform.adapters.fields import carried
from execution_platform.adapters.gemini.fields import integer
from execution_platform.adapters.usage import UsageItems
from execution_platform.adapters.wire import decode_json
from execution_platform.v1 import content_pb2, usage_pb2

__all__ = ["usage_of"]

_Split = dict[content_pb2.Modality.ValueType, int]

#: MediaModality, by name and by number.
_MODALITIES: dict[Any, content_pb2.Modality.ValueType] = {
    "TEXT": content_pb2.MODALITY_TEXT,
    "IMAGE": content_pb2.MODALITY_IMAGE,
    "VIDEO": content_pb2.MODALITY_VIDEO,
    "AUDIO": content_pb2.MODALITY_AUDIO,
    "DOCUMENT": content_pb2.MODALITY_DOCUMENT,
    1: content_pb2.MODALITY_TEXT,
    2: content_pb2.MODALITY_IMAGE,
    3: content_pb2.MODALITY_VIDEO,
    4: content_pb2.MODALITY_AUDIO,
    5: content_pb2.MODALITY_DOCUMENT,
}
_UNKNOWN = content_pb2.MODALITY_UNSPECIFIED


def usage_of(raw: bytes) -> usage_pb2.Usage:
    """Return what a usageMetadata object says. Raises ProtocolError if it is not JSON."""
    said = decode_json(raw)
    items = UsageItems()
    if not isinstance(said, dict):
        return items.usage(raw.decode("utf-8", "replace"))
    prompt = _split(said, "promptTokenCount", "promptTokensDetails")
    cached = _split(said, "cachedContentTokenCount", "cacheTokensDetails")
    _add(items, usage_pb2.USAGE_KIND_INPUT, _without(prompt, cached))
    _add(items, usage_pb2.USAGE_KIND_CACHE_READ, cached)
    _add(
        items,
        usage_pb2.USAGE_KIND_TOOL_INPUT,
        _split(said, "toolUsePromptTokenCount", "toolUsePromptTokensDetails"),
    )
    answer = _split(said, "candidatesTokenCount", "candidatesTokensDetails")
    _add(items, usage_pb2.USAGE_KIND_OUTPUT, answer)
    items.add(usage_pb2.USAGE_KIND_REASONING, integer(said.get("thoughtsTokenCount")) or 0)
    usage = items.usage(raw.decode("utf-8", "replace"))
    usage.service_tier = _tier(said.get("serviceTier") or said.get("trafficType"))
    return usage


def _tier(said: Any) -> str:
    """Return the word for a tier, or the number of one; nothing for anything else."""
    return carried(str(said)) if isinstance(said, str | int) and not isinstance(said, bool) else ""


def _split(said: dict[str, Any], count: str, details: str) -> _Split:
    """Return a count by modality; what the details do not cover has none, and details that exceed it are not used."""
    total = integer(said.get(count)) or 0
    listed = said.get(details)
    if not isinstance(listed, list):
        return {_UNKNOWN: total}
    parts: _Split = {}
    for detail in listed:
        if isinstance(detail, dict):
            name = detail.get("modality")
            modality = _MODALITIES.get(name, _UNKNOWN) if isinstance(name, (str, int)) else _UNKNOWN
            parts[modality] = parts.get(modality, 0) + (integer(detail.get("tokenCount")) or 0)
    rest = total - sum(parts.values())
    if rest < 0:
        return {_UNKNOWN: total}
    if rest:
        parts[_UNKNOWN] = parts.get(_UNKNOWN, 0) + rest
    return parts


def _without(whole: _Split, part: _Split) -> _Split:
    """Take a part out of its whole, modality by modality; only the sum counts where the modalities do not fit."""
    left = {modality: count - part.get(modality, 0) for modality, count in whole.items()}
    unfitting = {modality for modality, count in part.items() if count} - whole.keys()
    if min(left.values(), default=0) < 0 or unfitting:
        return {_UNKNOWN: max(0, sum(whole.values()) - sum(part.values()))}
    return left


def _add(items: UsageItems, kind: usage_pb2.UsageKind.ValueType, split: _Split) -> None:
    for modality, count in split.items():
        items.add(kind, count, modality=modality)
