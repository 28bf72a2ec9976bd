"""What is charged, as a list: each price of the configuration, and behind it the published one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Final

from google.protobuf import duration_pb2

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.config.prices import PriceSettings, matches
from execution_platform.server.routing.declared import Declared, declared_of, facts_declared
from execution_platform.server.routing.listed import Found, PriceList
from execution_platform.server.routing.prices import ORDINARY
from execution_platform.server.routing.rates import Rate, Rates, UnknownPriceError
from execution_platform.v1 import common_pb2, content_pb2, cost_pb2, usage_pb2

__all__ = ["PriceRow", "PriceSheet"]

_K: Final = usage_pb2.UsageKind
_M: Final = content_pb2.Modality
_TOKEN: Final = usage_pb2.USAGE_UNIT_TOKEN

#: What has a price: kind, modality and seconds of a cache entry, each with the one that it costs as much as where it
#: has no price of its own. The most general come first.
_KINDS: Final = (
    (_K.USAGE_KIND_INPUT, _M.MODALITY_UNSPECIFIED, 0, None),
    (_K.USAGE_KIND_INPUT, _M.MODALITY_AUDIO, 0, 0),
    (_K.USAGE_KIND_INPUT, _M.MODALITY_IMAGE, 0, 0),
    (_K.USAGE_KIND_INPUT, _M.MODALITY_VIDEO, 0, 0),
    (_K.USAGE_KIND_CACHE_READ, _M.MODALITY_UNSPECIFIED, 0, 0),
    (_K.USAGE_KIND_CACHE_READ, _M.MODALITY_AUDIO, 0, 4),
    (_K.USAGE_KIND_CACHE_READ, _M.MODALITY_IMAGE, 0, 4),
    (_K.USAGE_KIND_CACHE_WRITE, _M.MODALITY_UNSPECIFIED, 300, 0),
    (_K.USAGE_KIND_CACHE_WRITE, _M.MODALITY_UNSPECIFIED, 3_600, None),
    (_K.USAGE_KIND_OUTPUT, _M.MODALITY_UNSPECIFIED, 0, None),
    (_K.USAGE_KIND_OUTPUT, _M.MODALITY_AUDIO, 0, 9),
    (_K.USAGE_KIND_OUTPUT, _M.MODALITY_IMAGE, 0, 9),
    (_K.USAGE_KIND_OUTPUT, _M.MODALITY_VIDEO, 0, 9),
    (_K.USAGE_KIND_REASONING, _M.MODALITY_UNSPECIFIED, 0, 9),
)
_CACHE_WRITE: Final = _K.USAGE_KIND_CACHE_WRITE


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A line of the list. It is made into a message only where it is asked for: there are thousands.

    Attributes:
        name: its place in the order of all.
        message: makes it.
    """

    name: str
    message: Callable[[], cost_pb2.ModelPrice]


class PriceSheet:
    """Lists prices.

    Args:
        configuration: gives the configuration in force.
        price_list: the published prices.
    """

    def __init__(self, configuration: Callable[[], PlatformConfiguration], price_list: PriceList) -> None:
        self._configuration = configuration
        self._list = price_list

    def providers(self) -> set[str]:
        """Return the providers for which the configuration gives prices."""
        configuration = self._configuration()
        return {entry.provider for entry in configuration.prices} | {
            name.partition("/")[0] for name, facts in configuration.models.items() if facts_declared(facts) is not None
        }

    def rows(self, provider: str, model: str, at: datetime) -> Iterator[PriceRow]:
        """Yield what a provider asks at a time: first what the configuration says, then the published prices.

        Args:
            provider: its name.
            model: in its word; empty: all that are known.
            at: the time, aware.
        """
        configuration = self._configuration()
        for entry in configuration.prices:
            if entry.provider == provider and _holds(entry, at) and (not model or matches(entry.model, model)):
                yield from self._of_entry(entry, at)
        for name, facts in configuration.models.items():
            declared = facts_declared(facts)
            if declared is not None and name.partition("/")[0] == provider:
                named = name.partition("/")[2]
                if model in {"", named}:
                    yield PriceRow(_place(provider, 1, named), partial(self._of_facts, provider, named, declared))
        for found, told in self._found(provider, model):
            yield from self._of_list(provider, told, found, at)

    def _found(self, provider: str, model: str) -> Iterator[tuple[Found, str]]:
        if model:
            found = self._list.find(provider, [model])
            if found is not None:
                yield found, model
            return
        for each in self._list.models(provider):
            yield self._list.found(provider, each), each.id

    def _of_entry(self, entry: PriceSettings, at: datetime) -> Iterator[PriceRow]:
        tiers: list[tuple[tuple[str, ...], str]] = [((), ""), *(((name.lower(),), "") for name in entry.service_tiers)]
        tiers += [((), name.lower()) for name in entry.regions]
        for words, region in tiers:
            name = _place(entry.provider, 0, entry.model, *(words or ("",)), region)
            yield PriceRow(name, partial(self._declared, entry, words, region, at))

    def _declared(self, entry: PriceSettings, words: tuple[str, ...], region: str, at: datetime) -> cost_pb2.ModelPrice:
        declared = declared_of(entry, words, region) or Declared(entry.told_version(), {})
        found = None if "*" in entry.model else self._list.find(entry.provider, [entry.model])
        listed = None if found is None else found.prices(at, declared.listed_words)
        marks = declared.marks(self._list.version)
        rates = Rates(self._list.listing(entry.provider), listed, (declared,), declared.factor, marks)
        made = _price(entry.provider, entry.model, words, region, usage_pb2.COST_SOURCE_CONFIGURATION, entry)
        made.version = declared.version
        lifetimes = {seconds for special in (entry, *entry.service_tiers.values()) for seconds in special.lifetimes()}
        made.components.extend(each for each in _components(rates, lifetimes, declared=True))
        return made

    def _of_facts(self, provider: str, model: str, declared: Declared) -> cost_pb2.ModelPrice:
        made = _price(provider, model, (), "", usage_pb2.COST_SOURCE_CONFIGURATION)
        made.version = declared.version
        rates = Rates(self._list.listing(provider), None, (declared,))
        made.components.extend(each for each in _components(rates, (), declared=True))
        return made

    def _of_list(self, provider: str, model: str, found: Found, at: datetime) -> Iterator[PriceRow]:
        words = [next(iter(each.when.values())) for each in found.variants(at)]
        tiers = ["", *dict.fromkeys(word for word in words if word not in ORDINARY)]
        regions = self._list.listing(provider).regions(found.model.id) or {"": Decimal(1)}
        # Prices that hold somewhere only are told for the first of the places where they do.
        ordinary = "" if "" in regions else next(iter(regions), "")
        places = [(tier, ordinary) for tier in tiers]
        places += [("", region) for region, factor in regions.items() if factor != 1]
        for tier, region in places:
            name = _place(provider, 2, model, tier, region)
            yield PriceRow(name, partial(self._listed, provider, model, found, tier, region, at))

    def _listed(
        self, provider: str, model: str, found: Found, tier: str, region: str, at: datetime
    ) -> cost_pb2.ModelPrice:
        words = (tier,) if tier else ()
        made = _price(provider, model, words, region, usage_pb2.COST_SOURCE_LIST_PRICE)
        made.version = self._list.version
        since, until = found.span(at, words)
        _put_span(made, since, until)
        listing = self._list.listing(provider)
        factor = (listing.regions(found.model.id) or {}).get(region, Decimal(1))
        rates = Rates(listing, found.prices(at, words), (), factor)
        made.components.extend(_components(rates, ()))
        return made


def _components(rates: Rates, lifetimes: Iterable[int], *, declared: bool = False) -> Iterator[cost_pb2.PriceComponent]:
    """Yield the prices that there are, but those that say no more than a more general one; `declared`: ours alone."""
    before: dict[int, Rate] = {}
    told: set[int] = set()
    for above in [0, *(edge for edge in rates.edges() if edge > 0)]:
        found = _at(rates, above + 1, lifetimes)
        for index, (component, rate, general) in found.items():
            same = general is not None and general in found and found[general][1] == rate
            if before.get(index) == rate or (same and index not in told) or (declared and not rate.version):
                continue
            told.add(index)
            component.above_prompt_tokens = above
            yield component
        before = {index: rate for index, (_, rate, _) in found.items()}
    yield from _calls(rates, declared=declared)


def _at(
    rates: Rates, prompt: int, lifetimes: Iterable[int]
) -> dict[int, tuple[cost_pb2.PriceComponent, Rate, int | None]]:
    """Return the prices for a length of prompt, each with which more general one it may be."""
    found: dict[int, tuple[cost_pb2.PriceComponent, Rate, int | None]] = {}
    kinds = [*_KINDS, *((_CACHE_WRITE, _M.MODALITY_UNSPECIFIED, each, None) for each in sorted(lifetimes))]
    for index, (kind, modality, ttl, general) in enumerate(kinds):
        try:
            rate = rates.of_tokens(kind, prompt, modality, ttl)
        except UnknownPriceError:
            continue
        item = usage_pb2.UsageItem(kind=kind, modality=modality, unit=_TOKEN)
        if ttl:
            item.cache_ttl.CopyFrom(duration_pb2.Duration(seconds=ttl))
        component = cost_pb2.PriceComponent(item=item, price=rate.price(), per_quantity=rate.per)
        found[index] = (component, rate, general)
    return found


def _calls(rates: Rates, *, declared: bool) -> Iterator[cost_pb2.PriceComponent]:
    for tool in rates.tools():
        item = usage_pb2.UsageItem(kind=_K.USAGE_KIND_SERVER_TOOL_CALL, tool=tool, unit=usage_pb2.USAGE_UNIT_CALL)
        rate = rates.of_item(item, 0)
        if rate.version or not declared:
            yield cost_pb2.PriceComponent(item=item, price=rate.price(), per_quantity=rate.per)
    fee = rates.of_request()
    if fee is not None and (fee.version or not declared):
        yield cost_pb2.PriceComponent(price=fee.price(), per_quantity=fee.per, per_request=True)


def _holds(entry: PriceSettings, at: datetime) -> bool:
    return (entry.since is None or entry.since <= at) and (entry.until is None or at < entry.until)


def _place(*parts: object) -> str:
    return "\x1f".join(map(str, parts))


def _price(
    provider: str,
    model: str,
    words: tuple[str, ...],
    region: str,
    source: usage_pb2.CostSource.ValueType,
    entry: PriceSettings | None = None,
) -> cost_pb2.ModelPrice:
    made = cost_pb2.ModelPrice(
        provider=provider, model=model, service_tier=" ".join(words), region=region, source=source
    )
    if entry is not None:
        _put_span(made, entry.since, entry.until)
    return made


def _put_span(price: cost_pb2.ModelPrice, since: datetime | None, until: datetime | None) -> None:
    span = common_pb2.TimeRange()
    if since is not None:
        span.start_time.FromDatetime(since)
    if until is not None:
        span.end_time.FromDatetime(until)
    if since is not None or until is not None:
        price.effective_time.CopyFrom(span)
