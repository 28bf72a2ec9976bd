"""Real processes share budgets through one database, and some of them are killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select
from tests.conftest import ROOT
from tests.server.ledger.chats import money, put_budget, untrue_windows
from tests.server.ledger.conftest import MakeLedger
from tests.server.ledger.hammer import WORST

from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import budget_windows, open_chats, usage_records
from execution_platform.server.ledger.writing.reaper import Reaper
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import cost_pb2

PROCESSES = 4


class Hammer:
    """One process that chats."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.ids: list[str] = []
        self.refused = 0

    @classmethod
    async def start(cls, url: str, spool: Path, callers: int, chats: int) -> Hammer:
        arguments = ["-m", "tests.server.ledger.hammer", url, str(spool), str(callers), str(chats)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe, cwd=ROOT)
        one = cls(process)
        assert await one._line() == "ready"
        return one

    async def go(self, *, kill_after: int | None = None) -> None:
        """Let it chat to its end, or until it has told of so many records."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        while line := await self._line():
            if line.startswith("refused "):
                self.refused = int(line.removeprefix("refused "))
                continue
            self.ids.append(line)
            if len(self.ids) == kill_after:
                self.process.kill()
        status = await self.process.wait()
        assert status == (0 if kill_after is None else -signal.SIGKILL)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def _line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()


def most(connection: Connection) -> int:
    """What any window has spent and holds at most."""
    both = budget_windows.c.spent_nanos + budget_windows.c.reserved_nanos
    return int(connection.scalar(select(func.max(both))) or 0)


def left(connection: Connection) -> tuple[int, int]:
    """What is held, and how many chats are open."""
    held = connection.scalar(select(func.sum(budget_windows.c.reserved_nanos)))
    return int(held or 0), connection.execute(select(func.count()).select_from(open_chats)).scalar_one()


async def watch(database: Database, limit: int) -> None:
    """See that no window is ever above its limit."""
    while True:
        assert await database.read(most) <= limit
        await asyncio.sleep(0.01)


async def ids_of(database: Database) -> Counter[str]:
    return Counter(await database.read(lambda connection: connection.scalars(select(usage_records.c.id)).all()))


@pytest.mark.unmeasured
@pytest.mark.parametrize("killed", [None, 1, 25])
async def test_processes_share_hard_budgets(
    database: Database, database_url: str, make_ledger: MakeLedger, tmp_path: Path, killed: int | None
) -> None:
    """No limit is ever passed; what a caller saw settled is there once; a killed process holds nothing in the end."""
    limit = 120 * WORST
    for persona in ("", "writer"):
        budget = cost_pb2.Budget(id=f"of-{persona}", scope=cost_pb2.BudgetScope(persona=persona), limit=money(limit))
        await database.write(partial(put_budget, budget=budget))
    hammers = await asyncio.gather(
        *(Hammer.start(database_url, tmp_path / "spool", callers=24, chats=7) for _ in range(PROCESSES))
    )
    watching = asyncio.create_task(watch(database, limit))
    try:
        await asyncio.gather(hammers[0].go(kill_after=killed), *(each.go() for each in hammers[1:]))
        assert not watching.done()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await asyncio.gather(*(each.end() for each in hammers))
    ledger = await make_ledger()
    lost = await Reaper(database, ledger, [], set, make_logger("error", "json"), lambda: 2**60).reap()
    assert (lost > 0) <= (killed is not None)
    seen = [each for hammer in hammers for each in hammer.ids]
    assert Counter(seen) - await ids_of(database) == Counter()
    assert set((await ids_of(database)).values()) == {1}
    assert await database.read(untrue_windows) == []
    assert await database.read(left) == (0, 0)
    assert sum(each.refused for each in hammers) > 0
