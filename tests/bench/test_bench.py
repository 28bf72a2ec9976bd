"""The bench's arithmetic, and its mock upstream."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx2
import pytest
from tests.bench.bars import Bar, bars_of
from tests.bench.callers import SdkCaller, joined
from tests.bench.children import Books
from tests.bench.load import Job, Outcome, run
from tests.bench.measure import Cell, Round, cpu_of, memory_of, quantile, row_of, summary_of
from tests.bench.payloads import CHUNKS, Format, Shape, model_of, sse_of, text_of
from tests.bench.plan import Growth, Held, Kept, Plan
from tests.bench.report import Report
from tests.bench.upstream import serve


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[SdkCaller, str]]:
    """Run an upstream in this process, with the SDKs that ask it."""
    async with await serve() as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        caller = SdkCaller(url)
        try:
            yield caller, url
        finally:
            await caller.aclose()


@pytest.mark.parametrize("api", Format)
async def test_the_sdks_read_what_the_upstream_answers(api: Format) -> None:
    """Each provider's own SDK finds the whole text in an answer of each shape, piece by piece in a stream."""
    async with asking() as (caller, _):
        assert await caller.unary(api) == text_of(Shape.UNARY)
        for shape in (Shape.READY, Shape.SEPARATE):
            text, first = await joined(caller.stream(api, shape))
            assert text == text_of(shape)
            assert first <= time.perf_counter()


async def test_a_paced_answer_comes_piece_by_piece() -> None:
    """A paced answer brings a piece of text with each write, and one that is left early stops."""
    async with asking() as (caller, _), aclosing(caller.stream(Format.CHAT, Shape.PACED)) as pieces:
        assert [await anext(pieces), await anext(pieces)] == [" word000", " word001"]


async def test_what_is_not_the_benchs_is_refused() -> None:
    """A path or a model that the bench does not use is answered with 404, and the connection goes on."""
    async with asking() as (_, url), httpx2.AsyncClient(base_url=url) as client:
        assert (await client.post("/v1/embeddings", json={"model": model_of(Format.CHAT, Shape.UNARY)})).is_client_error
        assert (await client.post("/v1/responses", json={"model": "gpt-6"})).status_code == 404


@pytest.mark.parametrize("api", Format)
def test_a_stream_has_a_write_for_each_chunk(api: Format) -> None:
    """A stream's writes are as many as its pieces of text, and each holds one."""
    writes = sse_of(api, Shape.SEPARATE)
    assert len(writes) == CHUNKS
    assert all(b'" word%03d"' % number in data for number, data in enumerate(writes))


async def test_a_job_counts_what_goes_wrong() -> None:
    """A job makes just as many requests as it is told; answers of another text and failures are told as errors."""

    class Wrong:
        async def unary(self, api: Format) -> str:
            if api is Format.CHAT:
                raise ConnectionError("refused")
            return "other"

        def stream(self, api: Format, shape: Shape) -> AsyncGenerator[str, None]:
            raise NotImplementedError

        async def aclose(self) -> None: ...

    async with asking() as (caller, _):
        good = await run(caller, Job(Format.MESSAGES, Shape.UNARY, 2, 5))
    assert (len(good.latencies), len(good.firsts), good.errors) == (5, 5, [])
    assert (await run(Wrong(), Job(Format.CHAT, Shape.UNARY, 1, 2))).errors == ["ConnectionError: refused"] * 2
    assert (await run(Wrong(), Job(Format.MESSAGES, Shape.UNARY, 1, 1))).errors == ["another text: 'other'"]


def test_quantiles_are_by_nearest_rank() -> None:
    """A quantile is the smallest value that so large a share does not exceed."""
    values = [float(number) for number in range(100, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert (quantile([7.0], 0.01), quantile([], 0.5)) == (7.0, 0.0)


def test_a_summary_takes_the_median_round() -> None:
    """CPU and rate are those of the median round for each request that succeeded; latencies are all requests'."""
    rounds = [
        Round(Outcome(cpu=cpu, wall=1.0, latencies=[0.1, latency], firsts=[0.05, 0.06]), proxy_cpu=2 * cpu)
        for cpu, latency in ((0.002, 0.2), (0.9, 0.9), (0.004, 0.2))
    ]
    summary = summary_of([*rounds, Round(Outcome(errors=["broke"]))])
    assert (summary.client_ms, summary.proxy_ms, summary.rate) == pytest.approx((2.0, 4.0, 2.0))
    assert (summary.p50, summary.p99, summary.requests, summary.errors) == (0.1, 0.9, 6, ["broke"])


def test_a_row_compares_with_the_direct_way() -> None:
    """A row tells the proxy's CPU a chunk, both processes' CPU against the direct one's, and what latency is added."""
    cell = Cell(Format.CHAT, Shape.READY, 1)
    through = summary_of([Round(Outcome(0.001, 1.0, [0.005], [0.004]), proxy_cpu=0.002)])
    direct = summary_of([Round(Outcome(0.006, 1.0, [0.004], [0.003]))])
    row = row_of("gateway", cell, through, direct)
    assert row.client_and_proxy_to_direct == pytest.approx(0.5)
    assert (row.proxy_us_a_chunk, row.direct_us_a_chunk) == pytest.approx((40.0, 120.0))
    assert (row.added_p50, row.added_first) == pytest.approx((1.0, 1.0))
    assert row_of("gateway", Cell(Format.CHAT, Shape.UNARY, 1), through, direct).proxy_us_a_chunk is None


def test_bars_are_met_or_not() -> None:
    """A bar is met up to its limit, and one that was not tried is neither met nor missed."""
    assert [Bar("x", value, 2.0, "ms").met for value in (2.0, 2.1, None)] == [True, False, None]


def test_bars_read_the_rows_that_they_are_about() -> None:
    """The bars compare the gateway's rows with LiteLLM's, many streams with few, and memory by request."""
    cell = Cell(Format.CHAT, Shape.UNARY, 1)
    direct = summary_of([Round(Outcome(0.001, 1.0, [0.004], [0.004]))])
    rows = [
        row_of(name, cell, summary_of([Round(Outcome(0.001, 1.0, [0.005], [0.005]), proxy_cpu=cpu)]), direct)
        for name, cpu in (("gateway", 0.0015), ("litellm", 0.03))
    ]
    held = [Held(10, 100.0, 5.0, []), Held(200, 110.0, 70.0, ["broke"])]
    bars = {bar.what: bar for bar in bars_of(rows, held, Growth(1000, 2000, 2100, 100))}
    assert bars["unary chat, gateway CPU"].value == pytest.approx(1.5)
    assert bars["unary chat, gateway CPU to LiteLLM's"].value == pytest.approx(0.05)
    assert bars["stream of 50 ready chunks, gateway CPU"].met is None
    assert bars["200 open streams, errors"].met is False
    assert bars["200 open streams, memory each"].met is False
    assert bars["CPU a chunk at 200 streams to 10"].value == pytest.approx(1.1)
    assert bars["memory added a request that has ended"].value == pytest.approx(1.0)
    report = Report({}, {}, Plan(), list(bars.values()), rows, held, Growth(1000, 2000, 2100, 100), {"litellm": 2048})
    assert "| 200 open streams, errors" in report.text()
    assert "litellm, after the comparison" in report.text()


def test_bars_hold_the_ledger_against_none() -> None:
    """What keeping account costs is told as a ratio to the same without, and may be three tenths more."""
    kept = [Kept(Shape.UNARY, 16, {Books.OFF: 2.0, Books.ON: 2.5, Books.BUDGET: 2.7}, [])]
    bars = {bar.what: bar for bar in bars_of([], [], Growth(0, 0, 0, 0), kept)}
    on, budget = (bars[f"{books}, gateway CPU to without a ledger, unary"] for books in (Books.ON, Books.BUDGET))
    assert (on.value, on.met) == (1.25, True)
    assert (budget.value, budget.met) == (1.35, False)
    report = Report({}, {}, Plan(), list(bars.values()), [], [], Growth(0, 0, 0, 0), {}, kept)
    assert "| unary          | 16      | 2.00 (1.00) | 2.50 (1.25) | 2.70 (1.35) |" in report.text()


def test_a_process_is_measured_from_outside() -> None:
    """CPU and memory of a process, read by its number, are what it says of itself."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    assert cpu_of(os.getpid()) >= used.ru_utime + used.ru_stime - 0.02
    assert cpu_of(os.getpid()) <= time.process_time() + 0.001
    assert 1000 < memory_of(os.getpid()) <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 1024
