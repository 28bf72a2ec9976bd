"""What an attempt may cost at most, before it is made: what a budget has to have room for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

import msgspec
from google.protobuf import duration_pb2

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.capabilities import Facts
from execution_platform.server.routing.prompt_size import most_prompt_tokens, prompt_media
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

__all__ = ["LONGEST_ANSWER", "PricesUsage", "WorstCase", "WorstCases"]

#: Tokens of the longest answer of a model of which nobody knows more, where the request sets no limit. A longer one
#: asks for more room while it streams.
LONGEST_ANSWER: Final = 8_192

_MILLION: Final = 1_000_000

#: What prices call the line of a cost that is for the request itself.
_FEE: Final = "request"

#: Prompts up to so many tokens have the same prices everywhere; above, tiers may begin.
_SHORT_PROMPT: Final = 16_384

#: Tokens up to a multiple of which longer ones count, so that prices of prompts of about a length are looked up once.
_STEP: Final = 4_096

#: Models and tiers of which worst prices are remembered, and seconds for which. Callers may name any model, and some
#: prices depend on the time.
_REMEMBERED, _FRESH_SECONDS = 1_024, 60.0

#: As what a prompt may be charged: as it is; where caching is asked for also as written to a cache, for longer or less.
_PLAIN: Final = ((usage_pb2.USAGE_KIND_INPUT, 0),)
_CACHED: Final = (*_PLAIN, (usage_pb2.USAGE_KIND_CACHE_WRITE, 0), (usage_pb2.USAGE_KIND_CACHE_WRITE, 3_600))

_ANY: Final = content_pb2.MODALITY_UNSPECIFIED
_MEDIA: Final = frozenset(
    {
        content_pb2.MODALITY_AUDIO,
        content_pb2.MODALITY_IMAGE,
        content_pb2.MODALITY_VIDEO,
        content_pb2.MODALITY_DOCUMENT,
    }
)
_WORDS: Final = {content_pb2.Modality.Name(each).removeprefix("MODALITY_").lower(): each for each in _MEDIA}


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
        fee: for the request itself, and for calls of tools as far as it bounds them.
        text_price: of a million tokens of the answer's text and thoughts, which stream; None: no price is known.
        open: it is that of one call, and an answer may take many: nobody knows a bound.
    """

    prompt_tokens: int
    output_tokens: int
    prompt_price: int | None = None
    output_price: int | None = None
    fee: int = 0
    text_price: int | None = None
    open: bool = False

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


class _Asked(NamedTuple):
    """What the prices of an attempt depend on, besides its model.

    Attributes:
        tier: of service, in the request's word.
        cached: the prompt may be written to a cache.
        prompt: tokens of it.
        shown: media that are in the prompt: all of them need a price.
        guessed: media that may be in the prompt.
        wanted: media that the answer was asked to have: all of them need a price.
        possible: media that it may have beside them.
    """

    tier: str
    cached: bool
    prompt: int
    shown: frozenset[content_pb2.Modality.ValueType]
    guessed: frozenset[content_pb2.Modality.ValueType]
    wanted: frozenset[content_pb2.Modality.ValueType]
    possible: frozenset[content_pb2.Modality.ValueType]


class _Worst(NamedTuple):
    """The dearest prices: of a million tokens each, and of a request."""

    prompt: int
    answer: int
    fee: int
    text: int


class _Bounds(msgspec.Struct):
    """What bounds a tool that its provider runs."""

    max_uses: int | None = None


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
        the request allows, as the model can, or as LONGEST_ANSWER where nobody knows. All tokens of either are charged
        as the dearest of the media that it has or may have: where the request does not say what it wants, as any that
        the model has a price for. A medium that is in the prompt or was asked for, and has no price, leaves the whole
        without one. Tools that a provider runs are in it where their `max_uses` bounds them and they have a price, and
        not otherwise, nor what they add to the prompt: nobody knows that. Of a provider whose answers may take many
        calls of models it is the first call, whose prompt is taken to be written to a cache.

        Args:
            provider: who is asked.
            model: its model.
            request: what it is asked.
        """
        facts = self._facts(provider, model)
        prompt = most_prompt_tokens(request)
        output = _longest(facts, request)
        self._forget_old_prices()
        asked = _asked(request, prompt, cached=facts.many_calls or _may_cache(request))
        known = self._priced(provider, model, asked)
        if known is None:
            return WorstCase(prompt, output, open=facts.many_calls)
        fee = known.fee + sum(self._tool(provider, model, each) for each in request.tools if each.HasField("provider"))
        return WorstCase(prompt, output, known.prompt, known.answer, fee, known.text, facts.many_calls)

    def _tool(self, provider: str, model: str, tool: chat_pb2.Tool) -> int:
        """Return what calls of a tool cost that a provider runs, as far as that is known."""
        most = _most_uses(tool)
        if most is None:
            return 0
        name = tool.provider.name or tool.provider.type
        item = usage_pb2.UsageItem(
            kind=usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, unit=usage_pb2.USAGE_UNIT_CALL, tool=name, quantity=most
        )
        asked = self._cost(provider, model, "", item)
        return 0 if asked is None else asked[0] - asked[1]

    def _forget_old_prices(self) -> None:
        configuration, now = self._configuration(), self._clock()
        if configuration is not self._known or now > self._until:
            self._priced.cache_clear()
            self._known, self._until = configuration, now + _FRESH_SECONDS

    def _worst_prices(self, provider: str, model: str, asked: _Asked) -> _Worst | None:
        """Return the dearest prices; None: not known of something that was asked for."""
        found = [self._prices_of_tier(provider, model, word, asked) for word in {"", asked.tier}]
        known = [each for each in found if each is not None]
        return _Worst(*map(max, zip(*known, strict=True))) if known else None

    def _prices_of_tier(self, provider: str, model: str, tier: str, asked: _Asked) -> _Worst | None:
        prompts: list[int] = []
        fee = 0
        for (kind, ttl), medium in itertools.product(
            _CACHED if asked.cached else _PLAIN, {_ANY} | asked.shown | asked.guessed
        ):
            item = _tokens(kind, asked.prompt, medium)
            if ttl:
                item.cache_ttl.CopyFrom(duration_pb2.Duration(seconds=ttl))
            cost = self._cost(provider, model, tier, item)
            if cost is not None:
                fee = cost[1]
                prompts.append(-(-(cost[0] - fee) * _MILLION // asked.prompt))
            elif (kind, ttl) in _PLAIN and medium in {_ANY} | asked.shown:
                return None
        answer = self._answer_prices(provider, model, tier, asked.prompt)
        texts = [answer(usage_pb2.USAGE_KIND_OUTPUT, _ANY), answer(usage_pb2.USAGE_KIND_REASONING, _ANY)]
        wanted = [answer(usage_pb2.USAGE_KIND_OUTPUT, medium) for medium in asked.wanted]
        possible = [answer(usage_pb2.USAGE_KIND_OUTPUT, medium) for medium in asked.possible]
        needed = [price for price in (*texts, *wanted) if price is not None]
        if len(needed) < len(texts) + len(wanted):
            return None
        known = [price for price in possible if price is not None]
        return _Worst(max(prompts), max(*needed, *known), fee, max(needed[: len(texts)]))

    def _answer_prices(
        self, provider: str, model: str, tier: str, prompt: int
    ) -> Callable[[usage_pb2.UsageKind.ValueType, content_pb2.Modality.ValueType], int | None]:
        """Return what tells the price of a million tokens of an answer behind a prompt of so many; None: not known."""
        asked = _tokens(usage_pb2.USAGE_KIND_INPUT, prompt, _ANY)
        before = self._cost(provider, model, tier, asked)

        def price(kind: usage_pb2.UsageKind.ValueType, medium: content_pb2.Modality.ValueType) -> int | None:
            whole = self._cost(provider, model, tier, asked, _tokens(kind, _MILLION, medium))
            return None if before is None or whole is None else whole[0] - before[0]

        return price

    def _cost(self, provider: str, model: str, tier: str, *items: usage_pb2.UsageItem) -> tuple[int, int] | None:
        """Return what usage items cost, and what of that is for the request itself; None: no price is known."""
        cost = self._prices.cost(provider, model, usage_pb2.Usage(items=items, service_tier=tier))
        if cost.status == usage_pb2.COST_STATUS_UNPRICED:
            return None
        fee = sum(line.amount.nanos for line in cost.lines if line.description == _FEE)
        return sum(line.amount.nanos for line in cost.lines), fee


def _longest(facts: Facts, request: chat_pb2.ChatRequest) -> int:
    """Return how many tokens an answer, or one call of an answer, has at most."""
    known, sampling = facts.max_output_tokens, request.sampling
    if sampling.HasField("max_output_tokens"):
        return min(sampling.max_output_tokens, known or sampling.max_output_tokens)
    return known or LONGEST_ANSWER


def _may_cache(request: chat_pb2.ChatRequest) -> bool:
    """Return whether a request asks for its prompt to be cached, or may do so in its provider's own words."""
    if request.HasField("cache") or request.provider_options:
        return True
    blocks = itertools.chain(request.system, *(message.content for message in request.messages))
    return any(each.HasField("cache_hint") for each in itertools.chain(request.tools, blocks))


def _asked(request: chat_pb2.ChatRequest, prompt: int, *, cached: bool) -> _Asked:
    """Return what a request says of what its prices depend on."""
    shown = {_medium(each.mime_type) for each in prompt_media(request)}
    wanted = _MEDIA.intersection(request.output_modalities) | _in_own_words(request)
    if request.HasField("audio_output"):
        wanted |= {content_pb2.MODALITY_AUDIO}
    return _Asked(
        request.service_tier,
        cached,
        max(-(-prompt // _STEP) * _STEP, _SHORT_PROMPT),
        frozenset(each for each in shown if each is not None),
        _MEDIA if None in shown else frozenset(),
        wanted,
        # Models that make images do so unasked.
        frozenset() if request.output_modalities else _MEDIA,
    )


def _in_own_words(request: chat_pb2.ChatRequest) -> frozenset[content_pb2.Modality.ValueType]:
    """Return the media that a request may ask for in its provider's own words."""
    if not request.provider_options:
        return frozenset()
    said = [options.options_json.lower() for options in request.provider_options]
    return frozenset(medium for word, medium in _WORDS.items() if any(f'"{word}"' in each for each in said))


def _medium(mime_type: str) -> content_pb2.Modality.ValueType | None:
    """Return what a media type is; None: it does not tell."""
    kind = mime_type.partition("/")[0].lower()
    if kind in {"application", "text"}:
        return content_pb2.MODALITY_DOCUMENT
    return _WORDS.get(kind)


def _most_uses(tool: chat_pb2.Tool) -> int | None:
    """Return how often a provider may run a tool; None: nobody says. What is merged last decides."""
    for said in (tool.provider_options_json, tool.provider.config_json):
        try:
            most = msgspec.json.decode(said or "{}", type=_Bounds).max_uses
        except msgspec.MsgspecError:
            continue  # the provider will say what is wrong with it
        if most is not None:
            return max(0, most)
    return None


def _tokens(
    kind: usage_pb2.UsageKind.ValueType, quantity: int, medium: content_pb2.Modality.ValueType
) -> usage_pb2.UsageItem:
    return usage_pb2.UsageItem(kind=kind, modality=medium, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=quantity)
