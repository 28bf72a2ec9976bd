"""Bedrock's usage as disjoint items.

Source: TokenUsage, CacheDetail, ServiceTier and PerformanceConfiguration of `bedrock-runtime/2023-09-30/service-2.json`
of botocore 1.44.5, and recorded answers (`serverToolUsage` and the counts ending in ``TokenCount`` are in no model).
"""

from __future__ import annotations

from collections.abc import Mapping

from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    int_of,
    is_told,
    json_of,
)
from execution_platform.adapters.usage import UsageItems
from execution_platform.v1 import usage_pb2

__all__ = ["read_usage"]

_SECONDS: Mapping[str, int] = {"5m": 300, "1h": 3600}


def read_usage(told: Fields) -> usage_pb2.Usage:
    """Return what was used.

    Args:
        told: members of the metadata event, or of a whole answer: `usage`, `serviceTier`, `performanceConfig`.
    """
    raw = told.get("usage")
    counts = fields_if_any(raw)
    items = UsageItems()
    _add_tokens(items, counts)
    for tool, calls in fields_if_any(counts.get("serverToolUsage")).items():
        items.add(
            usage_pb2.USAGE_KIND_SERVER_TOOL_CALL,
            int_of(calls) or 0,
            tool=tool,
            unit=usage_pb2.USAGE_UNIT_CALL,
        )
    usage = items.usage(json_of(raw) if is_told(raw) else "")
    usage.service_tier = clean_text(fields_if_any(told.get("serviceTier")).get("type"))
    usage.speed = clean_text(fields_if_any(told.get("performanceConfig")).get("latency"))
    return usage


def _add_tokens(items: UsageItems, counts: Fields) -> None:
    prompt = _count(counts, "inputTokens") or 0
    answer = _count(counts, "outputTokens") or 0
    read = _count(counts, "cacheReadInputTokens", "cacheReadInputTokenCount") or 0
    by_ttl = _written_by_ttl(counts)
    written = _count(counts, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    if written is None:
        written = sum(by_ttl.values())
    if read + written and _count(counts, "totalTokens") == prompt + answer:
        # Bedrock counts caches outside the input; who counts them inside shows it by the total.
        prompt -= read + written
    items.add(usage_pb2.USAGE_KIND_INPUT, prompt)
    items.add(usage_pb2.USAGE_KIND_CACHE_READ, read)
    for ttl, tokens in by_ttl.items():
        within = min(tokens, written)
        items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, within, cache_ttl_seconds=ttl)
        written -= within
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, written)
    items.add(usage_pb2.USAGE_KIND_OUTPUT, answer)


def _written_by_ttl(counts: Fields) -> dict[int, int]:
    """Return tokens written to caches by the seconds that they live; what lives for a span unknown here is left out."""
    by_ttl: dict[int, int] = {}
    for element in elements_if_any(counts.get("cacheDetails")):
        detail = fields_if_any(element)
        seconds = _SECONDS.get(clean_text(detail.get("ttl")))
        if seconds:
            by_ttl[seconds] = by_ttl.get(seconds, 0) + (_count(detail, "inputTokens") or 0)
    return by_ttl


def _count(counts: Fields, *names: str) -> int | None:
    for name in names:
        count = int_of(counts.get(name))
        if count is not None:
            return max(0, count)
    return None
