"""Runs beside each other, and their end: by time, with the server, and where it is init."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
from tests.adapters.claude_agent.cages import cage, eventually, processes, program

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")

from tests.adapters.claude_agent.capture_samples import asked
from tests.adapters.claude_agent.running import CLINGING, answer, everything, first

from execution_platform.adapters.claude_agent.runs import Runs
from execution_platform.adapters.claude_agent.sandbox import Programs
from execution_platform.adapters.claude_agent.slots import Slots
from execution_platform.adapters.errors import (
    NotConfiguredError,
    OverloadedError,
    ProviderTimeoutError,
    StreamBrokenError,
    UnavailableError,
)

pytestmark = pytest.mark.usefixtures("cages")


async def test_no_more_run_than_may(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """Of many runs only so many have processes at a time, and all are answered in their turn."""
    work = tmp_path / "work"
    work.mkdir()
    body = """begin
mkdir /workspace/$$-$(cat /proc/sys/kernel/random/uuid)
say "{\\"type\\":\\"system\\",\\"alive\\":$(ls /workspace | wc -l)}"
rmdir /workspace/$$-*
result
"""
    runs = runs_of(body, 3, 20)
    seen = []

    async def run(_: int) -> bytes:
        async with runs.begin(asked("go"), cage(tmp_path, mark, workspace=work)) as running:
            seen.append(runs.running)
            return await everything(running)

    told = await asyncio.gather(*(run(number) for number in range(12)))
    assert all(b'"result"' in answered for answered in told)
    assert max(seen) == 3
    assert max(json.loads(answered.splitlines()[0])["alive"] for answered in told) <= 3
    assert runs.running == runs.waiting == 0


async def test_workers_share_their_places(tmp_path: Path, mark: str) -> None:
    """What one worker runs counts for all: another's run waits, in its time, and begins when a place is free."""
    clinging, short = program(tmp_path, CLINGING), tmp_path / "short"
    short.mkdir()
    quick = program(short, "begin; result")
    slots = tmp_path / "slots"
    one = Runs(1, 4, programs=lambda: clinging, slots=Slots(slots, 1))
    other = Runs(1, 4, programs=lambda: quick, slots=Slots(slots, 1))
    stopping = Runs(1, 4, programs=lambda: quick, slots=Slots(slots, 1))
    where = cage(tmp_path, mark)
    async with one.begin(asked("go"), where) as running:
        await first(running)
        with pytest.raises(ProviderTimeoutError) as late:
            await answer(other, where, timeout=0.2)
        assert late.value.asked is False
        waiter = asyncio.create_task(answer(other, where))
        stopped = asyncio.create_task(answer(stopping, where))
        await asyncio.sleep(0)
        assert (other.running, other.waiting, stopping.waiting) == (0, 1, 1)
        await stopping.aclose()
        with pytest.raises(UnavailableError, match="stopping"):
            await stopped
    assert b'"result"' in await waiter
    assert (one.running, other.running, other.waiting) == (0, 0, 0)
    with pytest.raises(NotConfiguredError, match="EP_CLAUDE_AGENT_CONFIG_DIR"):
        await answer(Runs(1, 1, slots=Slots(Path("/proc/nowhere"), 1)), where)


class _Elsewhere(Slots):
    """Places that other processes have, until some are given; counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(Path("/proc/nowhere"), 0)
        self.looks = 0
        self.given = 0

    def take(self) -> int | None:
        """Return a descriptor while there are any to be given."""
        self.looks += 1
        if not self.given:
            return None
        self.given -= 1
        return os.open(os.devnull, os.O_RDONLY)


def _no_programs() -> Programs:
    raise UnavailableError("there are none")


async def test_one_looks_for_all_that_wait_and_the_first_goes_first(tmp_path: Path, mark: str) -> None:
    """However many wait for places that other processes have, one of them looks; they go in the order they came in."""
    slots = _Elsewhere()
    runs = Runs(64, 64, programs=_no_programs, slots=slots)
    where = cage(tmp_path, mark)
    went: list[int] = []

    def note(number: int, waits: bool) -> None:
        if not waits:
            went.append(number)

    waiters = [asyncio.create_task(answer(runs, where, on_waiting=partial(note, number))) for number in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert (runs.waiting, slots.looks) == (50, 2)  # the first looked when it came, and when it was the first in line
    slots.given = 50
    told = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(each) for each in told} == {UnavailableError}
    assert went == list(range(50))
    assert (runs.waiting, slots.given) == (0, 0)


async def test_no_more_wait_for_other_processes_than_may(tmp_path: Path, mark: str) -> None:
    """Who finds the line full is refused at once, also where this process has no run; the setting is named."""
    where = cage(tmp_path, mark)
    for most_waiting in (0, 2):
        runs = Runs(3, most_waiting, programs=_no_programs, slots=_Elsewhere())
        waiters = [asyncio.create_task(answer(runs, where, timeout=60)) for _ in range(most_waiting)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as full:
            await answer(runs, where, timeout=60)
        words = f"all places are taken and {most_waiting} runs wait, as many as EP_CLAUDE_AGENT_MOST_WAITING lets"
        assert full.value.message == words
        assert full.value.asked is False
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert runs.waiting == 0


async def test_a_full_line_refuses_and_a_cancelled_waiter_leaves_it(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str
) -> None:
    """Behind the last place nobody waits; who stops waiting makes room."""
    runs = runs_of(CLINGING, 1, 1)
    where = cage(tmp_path, mark)
    async with runs.begin(asked("go"), where) as running:
        await first(running)
        waits: list[bool] = []
        waiter = asyncio.create_task(answer(runs, where, on_waiting=waits.append))
        await asyncio.sleep(0)
        assert runs.waiting == 1
        assert waits == [True]
        with pytest.raises(OverloadedError) as full:
            await answer(runs, where)
        assert full.value.asked is False  # a line of ours says nothing of the provider
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert runs.waiting == 0
        with pytest.raises(ProviderTimeoutError) as late:
            await answer(runs, where, timeout=0.05)
        assert late.value.asked is False
        assert late.value.unanswered is False
    assert runs.waiting == 0
    assert processes(mark) == []


async def test_the_time_of_a_run_ends_it(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """A run that takes longer than it may is ended; whether its model was asked until then is told."""
    runs = runs_of('begin; say \'{"type":"stream_event"}\'; while :; do sleep 600; done')
    pieces = []

    async def run() -> None:
        begun = runs.begin(asked("go"), cage(tmp_path, mark), timeout=0.5)
        async with begun as running, aclosing(running.output()) as output:
            async for piece in output:
                pieces.append(piece)  # noqa: PERF401 - the error comes in the middle

    with pytest.raises(ProviderTimeoutError) as late:
        await run()
    assert late.value.unanswered is bool(pieces)
    assert processes(mark) == []


async def test_closing_ends_runs_and_refuses_those_that_wait(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str
) -> None:
    """A server that stops leaves no process, whoever still holds a run."""
    runs = runs_of(CLINGING, 1, 4)
    where = cage(tmp_path, mark)
    async with runs.begin(asked("go"), where) as running, aclosing(running.output()) as output:
        await anext(output)
        waiter = asyncio.create_task(answer(runs, where))
        await asyncio.sleep(0)
        await runs.aclose()
        assert processes(mark) == []
        with pytest.raises(StreamBrokenError, match="stopping"):
            async for _ in output:
                pass
    with pytest.raises(UnavailableError, match="stopping"):
        await waiter
    with pytest.raises(UnavailableError, match="stopping"):
        await answer(runs, where)
    await runs.aclose()


_SERVER = """
import asyncio, sys
from contextlib import aclosing
from functools import partial
from pathlib import Path
from execution_platform.adapters.claude_agent.runs import Runs
from tests.adapters.claude_agent.cages import cage
from execution_platform.adapters.claude_agent.sandbox import Programs
from tests.adapters.claude_agent.capture_samples import asked
async def main(folder, mark, bwrap):
    runs = Runs(1, 1, programs=lambda: Programs(Path(bwrap), Path(folder, "cli")))
    async with runs.begin(asked("go"), cage(Path(folder), mark)) as running, aclosing(running.output()) as output:
        async for _ in output:
            print("begun", flush=True)
asyncio.run(main(*sys.argv[1:]))
"""


def test_a_killed_server_leaves_no_process(tmp_path: Path, mark: str) -> None:
    """Also where SIGKILL gives the server no chance to clean up, its runs end with it."""
    programs = program(tmp_path, CLINGING)
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", _SERVER, str(tmp_path), mark, str(programs.bwrap)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"begun\n"
        assert len(processes(mark)) > 3
        os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: processes(mark) == [], "the end of the processes")


_INIT = """
import asyncio, ctypes, os, sys
from pathlib import Path
from execution_platform.adapters.claude_agent.runs import Runs
from execution_platform.adapters.claude_agent.sandbox import Programs
from tests.adapters.claude_agent.cages import cage
from tests.adapters.claude_agent.capture_samples import asked
PR_SET_CHILD_SUBREAPER = 36
async def main(folder, mark, bwrap):
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    runs = Runs(1, 1, programs=lambda: Programs(Path(bwrap), Path(folder, "cli")))
    for _ in range(3):
        async with runs.begin(asked("go"), cage(Path(folder), mark)) as running:
            async for _ in running.output():
                pass
    await runs.aclose()
    print([Path("/proc", child, "stat").read_text().split()[1:3] for child in
           Path("/proc/self/task", str(os.getpid()), "children").read_text().split()])
asyncio.run(main(*sys.argv[1:]))
"""


def test_a_server_that_is_init_has_no_zombies(tmp_path: Path, mark: str) -> None:
    """Where the server adopts orphans, as the first process of a container does, none of its runs stays as a zombie."""
    programs = program(tmp_path, "begin; result")
    command = [sys.executable, "-c", _INIT, str(tmp_path), mark, str(programs.bwrap)]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
