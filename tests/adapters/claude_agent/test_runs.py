"""Runs: what they say, what they are given, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.adapters.claude_agent.cages import PATIENCE, cage, processes

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")

from tests.adapters.claude_agent.capture_samples import asked
from tests.adapters.claude_agent.running import CLINGING, KEY, answer, everything, first

from execution_platform.adapters.claude_agent.runs import Runs
from execution_platform.adapters.claude_agent.sandbox import Cage
from execution_platform.adapters.errors import (
    NotConfiguredError,
)

pytestmark = pytest.mark.usefixtures("cages")


def descriptors() -> int:
    """Return how many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def told_of(mark: str, name: str) -> bytes:
    """Return what /proc tells of all processes with the mark."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for pid in processes(mark))


async def test_the_output_is_what_the_program_wrote_without_control_lines(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str
) -> None:
    """Every line comes byte by byte as it was written, but those of the SDK's control and those that are no JSON."""
    body = """begin
say '{"type":"system","z":1.0e0, "a":[12345678901234567890]}'
say 'a warning of some library'
say '{"type":"stream_event","event":{"type":"ping"}}'
result
"""
    runs = runs_of(body)
    async with runs.begin(asked("go"), cage(tmp_path, mark)) as running:
        told = await everything(running)
        assert running.startup_seconds is not None
        assert running.startup_seconds > 0
    assert told.splitlines() == [
        b'{"type":"system","z":1.0e0, "a":[12345678901234567890]}',
        b'{"type":"stream_event","event":{"type":"ping"}}',
        b'{"type":"result","subtype":"success"}',
    ]
    assert processes(mark) == []
    assert runs.running == 0


async def test_a_run_has_the_environment_that_it_was_given_and_nothing_else(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable of the server's comes into the cage, and the key only as the number of a descriptor."""
    monkeypatch.setenv("EP_ANTHROPIC_API_KEY", "the-server-s")
    body = r"""begin
names=$(tr '\0' '\n' </proc/$$/environ | cut -d= -f1 | sort | tr '\n' ' ')
say "{\"type\":\"system\",\"names\":\"$names\"}"
result
"""
    told = await answer(runs_of(body), cage(tmp_path, mark, ANTHROPIC_API_KEY=KEY))
    names = json.loads(told.splitlines()[0])["names"].split()
    given = {"PATH", "CAGE_MARK", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR"}
    assert set(names) == given | {"PWD"}  # bubblewrap says where it went


async def test_the_key_can_be_read_once(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """The key comes through a pipe: whatever looks there after the program finds nothing."""
    body = r"""begin
first=$(cat /proc/self/fd/$CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR)
second=$(cat /proc/self/fd/$CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR)
say "{\"type\":\"system\",\"first\":\"$first\",\"second\":\"$second\"}"
result
"""
    told = await answer(runs_of(body), cage(tmp_path, mark, ANTHROPIC_API_KEY=KEY))
    assert json.loads(told.splitlines()[0]) == {"type": "system", "first": KEY, "second": ""}


async def test_no_command_line_tells_a_secret(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """Neither the key nor a token of an MCP server nor the system prompt is in a command line of the machine."""
    body = """begin
grep -q token-of-a-server /run/agent/mcp.json && grep -q private-words /run/agent/system.md &&
  say '{"type":"system","seen":true}'
while :; do sleep 600; done
"""
    server = {"type": "http", "url": "http://127.0.0.1:9", "headers": {"authorization": "token-of-a-server"}}
    run = asked("go", mcp_servers={"a": server}, system_prompt="private-words")
    async with runs_of(body).begin(run, cage(tmp_path, mark, ANTHROPIC_API_KEY=KEY)) as running:
        assert b"seen" in await first(running)
        lines, environments = told_of(mark, "cmdline"), told_of(mark, "environ")
    assert b"/opt/claude" in lines
    for secret in (KEY.encode(), b"token-of-a-server", b"private-words"):
        assert secret not in lines
        assert secret not in environments


async def test_leaving_the_block_leaves_no_process(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """Children that ignore SIGTERM, that have a session of their own and no pipe of ours: all end with the block."""
    async with runs_of(CLINGING).begin(asked("go"), cage(tmp_path, mark)) as running:
        assert await first(running)
        assert len(processes(mark)) > 3
    assert processes(mark) == []


async def test_an_error_in_the_block_leaves_no_process(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """What is raised inside comes out, and the processes have gone."""
    runs = runs_of(CLINGING)

    async def fails() -> None:
        async with runs.begin(asked("go"), cage(tmp_path, mark)) as running:
            await first(running)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert processes(mark) == []


async def test_cancelling_leaves_no_process(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """A task that is cancelled in mid-run, also twice, ends when its processes have gone."""
    begun = asyncio.Event()
    runs = runs_of(CLINGING)

    async def run() -> None:
        async with runs.begin(asked("go"), cage(tmp_path, mark)) as running, aclosing(running.output()) as output:
            async for _ in output:
                begun.set()

    task = asyncio.create_task(run())
    await asyncio.wait_for(begun.wait(), PATIENCE)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processes(mark) == []
    assert runs.running == 0


async def test_cancelling_at_any_moment_of_the_start_leaves_no_process(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str
) -> None:
    """However early it is cancelled, nothing stays behind, and its place is free."""
    runs = runs_of(CLINGING, 1)
    for turns in range(0, 24, 3):
        task = asyncio.create_task(answer(runs, cage(tmp_path, mark)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert processes(mark) == []
    assert runs.running == 0


async def test_a_run_leaves_no_descriptor_open(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """After runs that went well, failed, or were left in the middle, this process has as many descriptors as before."""
    where = cage(tmp_path, mark, ANTHROPIC_API_KEY=KEY)
    runs = runs_of('begin; say \'{"type":"system"}\'; sleep 600')

    async def run() -> None:
        async with runs.begin(asked("go", system_prompt="words"), where) as running:
            await first(running)
        with pytest.raises(NotConfiguredError):
            await answer(runs, Cage(None, tmp_path / "nowhere", environment=where.environment))

    await run()
    before = descriptors()
    for _ in range(3):
        await run()
    for _ in range(10):  # the loop closes pipes one turn later
        await asyncio.sleep(0)
    assert descriptors() <= before


async def test_a_slow_reader_stops_the_program(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """Who does not read is not written for: a program with 20 MB to say has said a small part of it."""
    work = tmp_path / "work"
    work.mkdir()
    body = """begin
line=$(head -c 100000 /dev/zero | tr '\\0' x)
n=0
while [ $n -lt 200 ]; do
  n=$((n+1)); say "{\\"type\\":\\"stream_event\\",\\"x\\":\\"$line\\"}"; echo $n >/workspace/said
done
result
"""
    said = work / "said"
    where = cage(tmp_path, mark, workspace=work)
    async with runs_of(body).begin(asked("go"), where) as running, aclosing(running.output()) as output:
        got = len(await anext(output))
        before, now = -1, 0
        while before != now:  # it stands still when two looks see the same
            before = now
            await asyncio.sleep(0.2)
            now = int(said.read_text() or 0) if said.exists() else 0
        assert now < 60
        async for piece in output:
            got += len(piece)
    assert said.read_text() == "200\n"
    assert got > 20_000_000
