"""The report of each day reaches a mail server once, whichever processes run."""

from __future__ import annotations

import asyncio
from datetime import date
from functools import partial

import pytest
import yaml
from sqlalchemy import select
from tests.server.ledger.alerts.receivers import Mailbox
from tests.server.ledger.alerts.things import Clock, Log
from tests.server.ledger.made_up import DAY, Try, Work, fill, id_of, micros
from tests.server.personas.reading import KNOWN

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.config.read import Content, PlatformError, read_platform
from execution_platform.server.config.reports import DailyReport
from execution_platform.server.ledger.alerts.delivery import Delivery
from execution_platform.server.ledger.alerts.sending import AppriseSender
from execution_platform.server.ledger.forecasts.forecaster import Forecaster
from execution_platform.server.ledger.reports.mail import DailyMail, due_day
from execution_platform.server.ledger.reports.reporter import Reporter
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import alerts
from execution_platform.v1 import cost_pb2

NOW = micros("2026-03-18T07:00:01+01:00")
SETTINGS = DailyReport(at="07:00", time_zone="Europe/Berlin", targets=("finance",))


def mail_of(database: Database, clock: Clock, log: Log) -> DailyMail:
    """What one process has."""
    reporter = Reporter(database, Forecaster(database, smooth=True, clock=clock), clock)
    return DailyMail(database, reporter, lambda: SETTINGS, log.logger, clock=clock)


async def test_the_report_arrives_once_although_two_processes_run(database: Database) -> None:
    """Two processes raise and deliver at the same time: one letter for each day comes, as text and as a page."""
    spent = [
        Work(id_of(number, at), at, tries=(Try(costs=(("USD", 1_250_000_000),)),))
        for number, at in enumerate((NOW - DAY, NOW - 2 * DAY, NOW), start=1)
    ]
    await fill(database, spent)
    mailbox, clock, log = Mailbox(), Clock(NOW), Log()
    await mailbox.start()
    url = f"mailto://127.0.0.1:{mailbox.port}/finance@example.test?from=ep@example.test"
    settings = AlertSettings.model_validate({"targets": {"finance": {"url": url, "kinds": ["anomaly"]}}})
    mails = [mail_of(database, clock, log) for _ in range(2)]
    deliveries = [Delivery(database, lambda: settings, AppriseSender(), clock, log.logger) for _ in range(2)]
    try:
        raised = await asyncio.gather(*(mail.once() for mail in mails))
        assert sorted(raised) == [False, True]
        await asyncio.gather(*(delivery.once() for delivery in deliveries))
        assert [await mail.once() for mail in mails] == [False, False]
        await asyncio.gather(*(delivery.once() for delivery in deliveries))
        assert [letter["subject"] for letter in mailbox.letters] == ["Spending of 2026-03-17: 1.25 USD"]
        plain, page = (mailbox.letters[0].get_body((kind,)) for kind in ("plain", "html"))
        assert plain is not None
        assert page is not None
        assert "1.25 USD" in plain.get_content()
        assert "<h2>By model</h2>" in page.get_content()
        clock.go(DAY)
        assert await mails[1].once()
        await deliveries[0].once()
        assert mailbox.letters[1]["subject"] == "Spending of 2026-03-18: 1.25 USD"
    finally:
        await mailbox.stop()


async def test_a_report_is_told_as_text_where_pages_are_not_taken(database: Database) -> None:
    """The alert holds the report as a text and as a page, and is no tenant's."""
    await mail_of(database, Clock(NOW), Log()).once()
    data = await database.read(lambda connection: connection.scalar(select(alerts.c.data)))
    assert data is not None
    alert = cost_pb2.Alert.FromString(data)
    assert (alert.kind, alert.tenant) == (cost_pb2.ALERT_KIND_DAILY_REPORT, "")
    assert alert.message.startswith(alert.title)
    assert alert.message_html.startswith("<!DOCTYPE html>")


async def test_nothing_is_sent_where_nothing_is_configured(database: Database) -> None:
    """Without a daily report in the configuration nothing is raised."""
    reporter = Reporter(database, Forecaster(database, smooth=True))
    assert not await DailyMail(database, reporter, lambda: None, Log().logger).once()


@pytest.mark.parametrize(
    ("now", "day"),
    [
        ("2026-03-18T06:59:59+01:00", date(2026, 3, 16)),
        ("2026-03-18T07:00:00+01:00", date(2026, 3, 17)),
        ("2026-03-18T23:59:59+01:00", date(2026, 3, 17)),
        ("2026-03-29T07:00:00+02:00", date(2026, 3, 28)),
    ],
)
def test_it_is_due_by_the_clock_of_the_time_zone(now: str, day: date) -> None:
    """From its time on, the report of the day before is due, also on the day on which clocks change."""
    assert due_day(SETTINGS, micros(now)) == day


@pytest.mark.parametrize(
    ("reports", "problem"),
    [
        ({"targets": ["finanse"]}, "6: reports.daily.targets[0]: is no target of `alerts.targets`; did you mean"),
        ({"targets": []}, "6: reports.daily.targets: "),
        ({"targets": ["finance"], "at": "7 o'clock"}, "reports.daily.at: "),
        ({"targets": ["finance"], "time_zone": "Mars"}, "reports.daily.time_zone: is no time zone"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(reports: dict[str, object], problem: str) -> None:
    """A target that is not there, a time or a zone that is none, are told with their line."""
    file = {"version": 1, "alerts": {"targets": {"finance": {"url": "json://127.0.0.1/x"}}}}
    text = (
        yaml.safe_dump(file, sort_keys=False)
        + f"reports: {{daily: {yaml.safe_dump(reports, default_flow_style=True)}}}"
    )
    read = partial(read_platform, (Content("ep.yaml", text.encode()),), KNOWN)
    with pytest.raises(PlatformError) as caught:
        read()
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]
