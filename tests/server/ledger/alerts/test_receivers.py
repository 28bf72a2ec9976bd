"""A real mail server and a real webhook get each alert by apprise, as it should read, also if they come late."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import pytest
from pydantic import SecretStr
from tests.server.ledger.alerts.receivers import HangingWebhook, Mailbox, Webhook
from tests.server.ledger.alerts.things import (
    MONDAY,
    SECOND,
    USD,
    Book,
    Clock,
    Log,
    Prices,
    attempt,
    budget,
    facts,
    outbox_of,
    queue,
    raised,
    record,
    rules_of,
)

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.ledger.alerts.delivery import Delivery, wait_after
from execution_platform.server.ledger.alerts.observer import Outage, Refusal, Seen
from execution_platform.server.ledger.alerts.outbox import topic_of
from execution_platform.server.ledger.alerts.sending import AppriseSender
from execution_platform.server.ledger.alerts.wording import anomaly, message_of, spend_rate
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import chat_pb2, cost_pb2

WORD = "made-up-0123456789"


@dataclass
class Office:
    """A ledger that raises alerts, and delivers them to a webhook and a mail server."""

    database: Database
    settings: AlertSettings
    webhook: Webhook
    mailbox: Mailbox
    clock: Clock
    log: Log
    delivery: Delivery

    async def raise_every_kind(self) -> list[cost_pb2.Alert]:
        """Raise one alert of each kind and return them."""
        rules = rules_of(self.clock, self.log, self.settings, Prices({"a/cheap": 10, "b/dear": 100}))
        window = Book(budget(), spent_nanos=10 * USD)
        seen = Seen(
            [
                record(attempt("local/mole", priced=False)),
                record(attempt("a/cheap", chat_pb2.ATTEMPT_OUTCOME_FAILED), attempt("b/dear")),
            ],
            [window],
            [Refusal(window, facts(), "openai", "gpt-5")],
        )
        await self.database.write(partial(rules.observe, seen=seen))
        await self.database.write(partial(rules.outage, outage=Outage(MONDAY - 60 * SECOND, MONDAY, 2, 5)))
        outbox = outbox_of(self.clock, self.settings)
        found = [anomaly("acme", MONDAY, 50 * USD, USD, 3 * USD, 8), spend_rate("", MONDAY, 60 * USD, 50 * USD)]
        for alert in found:
            await self.database.write(partial(outbox.put, topic=topic_of(alert.title), alert=alert))
        return await self.database.read(raised)

    async def delivered(self) -> list[bool]:
        """Return of each delivery whether it is."""
        return [done for _, _, done in await self.database.read(queue)]

    def expect_all(self, alerts: list[cost_pb2.Alert]) -> None:
        """Hold what was received against the alerts."""
        hooks = {body["title"]: body for _, _, body in self.webhook.taken}
        assert hooks == {alert.title: _as_json(alert) for alert in alerts}
        letters = {letter["subject"]: _text_of(letter) for letter in self.mailbox.letters}
        assert letters == {alert.title: message_of(alert).splitlines() for alert in alerts}


def _as_json(alert: cost_pb2.Alert) -> dict[str, object]:
    grave = {cost_pb2.ALERT_KIND_BUDGET_EXCEEDED, cost_pb2.ALERT_KIND_LEDGER_OUTAGE}
    return {
        "version": "1.0",
        "title": alert.title,
        "message": message_of(alert),
        "attachments": [],
        "type": "failure" if alert.kind in grave else "warning",
    }


def _text_of(letter: object) -> list[str]:
    body = letter.get_body(("plain",))  # type: ignore[attr-defined]  # an EmailMessage
    assert body is not None
    return str(body.get_content()).strip().splitlines()


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    """An office whose receivers do not run yet."""
    webhook, mailbox = Webhook(), Mailbox()
    settings = AlertSettings.model_validate(
        {
            "targets": {
                "hook": {"url": f"json://ops:{WORD}@127.0.0.1:{webhook.port}/in/{WORD}?+x-word={WORD}"},
                "mail": {
                    "url": f"mailto://127.0.0.1:{mailbox.port}/finance@example.test?from=ep@example.test&format=text"
                },
            }
        }
    )
    clock, log = Clock(), Log()
    delivery = Delivery(database, lambda: settings, AppriseSender(), clock, log.logger)
    yield Office(database, settings, webhook, mailbox, clock, log, delivery)
    await webhook.stop()
    await mailbox.stop()


async def test_every_kind_arrives_as_it_should_read(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """One alert of each kind reaches both receivers once, with its title and text, and no log tells a secret."""
    caplog.set_level(logging.DEBUG)
    await office.webhook.start()
    await office.mailbox.start()
    alerts = await office.raise_every_kind()
    assert {alert.kind for alert in alerts} == set(cost_pb2.AlertKind.values()) - {0, cost_pb2.ALERT_KIND_DAILY_REPORT}
    await office.delivery.once()
    office.expect_all(alerts)
    assert (len(office.webhook.taken), len(office.mailbox.letters)) == (len(alerts), len(alerts))
    path, headers, _ = office.webhook.taken[0]
    assert (path, headers["x-word"]) == (f"/in/{WORD}", WORD)
    assert headers["authorization"].startswith("basic ")
    assert office.mailbox.to[0] == ["finance@example.test"]
    assert WORD not in office.log.text.getvalue() + caplog.text


async def test_receivers_that_were_down_get_everything(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """Alerts that were raised while both receivers were down for a minute reach them when they are back."""
    caplog.set_level(logging.DEBUG)
    alerts = await office.raise_every_kind()
    for attempts in (1, 2, 3, 4):  # 75 seconds of waiting
        await office.delivery.once()
        assert not any(await office.delivered())
        office.clock.go(wait_after(attempts))
    whys = {line["why"] for line in office.log.of("alert_not_sent")}
    assert whys == {"it could not be reached, or broke off"}
    await office.webhook.start()
    await office.mailbox.start()
    await office.delivery.once()
    assert all(await office.delivered())
    office.expect_all(alerts)
    assert WORD not in office.log.text.getvalue() + caplog.text


async def test_a_receiver_that_refuses_is_tried_again(office: Office) -> None:
    """A status that is no success is told in the log, and the alert comes again until it is taken."""
    office.webhook.status = 503
    await office.webhook.start()
    await office.mailbox.start()
    (alert, *_) = await office.raise_every_kind()
    await office.delivery.once()
    assert {line["why"] for line in office.log.of("alert_not_sent")} == {"it answered 503"}
    office.webhook.status = 200
    office.clock.go(wait_after(1))
    await office.delivery.once()
    assert all(await office.delivered())
    assert [body["title"] for _, _, body in office.webhook.taken].count(alert.title) == 2


class Impatient:
    """Sends by apprise, and waits for one target next to no time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._short, self._long = AppriseSender(patience=0.2), AppriseSender()

    async def send(self, name: str, url: SecretStr, alert: cost_pb2.Alert) -> None:
        """Send an alert."""
        await (self._short if name == self._name else self._long).send(name, url, alert)


async def test_a_receiver_that_hangs_holds_up_nobody(database: Database) -> None:
    """A receiver that never ends its answer costs one thread, is asked once, and others get everything meanwhile."""
    hanging, webhook = HangingWebhook(), Webhook()
    await hanging.start()
    await webhook.start()
    urls = {"bad": f"json://127.0.0.1:{hanging.port}", "good": f"json://127.0.0.1:{webhook.port}"}
    settings = AlertSettings.model_validate({"targets": {name: {"url": url} for name, url in urls.items()}})
    clock, log = Clock(), Log()
    delivery = Delivery(database, lambda: settings, Impatient("bad"), clock, log.logger)
    outbox = outbox_of(clock, settings)
    for number in range(9):
        alert = spend_rate("", MONDAY, number * USD, USD)
        await database.write(partial(outbox.put, topic=topic_of("t", number), alert=alert))
    try:
        await delivery.once()
        async with asyncio.timeout(60):
            await hanging.reached.wait()
        clock.go(wait_after(1))
        await delivery.once()
        assert (len(webhook.taken), hanging.asked) == (9, 1)
        whys = [line["why"] for line in log.of("alert_not_sent")]
        assert whys == ["no end of it within 0.2 s", *["an earlier alert still hangs there"] * 17]
    finally:
        await hanging.stop()
        await webhook.stop()


async def test_a_page_goes_to_those_who_show_pages(office: Office) -> None:
    """A report with a page reaches a mailbox as HTML, and a webhook and a mailbox that wants text as text."""
    await office.webhook.start()
    await office.mailbox.start()
    report = cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_DAILY_REPORT, title="Yesterday", message="plain", message_html="<h1>page</h1>"
    )
    mail = f"mailto://127.0.0.1:{office.mailbox.port}/a@example.test?from=ep@example.test"
    sender = AppriseSender()
    for name, url in (("page", mail), ("text", mail + "&format=text")):
        await sender.send(name, SecretStr(url), report)
    await sender.send("hook", office.settings.targets["hook"].url, report)
    page, text = (letter.get_body(("html", "plain")) for letter in office.mailbox.letters)
    assert page is not None
    assert text is not None
    assert (page.get_content_type(), text.get_content_type()) == ("text/html", "text/plain")
    assert "<h1>page</h1>" in page.get_content()
    assert "plain" in text.get_content()
    assert (office.webhook.taken[0][2]["type"], office.webhook.taken[0][2]["message"][:5]) == ("info", "plain")
