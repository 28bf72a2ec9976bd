"""Targets are told at least once: retried for days, by one process at a time, each in a queue of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Connection, select
from tests.server.ledger.alerts.things import DAY, HOUR, SECOND, Clock, Log, alert, outbox_of, queue

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.ledger.alerts.delivery import Delivery, wait_after
from execution_platform.server.ledger.alerts.sending import SendingError
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import alert_deliveries
from execution_platform.v1 import cost_pb2

WORD = "made-up-0123456789"


class Targets:
    """A sender on the seam: keeps what was sent, and fails or waits as it is told.

    Attributes:
        sent: target and title, in order.
        down: targets that take nothing.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.down: set[str] = set()
        self.gates: dict[str, asyncio.Event] = {}
        self.arrived = asyncio.Event()
        self.urls: list[str] = []
        self._news = asyncio.Condition()

    async def send(self, name: str, url: SecretStr, alert: cost_pb2.Alert) -> None:
        """Send, or not."""
        self.urls.append(url.get_secret_value())
        self.arrived.set()
        if name in self.gates:
            await self.gates[name].wait()
        if name in self.down:
            raise SendingError("it could not be reached")
        async with self._news:
            self.sent.append((name, alert.title))
            self._news.notify_all()

    async def until(self, count: int) -> None:
        """Wait until so many were sent."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: len(self.sent) >= count)


def settings_of(*names: str, **more: object) -> AlertSettings:
    """Return settings with these targets."""
    targets = {name: {"url": f"json://{name}/{WORD}"} for name in names}
    return AlertSettings.model_validate({"targets": targets, **more})


class Office:
    """A database with some processes that deliver from it.

    Args:
        database: that all use.
        settings: that all have.
    """

    def __init__(self, database: Database, settings: AlertSettings) -> None:
        self.database = database
        self.settings = settings
        self.clock = Clock()
        self.log = Log()

    def process(self, sender: Targets) -> Delivery:
        """Return the delivery of one process."""
        return Delivery(self.database, lambda: self.settings, sender, self.clock, self.log.logger, poll_seconds=0.01)

    async def put(self, *titles: str) -> None:
        """Raise alerts, a millisecond apart."""
        outbox = outbox_of(self.clock, self.settings)
        for title in titles:
            self.clock.go(1000)
            await self.database.write(partial(_put, outbox.put, title))

    async def queue(self) -> list[tuple[str, int, bool]]:
        """Return target, attempts and whether it was delivered, for each."""
        return await self.database.read(queue)

    async def errors(self) -> list[str]:
        """Return what was written down of why each was not delivered."""
        return await self.database.read(lambda c: list(c.scalars(select(alert_deliveries.c.last_error))))


def _put(put: Callable[[Connection, str, cost_pb2.Alert], bool], title: str, connection: Connection) -> None:
    assert put(connection, title, alert(title))


async def test_each_target_gets_each_alert_once_and_in_order(database: Database) -> None:
    """What is due is sent to every target in the order in which it was raised, once."""
    office, targets = Office(database, settings_of("mail", "ops")), Targets()
    await office.put("first", "second")
    delivery = office.process(targets)
    await delivery.once()
    await delivery.once()
    for name in ("mail", "ops"):
        assert [title for target, title in targets.sent if target == name] == ["first", "second"]
    assert await office.queue() == [("mail", 1, True), ("ops", 1, True)] * 2
    assert [line["target"] for line in office.log.of("alert_sent")].count("ops") == 2


def test_waits_double_up_to_an_hour() -> None:
    """After each attempt the wait is twice as long, from 5 seconds to an hour."""
    assert [wait_after(attempts) // SECOND for attempts in (1, 2, 3, 4, 10, 11, 12, 500)] == [
        5, 10, 20, 40, 2560, 3600, 3600, 3600,
    ]  # fmt: skip


async def test_a_target_that_is_down_gets_it_later(database: Database) -> None:
    """A target that takes nothing is tried again when its wait is over, not before, until it takes it."""
    office, targets = Office(database, settings_of("ops")), Targets()
    targets.down.add("ops")
    await office.put("late")
    delivery = office.process(targets)
    for attempts in (1, 2, 3):
        await delivery.once()
        office.clock.go(wait_after(attempts) - SECOND)
        await delivery.once()
        assert await office.queue() == [("ops", attempts, False)]
        assert await office.errors() == ["it could not be reached"]
        office.clock.go(SECOND)
    targets.down.clear()
    await delivery.once()
    assert (targets.sent, await office.queue(), await office.errors()) == ([("ops", "late")], [("ops", 4, True)], [""])
    assert [line["wait_seconds"] for line in office.log.of("alert_not_sent")] == [5, 10, 20]


async def test_it_is_given_up_loudly_after_some_days(database: Database) -> None:
    """An alert that is not taken for the days of the configuration is logged as an error, and not sent any more."""
    office, targets = Office(database, settings_of("ops", give_up_days=2)), Targets()
    targets.down.add("ops")
    await office.put("lost")
    delivery = office.process(targets)
    await delivery.once()
    while not office.log.of("alert_given_up"):
        office.clock.go(HOUR)
        await delivery.once()
    assert 2 * DAY <= office.clock.now - 1_795_428_000 * SECOND <= 2 * DAY + 2 * HOUR
    (line,) = office.log.of("alert_given_up")
    assert (line["level"], line["target"], line["kind"]) == ("error", "ops", "THRESHOLD")
    targets.down.clear()
    office.clock.go(30 * DAY)
    await delivery.once()
    assert (targets.sent, (await office.queue())[0][2]) == ([], False)


async def test_one_target_holds_up_no_other(database: Database) -> None:
    """While one target hangs, another one gets everything."""
    office, targets = Office(database, settings_of("hanging", "ops")), Targets()
    targets.gates["hanging"] = asyncio.Event()
    await office.put("first", "second")
    running = asyncio.create_task(office.process(targets).run())
    await targets.until(2)
    assert targets.sent == [("ops", "first"), ("ops", "second")]
    targets.gates["hanging"].set()
    await targets.until(4)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_two_processes_send_nothing_twice(database: Database) -> None:
    """Of two processes that deliver at the same time each alert is sent by one."""
    office, targets = Office(database, settings_of("mail", "ops", "pager")), Targets()
    await office.put(*(f"alert {number}" for number in range(8)))
    processes = [office.process(targets) for _ in range(2)]
    while any(not done for _, _, done in await office.queue()):
        await asyncio.gather(*(process.once() for process in processes))
    assert len(targets.sent) == len(set(targets.sent)) == 24


async def test_what_a_killed_process_had_taken_is_sent_again(database: Database) -> None:
    """What a process had taken when it ended is sent again by another one, once its turn is over."""
    office, killed, other = Office(database, settings_of("ops")), Targets(), Targets()
    killed.gates["ops"] = asyncio.Event()
    await office.put("twice")
    task = asyncio.create_task(office.process(killed).once())
    await killed.arrived.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    survivor = office.process(other)
    await survivor.once()
    assert (other.sent, await office.queue()) == ([], [("ops", 1, False)])
    office.clock.go(180 * SECOND)
    await survivor.once()
    assert (other.sent, await office.queue()) == ([("ops", "twice")], [("ops", 2, True)])


async def test_a_target_that_is_gone_is_given_up_in_the_end(database: Database) -> None:
    """Deliveries of a target that is not configured wait, since it may come back, and are given up when old."""
    office, targets = Office(database, settings_of("ops")), Targets()
    await office.put("kept", "lost")
    with_target, office.settings = office.settings, settings_of("other")
    delivery = office.process(targets)
    await delivery.once()
    office.settings = with_target
    targets.down.add("ops")
    await delivery.once()  # it is back, and still gets them
    assert await office.queue() == [("ops", 1, False)] * 2
    office.settings = settings_of("other")
    office.clock.go(4 * DAY)
    await delivery.once()
    (line,) = office.log.of("alerts_given_up")
    assert (line["target"], line["alerts"], targets.sent) == ("ops", 2, [])


async def test_an_address_may_change_meanwhile(database: Database) -> None:
    """A retry goes to the address that the configuration names by then."""
    office, targets = Office(database, settings_of("ops")), Targets()
    targets.down.add("ops")
    await office.put("moved")
    delivery = office.process(targets)
    await delivery.once()
    office.settings = AlertSettings.model_validate({"targets": {"ops": {"url": "json://elsewhere"}}})
    office.clock.go(5 * SECOND)
    await delivery.once()
    assert targets.urls == [f"json://ops/{WORD}", "json://elsewhere"]


async def test_no_address_is_logged_or_stored(database: Database) -> None:
    """Neither the log nor the queue holds an address, whatever happens."""
    office, targets = Office(database, settings_of("ops")), Targets()
    targets.down.add("ops")
    await office.put("hidden")
    await office.process(targets).once()
    assert office.log.of("alert_not_sent")
    assert WORD not in office.log.text.getvalue() + "".join(await office.errors())


async def test_the_database_may_be_away(tmp_path: Path) -> None:
    """While the database is away nothing is sent and nothing fails."""
    log, targets = Log(), Targets()
    away = Database(DatabaseAddress.parse(f"sqlite:///{tmp_path / 'ledger.db'}"), log.logger)
    office = Office(away, settings_of("ops"))
    await office.process(targets).once()
    await away.aclose()
    assert (targets.sent, office.log.text.getvalue()) == ([], "")
