"""``make bench``: the direct SDKs, this gateway and installed peers, side by side over one mock upstream."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import resource
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from tests.bench.bars import bars_of
from tests.bench.children import Asker, Books, Proxy, gateway, litellm, upstream
from tests.bench.measure import memory_of
from tests.bench.plan import Kept, Plan, compare, grow, hold, keep
from tests.bench.report import Report
from tests.e2e.processes import ROOT

_DISTRIBUTIONS = ("openai", "anthropic", "httpx2", "grpcio", "protobuf", "msgspec", "uvloop")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, default=ROOT / "build/bench.json", help="where the results go")
    parser.add_argument("--rounds", type=int, default=Plan().rounds, help="how often each kind of work is done")
    parser.add_argument("--streams", type=int, default=Plan().streams[-1], help="streams that are held open at once")
    parser.add_argument("--growth", type=int, default=Plan().growth, help="requests to watch the memory over")
    parser.add_argument("--litellm", default="litellm", help="LiteLLM's command, where it is not on the path")
    return parser.parse_args()


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


async def _bench(plan: Plan, folder: Path, litellm_program: str) -> Report:
    async with contextlib.AsyncExitStack() as stack:
        url = stack.enter_context(upstream(folder / "upstream"))
        ours = stack.enter_context(gateway(folder / "gateway", url))
        idle = memory_of(ours.pid)
        theirs = stack.enter_context(litellm(folder / "litellm", url, litellm_program))
        proxies: dict[Proxy, Asker] = {}
        for proxy in (ours, theirs):
            if proxy is not None:
                proxies[proxy] = await stack.enter_async_context(Asker.started(proxy.kind, proxy.address))
        direct = await stack.enter_async_context(Asker.started("sdk", url))
        rows = await compare(plan, proxies, direct, _tell)
        _tell(f"{plan.growth} requests more")
        growth = await grow(plan, idle, ours, proxies[ours])
        kept = await _kept(plan, folder, url, (ours, proxies[ours]))
        held = []
        for streams in plan.streams:
            _tell(f"{streams} streams held open")
            held.append(await hold(streams, ours, proxies[ours]))
        return Report(
            machine={"cores": str(os.cpu_count()), "python": platform.python_version(), "system": platform.platform()},
            versions={name: metadata.version(name) for name in _DISTRIBUTIONS},
            plan=plan,
            bars=bars_of(rows, held, growth, kept),
            rows=rows,
            held=held,
            growth=growth,
            memory_kib={proxy.name: memory_of(proxy.pid) for proxy in proxies},
            kept=kept,
        )


async def _kept(plan: Plan, folder: Path, url: str, ours: tuple[Proxy, Asker]) -> list[Kept]:
    """Compare the gateway with others that keep account."""
    async with contextlib.AsyncExitStack() as stack:
        gateways = {Books.OFF: ours}
        for books in (Books.ON, Books.BUDGET):
            proxy = stack.enter_context(gateway(folder / books.name.lower(), url, books))
            gateways[books] = (proxy, await stack.enter_async_context(Asker.started(proxy.kind, proxy.address)))
        return await keep(plan, {books: gateways[books] for books in Books}, _tell)


def main() -> None:
    """Run it, print the tables, write the JSON."""
    arguments = _arguments()
    # Many streams are many connections; children inherit the limit.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    plan = Plan(rounds=arguments.rounds, streams=(10, arguments.streams), growth=arguments.growth)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(_bench(plan, Path(folder), arguments.litellm))
    print(report.text())
    report.write(arguments.json)
    _tell(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
