"""What one model's tokens and tools cost: which of a list's prices a usage item is charged at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Final

from execution_platform.server.config.personas import ModelFacts
from execution_platform.v1 import content_pb2, usage_pb2

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

__all__ = ["PROMPT", "Rate", "Rates", "UnknownPriceError"]


#: Tokens of the prompt. All of them together decide which tier of prices holds.
PROMPT: Final = frozenset(
    {
        usage_pb2.USAGE_KIND_INPUT,
        usage_pb2.USAGE_KIND_CACHE_READ,
        usage_pb2.USAGE_KIND_CACHE_WRITE,
        usage_pb2.USAGE_KIND_TOOL_INPUT,
    }
)
_ANSWER: Final = frozenset(
    {
        usage_pb2.USAGE_KIND_OUTPUT,
        usage_pb2.USAGE_KIND_REASONING,
        usage_pb2.USAGE_KIND_PREDICTION_ACCEPTED,
        usage_pb2.USAGE_KIND_PREDICTION_REJECTED,
    }
)

#: Lifetimes of cache entries, in seconds, that the ordinary price of a cache write is for; 0: not told.
_ORDINARY_TTLS: Final = frozenset({0, 300, 1_800})
_HOUR: Final = 3_600

#: Tools that their provider runs for nothing beyond the tokens. Source of Anthropic's: platform.claude.com, the page
#: of the web fetch tool, read 2026-11-21.
_FREE_TOOLS: Final = frozenset({("anthropic", "web_fetch")})
_TOOL_PRICES: Final = {"web_search": "web_searches_kcount", "file_search": "storage_searches_kcount"}

#: Providers whose audio tokens cost many times their text tokens: without a price for audio there is none.
_DEAR_AUDIO: Final = frozenset({"openai", "azure"})

#: Words of the price list. A page of a document is charged as an image.
_MODALITIES: Final = {
    content_pb2.MODALITY_AUDIO: "audio",
    content_pb2.MODALITY_IMAGE: "image",
    content_pb2.MODALITY_VIDEO: "video",
    content_pb2.MODALITY_DOCUMENT: "image",
}

_MILLION: Final = Decimal(1_000_000)
_THOUSAND: Final = Decimal(1_000)
_NANOS: Final = Decimal(1_000_000_000)
_MOST_NANOS: Final = 2**63 - 1


class UnknownPriceError(Exception):
    """Something has no price here."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A price: US dollars for so many, and whether the configuration says so rather than a list."""

    dollars: Decimal
    per: Decimal
    declared: bool = False

    def of(self, quantity: int) -> Decimal:
        """Return what a quantity costs, in US dollars, exactly."""
        return self.dollars * quantity / self.per

    def nanos(self, quantity: int) -> int:
        """Return what a quantity costs in 1e-9 US dollars, rounded once, half to even.

        Raises:
            UnknownPriceError: more than the contract can carry; no chat uses so much.
        """
        exact = self.of(quantity) * _NANOS
        if exact > _MOST_NANOS:
            raise UnknownPriceError
        return int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))


@dataclass(frozen=True, slots=True)
class Rates:
    """The prices of one model.

    Attributes:
        provider: our name of it.
        listed: the list's prices; None: there are none, or not for the tier, speed or region that was used.
        declared: what the configuration says of the model, which goes before the list. Its price of input is that of
            every token of the prompt, its price of output that of every token of the answer.
        factor: what the list's prices of tokens are multiplied with.
    """

    provider: str
    listed: ModelPrice | None
    declared: ModelFacts | None = None
    factor: Decimal = Decimal(1)

    def of_item(self, item: usage_pb2.UsageItem, prompt_tokens: int) -> Rate:
        """Return the price of a usage item.

        Args:
            item: what was used.
            prompt_tokens: of the whole prompt.

        Raises:
            UnknownPriceError: none is known.
        """
        if item.unit == usage_pb2.USAGE_UNIT_TOKEN and item.kind in PROMPT | _ANSWER:
            return self.of_tokens(item.kind, prompt_tokens, item.modality, item.cache_ttl.seconds)
        if item.kind != usage_pb2.USAGE_KIND_SERVER_TOOL_CALL or item.unit != usage_pb2.USAGE_UNIT_CALL:
            raise UnknownPriceError
        if (self.provider, item.tool) in _FREE_TOOLS:
            return Rate(Decimal(0), _THOUSAND)
        return self._first([_TOOL_PRICES.get(item.tool, "")], prompt_tokens, _THOUSAND)

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
        if self.declared is not None:
            price = self.declared.input_price if kind in PROMPT else self.declared.output_price
            if price is not None:
                return Rate(price, _MILLION, declared=True)
        names = list(_names(kind, _MODALITIES.get(modality, ""), ttl))
        if modality == content_pb2.MODALITY_AUDIO and self.provider in _DEAR_AUDIO:
            names = [name for name in names if "audio" in name]
        rate = self._first(names, prompt_tokens, _MILLION)
        return Rate(rate.dollars * self.factor, rate.per)

    def of_request(self) -> Rate | None:
        """Return what each request costs beside what it uses; None: nothing."""
        try:
            return self._first(["requests_kcount"], 0, _THOUSAND)
        except UnknownPriceError:
            return None

    def _first(self, names: list[str], prompt_tokens: int, per: Decimal) -> Rate:
        """Return the first of some prices that the list has. Raises UnknownPriceError."""
        for name in names:
            price = getattr(self.listed, name, None)
            if isinstance(price, Decimal):
                return Rate(price, per)
            if price is not None:
                reached = [tier.price for tier in price.tiers if prompt_tokens > tier.start]
                return Rate(reached[-1] if reached else price.base, per)
        raise UnknownPriceError


def _names(kind: usage_pb2.UsageKind.ValueType, modality: str, ttl: int) -> Iterator[str]:
    """Yield the list's names of a price, the most exact first: what has no price of its own is charged as its whole."""
    if kind in _ANSWER:
        if kind == usage_pb2.USAGE_KIND_REASONING:
            yield "output_reasoning_mtok"
        if modality:
            yield f"output_{modality}_mtok"
        yield "output_mtok"
        return
    if kind == usage_pb2.USAGE_KIND_CACHE_WRITE:
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
