"""In which order routes are asked. Pure: the same inputs give the same order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from execution_platform.server.config.personas import Strategy
from execution_platform.server.routing.prompt_size import prompt_tokens
from execution_platform.v1 import chat_pb2

__all__ = ["Inputs", "KnowsLatencies", "KnowsPrices", "Option", "Ordered", "ordered", "score", "share"]

#: With LOWEST_LATENCY one chat in so many asks another model first, so that the slow and the unknown become known.
_EXPLORING = 20

#: Tokens of an answer whose length the request does not bound.
_USUAL_OUTPUT = 1_000


class KnowsLatencies(Protocol):
    """Knows how soon models have begun to answer."""

    def median(self, provider: str, model: str) -> tuple[float, int] | None:
        """Return the median time to the first output in seconds, and of how many answers; None: none is known."""
        ...


class KnowsPrices(Protocol):
    """Knows what models cost."""

    def estimate(self, provider: str, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what so many tokens would cost in US dollars; None: no price is known."""
        ...


@dataclass(frozen=True, slots=True)
class Option:
    """One that may be asked.

    Attributes:
        provider: its name.
        model: the provider's name of the model.
        weight: share of the chats.
    """

    provider: str
    model: str
    weight: float = 1.0

    @property
    def name(self) -> str:
        """``provider/model``."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an order may depend on, beside the options themselves.

    Attributes:
        request: the chat.
        request_id: its id.
        latencies: of the models.
        prices: of the models.
    """

    request: chat_pb2.ChatRequest
    request_id: str
    latencies: KnowsLatencies
    prices: KnowsPrices


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order.

    Attributes:
        strategy: how it came about; PRIORITY where the strategy asked for does not apply.
        options: indexes of the options in order.
        reasons: why each option has its place, by the options' indexes; may be empty texts.
    """

    strategy: Strategy
    options: Sequence[int]
    reasons: Sequence[str]


def ordered(strategy: Strategy, options: Sequence[Option], inputs: Inputs) -> Ordered:
    """Return the order in which options are asked."""
    if strategy is Strategy.STICKY and not inputs.request.context.session_id:
        strategy = Strategy.PRIORITY
    return _STRATEGIES[strategy](options, inputs)


def share(*key: str) -> float:
    """Return a number above 0 and below 1 that is the same for the same key and as good as random over keys."""
    digest = hashlib.blake2b("\0".join(key).encode("utf-8", "replace"), digest_size=8).digest()
    # 52 bits and a half: neither end can be reached by rounding.
    return ((int.from_bytes(digest) >> 12) + 0.5) / 2.0**52


def score(weight: float, *key: str) -> float:
    """Return the score of an option for a key; the highest wins.

    Weighted rendezvous hashing: each option's score depends on itself and the key alone, so an option that goes or
    comes moves no key but those it wins, and each wins a share in proportion to its weight.

    Source: C. Schindelhauer and G. Schomaker, "Weighted Distributed Hash Tables", SPAA 2005 (the logarithmic method);
    D. Thaler and C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998.
    """
    return -weight / math.log(share(*key))


def _by_place(options: Sequence[Option], inputs: Inputs) -> Ordered:  # noqa: ARG001 - as the others
    return Ordered(Strategy.PRIORITY, range(len(options)), [""] * len(options))


def _by_weight(options: Sequence[Option], inputs: Inputs) -> Ordered:
    total = sum(option.weight for option in options)
    reasons = [
        f"weight {option.weight:g} of {total:g}: first for {option.weight / total:.0%} of the requests"
        if option.weight
        else "weight 0: asked only where nobody else is left"
        for option in options
    ]
    return Ordered(Strategy.WEIGHTED, _rendezvous(options, inputs.request_id), reasons)


def _by_session(options: Sequence[Option], inputs: Inputs) -> Ordered:
    session = inputs.request.context.session_id
    order = _rendezvous(options, session)
    reasons = [f"place {order.index(index) + 1} for this session" for index in range(len(options))]
    return Ordered(Strategy.STICKY, order, reasons)


def _rendezvous(options: Sequence[Option], key: str) -> list[int]:
    """Return the order of options for a key, which does not depend on the order in which they are given."""

    def rank(index: int) -> tuple[float, str]:
        option = options[index]
        return -score(option.weight, key, option.name), option.name

    return sorted(range(len(options)), key=rank)


def _by_latency(options: Sequence[Option], inputs: Inputs) -> Ordered:
    known = [inputs.latencies.median(option.provider, option.model) for option in options]
    order = sorted(
        range(len(options)), key=lambda index: _last_if_none(None if (at := known[index]) is None else at[0])
    )
    reasons = [
        "no answer is known yet" if told is None else f"median first output {told[0]:.3f} s of {told[1]} answers"
        for told in known
    ]
    if len(order) > 1 and share(inputs.request_id, "explore") < 1 / _EXPLORING:
        tried = order[1:][_rendezvous([options[index] for index in order[1:]], inputs.request_id)[0]]
        order.remove(tried)
        order.insert(0, tried)
        reasons[tried] += f"; one request in {_EXPLORING} asks another than the fastest first, to learn how fast it is"
    return Ordered(Strategy.LOWEST_LATENCY, order, reasons)


def _by_price(options: Sequence[Option], inputs: Inputs) -> Ordered:
    sampling = inputs.request.sampling
    asked = prompt_tokens(inputs.request)
    answered = sampling.max_output_tokens if sampling.HasField("max_output_tokens") else _USUAL_OUTPUT
    prices = [inputs.prices.estimate(option.provider, option.model, asked, answered) for option in options]
    order = sorted(range(len(options)), key=lambda index: _last_if_none(prices[index]))
    reasons = [
        "no price is known"
        if price is None
        else f"about USD {price.normalize():f} for {asked} tokens in and {answered} out"
        for price in prices
    ]
    return Ordered(Strategy.CHEAPEST, order, reasons)


def _last_if_none(value: float | Decimal | None) -> tuple[bool, float | Decimal]:
    return (value is None, 0.0 if value is None else value)


_STRATEGIES: dict[Strategy, Callable[[Sequence[Option], Inputs], Ordered]] = {
    Strategy.PRIORITY: _by_place,
    Strategy.WEIGHTED: _by_weight,
    Strategy.LOWEST_LATENCY: _by_latency,
    Strategy.CHEAPEST: _by_price,
    Strategy.STICKY: _by_session,
}
