"""Whatever chats do, in whatever order and number: windows say the truth, and hard budgets hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from tests.server.ledger.chats import facts, money, put_budget, record, untrue_windows
from tests.server.ledger.conftest import MakeLedger

from execution_platform.server.errors import BudgetExceededError
from execution_platform.server.ledger.facts import Demand, mint_id
from execution_platform.server.ledger.ledger import Lease
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import budget_windows, budgets
from execution_platform.server.ledger.writing.reaper import Reaper
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import cost_pb2

LIMIT = 1_000


@dataclass(frozen=True)
class Step:
    """What a chat does next.

    Attributes:
        ask: what it asks to hold; less than the limit, or none fits.
        use: what share of that it spends, in percent; never more.
        extend: what it asks for in place of it afterwards; None: nothing.
        ending: how it ends.
    """

    ask: int
    use: int
    extend: int | None
    ending: str
    labelled: bool


STEPS = st.lists(
    st.builds(
        Step,
        ask=st.integers(0, LIMIT),
        use=st.integers(0, 100),
        extend=st.none() | st.integers(0, LIMIT),
        ending=st.sampled_from(["settled", "twice", "cancelled", "lost"]),
        labelled=st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


async def chat(ledger: SqlLedger, persona: str, step: Step) -> None:
    """Reserve, perhaps extend, spend no more than is held, settle."""
    of = facts(persona, labels={"persona": persona} if step.labelled else None)
    lost = record(of, 0, outcome=cost_pb2.USAGE_OUTCOME_LOST)
    held = 0
    lease: Lease | None = None
    with contextlib.suppress(BudgetExceededError):
        lease = await ledger.reserve(of, 1, "scripted", "plain", Demand(step.ask, 1), lambda: lost)
        held = step.ask
    if lease is not None and step.extend is not None:
        with contextlib.suppress(BudgetExceededError):
            await ledger.extend(lease, Demand(step.extend, 1))
            held = step.extend
    if step.ending == "lost":
        return
    made = record(of, held * step.use // 100)
    if step.ending == "cancelled":
        task = asyncio.create_task(ledger.settle(of, made))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return
    await ledger.settle(of, made)
    if step.ending == "twice":
        await ledger.settle(of, made)


async def check(database: Database, names: Sequence[str]) -> None:
    assert await database.read(untrue_windows) == []
    query = select(budget_windows).where(budget_windows.c.budget_id.in_(names))
    for row in await database.read(lambda connection: connection.execute(query).all()):
        assert row.spent_nanos + row.reserved_nanos <= LIMIT


@given(first=STEPS, second=STEPS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_windows_say_the_truth_and_hard_budgets_hold(
    database: Database, make_ledger: MakeLedger, first: list[Step], second: list[Step]
) -> None:
    """Chats of two servers at once never hold and spend more than a limit, and afterwards nothing is left held."""
    persona = mint_id()
    names = [f"{persona}-{kind}" for kind in ("persona", "label")]
    scopes = [cost_pb2.BudgetScope(persona=persona), cost_pb2.BudgetScope(labels={"persona": persona})]
    for name, scope in zip(names, scopes, strict=True):
        budget = cost_pb2.Budget(id=name, scope=scope, limit=money(LIMIT))
        await database.write(partial(put_budget, budget=budget))
    ledgers = [await make_ledger(), await make_ledger()]
    for ledger in ledgers:
        await ledger.refresh()
    await asyncio.gather(
        *(chat(ledgers[0], persona, step) for step in first), *(chat(ledgers[1], persona, step) for step in second)
    )
    await check(database, names)
    logger = make_logger("error", "json")
    reaper = Reaper(database, ledgers[0], [], set, logger, lambda: 2**60)
    await reaper.reap()
    await check(database, names)
    query = select(budget_windows.c.reserved_nanos).where(budget_windows.c.budget_id.in_(names))
    assert set(await database.read(lambda connection: connection.scalars(query).all())) <= {0}
    await database.write(lambda connection: connection.execute(budgets.delete()))
    for ledger in ledgers:
        await ledger.aclose()
