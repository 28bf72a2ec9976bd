"""A real process that is killed between sending an alert and marking it has it sent again by another one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

from tests.server.ledger.alerts.receivers import Webhook
from tests.server.ledger.alerts.things import SECOND, Clock, Log, alert, outbox_of, queue

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.ledger.alerts.delivery import Delivery
from execution_platform.server.ledger.alerts.sending import AppriseSender
from execution_platform.server.ledger.store.database import Database

ROOT = Path(__file__).parents[4]

#: Delivers what is due from the database of the first argument to the address of the second one, at a time.
PROCESS = """
import asyncio, sys
from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.alerts.delivery import Delivery
from execution_platform.server.ledger.alerts.sending import AppriseSender
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.telemetry import make_logger

async def main(url, address, now):
    logger = make_logger("info", "json", sys.stderr)
    database = Database(DatabaseAddress.parse(url), logger)
    await database.start()
    settings = AlertSettings.model_validate({"targets": {"ops": {"url": address}}})
    await Delivery(database, lambda: settings, AppriseSender(), lambda: int(now), logger).once()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_process_has_its_alert_sent_again(database: Database, database_url: str) -> None:
    """The receiver has the alert, its sender is killed, and another process sends it again when its turn is over."""
    clock, log, webhook = Clock(), Log(), Webhook()
    webhook.answers.clear()
    await webhook.start()
    address = f"json://127.0.0.1:{webhook.port}"
    settings = AlertSettings.model_validate({"targets": {"ops": {"url": address}}})
    await database.write(partial(outbox_of(clock, settings).put, topic="t", alert=alert()))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, database_url, address, str(clock.now), cwd=ROOT
    )
    try:
        async with asyncio.timeout(120):
            await webhook.has_taken(1)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    assert await database.read(queue) == [("ops", 1, False)]
    webhook.answers.set()
    survivor = Delivery(database, lambda: settings, AppriseSender(), clock, log.logger)
    await survivor.once()
    assert len(webhook.taken) == 1
    clock.go(180 * SECOND)
    await survivor.once()
    first, second = webhook.taken
    assert first[2] == second[2]  # the same text with the same id: a receiver can tell
    assert await database.read(queue) == [("ops", 2, True)]
    await webhook.stop()
