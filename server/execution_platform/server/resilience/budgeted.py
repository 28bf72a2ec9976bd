"""Holds what an attempt may cost in every budget that it touches, and ends its answer where a budget is used up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter
from execution_platform.server.errors import BudgetExceededError, LedgerUnavailableError
from execution_platform.server.ledger.facts import Demand
from execution_platform.server.ledger.ledger import Lease, Ledger
from execution_platform.server.limits.estimates import Estimates
from execution_platform.server.limits.reckoning import tokens_of
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.accounted import known_so_far
from execution_platform.server.resilience.journal import Entry, Journal
from execution_platform.server.routing.worst_case import WorstCase, WorstCases
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["Budgeted", "Budgeting"]

Event = chat_pb2.ChatEvent


class Budgeting:
    """What attempts under budgets share.

    Args:
        ledger: holds budgets.
        worst: reckons what attempts may cost.
        estimates: know what usages cost.
        metrics: count refusals.
    """

    def __init__(self, ledger: Ledger, worst: WorstCases, estimates: Estimates, metrics: Metrics) -> None:
        self.ledger = ledger
        self.worst = worst
        self.estimates = estimates
        self.metrics = metrics

    def touches(self, journal: Journal, entry: Entry) -> bool:
        """Return whether an attempt touches any budget, as far as this process knows."""
        leg = entry.leg
        return journal.facts is not None and self.ledger.touches(journal.facts, leg.provider, leg.model)


class Budgeted(WrappingAdapter):
    """Asks the wrapped adapter as far as budgets have room for it.

    The worst case is held before anybody is asked; where there is no room for it and the request sets no
    `max_output_tokens`, what such an answer usually costs. While the answer streams, what is known of its cost is
    compared with that; where it is more, more is held. Where a budget has no room for more the answer ends with the
    piece that has come: its connection is closed, and `finished` says BUDGET_EXCEEDED. An answer that comes whole is
    not cut; one whose worst case is not held never comes whole.

    An answer that may take many calls of models has no worst case: the first call's is held, or what such answers
    usually come to if that is more; where there is no room for it, the least. What the calls are told to have used
    counts as it comes.

    Args:
        inner: the adapter; yields nothing before its first output.
        journal: of the chat, with its facts.
        entry: of the attempt.
        shared: with all attempts.
    """

    def __init__(self, inner: Adapter, journal: Journal, entry: Entry, shared: Budgeting) -> None:
        super().__init__(inner)
        self._journal = journal
        self._entry = entry
        self._shared = shared
        self._open: dict[int, bool] = {}

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises BudgetExceededError and LedgerUnavailableError without asking, and AdapterError."""
        worst = self._shared.worst.of(self._entry.leg.provider, call.model, call.request)
        lease = await self._reserved(call, worst)
        if lease is not None and (worst.open or lease.held.tokens < worst.tokens):
            call = replace(call, unary=False)
        if lease is None or call.unary:
            async with aclosing(self.inner.stream(call)) as stream:
                async for events in stream:
                    yield events
            return
        watch = _Watch(self._entry, call.request, worst, self._shared)
        last: Events = []
        async with aclosing(self.inner.stream(call)) as stream:
            async for events in stream:
                if events[-1].WhichOneof("event") != "finished":
                    self._follow(events)
                    full = await watch.exceeded(lease) if watch.beyond(lease.held) else None
                    if full is not None:
                        last = [*events, *self._end(call.request, full)]
                        break
                yield events
        # The upstream connection is closed by now.
        if last:
            yield last

    async def _reserved(self, call: Call, worst: WorstCase) -> Lease | None:
        """Hold the worst case, or less. What ended attempts of the chat did not use makes room for this one first."""
        journal, entry = self._journal, self._entry
        facts, snapshot = journal.facts, journal.snapshot
        if facts is None or snapshot is None:
            return None
        await self._give_back()
        number = 1 + next(at for at, each in enumerate(journal.entries) if each is entry)
        held_before, journal.holds = journal.holds, True
        try:
            lease = await self._shared.ledger.reserve(
                facts,
                number,
                entry.leg.provider,
                entry.leg.model,
                self._most(worst),
                snapshot,
                least=self._least(call, worst),
            )
        except AdapterError as error:
            journal.holds = held_before
            if isinstance(error, BudgetExceededError):
                self._shared.metrics.budget_refused("before")
            raise
        entry.lease = lease
        return lease

    def _most(self, worst: WorstCase) -> Demand:
        """Return what to hold if there is room for it."""
        if not worst.open:
            return Demand(worst.nanos, worst.tokens)
        usual = self._shared.estimates.usual_whole(self._entry.leg.provider, self._entry.leg.model)
        nanos = None if worst.nanos is None and not usual.cost_nanos else max(worst.nanos or 0, usual.cost_nanos)
        return Demand(nanos, max(worst.tokens, usual.tokens))

    def _least(self, call: Call, worst: WorstCase) -> Demand | None:
        """Return what an answer of open length usually comes to, at least; None: its length is bounded."""
        if call.request.sampling.HasField("max_output_tokens") and not worst.open:
            return None
        usual = self._shared.estimates.usual_output(self._entry.leg.provider, call.model, call.request)
        output = min(usual, worst.output_tokens)
        return Demand(worst.cost(worst.prompt_tokens, output), worst.prompt_tokens + output)

    async def _give_back(self) -> None:
        for each in self._journal.entries:
            if each.lease is None or each.ended is None:
                continue
            used = _spent(each)
            if used != each.lease.held:
                await self._shared.ledger.extend(each.lease, used)

    def _follow(self, events: Events) -> None:
        """Note which blocks are open, and of which of them metadata came in pieces."""
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "block_started":
                self._open[event.block_started.block.index] = False
            elif kind == "block_stopped":
                self._open.pop(event.block_stopped.index, None)
            elif kind == "metadata_delta" and event.metadata_delta.HasField("index"):
                self._open[event.metadata_delta.index] = True

    def _end(self, request: chat_pb2.ChatRequest, full: BudgetExceededError) -> Events:
        """Return what ends the answer in place of its provider."""
        entry = self._entry
        entry.cut = True
        entry.finish_reason = chat_pb2.FINISH_REASON_BUDGET_EXCEEDED
        self._shared.metrics.budget_refused("running")
        usage, _ = known_so_far(entry, request, self._shared.estimates)
        finished = chat_pb2.Finished(
            reason=entry.finish_reason, provider_finish_reason=full.scope, usage=usage or entry.usage
        )
        stops: Events = []
        for index, in_pieces in self._open.items():
            stopped = chat_pb2.BlockStopped(index=index)
            if in_pieces:
                # Instead of metadata of which only a part was sent.
                stopped.provider_metadata_json = ""
            stops.append(Event(block_stopped=stopped))
        return [*stops, Event(finished=finished)]


class _Watch:
    """What a streaming attempt is known to have spent.

    The provider's own numbers are priced when they come; pieces of text that come after them are charged by their
    length, which costs a few integers each. Bytes of images and sound tell nothing of tokens: those count when the
    provider tells its numbers.
    """

    def __init__(self, entry: Entry, request: chat_pb2.ChatRequest, worst: WorstCase, shared: Budgeting) -> None:
        self._entry = entry
        self._request = request
        self._worst = worst
        self._shared = shared
        self._told: usage_pb2.Usage | None = None
        self._tokens = 0
        self._nanos: int | None = None
        self._patience = 0

    def beyond(self, held: Demand) -> bool:
        """Return whether more is spent than held."""
        known = self._known()
        return known.tokens > held.tokens or (known.nanos or 0) > (held.nanos or 0)

    async def exceeded(self, lease: Lease) -> BudgetExceededError | None:
        """Hold more. Returns which budget has no room for what is spent already; None: all have.

        While the ledger is away nothing more can be held; the answer goes on, and what it spends is counted in the end.
        """
        known = self._known()
        if known.tokens < self._patience:
            return None
        ample = Demand(None if known.nanos is None else 2 * known.nanos, 2 * known.tokens)
        try:
            try:
                await self._shared.ledger.extend(lease, ample)
            except BudgetExceededError:
                await self._shared.ledger.extend(lease, known)
        except BudgetExceededError as error:
            return error
        except LedgerUnavailableError:
            self._patience = 2 * known.tokens
        return None

    def _known(self) -> Demand:
        entry, worst = self._entry, self._worst
        if entry.usage is not self._told:
            self._told = entry.usage
            self._tokens, self._nanos = self._base()
        streamed = entry.streamed.tokens
        if self._nanos is None:
            return Demand(None, self._tokens + streamed)
        return Demand(self._nanos - (-streamed * (worst.text_price or 0) // 1_000_000), self._tokens + streamed)

    def _base(self) -> tuple[int, int | None]:
        """Return tokens and cost without what has streamed since the provider told its usage."""
        entry, price = self._entry, self._worst.text_price
        usage, cost = known_so_far(entry, self._request, self._shared.estimates)
        streamed = entry.streamed.tokens
        tokens = tokens_of(usage or entry.usage) - streamed
        if price is None:
            # The model that is asked for has no price, but those that an agent calls may: by themselves they count.
            leg = entry.leg
            cost = self._shared.estimates.cost(
                leg.provider, leg.model, self._request, entry.usage, served=entry.served_model, at=entry.arrived
            )
        if cost.status == usage_pb2.COST_STATUS_UNPRICED:
            return tokens, None
        return tokens, _dollars(cost) - (0 if price is None else streamed * price // 1_000_000)


def _spent(entry: Entry) -> Demand:
    """Return what an ended attempt has spent."""
    usage = entry.reckoned or entry.usage
    return Demand(0 if entry.cost is None else _dollars(entry.cost), tokens_of(usage) if entry.cost is not None else 0)


def _dollars(cost: usage_pb2.Cost) -> int:
    """Return what a cost comes to in 1e-9 US dollars; other currencies are no budget's."""
    return sum(line.amount.nanos for line in cost.lines if line.amount.currency_code == "USD")
