"""What a run used and what the CLI says that it costs, made disjoint.

While the run goes on, each model call tells its own usage: cumulative within the call, to be added up over the calls.
A result tells what was used since the result before it, by model, sub-agents and compaction included; that replaces
what the calls said. `modelUsage` and `total_cost_usd` of a result are no such thing: in a session that is gone on
with they begin with all that its earlier turns used.

Sources: `ModelUsage` and `ResultMessage` in `types.py` of claude-agent-sdk 0.2.187; results of its CLI 2.1.330.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    fields_if_any,
    fields_of,
    int_of,
    is_told,
    json_of,
    object_json,
)
from execution_platform.adapters.usage import UsageItems
from execution_platform.v1 import common_pb2, usage_pb2

__all__ = ["SYNTHETIC", "RunTally", "model_name"]

SYNTHETIC = "<synthetic>"
"""The CLI's word for the model of messages that it made itself."""

_FIVE_MINUTES = 300
_ONE_HOUR = 3600
_LARGEST_NANOS = 2**63 - 1
_SINCE = "model_usage_since_last_result"


@dataclass(slots=True)
class _Call:
    """What one model call told so far."""

    model: str = ""
    told: Fields = field(default_factory=dict)


class RunTally:
    """Collects the usage of one run.

    Args:
        resumed: the run goes on with a session, so that totals of its results are not the run's.
    """

    def __init__(self, *, resumed: bool = False) -> None:
        self._resumed = resumed
        self._calls: dict[tuple[str, str], _Call] = {}
        self._covered: set[tuple[str, str]] = set()
        self._results: list[tuple[Fields, Fields]] = []
        self._total: Decimal | None = None
        self._last_json = ""
        self._words: Fields = {}

    def tell(self, parent: str, message_id: str, model: str, raw: msgspec.Raw | None) -> bool:
        """Take the usage of a model call; each telling replaces, member by member, what was told of it before.

        Args:
            parent: the call that a sub-agent works for; empty: it is the run's own.
            message_id: the model call.
            model: its model; empty: told before.
            raw: the usage object.

        Returns:
            Whether that changes anything.
        """
        key = (parent, message_id)
        if not is_told(raw) or model == SYNTHETIC or key in self._covered:
            return False
        call = self._calls.setdefault(key, _Call())
        call.model = model_name(model) or call.model
        members = {name: value for name, value in fields_if_any(raw).items() if is_told(value)}
        if all(call.told.get(name) == value for name, value in members.items()):
            return False
        call.told.update(members)
        if not parent:
            self._words.update(members)
        self._last_json = json_of(raw)
        return True

    def settle(self, result: Fields) -> None:
        """Take a result. Raises ProtocolError where it is malformed."""
        usage = fields_if_any(result.get("usage"))
        self._words.update((name, value) for name, value in usage.items() if is_told(value))
        since = result.get(_SINCE)
        if since is None and not self._resumed:
            self._results.clear()  # an older CLI's figures, which are the whole run's
            since = result.get("modelUsage")
        self._total = _dollars(result.get("total_cost_usd"))
        if not is_told(since):
            return
        self._results.append((fields_if_any(since), usage))
        self._covered.update(self._calls)
        self._calls.clear()
        told = {"usage": result.get("usage"), "modelUsage": since}
        self._last_json = object_json({name: value for name, value in told.items() if is_told(value)})

    def usage(self, served_model: str) -> usage_pb2.Usage:
        """Return what was used so far.

        Args:
            served_model: the model of the run's own calls; items of others are told with their model.
        """
        items = UsageItems()
        for models, usage in self._results:
            for name, figures in _models(models):
                _add_figures(items, figures, _other(name, figures, served_model))
            _add_fetches(items, fields_if_any(usage.get("server_tool_use")))
        for call in self._calls.values():
            _add_call(items, call.told, "" if call.model == served_model else call.model)
        usage_told = items.usage(self._last_json)
        usage_told.service_tier = clean_text(self._words.get("service_tier"))
        usage_told.speed = clean_text(self._words.get("speed"))
        usage_told.region = clean_text(self._words.get("inference_geo"))
        return usage_told

    def cost(self) -> usage_pb2.Cost | None:
        """Return the cost that the CLI states for this run; None: it states none.

        It is the CLI's own account at list prices, hence an estimate. Where the models' parts add up to the whole
        there is a line for each, else one for all.
        """
        if self._calls:
            return None  # the run used more after its last result
        parts: dict[str, Decimal] = {}
        for models, _ in self._results:
            for name, figures in _models(models):
                amount = _dollars(figures.get("costUSD"))
                if amount is None:
                    return None
                key = _canonical(name, figures)
                parts[key] = parts.get(key, Decimal(0)) + amount
        lines = [_line(amount, name) for name, amount in parts.items()]
        if not self._resumed and self._total is not None:
            whole = _line(self._total, "")
            if sum(line.amount.nanos for line in lines) != whole.amount.nanos:
                lines = [whole]
        return usage_pb2.Cost(status=usage_pb2.COST_STATUS_ESTIMATED, lines=lines) if lines else None


def model_name(name: str) -> str:
    """Return a model's name without the CLI's mark for a larger context, as in `claude-opus-5[1m]`."""
    return name.partition("[")[0]


def _models(raw: Fields) -> Iterator[tuple[str, Fields]]:
    for name, figures in raw.items():
        yield model_name(name), fields_of(figures)


def _canonical(name: str, figures: Fields) -> str:
    return model_name(clean_text(figures.get("canonicalModel"))) or name


def _other(name: str, figures: Fields, served_model: str) -> str:
    """Return the model that an item names: none for the run's own."""
    canonical = _canonical(name, figures)
    return "" if served_model in {name, canonical} else canonical


def _add_figures(items: UsageItems, figures: Fields, model: str) -> None:
    output = int_of(figures.get("outputTokens")) or 0
    thinking = min(output, int_of(figures.get("thinkingTokens")) or 0)
    items.add(usage_pb2.USAGE_KIND_INPUT, int_of(figures.get("inputTokens")) or 0, model=model)
    items.add(usage_pb2.USAGE_KIND_CACHE_READ, int_of(figures.get("cacheReadInputTokens")) or 0, model=model)
    _add_writes(
        items,
        int_of(figures.get("cacheCreationInputTokens")),
        int_of(figures.get("cacheCreationEphemeral5mInputTokens")) or 0,
        int_of(figures.get("cacheCreationEphemeral1hInputTokens")) or 0,
        model,
    )
    items.add(usage_pb2.USAGE_KIND_OUTPUT, output - thinking, model=model)
    items.add(usage_pb2.USAGE_KIND_REASONING, thinking, model=model)
    _add_tool(items, "web_search", int_of(figures.get("webSearchRequests")) or 0, model)


def _add_call(items: UsageItems, told: Fields, model: str) -> None:
    output = int_of(told.get("output_tokens")) or 0
    details = fields_if_any(told.get("output_tokens_details"))
    thinking = min(output, int_of(details.get("thinking_tokens")) or 0)
    cache = fields_if_any(told.get("cache_creation"))
    items.add(usage_pb2.USAGE_KIND_INPUT, int_of(told.get("input_tokens")) or 0, model=model)
    items.add(usage_pb2.USAGE_KIND_CACHE_READ, int_of(told.get("cache_read_input_tokens")) or 0, model=model)
    _add_writes(
        items,
        int_of(told.get("cache_creation_input_tokens")),
        int_of(cache.get("ephemeral_5m_input_tokens")) or 0,
        int_of(cache.get("ephemeral_1h_input_tokens")) or 0,
        model,
    )
    items.add(usage_pb2.USAGE_KIND_OUTPUT, output - thinking, model=model)
    items.add(usage_pb2.USAGE_KIND_REASONING, thinking, model=model)
    tools = fields_if_any(told.get("server_tool_use"))
    _add_tool(items, "web_search", int_of(tools.get("web_search_requests")) or 0, model)
    _add_fetches(items, tools)


def _add_writes(items: UsageItems, total: int | None, minutes: int, hour: int, model: str) -> None:
    if total is not None:
        # The total is told again at the end of a call, its split only at the start.
        hour = min(hour, total)
        minutes = min(minutes, total - hour)
        items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, total - hour - minutes, model=model)
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, minutes, cache_ttl_seconds=_FIVE_MINUTES, model=model)
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, hour, cache_ttl_seconds=_ONE_HOUR, model=model)


def _add_fetches(items: UsageItems, tools: Fields) -> None:
    """Add the calls of web fetch, which no model's figures have."""
    _add_tool(items, "web_fetch", int_of(tools.get("web_fetch_requests")) or 0, "")


def _add_tool(items: UsageItems, tool: str, calls: int, model: str) -> None:
    items.add(usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, calls, tool=tool, unit=usage_pb2.USAGE_UNIT_CALL, model=model)


def _dollars(raw: msgspec.Raw | None) -> Decimal | None:
    """Return an amount in US dollars from the text that the CLI wrote; None: it is no amount."""
    if not is_told(raw):
        return None
    try:
        amount = Decimal(json_of(raw))
        return amount if amount.is_finite() and abs(_nanos(amount)) <= _LARGEST_NANOS else None
    except decimal.InvalidOperation:
        return None


def _nanos(amount: Decimal) -> int:
    return int((amount * 1_000_000_000).quantize(Decimal(1), decimal.ROUND_HALF_EVEN))


def _line(amount: Decimal, description: str) -> usage_pb2.CostLine:
    return usage_pb2.CostLine(
        amount=common_pb2.Money(currency_code="USD", nanos=_nanos(amount)),
        source=usage_pb2.COST_SOURCE_PROVIDER,
        description=description,
    )
