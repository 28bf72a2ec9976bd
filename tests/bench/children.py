"""The processes of a bench: upstream, proxies and those who ask. Each is ended by whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec
from tests.bench.callers import KEY
from tests.bench.load import Job, Outcome
from tests.bench.payloads import Format, Shape, model_of
from tests.e2e.processes import ROOT, Process, environment, serving

__all__ = ["Asker", "Books", "Proxy", "gateway", "litellm", "upstream"]


class Proxy(msgspec.Struct, frozen=True):
    """What stands between callers and the upstream.

    Attributes:
        name: for the tables.
        pid: of its one process.
        kind: how it is asked: ``gateway`` or ``sdk``.
        address: where it serves.
        apis: the formats that are measured through it.
    """

    name: str
    pid: int
    kind: str
    address: str
    apis: tuple[Format, ...]


class Asker:
    """A process of tests.bench.load that lives as long as the bench."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, kind: str, address: str) -> AsyncIterator[Self]:
        """Start one that asks at an address, and end it with the context."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.load", kind, address),
            cwd=ROOT,
            env=environment({}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        try:
            yield cls(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                if await _ended(process, 10.0):
                    process.kill()
            await process.wait()

    async def run(self, job: Job) -> Outcome:
        """Do a job. Raises RuntimeError if the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process that asks has ended; see what it has written above")
        return msgspec.json.decode(line, type=Outcome)


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Wait for the end. Returns whether that was in vain."""
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        return True
    return False


@contextlib.contextmanager
def _process(arguments: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Iterator[Process]:
    folder.mkdir(parents=True, exist_ok=True)
    process = Process(arguments, folder, variables)
    try:
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[str]:
    """Run the mock upstream; gives its address."""
    with _process([sys.executable, "-m", "tests.bench.upstream"], folder, {"PYTHONPATH": str(ROOT)}) as process:
        port = process.wait_for(lambda: int(process.out or 0), "it serves")
        yield f"http://127.0.0.1:{port}"


class Books(StrEnum):
    """What a gateway keeps account of."""

    OFF = "ledger off"
    ON = "ledger on"
    """In SQLite, as by default."""
    BUDGET = "a budget on"
    """The same, and each chat falls under a hard budget."""


#: Prices of what is asked, and a budget that it never uses up.
_BUDGETED = {
    "models": {f"openai/{model_of(Format.CHAT, shape)}": {"input_price": 1, "output_price": 2} for shape in Shape},
    "budgets": {"bench": {"limit": 1_000_000, "period": "month"}},
}


@contextlib.contextmanager
def gateway(folder: Path, upstream_url: str, books: Books = Books.OFF) -> Iterator[Proxy]:
    """Run this project's server in front of the upstream, as `ep serve` does; its peers keep no account either."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "bench.json"
    configuration.write_bytes(msgspec.json.encode(_BUDGETED if books is Books.BUDGET else {"version": 1}))
    settings = {
        "EP_LEDGER": "off" if books is Books.OFF else "on",
        "EP_CONFIG_PATH": str(configuration),
        "EP_OPENAI_API_KEY": KEY,
        "EP_OPENAI_BASE_URL": f"{upstream_url}/v1",
        "EP_ANTHROPIC_API_KEY": KEY,
        "EP_ANTHROPIC_BASE_URL": upstream_url,
        "EP_MAX_CONCURRENT_CHATS": "10000",
    }
    with serving(folder, settings) as server:
        name = "gateway" if books is Books.OFF else f"gateway, {books}"
        yield Proxy(name, server.pid, "gateway", server.address(), tuple(Format))


@contextlib.contextmanager
def litellm(folder: Path, upstream_url: str, program: str) -> Iterator[Proxy | None]:
    """Run LiteLLM's proxy, one worker without a database; None where it is not installed.

    Args:
        folder: for its configuration and output.
        upstream_url: the upstream.
        program: its command; may be that of an environment of its own.
    """
    found = shutil.which(program)
    if found is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_litellm_row(model_of(Format.CHAT, shape), upstream_url) for shape in Shape]
    config = {"model_list": rows, "general_settings": {"master_key": KEY}}
    (folder / "config.yaml").write_bytes(msgspec.json.encode(config))  # YAML holds JSON
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [found, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    # It would fetch its table of prices otherwise.
    with _process(arguments, folder, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}) as process:
        try:
            process.wait_for(lambda: _is_open(port), "LiteLLM serves")
        except AssertionError as error:
            print(f"LiteLLM is left out: {error}", file=sys.stderr)
            yield None
            return
        # Chat Completions is its common case.
        yield Proxy("litellm", process.pid, "sdk", f"http://127.0.0.1:{port}", (Format.CHAT,))


def _litellm_row(model: str, upstream_url: str) -> dict[str, object]:
    return {
        "model_name": model,
        "litellm_params": {"model": f"openai/{model}", "api_base": f"{upstream_url}/v1", "api_key": KEY},
    }


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
