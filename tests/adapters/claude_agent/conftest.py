"""What tests of runs are given, and their loops: runs are tried on both, as the server's is uvloop."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop
from tests.adapters.claude_agent.cages import program, require_cages

if TYPE_CHECKING:
    from execution_platform.adapters.claude_agent.runs import Runs
    from execution_platform.adapters.claude_agent.sandbox import Programs


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001 - the hook's name
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give tests of runs both loops, all others the usual one."""
    both: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop,
        "uvloop": uvloop.new_event_loop,
    }
    return both if item.path.name.startswith("test_runs") else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def cages() -> None:
    """Skip where no cage can be built."""
    require_cages()


@pytest.fixture
def mark() -> str:
    """What tells the processes of one test from all others."""
    return str(uuid.uuid4())


@pytest.fixture
async def runs_of(tmp_path: Path) -> AsyncIterator[Callable[..., Runs]]:
    """Make runs of a script, which are closed at the end."""
    from execution_platform.adapters.claude_agent.runs import Runs  # noqa: PLC0415 - needs the extra's SDK

    made = []

    def make(body: str, most_runs: int = 4, most_waiting: int = 4, *, programs: Programs | None = None) -> Runs:
        found = programs or program(tmp_path, body)
        made.append(Runs(most_runs, most_waiting, programs=lambda: found))
        return made[-1]

    yield make
    for runs in made:
        await runs.aclose()
