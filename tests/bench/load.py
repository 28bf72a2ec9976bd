"""A process that asks: it takes jobs as JSON lines and answers each with what it measured.

``python -m tests.bench.load gateway|sdk ADDRESS``
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
from tests.bench.callers import Caller, GatewayCaller, SdkCaller, joined
from tests.bench.payloads import Format, Shape, text_of

__all__ = ["Job", "Outcome", "run"]


class Job(msgspec.Struct, frozen=True):
    """So many requests of one kind, by so many callers at once."""

    api: Format
    shape: Shape
    callers: int
    requests: int


class Outcome(msgspec.Struct):
    """What a job gave.

    Attributes:
        cpu: seconds of this process.
        wall: seconds.
        latencies: seconds of each request.
        firsts: seconds until the first text of each.
        errors: what went wrong, a line each.
    """

    cpu: float = 0.0
    wall: float = 0.0
    latencies: list[float] = []
    firsts: list[float] = []
    errors: list[str] = []


async def run(caller: Caller, job: Job) -> Outcome:
    """Do a job."""
    outcome = Outcome()
    expected = text_of(job.shape)
    left = iter(range(job.requests))

    async def ask() -> None:
        for _ in left:
            await _request(caller, job, expected, outcome)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(job.callers)))
    outcome.cpu, outcome.wall = time.process_time() - cpu, time.perf_counter() - wall
    return outcome


async def _request(caller: Caller, job: Job, expected: str, outcome: Outcome) -> None:
    began = time.perf_counter()
    try:
        if job.shape is Shape.UNARY:
            text, first = await caller.unary(job.api), time.perf_counter()
        else:
            text, first = await joined(caller.stream(job.api, job.shape))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        outcome.errors.append(f"{type(error).__name__}: {error}"[:200])
        return
    if text != expected:
        outcome.errors.append(f"another text: {text[:100]!r}")
        return
    outcome.latencies.append(time.perf_counter() - began)
    outcome.firsts.append(first - began)


async def _main(kind: str, address: str) -> None:
    caller: Caller = GatewayCaller(address) if kind == "gateway" else SdkCaller(address)
    try:
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            outcome = await run(caller, msgspec.json.decode(line, type=Job))
            sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
            sys.stdout.buffer.flush()
    finally:
        await caller.aclose()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:3]))
