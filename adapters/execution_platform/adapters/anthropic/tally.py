"""What the Messages API says was used, made disjoint.

Sources: `types/beta/beta_usage.py` and `beta_*_iteration_usage.py` of the anthropic SDK 2.11;
https://openrouter.ai/docs/use-cases/usage-accounting for `cost`, which is in US dollars.
"""

from __future__ import annotations

import decimal
from decimal import Decimal

import msgspec

from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    fields_of,
    int_of,
    is_told,
    json_of,
    object_json,
    rest_of,
)
from execution_platform.adapters.usage import UsageItems
from execution_platform.adapters.wire import decode_json
from execution_platform.v1 import common_pb2, usage_pb2

__all__ = ["Tally"]

_FIVE_MINUTES = 300
_ONE_HOUR = 3600
_NANO = Decimal(1)
_LARGEST_NANOS = 2**63 - 1

#: Members that reach a field, or are told again by each later usage.
_KNOWN = frozenset(
    {
        "cache_creation",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "inference_geo",
        "input_tokens",
        "iterations",
        "output_tokens",
        "output_tokens_details",
        "server_tool_use",
        "service_tier",
        "speed",
    }
)

#: Of those that are objects and do not all come again, the members that reach a field.
_KNOWN_INSIDE = {
    "cache_creation": frozenset({"ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens"}),
    "output_tokens_details": frozenset({"thinking_tokens"}),
}


class Tally:
    """Collects the usage of one answer. Each telling replaces, member by member, what was told before."""

    def __init__(self) -> None:
        self._told: Fields = {}
        self._last: Fields = {}
        self._last_json = ""

    def tell(self, raw: msgspec.Raw) -> None:
        """Take a usage object; null says nothing."""
        if not is_told(raw):
            return
        self._last = fields_of(raw)
        self._last_json = json_of(raw)
        self._told.update((key, value) for key, value in self._last.items() if is_told(value))

    def usage(self, served_model: str = "") -> usage_pb2.Usage:
        """Return what was used so far.

        Args:
            served_model: names the items of iterations that are billed apart and name no model, as compaction's.
        """
        items = UsageItems()
        _add_tokens(items, self._told, "")
        for iteration in self._billed_apart():
            _add_tokens(items, iteration, _model(iteration) or served_model)
        _add_server_tools(items, self._told)
        usage = items.usage(self._last_json)
        usage.service_tier = clean_text(self._told.get("service_tier"))
        usage.speed = clean_text(self._told.get("speed"))
        usage.region = clean_text(self._told.get("inference_geo"))
        return usage

    def cost(self) -> usage_pb2.Cost | None:
        """Return the cost that the provider states; None: it states none."""
        nanos = _nanos(self._told.get("cost"))
        if nanos is None:
            return None
        cost = usage_pb2.Cost(status=usage_pb2.COST_STATUS_EXACT, lines=[_line(nanos, "")])
        if bytes(self._told.get("is_byok", b"")) == b"true":
            # With the operator's own key at the upstream, `cost` is the fee and the rest is billed elsewhere.
            details = self._told.get("cost_details")
            parts = fields_if_any(details)
            upstream = _nanos(parts.get("upstream_inference_cost"))
            if upstream:
                cost.lines.append(_line(upstream, "upstream_inference_cost"))
        return cost

    def unplaced_json(self) -> str:
        """Return what earlier usage objects said, the last one does not repeat, and no field has."""
        earlier = {key: raw for key, raw in self._told.items() if key not in self._last}
        known = {key for key in _KNOWN if fields_if_any(earlier.get(key)).keys() <= _KNOWN_INSIDE.get(key, frozenset())}
        return object_json(rest_of(earlier, known | (_KNOWN - _KNOWN_INSIDE.keys())))

    def _billed_apart(self) -> list[Fields]:
        """Return the iterations that the top-level figures leave out.

        Those of compaction and of advisors, and after a fallback the attempts of the models that declined.
        """
        iterations = [fields_if_any(element) for element in elements_if_any(self._told.get("iterations"))]
        served = next((_model(it) for it in reversed(iterations) if _type(it) == "fallback_message"), "")
        return [it for it in iterations if _is_apart(it, served)]


def _type(iteration: Fields) -> str:
    return clean_text(iteration.get("type"))


def _model(iteration: Fields) -> str:
    return clean_text(iteration.get("model"))


def _is_apart(iteration: Fields, served: str) -> bool:
    if _type(iteration) in {"message", "fallback_message"}:
        return bool(served and _model(iteration) and _model(iteration) != served)
    return True


def _add_tokens(items: UsageItems, told: Fields, model: str) -> None:
    output = int_of(told.get("output_tokens")) or 0
    thinking = min(output, _inner_int(told, "output_tokens_details", "thinking_tokens"))
    items.add(usage_pb2.USAGE_KIND_INPUT, int_of(told.get("input_tokens")) or 0, model=model)
    items.add(usage_pb2.USAGE_KIND_CACHE_READ, int_of(told.get("cache_read_input_tokens")) or 0, model=model)
    _add_cache_writes(items, told, model)
    items.add(usage_pb2.USAGE_KIND_OUTPUT, output - thinking, model=model)
    items.add(usage_pb2.USAGE_KIND_REASONING, thinking, model=model)


def _add_cache_writes(items: UsageItems, told: Fields, model: str) -> None:
    hour = _inner_int(told, "cache_creation", "ephemeral_1h_input_tokens")
    minutes = _inner_int(told, "cache_creation", "ephemeral_5m_input_tokens")
    total = int_of(told.get("cache_creation_input_tokens"))
    if total is not None:
        # The total is told again at the end, its split only at the start.
        hour = min(hour, total)
        minutes = min(minutes, total - hour)
        items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, total - hour - minutes, model=model)
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, minutes, cache_ttl_seconds=_FIVE_MINUTES, model=model)
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, hour, cache_ttl_seconds=_ONE_HOUR, model=model)


def _add_server_tools(items: UsageItems, told: Fields) -> None:
    raw = told.get("server_tool_use")
    for key, value in fields_of(raw).items() if is_told(raw) else ():
        items.add(
            usage_pb2.USAGE_KIND_SERVER_TOOL_CALL,
            int_of(value) or 0,
            tool=key.removesuffix("_requests"),
            unit=usage_pb2.USAGE_UNIT_CALL,
        )


def _inner_int(told: Fields, outer: str, inner: str) -> int:
    raw = told.get(outer)
    return (int_of(fields_of(raw).get(inner)) or 0) if is_told(raw) else 0


def _nanos(raw: msgspec.Raw | None) -> int | None:
    """Return an amount in US dollars in 1e-9 dollars, rounded once, half to even; None if it is no amount."""
    if not is_told(raw):
        return None
    text = json_of(raw)
    if text.startswith('"'):
        text = str(decode_json(text))
    try:
        nanos = (Decimal(text) * 1_000_000_000).quantize(_NANO, decimal.ROUND_HALF_EVEN)
    except decimal.InvalidOperation:
        return None
    return int(nanos) if nanos.is_finite() and abs(nanos) <= _LARGEST_NANOS else None


def _line(nanos: int, description: str) -> usage_pb2.CostLine:
    return usage_pb2.CostLine(
        amount=common_pb2.Money(currency_code="USD", nanos=nanos),
        source=usage_pb2.COST_SOURCE_PROVIDER,
        description=description,
    )
