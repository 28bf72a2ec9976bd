"""Runs that fail, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adapters.claude_agent.cages import cage, processes, program

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")

from tests.adapters.claude_agent.capture_samples import asked
from tests.adapters.claude_agent.running import KEY, answer

from execution_platform.adapters.claude_agent.runs import Runs
from execution_platform.adapters.claude_agent.sandbox import Programs
from execution_platform.adapters.errors import (
    AdapterError,
    InvalidRequestError,
    NotConfiguredError,
    StreamBrokenError,
    UnavailableError,
)

pytestmark = pytest.mark.usefixtures("cages")


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
        ("begin; echo 'error: --model is away' >&2; exit 1", UnavailableError, "is away", False),
        ("echo 'error: --model is away' >&2; exit 137", UnavailableError, "signal 9", False),
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
        ("error: option '--effort <level>' argument 'x' is invalid", "reasoning.effort"),
        ("Error: --betas is not valid", ""),
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
