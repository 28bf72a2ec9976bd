"""What an attempt may cost at most, before it is made: what a budget has to have room for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from google.protobuf import duration_pb2

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.capabilities import Facts
from execution_platform.server.routing.prompt_size import most_prompt_tokens
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["LONGEST_ANSWER", "PricesUsage", "WorstCase", "WorstCases"]

#: Tokens of the longest answer of a model of which nobody knows more, where the request sets no limit. A longer one
#: asks for more room while it streams.
LONGEST_ANSWER: Final = 8_192

_MILLION: Final = 1_000_000

#: What prices call the line of a cost that is for the request itself.
_FEE: Final = "request"

#: Prompts up to so many tokens have the same prices everywhere; above, tiers may begin.
_SHORT_PROMPT: Final = 16_384

#: Models and tiers of which worst prices are remembered, and seconds for which. Callers may name any model, and some
#: prices depend on the time.
_REMEMBERED, _FRESH_SECONDS = 1_024, 60.0

#: As what a prompt may be charged: as it is; where caching is asked for also as written to a cache, for longer or less.
_PLAIN: Final = ((usage_pb2.USAGE_KIND_INPUT, 0),)
_CACHED: Final = (*_PLAIN, (usage_pb2.USAGE_KIND_CACHE_WRITE, 0), (usage_pb2.USAGE_KIND_CACHE_WRITE, 3_600))
_ANSWERS: Final = (usage_pb2.USAGE_KIND_OUTPUT, usage_pb2.USAGE_KIND_REASONING)


class PricesUsage(Protocol):
    """Knows what usages cost."""

    def cost(self, provider: str, model: str, usage: usage_pb2.Usage) -> usage_pb2.Cost:
        """Return what a usage costs."""
        ...


@dataclass(frozen=True, slots=True)
class WorstCase:
    """What an attempt may come to.

    Attributes:
        prompt_tokens: of the prompt, at most.
        output_tokens: of the answer, at most.
        prompt_price: of a million tokens of the prompt, in 1e-9 US dollars; None: no price is known.
        output_price: of a million tokens of the answer; None: no price is known.
        fee: for the request itself.
    """

    prompt_tokens: int
    output_tokens: int
    prompt_price: int | None = None
    output_price: int | None = None
    fee: int = 0

    @property
    def tokens(self) -> int:
        """Of prompt and answer."""
        return self.prompt_tokens + self.output_tokens

    @property
    def nanos(self) -> int | None:
        """In 1e-9 US dollars; None: no price is known."""
        return self.cost(self.prompt_tokens, self.output_tokens)

    def cost(self, prompt: int, output: int) -> int | None:
        """Return what so many tokens cost at these prices, rounded up; None: no price is known."""
        if self.prompt_price is None or self.output_price is None:
            return None
        return self.fee - (-(prompt * self.prompt_price + output * self.output_price) // _MILLION)


class WorstCases:
    """Reckons worst cases.

    Args:
        prices: know what usages cost.
        facts: tells what is known of a model.
        configuration: gives the configuration in force, on which prices depend.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        prices: PricesUsage,
        facts: Callable[[str, str], Facts],
        configuration: Callable[[], PlatformConfiguration],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prices = prices
        self._facts = facts
        self._configuration = configuration
        self._clock = clock
        self._known: PlatformConfiguration | None = None
        self._until = 0.0
        self._priced = lru_cache(_REMEMBERED)(self._worst_prices)

    def of(self, provider: str, model: str, request: chat_pb2.ChatRequest) -> WorstCase:
        """Return what an attempt may come to.

        The prompt is charged as dear as prompts of its length are, written to a cache or not; the answer is as long as
        the request allows, as the model can, or as LONGEST_ANSWER where nobody knows. What tools cost that a provider
        runs is not in it: how often it will run them nobody knows.

        Args:
            provider: who is asked.
            model: its model.
            request: what it is asked.
        """
        prompt = most_prompt_tokens(request)
        output = self._longest(provider, model, request)
        self._forget_old_prices()
        known = self._priced(provider, model, request.service_tier, _may_cache(request), max(prompt, _SHORT_PROMPT))
        return WorstCase(prompt, output) if known is None else WorstCase(prompt, output, *known)

    def _longest(self, provider: str, model: str, request: chat_pb2.ChatRequest) -> int:
        known = self._facts(provider, model).max_output_tokens
        sampling = request.sampling
        if sampling.HasField("max_output_tokens"):
            return min(sampling.max_output_tokens, known or sampling.max_output_tokens)
        return known or LONGEST_ANSWER

    def _forget_old_prices(self) -> None:
        configuration, now = self._configuration(), self._clock()
        if configuration is not self._known or now > self._until:
            self._priced.cache_clear()
            self._known, self._until = configuration, now + _FRESH_SECONDS

    def _worst_prices(
        self, provider: str, model: str, tier: str, cached: bool, prompt: int
    ) -> tuple[int, int, int] | None:
        """Return the dearest prices of a million tokens of prompt and answer, and the fee; None: not known."""
        found: list[tuple[int, int, int]] = []
        for word in {"", tier}:
            for kind, ttl in _CACHED if cached else _PLAIN:
                item = usage_pb2.UsageItem(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=prompt)
                if ttl:
                    item.cache_ttl.CopyFrom(duration_pb2.Duration(seconds=ttl))
                asked = self._cost(provider, model, word, item)
                if asked is None:
                    continue
                total, fee = asked
                for answer in _ANSWERS:
                    more = usage_pb2.UsageItem(kind=answer, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=_MILLION)
                    whole = self._cost(provider, model, word, item, more)
                    if whole is not None:
                        found.append((-(-(total - fee) * _MILLION // prompt), whole[0] - total, fee))
        if not found:
            return None
        prompts, answers, fees = zip(*found, strict=True)
        return max(prompts), max(answers), max(fees)

    def _cost(self, provider: str, model: str, tier: str, *items: usage_pb2.UsageItem) -> tuple[int, int] | None:
        """Return what usage items cost, and what of that is for the request itself; None: no price is known."""
        cost = self._prices.cost(provider, model, usage_pb2.Usage(items=items, service_tier=tier))
        if cost.status == usage_pb2.COST_STATUS_UNPRICED:
            return None
        fee = sum(line.amount.nanos for line in cost.lines if line.description == _FEE)
        return sum(line.amount.nanos for line in cost.lines), fee


def _may_cache(request: chat_pb2.ChatRequest) -> bool:
    """Return whether a request asks for its prompt to be cached, or may do so in its provider's own words."""
    if request.HasField("cache") or request.provider_options:
        return True
    blocks = itertools.chain(request.system, *(message.content for message in request.messages))
    return any(each.HasField("cache_hint") for each in itertools.chain(request.tools, blocks))
