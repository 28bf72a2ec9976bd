from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adapters.claude_agent.cages import PATIENCE, cage, eventually, processes, program, require_cages

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")

from tests.adapters.claude_agent.capture_samples import asked

from execution_platform.adapters.claude_agent.runs import Running, Runs
from execution_platform.adapters.claude_agent.sandbox import Cage, Programs
from execution_platform.adapters.errors import (
    AdapterError,
    InvalidRequestError,
    NotConfiguredError,
    OverloadedError,
    ProviderTimeoutError,
    StreamBrokenError,
    UnavailableError,
)

KEY = "sk-made-up-0123456789"

#: Children that want to stay: deaf to SIGTERM, in a session of their own, without a pipe that we hold.
_CLINGING = """
begin
(trap '' TERM; sleep 600) &
setsid sh -c 'sleep 600 & sleep 600' </dev/null >/dev/null 2>&1 &
trap '' TERM
say '{"type":"stream_event","n":1}'
while :; do sleep 600; done
"""


@pytest.fixture(autouse=True)
def _cages() -> None:
    require_cages()


@pytest.fixture
def mark() -> str:
    return str(uuid.uuid4())


@pytest.fixture
async def runs_of(tmp_path: Path) -> AsyncIterator[Callable[..., Runs]]:
    """Make runs of a script, which are closed at the end."""
    made = []

    def make(body: str, most_runs: int = 4, most_waiting: int = 4, *, programs: Programs | None = None) -> Runs:
        found = programs or program(tmp_path, body)
        made.append(Runs(most_runs, most_waiting, programs=lambda: found))
        return made[-1]

    yield make
    for runs in made:
        await runs.aclose()


async def everything(running: Running) -> bytes:
    async with aclosing(running.output()) as output:
        return b"".join([piece async for piece in output])


async def answer(runs: Runs, where: Cage, timeout: float | None = None) -> bytes:
    async with runs.begin(asked("go"), where, timeout=timeout) as running:
        return await everything(running)


async def first(running: Running) -> bytes:
    """Take one piece and leave the rest."""
    async with aclosing(running.output()) as output:
        return await anext(output)


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
    async with runs_of(_CLINGING).begin(asked("go"), cage(tmp_path, mark)) as running:
        assert await first(running)
        assert len(processes(mark)) > 3
    assert processes(mark) == []


async def test_an_error_in_the_block_leaves_no_process(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """What is raised inside comes out, and the processes have gone."""
    runs = runs_of(_CLINGING)

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
    runs = runs_of(_CLINGING)

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
    runs = runs_of(_CLINGING, 1)
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


@pytest.mark.parametrize(
    ("body", "kind", "words", "unanswered"),
    [
        ("exit 3", UnavailableError, "exit code 3", False),
        ("echo 'Error: it is Monday' >&2; exit 1", UnavailableError, "Monday", False),
        ("echo it cannot be >&2; exit 1", UnavailableError, "it cannot be", False),
        ("kill -9 $$", UnavailableError, "signal 9", False),
        ("begin; exit 0", UnavailableError, "exit code 0", False),
        ("echo nonsense; exit 0", UnavailableError, "nonsense", False),
        ("begin; say '{\"type\":'; exit 0", UnavailableError, "exit code 0", False),
        ('begin; say \'{"type":"system","status":"requesting"}\'; exit 2', UnavailableError, "code 2", True),
        ('begin; say \'{"type":"stream_event"}\'; kill -SEGV $$', StreamBrokenError, "signal 11", True),
        ('begin; printf \'{"type":"stream_event"}\\n{"type":"res\'; exit 0', StreamBrokenError, "without", True),
    ],
)
async def test_a_crash_is_told(
    runs_of: Callable[..., Runs],
    tmp_path: Path,
    mark: str,
    body: str,
    kind: type[AdapterError],
    words: str,
    unanswered: bool,
) -> None:
    """A program that ends without a result is unavailable; whether it may have asked its model is told."""
    with pytest.raises(AdapterError) as raised:
        await answer(runs_of(body), cage(tmp_path, mark))
    assert type(raised.value) is kind
    assert words in raised.value.message
    assert raised.value.unanswered is unanswered
    assert raised.value.asked is unanswered
    assert processes(mark) == []


@pytest.mark.parametrize(
    ("complaint", "field"),
    [
        ("Error: --json-schema is not valid", "output_format.json_schema.schema_json"),
        ("error: option '--effort <level>' argument 'x' is invalid", ""),
    ],
)
async def test_an_option_that_the_program_refuses_is_the_request_s_fault(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str, complaint: str, field: str
) -> None:
    """Nothing is tried again, and nothing is held against the provider."""
    with pytest.raises(InvalidRequestError, match="--") as raised:
        await answer(runs_of(f'echo "{complaint}" >&2; exit 1'), cage(tmp_path, mark))
    assert raised.value.field == field
    assert not raised.value.retryable


async def test_lines_before_a_crash_are_told_before_it(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """Nothing that the program said is lost with it."""
    runs = runs_of('begin; say \'{"type":"stream_event","n":1}\'; exit 1')
    async with runs.begin(asked("go"), cage(tmp_path, mark)) as running, aclosing(running.output()) as output:
        assert await anext(output) == b'{"type":"stream_event","n":1}\n'
        with pytest.raises(StreamBrokenError):
            await anext(output)


async def test_complaints_are_bounded_and_tell_no_key(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """An error holds the end of what the program complained of, without the key, however much it was."""
    body = f"begin; head -c 1000000 /dev/zero | tr '\\0' x >&2; echo 'refused: {KEY} is bad' >&2; exit 1"
    with pytest.raises(UnavailableError) as raised:
        await answer(runs_of(body), cage(tmp_path, mark, ANTHROPIC_API_KEY=KEY))
    assert raised.value.message.endswith("refused: [key] is bad")
    assert len(raised.value.message) < 5000
    assert KEY not in repr(raised.value)


async def test_an_error_result_is_no_crash(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """The program ends with exit code 1 after a result that tells an error; the result tells it."""
    told = await answer(runs_of("begin; result; exit 1"), cage(tmp_path, mark))
    assert json.loads(told)["type"] == "result"


async def test_what_runs_on_in_the_background_ends_with_the_run(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str
) -> None:
    """After its result a run is over, also where the program would wait for a command in the background."""
    told = await answer(runs_of("begin; result; sleep 600 & wait"), cage(tmp_path, mark))
    assert json.loads(told)["type"] == "result"
    assert processes(mark) == []


async def test_missing_programs_are_told(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """A missing CLI is unavailable for good; a missing or useless bubblewrap is not configured."""
    there = program(tmp_path, "result")
    nowhere = tmp_path / "nowhere"
    deaf = tmp_path / "deaf"
    deaf.write_text("")
    cases: list[tuple[Programs, type[AdapterError], str]] = [
        (Programs(there.bwrap, nowhere), UnavailableError, "is missing"),
        (Programs(there.bwrap, deaf), UnavailableError, "may not be executed"),
        (Programs(nowhere, there.cli), NotConfiguredError, "bubblewrap"),
        (Programs(Path("/bin/false"), there.cli), NotConfiguredError, "cannot be built"),
    ]
    for programs, kind, words in cases:
        with pytest.raises(AdapterError, match=words) as raised:
            await answer(runs_of("", programs=programs), cage(tmp_path, mark))
        assert type(raised.value) is kind
        assert not raised.value.retryable
        assert not raised.value.unanswered


async def test_a_folder_that_cannot_be_shown_is_told(runs_of: Callable[..., Runs], tmp_path: Path, mark: str) -> None:
    """What bubblewrap complains of before the program runs is the machine's or its settings' fault."""
    where = replace(cage(tmp_path, mark), read_only=(tmp_path / "nowhere",))
    with pytest.raises(NotConfiguredError, match="nowhere"):
        await answer(runs_of("result"), where)


async def test_a_workspace_that_was_swapped_for_a_link_is_refused(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str
) -> None:
    """Between its check and the run a workspace may become a link to elsewhere; the run does not follow it."""
    for name in ("real", "link"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").rmdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "inner").mkdir()
    for workspace in (tmp_path / "link", tmp_path / "link" / "inner", tmp_path / "nowhere"):
        with pytest.raises(InvalidRequestError, match="workspace"):
            await answer(runs_of("result"), cage(tmp_path, mark, workspace=workspace))


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


async def test_a_full_line_refuses_and_a_cancelled_waiter_leaves_it(
    runs_of: Callable[..., Runs], tmp_path: Path, mark: str
) -> None:
    """Behind the last place nobody waits; who stops waiting makes room."""
    runs = runs_of(_CLINGING, 1, 1)
    where = cage(tmp_path, mark)
    async with runs.begin(asked("go"), where) as running:
        await first(running)
        waiter = asyncio.create_task(answer(runs, where))
        await asyncio.sleep(0)
        assert runs.waiting == 1
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
    runs = runs_of(_CLINGING, 1, 4)
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
    programs = program(tmp_path, _CLINGING)
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
