"""What a chat will probably use, before anybody is asked; and what it did use.

Rough on purpose: four bytes are taken for a token, and an answer for as long as it may be, else as long as the model's
answers usually are. A provider's own count costs a request, a tokenizer of our own milliseconds; both are corrected
anyway once the provider has told what it counted.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

from execution_platform.server.limits.limiter import Reservation
from execution_platform.server.routing.prompt_size import prompt_tokens
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["Estimates", "PriceList"]

#: Tokens of an answer of which nothing is known.
_USUAL_OUTPUT = 1_000

#: Weight of the newest answer in the moving average.
_WEIGHT = 0.1

#: Models whose answers are remembered. Callers may name any model, so there has to be an end.
_REMEMBERED = 1_024

_ANSWERED = frozenset({usage_pb2.USAGE_KIND_OUTPUT, usage_pb2.USAGE_KIND_REASONING})


class PriceList(Protocol):
    """Knows what models cost."""

    def estimate(self, provider: str, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what so many tokens would cost in US dollars; None: no price is known."""
        ...

    def cost(
        self, provider: str, model: str, usage: usage_pb2.Usage, *, served: str = "", at: datetime | None = None
    ) -> usage_pb2.Cost:
        """Return what a usage costs: with the model that really answered, where that is told, and at a time."""
        ...


class _Usual(NamedTuple):
    """Moving averages of a model's answers: their own tokens, and what they came to, prompts and all."""

    output: float
    whole: Reservation

    def with_one_more(self, newest: _Usual) -> _Usual:
        """Return the averages with another answer."""
        tokens = self.whole.tokens + (newest.whole.tokens - self.whole.tokens) * _WEIGHT
        nanos = self.whole.cost_nanos + (newest.whole.cost_nanos - self.whole.cost_nanos) * _WEIGHT
        output = self.output + (newest.output - self.output) * _WEIGHT
        return _Usual(output, Reservation(round(tokens), round(nanos)))


class Estimates:
    """Estimates chats, and learns from their answers how long those of each model are.

    Args:
        prices: of the models.
    """

    def __init__(self, prices: PriceList) -> None:
        self._prices = prices
        self._usual: dict[tuple[str, str], _Usual] = {}

    def expected(self, provider: str, model: str, request: chat_pb2.ChatRequest) -> Reservation:
        """Return what a chat may use: its prompt, and an answer as long as it may be or as the model's usually are."""
        sampling = request.sampling
        asked = sampling.max_output_tokens if sampling.HasField("max_output_tokens") else None
        return self._reservation(provider, model, request, asked or self._output(provider, model))

    def usual_output(self, provider: str, model: str, request: chat_pb2.ChatRequest) -> int:
        """Return how many tokens the model's answers usually have, at most as many as the request allows."""
        sampling = request.sampling
        most = sampling.max_output_tokens if sampling.HasField("max_output_tokens") else 2**31
        return min(most, self._output(provider, model))

    def unheard(self, provider: str, model: str, request: chat_pb2.ChatRequest, *, answered: bool) -> Reservation:
        """Return what an attempt has probably used that was ended before it told its usage.

        Args:
            provider: who was asked.
            model: its model.
            request: what it was asked.
            answered: it had begun to answer; else only the prompt was used.
        """
        output = self.usual_output(provider, model, request) if answered else 0
        return self._reservation(provider, model, request, output)

    def told(self, provider: str, model: str, usage: usage_pb2.Usage, cost: usage_pb2.Cost | None) -> Reservation:
        """Return what a provider told: all its tokens, and their cost, which is reckoned here unless it is given."""
        cost = self._prices.cost(provider, model, usage) if cost is None else cost
        tokens = sum(item.quantity for item in usage.items if item.unit == usage_pb2.USAGE_UNIT_TOKEN)
        return Reservation(tokens, sum(line.amount.nanos for line in cost.lines))

    def cost(
        self,
        provider: str,
        model: str,
        request: chat_pb2.ChatRequest,
        usage: usage_pb2.Usage,
        *,
        served: str = "",
        at: datetime | None = None,
    ) -> usage_pb2.Cost:
        """Return what an attempt costs by what its provider told; where that is nothing, what its prompt costs.

        Args:
            provider: who was asked.
            model: the model that was asked for.
            request: what it was asked.
            usage: what the provider told.
            served: the model that really answered; empty: not told.
            at: when the chat arrived, whose prices hold; None: now.
        """
        if not usage.items:
            item = usage_pb2.UsageItem(
                kind=usage_pb2.USAGE_KIND_INPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=prompt_tokens(request)
            )
            usage = usage_pb2.Usage(items=[item])
        return self._prices.cost(provider, model, usage, served=served, at=at)

    def usual_whole(self, provider: str, model: str) -> Reservation:
        """Return what an answer usually comes to, its prompts and all; nothing where none is remembered."""
        known = self._usual.get((provider, model))
        return Reservation(0, 0) if known is None else known.whole

    def learn(self, provider: str, model: str, usage: usage_pb2.Usage, cost: usage_pb2.Cost | None = None) -> None:
        """Remember how long an answer was, and what it came to."""
        tokens = sum(item.quantity for item in usage.items if item.kind in _ANSWERED)
        if not tokens:
            return
        who, newest = (provider, model), _Usual(float(tokens), self.told(provider, model, usage, cost))
        self._usual[who] = self._usual.pop(who, newest).with_one_more(newest)
        if len(self._usual) > _REMEMBERED:
            del self._usual[next(iter(self._usual))]

    def _output(self, provider: str, model: str) -> int:
        known = self._usual.get((provider, model))
        return _USUAL_OUTPUT if known is None else round(known.output)

    def _reservation(self, provider: str, model: str, request: chat_pb2.ChatRequest, output: int) -> Reservation:
        prompt = prompt_tokens(request)
        price = self._prices.estimate(provider, model, prompt, output)
        return Reservation(prompt + output, 0 if price is None else int(price * 1_000_000_000))
