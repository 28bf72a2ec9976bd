"""Budgets of the configuration and limits of personas are budgets of the ledger, in step with their file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.server.conftest import Serve, Served, chat_request, error_info, events_of, failed_stream, until
from tests.server.ledger.chats import DOLLAR, facts, money, record, untrue_windows
from tests.server.ledger.served import with_ledger

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.ledger.budgets.budget_set import version_of
from execution_platform.server.ledger.budgets.changes import create_budget, statuses_of, stored_budgets
from execution_platform.server.ledger.budgets.configured import Changes, budgets_of, persona_of, put_configured
from execution_platform.server.ledger.facts import Demand
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.v1 import cost_pb2

#: 2026-11-18T12:00:00Z, in the middle of a day and a month.
NOON = 1_795_003_200_000_000


def now() -> int:
    return NOON


def configuration(**sections: Any) -> PlatformConfiguration:
    """A configuration."""
    return PlatformConfiguration.model_validate(sections)


async def put(database: Database, made: PlatformConfiguration) -> Changes:
    """Bring the ledger in step with a configuration."""
    wanted = {each.id: each for each in budgets_of(made)}
    return await database.write(partial(put_configured, wanted=wanted, clock=now))


async def configured(database: Database) -> dict[str, cost_pb2.Budget]:
    return {each.id: each for each in await database.read(stored_budgets) if each.configured}


def test_a_budget_of_the_file_is_one_of_the_contract() -> None:
    """Every key of the file reaches its field, money to the nano."""
    section = {
        "display_name": "ACME",
        "scope": {"tenant": "acme", "model": "gpt", "labels": {"team": "red"}},
        "limit": "12.000000001",
        "max_tokens": 7,
        "period": "week",
        "time_zone": "Europe/Berlin",
        "enforcement": "soft",
        "alert_percents": [90, 10],
        "unpriced": "refuse",
    }
    (budget,) = budgets_of(configuration(budgets={"a": section}))
    assert budget == cost_pb2.Budget(
        id="a",
        display_name="ACME",
        scope=cost_pb2.BudgetScope(tenant="acme", model="gpt", labels={"team": "red"}),
        limit=money(12 * DOLLAR + 1),
        max_tokens=7,
        period=cost_pb2.BUDGET_PERIOD_WEEK,
        time_zone="Europe/Berlin",
        enforcement=cost_pb2.BUDGET_ENFORCEMENT_SOFT,
        alert_percents=[10, 90],
        unpriced=cost_pb2.UNPRICED_POLICY_REFUSE,
    )


def test_limits_of_a_persona_are_budgets() -> None:
    """What a persona may spend in a minute are hard budgets; of a price that is not known it holds nobody back."""
    made = configuration(personas={"reviewer": {"limits": {"tokens_per_min": 50, "cost_per_min": "0.5"}}, "free": {}})
    tokens, cost = budgets_of(made)
    assert (tokens.id, cost.id) == ("persona.reviewer.tokens_per_min", "persona.reviewer.cost_per_min")
    assert (tokens.max_tokens, cost.limit, cost.unpriced) == (50, money(DOLLAR // 2), cost_pb2.UNPRICED_POLICY_ALLOW)
    for each in (tokens, cost):
        assert (each.scope.persona, each.period) == ("reviewer", cost_pb2.BUDGET_PERIOD_MINUTE)
        assert each.enforcement == cost_pb2.BUDGET_ENFORCEMENT_HARD
        assert persona_of(each.id, made) == "reviewer"
    assert persona_of("persona.nobody.tokens_per_min", made) == persona_of("reviewer", made) == ""


def test_a_long_name_of_a_persona_makes_an_id_of_its_own() -> None:
    """Personas whose names are too long for an id have budgets of ids that differ all the same."""
    limits = {"limits": {"tokens_per_min": 1, "cost_per_min": 1}}
    names = ["x" * 127 + end for end in "ab"]
    made = configuration(personas=dict.fromkeys(names, limits))
    ids = [each.id for each in budgets_of(made)]
    assert len(set(ids)) == 4
    assert max(map(len, ids)) <= 128
    assert [persona_of(each, made) for each in ids] == [names[0], names[0], names[1], names[1]]


async def test_the_ledger_is_brought_in_step_once(database: Database) -> None:
    """What is there already is left alone, so who else has the same file changes nothing."""
    made = configuration(
        budgets={"a": {"limit": 5, "period": "day"}, "b": {"max_tokens": 5, "period": "hour"}},
        personas={"reviewer": {"limits": {"tokens_per_min": 50}}},
    )
    first = await put(database, made)
    assert sorted(first.created) == ["a", "b", "persona.reviewer.tokens_per_min"]
    before, version = await configured(database), await database.read(version_of)
    assert not await put(database, made)
    assert (await configured(database), await database.read(version_of)) == (before, version)
    changed = configuration(budgets={"a": {"limit": 6, "period": "day"}, "c": {"limit": 1, "period": "month"}})
    second = await put(database, changed)
    assert (second.created, second.changed) == (["c"], ["a"])
    assert sorted(second.removed) == ["b", "persona.reviewer.tokens_per_min"]
    after = await configured(database)
    assert sorted(after) == ["a", "c"]
    assert (after["a"].limit, after["a"].create_time) == (money(6 * DOLLAR), before["a"].create_time)
    assert await database.read(untrue_windows) == []


async def test_a_budget_of_the_same_id_is_taken_over(database: Database) -> None:
    """Where the file has the id of a budget that somebody made, the file's stands; all others stay somebody's."""
    for name in ("a", "mine"):
        budget = cost_pb2.Budget(id=name, max_tokens=1, period=cost_pb2.BUDGET_PERIOD_DAY)
        await database.write(partial(create_budget, budget=budget, clock=now))
    changes = await put(database, configuration(budgets={"a": {"limit": 5, "period": "day"}}))
    assert changes.taken_over == ["a"]
    assert list(await configured(database)) == ["a"]
    assert (await put(database, configuration())).removed == ["a"]
    assert [each.id for each in await database.read(stored_budgets)] == ["mine"]


async def test_many_budgets_are_counted_together(database: Database, ledger: SqlLedger) -> None:
    """Budgets that are written at once each count what they would count alone, and what runs."""
    for persona, team in (("writer", "red"), ("writer", "blue"), ("reader", "red")):
        chat = facts(persona, started=NOON, labels={"team": team})
        await ledger.settle(chat, record(chat, 3, None, 4))
    await put(database, configuration(budgets={"first": {"limit": 5, "period": "month"}}))
    await ledger.refresh()
    chat = facts("reader", started=NOON)
    assert await ledger.reserve(chat, 1, "scripted", "plain", Demand(50, 60), lambda: record(chat, 0))
    scopes: dict[str, Any] = {
        "all": {},
        "writer": {"persona": "writer"},
        "reader": {"persona": "reader", "provider": "scripted"},
        "nobody": {"persona": "nobody", "model": "plain"},
        "red": {"labels": {"team": "red"}},
    }
    sections = {
        f"{name}-{period}": {"scope": scope, "limit": 5, "period": period}
        for name, scope in scopes.items()
        for period in ("day", "month")
    }
    await put(database, configuration(budgets=sections))
    assert await database.read(untrue_windows) == []
    told = await database.read(lambda connection: statuses_of(connection, stored_budgets(connection), now()))
    assert {each.budget.id: (each.spent.nanos, each.unpriced, each.reserved.nanos) for each in told} == {
        f"{name}-{period}": counts
        for name, counts in {
            "all": (21, 3, 50),
            "writer": (14, 2, 0),
            "reader": (7, 1, 50),
            "nobody": (0, 0, 0),
            "red": (14, 2, 0),
        }.items()
        for period in ("day", "month")
    }
    await ledger.settle(chat, record(chat, 1))
    assert await database.read(untrue_windows) == []


FILE = """\
personas:
  reviewer:
    provider: scripted
    limits: {tokens_per_min: 1}
budgets:
  all: {limit: 5, period: month, enforcement: soft}
"""


async def _listed(served: Served) -> dict[str, cost_pb2.BudgetStatus]:
    answer = await served.costs.ListBudgets(cost_pb2.ListBudgetsRequest())
    return {each.budget.id: each for each in answer.statuses}


async def test_a_server_keeps_its_file_in_step(serve: Serve, database_url: str, tmp_path: Path) -> None:
    """Budgets of the file are there when it serves, hold its chats, are changed only there, and follow a reload."""
    file = tmp_path / "personas.yaml"
    file.write_text(FILE)
    chat = chat_request(model="", persona="reviewer")
    async with serve(with_ledger(database_url, EP_CONFIG_PATH=str(file), EP_CONFIG_WATCH="off")) as served:
        listed = await _listed(served)
        assert list(listed) == ["all", "persona.reviewer.tokens_per_min"]
        assert all(each.budget.configured for each in listed.values())
        _, error = await failed_stream(served.chat.Chat(chat))
        assert error_info(error).reason == "BUDGET_EXCEEDED"
        assert "persona.reviewer.tokens_per_min" in (error.details() or "")
        assert "that is more than the whole budget" in (error.details() or "")
        for name, line in (("all", 6), ("persona.reviewer.tokens_per_min", 2)):
            with pytest.raises(grpc.aio.AioRpcError, match=f"personas.yaml:{line}") as refused:
                await served.costs.DeleteBudget(cost_pb2.DeleteBudgetRequest(id=name))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        file.write_text(FILE.replace("1}", "100000}").replace("  all:", "  whole:"))
        served.app.reloading.ask()
        await until(lambda: len(served.log_lines("budgets_configured")) == 2)
        assert list(await _listed(served)) == ["persona.reviewer.tokens_per_min", "whole"]
        events = await events_of(served.chat.Chat(chat))
    assert events[-1].HasField("finished")


async def test_a_server_without_a_file_leaves_the_budgets_of_others(
    serve: Serve, database: Database, database_url: str
) -> None:
    """Who has no file says nothing of budgets: those of the servers that have one stay."""
    await put(database, configuration(budgets={"a": {"limit": 5, "period": "day"}}))
    async with serve(with_ledger(database_url)) as served:
        assert list(await _listed(served)) == ["a"]
        with pytest.raises(grpc.aio.AioRpcError, match="in the file of the servers that have it"):
            await served.costs.DeleteBudget(cost_pb2.DeleteBudgetRequest(id="a"))
