"""Budgets of the configuration, kept in step with its file: those of its section `budgets`, and personas' limits.

Whoever starts, or reads its file anew, writes its whole set into the ledger; nobody writes at any other time. So
processes that share a file agree, and of processes with different files the one that read its file last decides, until
another one starts or reads (docs/decisions/2026-11-21-configured-budgets.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Final

from sqlalchemy import Connection

from execution_platform.server.config.budgets import BudgetSettings
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.budgets.budget_checks import PERSONA_PREFIX, checked
from execution_platform.server.ledger.budgets.budget_set import lock_alone, raise_version
from execution_platform.server.ledger.budgets.changes import put_budgets, remove_budgets, stored_budgets
from execution_platform.server.ledger.store.database import Absence, Database
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import common_pb2, cost_pb2

__all__ = ["Changes", "ConfiguredBudgets", "budgets_of", "persona_of", "put_configured"]

_MOST_ID: Final = 128
_DIGEST: Final = 12
_TOKENS: Final = ".tokens_per_min"
_COST: Final = ".cost_per_min"


def budgets_of(configuration: PlatformConfiguration) -> list[cost_pb2.Budget]:
    """Return the budgets that a configuration has."""
    made = [_budget(name, settings) for name, settings in configuration.budgets.items()]
    for name, persona in configuration.personas.items():
        limits = persona.limits
        if limits.tokens_per_min is not None:
            made.append(_of_persona(name, _TOKENS, cost_pb2.Budget(max_tokens=limits.tokens_per_min)))
        if limits.cost_per_min is not None:
            # Nobody is held back for a price that is not known: who wants that writes a budget.
            unpriced = cost_pb2.UNPRICED_POLICY_ALLOW
            made.append(_of_persona(name, _COST, cost_pb2.Budget(limit=_money(limits.cost_per_min), unpriced=unpriced)))
    return [checked(each) for each in made]


def persona_of(budget_id: str, configuration: PlatformConfiguration) -> str:
    """Return the persona whose limit a budget is; empty: it is none's."""
    if not budget_id.startswith(PERSONA_PREFIX):
        return ""
    named = (
        name for name in configuration.personas if budget_id in {_persona_id(name, _TOKENS), _persona_id(name, _COST)}
    )
    return next(named, "")


def _budget(name: str, settings: BudgetSettings) -> cost_pb2.Budget:
    scope = cost_pb2.BudgetScope(**settings.scope.model_dump())
    budget = cost_pb2.Budget(
        id=name,
        display_name=settings.display_name,
        scope=scope if scope.ByteSize() else None,
        max_tokens=settings.max_tokens or 0,
        period=cost_pb2.BudgetPeriod.Value(f"BUDGET_PERIOD_{settings.period.name}"),
        time_zone="" if settings.time_zone == "UTC" else settings.time_zone,
        enforcement=cost_pb2.BudgetEnforcement.Value(f"BUDGET_ENFORCEMENT_{settings.enforcement.name}"),
        alert_percents=settings.alert_percents,
    )
    if settings.limit is not None:
        budget.limit.CopyFrom(_money(settings.limit))
    if settings.unpriced is not None:
        budget.unpriced = cost_pb2.UnpricedPolicy.Value(f"UNPRICED_POLICY_{settings.unpriced.name}")
    return budget


def _of_persona(persona: str, limit: str, budget: cost_pb2.Budget) -> cost_pb2.Budget:
    budget.id = _persona_id(persona, limit)
    budget.display_name = f"{limit[1:]} of persona {persona}"[:_MOST_ID]
    budget.scope.persona = persona
    budget.period = cost_pb2.BUDGET_PERIOD_MINUTE
    return budget


def _persona_id(persona: str, limit: str) -> str:
    """Return the id of a persona's limit; of a name that is too long for one, a part and its digest."""
    whole = f"{PERSONA_PREFIX}{persona}{limit}"
    if len(whole) <= _MOST_ID:
        return whole
    digest = hashlib.sha256(persona.encode()).hexdigest()[:_DIGEST]
    return f"{PERSONA_PREFIX}{persona[: _MOST_ID - len(PERSONA_PREFIX) - len(limit) - _DIGEST - 1]}-{digest}{limit}"


def _money(dollars: Decimal) -> common_pb2.Money:
    return common_pb2.Money(currency_code="USD", nanos=max(1, int((dollars * 10**9).to_integral_value())))


# --- into the ledger


@dataclass(slots=True)
class Changes:
    """What was done to bring the ledger in step: ids of budgets.

    Attributes:
        created: that were not there.
        changed: that were otherwise.
        taken_over: that somebody had made with CreateBudget; the configuration's stand in their place now.
        removed: that the configuration does not have any more.
    """

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether anything was done."""
        return bool(self.created or self.changed or self.taken_over or self.removed)


def put_configured(connection: Connection, wanted: Mapping[str, cost_pb2.Budget], clock: Callable[[], int]) -> Changes:
    """Make the configured budgets of the ledger those of a configuration.

    Args:
        connection: within a transaction that writes.
        wanted: the budgets by id, as :func:`budgets_of` makes them.
        clock: microseconds since the epoch.
    """
    lock_alone(connection)
    there = {each.id: each for each in stored_budgets(connection)}
    changes = Changes()
    puts: list[tuple[cost_pb2.Budget, cost_pb2.Budget | None]] = []
    for name, budget in wanted.items():
        before = there.get(name)
        if before is not None and before.configured and checked(before) == budget:
            continue
        made = cost_pb2.Budget(configured=True)
        made.MergeFrom(budget)
        puts.append((made, before))
        kind = changes.created if before is None else changes.changed if before.configured else changes.taken_over
        kind.append(name)
    for name, before in there.items():
        if before.configured and name not in wanted:
            changes.removed.append(name)
    if puts:
        put_budgets(connection, puts, clock())
    if changes.removed:
        remove_budgets(connection, changes.removed)
    if changes:
        raise_version(connection)
    return changes


def _out_of_step(connection: Connection, wanted: Mapping[str, cost_pb2.Budget]) -> bool:
    there = stored_budgets(connection)
    return {each.id: checked(each) for each in there if each.configured} != dict(wanted)


class ConfiguredBudgets:
    """Brings the ledger in step when the server starts, when its configuration is another one, and after an outage.

    Args:
        database: of the ledger.
        configuration: gives the configuration in force; None: it comes from no file, which says nothing of budgets.
        refresh: has the process take note of what was changed.
        logger: is told what was changed.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        configuration: Callable[[], PlatformConfiguration | None],
        refresh: Callable[[], Awaitable[None]],
        logger: Logger,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._refresh = refresh
        self._logger = logger
        self._clock = clock
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: What was written last; an outage in between asks for no second time.
        self._written: PlatformConfiguration | None = None
        database.on_return(self._returned)

    async def start(self) -> None:
        """Bring the ledger in step, and keep it so. While the database is away that waits until it is back."""
        await self._try()
        self._task = asyncio.create_task(self._keep(), name="ledger-configured-budgets")

    async def aclose(self) -> None:
        """End. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def ask(self) -> None:
        """Have the ledger brought in step soon: the configuration is another one."""
        self._asked.set()

    async def _returned(self, _absence: Absence) -> None:
        self._written = None  # it may be another database by now
        await self._try()

    async def _keep(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._try()

    async def _try(self) -> None:
        try:
            await self.write()
        except LedgerUnavailableError:
            pass  # tried again when the database is back
        except Exception:
            self._logger.exception("configured_budgets_fault")

    async def write(self) -> Changes:
        """Bring the ledger in step, unless that was done with this very configuration.

        Raises:
            LedgerUnavailableError: the database is away.
        """
        configuration = self._configuration()
        if configuration is None or configuration is self._written:
            return Changes()
        wanted = {each.id: each for each in budgets_of(configuration)}
        changes = Changes()
        if await self._database.read(partial(_out_of_step, wanted=wanted)):
            changes = await self._database.write(partial(put_configured, wanted=wanted, clock=self._clock))
        self._written = configuration
        if changes:
            self._tell(changes)
            await self._refresh()
        return changes

    def _tell(self, changes: Changes) -> None:
        told = {"created": changes.created, "changed": changes.changed, "removed": changes.removed}
        self._logger.info("budgets_configured", **{name: sorted(ids) for name, ids in told.items()})
        if changes.taken_over:
            self._logger.warning("budgets_taken_over_by_configuration", budgets=sorted(changes.taken_over))
