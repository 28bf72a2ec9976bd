"""What the bench does: which work, in which order, how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec
from tests.bench.children import Asker, Books, Proxy
from tests.bench.load import Job
from tests.bench.measure import Cell, Round, Row, cpu_of, memory_of, row_of, summary_of
from tests.bench.payloads import Format, Shape

__all__ = ["Growth", "Held", "Kept", "Plan", "compare", "grow", "hold", "keep"]

#: Requests of one round with one caller.
_REQUESTS = {Shape.UNARY: 150, Shape.READY: 80, Shape.SEPARATE: 80, Shape.PACED: 3}
_SHAPES = (Shape.UNARY, Shape.READY, Shape.SEPARATE, Shape.PACED)

Tell = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True):
    """How much is done.

    Attributes:
        rounds: how often each kind of work is done by each way to ask, in turns.
        callers: at once.
        streams: streams held open at once.
        growth: requests after which memory is looked at again.
    """

    rounds: int = 5
    callers: tuple[int, ...] = (1, 16)
    streams: tuple[int, ...] = (10, 200)
    growth: int = 2000

    def cells(self) -> list[Cell]:
        """Return the kinds of work, those of one format together."""
        return [Cell(api, shape, callers) for api in Format for shape in _SHAPES for callers in self.callers]


class Held(msgspec.Struct, frozen=True):
    """Streams that were open at once, at 10 chunks a second each.

    Attributes:
        streams: how many.
        us_a_chunk: CPU of the gateway.
        kib_a_stream: resident memory above what it was before, at its highest.
        errors: what went wrong.
    """

    streams: int
    us_a_chunk: float
    kib_a_stream: float
    errors: list[str]


class Growth(msgspec.Struct, frozen=True):
    """Resident memory of the gateway in KiB: with nothing asked yet, after the comparisons, and after more requests."""

    idle_kib: int
    before_kib: int
    after_kib: int
    requests: int


async def compare(plan: Plan, proxies: Mapping[Proxy, Asker], direct: Asker, tell: Tell) -> list[Row]:
    """Do each kind of work directly and through each proxy, in turns."""
    rows: list[Row] = []
    for cell in plan.cells():
        tell(f"{cell.api} {cell.shape}, {cell.callers} at once")
        through = {proxy: asker for proxy, asker in proxies.items() if cell.api in proxy.apis}
        rounds: dict[Proxy | None, list[Round]] = {None: [], **{proxy: [] for proxy in through}}
        for number in range(plan.rounds + 1):
            # The first one warms up.
            for proxy, taken in rounds.items():
                asker = direct if proxy is None else through[proxy]
                taken.append(await _round(_job(cell, warm=number == 0), asker, proxy))
        straight = summary_of(rounds.pop(None)[1:])
        rows += [
            row_of(proxy.name, cell, summary_of(taken[1:]), straight)
            for proxy, taken in rounds.items()
            if proxy is not None
        ]
    return rows


def _job(cell: Cell, *, warm: bool) -> Job:
    requests = _REQUESTS[cell.shape]
    if cell.callers > 1:
        requests = max(requests, 2 * cell.callers)
    return Job(cell.api, cell.shape, cell.callers, cell.callers if warm else requests)


async def _round(job: Job, asker: Asker, proxy: Proxy | None) -> Round:
    if proxy is None:
        return Round(await asker.run(job))
    began = cpu_of(proxy.pid)
    outcome = await asker.run(job)
    return Round(outcome, cpu_of(proxy.pid) - began)


class Kept(msgspec.Struct, frozen=True):
    """What keeping account costs the gateway: milliseconds of CPU a chat, by what is kept."""

    shape: Shape
    callers: int
    ms: dict[str, float]
    errors: list[str]

    def ratio(self, books: Books) -> float | None:
        """Return a cost against that without a ledger; None: there is none."""
        off = self.ms.get(Books.OFF)
        return self.ms[books] / off if off else None


async def keep(plan: Plan, gateways: Mapping[Books, tuple[Proxy, Asker]], tell: Tell) -> list[Kept]:
    """Do the same work through gateways that keep account of nothing, of all, and of all under a budget, in turns."""
    kept: list[Kept] = []
    for shape in (Shape.UNARY, Shape.READY):
        cell = Cell(Format.CHAT, shape, plan.callers[-1])
        tell(f"{cell.api} {shape}, {cell.callers} at once, by what is kept account of")
        rounds: dict[Books, list[Round]] = {books: [] for books in gateways}
        # Short rounds, and many: what else runs on the machine weighs more than what is looked for.
        for number in range(3 * plan.rounds + 1):
            for books, (proxy, asker) in gateways.items():
                rounds[books].append(await _round(_job(cell, warm=number == 0), asker, proxy))
        kept.append(
            Kept(
                shape,
                cell.callers,
                {books: summary_of(taken[1:]).proxy_ms for books, taken in rounds.items()},
                [error for taken in rounds.values() for each in taken for error in each.outcome.errors],
            )
        )
    return kept


async def hold(streams: int, proxy: Proxy, asker: Asker) -> Held:
    """Hold streams open, all at once."""
    cell = Cell(Format.CHAT, Shape.HELD, streams)
    memory, cpu = memory_of(proxy.pid), cpu_of(proxy.pid)
    running = asyncio.create_task(asker.run(Job(cell.api, cell.shape, streams, streams)))
    highest = memory
    while not running.done():
        await asyncio.wait({running}, timeout=0.25)
        highest = max(highest, memory_of(proxy.pid))
    outcome = await running
    spent = cpu_of(proxy.pid) - cpu
    return Held(
        streams=streams,
        us_a_chunk=1e6 * spent / (streams * cell.chunks),
        kib_a_stream=(highest - memory) / streams,
        errors=outcome.errors,
    )


async def grow(plan: Plan, idle_kib: int, proxy: Proxy, asker: Asker) -> Growth:
    """Ask so many times more, in halves of whole and of streamed answers."""
    before = memory_of(proxy.pid)
    for api, shape in _halves():
        outcome = await asker.run(Job(api, shape, 16, plan.growth // len(_halves())))
        if outcome.errors:
            raise RuntimeError(f"{len(outcome.errors)} requests failed, such as {outcome.errors[0]}")
    return Growth(idle_kib, before, memory_of(proxy.pid), plan.growth)


def _halves() -> Sequence[tuple[Format, Shape]]:
    return ((Format.CHAT, Shape.UNARY), (Format.CHAT, Shape.READY))
