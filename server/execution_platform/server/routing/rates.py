"""What one model's tokens and tools cost: which of the declared and listed prices a usage item is charged at."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from execution_platform.adapters.spi import PriceListing
from execution_platform.server.routing.declared import Declared
from execution_platform.server.routing.listed import Listed
from execution_platform.v1 import common_pb2, content_pb2, usage_pb2

__all__ = ["ANSWER", "PROMPT", "Rate", "Rates", "UnknownPriceError"]


#: Tokens of the prompt. All of them together decide which tier of prices holds.
PROMPT: Final = frozenset(
    {
        usage_pb2.USAGE_KIND_INPUT,
        usage_pb2.USAGE_KIND_CACHE_READ,
        usage_pb2.USAGE_KIND_CACHE_WRITE,
        usage_pb2.USAGE_KIND_TOOL_INPUT,
    }
)
ANSWER: Final = frozenset(
    {
        usage_pb2.USAGE_KIND_OUTPUT,
        usage_pb2.USAGE_KIND_REASONING,
        usage_pb2.USAGE_KIND_PREDICTION_ACCEPTED,
        usage_pb2.USAGE_KIND_PREDICTION_REJECTED,
    }
)
_TOKENS: Final = PROMPT | ANSWER

#: Lifetimes of cache entries, in seconds, that the ordinary price of a cache write is for; 0: not told.
_ORDINARY_TTLS: Final = frozenset({0, 300, 1_800})
_HOUR: Final = 3_600

#: Words of the price list. A page of a document is charged as an image.
_MODALITIES: Final = {
    content_pb2.MODALITY_AUDIO: "audio",
    content_pb2.MODALITY_IMAGE: "image",
    content_pb2.MODALITY_VIDEO: "video",
    content_pb2.MODALITY_DOCUMENT: "image",
}

_MILLION: Final = 1_000_000
_THOUSAND: Final = 1_000
_NANO_DIGITS: Final = 9
_MOST_NANOS: Final = 2**63 - 1


class UnknownPriceError(Exception):
    """Something has no price here."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A price, exactly.

    Attributes:
        nanos: how much, in 1e-9 US dollars.
        per: for how many.
        version: what the configuration calls its prices; empty: a list says so.
    """

    nanos: int
    per: int
    version: str = ""

    @classmethod
    def of_dollars(cls, dollars: Decimal, per: int, version: str = "") -> Rate:
        """Return a price of so many; where 1e-9 dollars are too coarse for it, it is told for more of them."""
        _, digits, exponent = dollars.as_tuple()
        nanos = int("".join(map(str, digits)))
        places = int(exponent) + _NANO_DIGITS
        while places < 0 and nanos % 10 == 0 and nanos:
            nanos, places = nanos // 10, places + 1
        if places >= 0 or not nanos:
            return cls(nanos * 10 ** max(places, 0), per, version)
        return cls(nanos, per * 10**-places, version)

    def amount(self, quantity: int) -> int:
        """Return what a quantity costs in 1e-9 US dollars, rounded once, half to even.

        Raises:
            UnknownPriceError: more than the contract can carry; no chat uses so much.
        """
        whole, rest = divmod(self.nanos * quantity, self.per)
        if rest * 2 > self.per or (rest * 2 == self.per and whole % 2):
            whole += 1
        if whole > _MOST_NANOS:
            raise UnknownPriceError
        return whole

    def of(self, quantity: int) -> Decimal:
        """Return what a quantity costs, in US dollars."""
        return Decimal(self.nanos * quantity).scaleb(-_NANO_DIGITS) / self.per

    def price(self) -> common_pb2.Money:
        """Return the price of `per`."""
        return common_pb2.Money(currency_code="USD", nanos=self.nanos)


@dataclass(slots=True)
class Rates:
    """The prices of one model.

    Attributes:
        listing: what is said of the provider's published prices.
        listed: the list's prices; None: there are none, or not for the tier, speed or region that was used.
        declared: what the configuration says of the model, which goes before the list, the first word first.
        factor: what the list's prices of tokens are multiplied with.
        marks: what a cost says of where the list's prices are from, where the configuration gives the factor.
    """

    listing: PriceListing
    listed: Listed | None
    declared: tuple[Declared, ...] = ()
    factor: Decimal = Decimal(1)
    marks: str = ""
    _edges: tuple[int, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        """Note where tiers begin: between two of them all prompts have the same prices."""
        bands = [band for declared in self.declared for each in declared.prices.values() for band in each]
        listed = self.listed
        bands += [] if listed is None else [band for name in listed.names() for band in listed.bands(name)]
        self._edges = tuple(sorted({above for above, _ in bands}))

    def edges(self) -> tuple[int, ...]:
        """Return the lengths of prompts above which other prices hold."""
        return self._edges

    def tools(self) -> list[str]:
        """Return the tools that have a price."""
        listed = [] if self.listed is None else [tool for tool, _ in self.listed.tools()]
        return sorted({*listed, *(tool for declared in self.declared for tool in declared.tools)})

    def band(self, prompt_tokens: int) -> int:
        """Return what is equal for prompts that have the same prices."""
        return bisect_left(self._edges, prompt_tokens)

    def of_item(self, item: usage_pb2.UsageItem, prompt_tokens: int) -> Rate:
        """Return the price of a usage item.

        Args:
            item: what was used.
            prompt_tokens: of the whole prompt.

        Raises:
            UnknownPriceError: none is known.
        """
        if item.unit == usage_pb2.USAGE_UNIT_TOKEN and item.kind in _TOKENS:
            return self.of_tokens(item.kind, prompt_tokens, item.modality, item.cache_ttl.seconds)
        if item.kind != usage_pb2.USAGE_KIND_SERVER_TOOL_CALL or item.unit != usage_pb2.USAGE_UNIT_CALL:
            raise UnknownPriceError
        for declared in self.declared:
            if item.tool in declared.tools:
                return Rate.of_dollars(declared.tools[item.tool], _THOUSAND, declared.version)
        if item.tool in self.listing.free_tools:
            return Rate(0, _THOUSAND)
        price = None if self.listed is None else self.listed.tool(item.tool)
        if price is None:
            raise UnknownPriceError
        return Rate.of_dollars(price, _THOUSAND)

    def of_tokens(
        self,
        kind: usage_pb2.UsageKind.ValueType,
        prompt_tokens: int,
        modality: content_pb2.Modality.ValueType = content_pb2.MODALITY_UNSPECIFIED,
        ttl: int = 0,
    ) -> Rate:
        """Return the price of tokens.

        Args:
            kind: of what.
            prompt_tokens: of the whole prompt.
            modality: what the tokens stand for.
            ttl: seconds that a cache entry lives; 0: not told.

        Raises:
            UnknownPriceError: none is known.
        """
        names = list(_names(kind, _MODALITIES.get(modality, ""), ttl))
        if modality == content_pb2.MODALITY_AUDIO and self.listing.audio_apart:
            names = [name for name in names if "audio" in name]
        for declared in self.declared:
            price = declared.of("input_mtok" if kind in PROMPT else "output_mtok", names, prompt_tokens)
            if price is not None:
                return Rate.of_dollars(price, _MILLION, declared.version)
        for name in names:
            price = self._listed(name, prompt_tokens)
            if price is not None:
                return Rate.of_dollars(price * self.factor, _MILLION, self.marks)
        raise UnknownPriceError

    def of_request(self) -> Rate | None:
        """Return what each request costs beside what it uses; None: nothing."""
        for declared in self.declared:
            if declared.request is not None:
                return Rate.of_dollars(declared.request, 1, declared.version)
        price = self._listed("requests_kcount", 0)
        return None if price is None else Rate.of_dollars(price, _THOUSAND)

    def _listed(self, name: str, prompt_tokens: int) -> Decimal | None:
        """Return a price of the list; None: it has none of that name."""
        price = None
        for above, each in () if self.listed is None else self.listed.bands(name):
            if prompt_tokens > above:
                price = each
        return price


def _names(kind: usage_pb2.UsageKind.ValueType, modality: str, ttl: int) -> Iterator[str]:
    """Yield the list's names of a price, the most exact first: what has no price of its own is charged as its whole."""
    if kind in ANSWER:
        if kind == usage_pb2.USAGE_KIND_REASONING:
            yield "output_reasoning_mtok"
        if modality:
            yield f"output_{modality}_mtok"
        yield "output_mtok"
        return
    if kind == usage_pb2.USAGE_KIND_CACHE_WRITE:
        yield f"cache_write_{ttl}s_mtok"  # which only the configuration has
        if ttl == _HOUR:
            yield "cache_write_1h_mtok"
        if ttl not in _ORDINARY_TTLS:
            return
        yield "cache_write_mtok"
    elif kind == usage_pb2.USAGE_KIND_CACHE_READ:
        if modality:
            yield f"cache_{modality}_read_mtok"
        yield "cache_read_mtok"
    if modality:
        yield f"input_{modality}_mtok"
    yield "input_mtok"
