"""The processes of a run: the mocked providers, the proxy before them, the gateway. Each is ended by its pid."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import msgspec
from tests.chaos.answers import MODELS, fixtures
from tests.chaos.proxy import Command, Report
from tests.chaos.scenarios import configuration
from tests.e2e.processes import ROOT, Process, Server, environment, serving

__all__ = ["AIMOCK", "Proxy", "aimock", "gateway"]

AIMOCK = ROOT / "tests/e2e/node_modules/@copilotkit/aimock/dist/cli.js"
_KEY = "chaos-made-up-key-0123456789"

#: A name that never resolves (RFC 6761), and a port where nobody listens.
_NAMELESS = "http://no-such-host.invalid:1"


@contextlib.contextmanager
def aimock(folder: Path) -> Iterator[str]:
    """Run aimock, a mock of the providers' HTTP that others wrote, with our answers; gives its ``host:port``.

    Raises:
        RuntimeError: Node or the package is not installed.
    """
    node = shutil.which("node")
    if node is None or not AIMOCK.exists():
        raise RuntimeError("aimock is not installed: it needs Node and `make node`")
    folder.mkdir(parents=True, exist_ok=True)
    answers = folder / "fixtures.json"
    answers.write_bytes(fixtures())
    command = [node, str(AIMOCK), "--port", "0", "--fixtures", str(answers), "--strict"]
    command += ["--chunk-size", "8", "--log-level", "info", "--journal-max", "10"]
    process = Process(command, folder, {"AIMOCK_API_KEYS": _KEY})
    try:
        told = process.wait_for(
            lambda: [line for line in process.out.splitlines() if "listening on" in line], "it is up"
        )
        yield told[0].rpartition("http://")[2]
    finally:
        process.end()


class Proxy:
    """The process of tests.chaos.proxy, with a door for each provider."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, target: str, seed: int) -> AsyncIterator[Self]:
        """Start it before a target, and end it with the context."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.proxy", target, str(seed), *MODELS),
            cwd=ROOT,
            env=environment({}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**28,
        )
        try:
            yield cls(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 10.0)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def do(self, command: Command) -> Report:
        """Have it do something, and hear what it tells. Raises RuntimeError if it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended; see what it has written above")
        return msgspec.json.decode(line, type=Report)


@contextlib.contextmanager
def gateway(folder: Path, ports: dict[str, int], patience: float, *, nameless: bool = False) -> Iterator[Server]:
    """Run this project's server, as `ep serve` does, with every mocked provider behind its door.

    Args:
        folder: where it runs.
        ports: of the doors.
        patience: seconds of silence after which an attempt is given up.
        nameless: those that come first in a lane have an address that does not resolve.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "personas.json"
    file.write_text(json.dumps(configuration(patience), indent=2))
    settings = {"EP_CONFIG_PATH": str(file), "EP_PROVIDER_CONNECT_SECONDS": "2", "EP_MAX_CONCURRENT_CHATS": "200"}
    for provider, port in ports.items():
        address = _NAMELESS if nameless and provider != "together" else f"http://127.0.0.1:{port}"
        settings[f"EP_{provider.upper()}_API_KEY"] = _KEY
        settings[f"EP_{provider.upper()}_BASE_URL"] = address + ("" if provider in {"anthropic", "gemini"} else "/v1")
    with serving(folder, settings) as server:
        yield server
