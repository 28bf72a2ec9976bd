"""What is raised when records are settled and budgets run out: once, with what raised it, at no cost for the rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Connection, event
from tests.server.ledger.alerts.things import (
    DAY,
    HOUR,
    MINUTE,
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
    queue,
    raised,
    record,
    rules_of,
    stamp,
)

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.ledger.alerts.observer import Outage, Refusal, Seen
from execution_platform.server.ledger.alerts.outbox import topic_of
from execution_platform.server.ledger.alerts.rules import Rules
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import chat_pb2, cost_pb2, usage_pb2

FAILED = chat_pb2.ATTEMPT_OUTCOME_FAILED


async def see(database: Database, rules: Rules, seen: Seen) -> list[cost_pb2.Alert]:
    """Show the rules a transaction and return all alerts there are then."""
    await database.write(partial(rules.observe, seen=seen))
    return await database.read(raised)


def counting(rules: Rules, seen: Seen) -> Callable[[Connection], list[str]]:
    """Return work that shows the rules a transaction and returns the statements that they make."""

    def work(connection: Connection) -> list[str]:
        made: list[str] = []
        listen = ("before_cursor_execute", lambda *arguments: made.append(arguments[2]))
        event.listen(connection, *listen)
        rules.observe(connection, seen)
        event.remove(connection, *listen)
        return made

    return work


async def test_an_ordinary_chat_costs_no_statement(database: Database) -> None:
    """A priced chat in a budget below its percents, or above one that was told, makes no statement."""
    rules = rules_of(Clock(), Log())
    windows = [Book(budget(), spent_nanos=4 * USD), Book(budget(), spent_nanos=6 * USD, alerted_percent=50)]
    seen = Seen([record(attempt("openai/gpt-5")), record()], windows)
    assert await database.write(counting(rules, seen)) == []


@pytest.mark.parametrize(
    ("percents", "spent", "told"),
    [
        ((), 5, 50),
        ((), 9, 80),
        ((), 25, 100),
        ((90, 25, 150), 8, 25),
        ((90, 25, 150), 15, 150),
    ],
)
async def test_the_highest_percent_that_is_reached_is_told(
    database: Database, percents: tuple[int, ...], spent: int, told: int
) -> None:
    """Of several percents that a window reaches at once the highest is told, and remembered in the window."""
    window = Book(budget(percents), spent_nanos=spent * USD, reserved_nanos=USD // 2)
    (alert,) = await see(database, rules_of(Clock(), Log()), Seen(windows=[window]))
    assert (alert.kind, alert.percent, alert.tenant) == (cost_pb2.ALERT_KIND_THRESHOLD, told, "acme")
    assert window.alerted_percent == told
    assert alert.budget.budget == window.budget
    assert (alert.budget.spent.nanos, alert.budget.reserved.nanos) == (spent * USD, USD // 2)
    assert alert.budget.remaining.nanos == max(10 * USD - spent * USD - USD // 2, 0)
    assert alert.budget.reached_percent == told
    assert alert.budget.window.start_time == stamp(window.started_at)


async def test_what_people_read_of_a_threshold(database: Database) -> None:
    """The alert says which budget, how much is spent, in which window, and what counts."""
    window = Book(budget(max_tokens=2_000_000), spent_nanos=8 * USD + 1, spent_tokens=1_234_567)
    (alert,) = await see(database, rules_of(Clock(), Log()), Seen(windows=[window]))
    assert alert.title == "Budget Team has reached 80 %"
    assert alert.message == (
        "Spent: 8.000000001 USD of 10.00 USD.\n"
        "Used: 1,234,567 of 2,000,000 tokens.\n"
        "Window: 2026-11-23 00:00:00 UTC to 2026-11-24 00:00:00 UTC.\n"
        "Counts: tenant acme, label team=search."
    )
    assert alert.create_time == stamp(MONDAY)


async def test_reserved_amounts_and_missing_limits_do_not_count(database: Database) -> None:
    """A window whose amounts are only reserved reaches nothing, and neither does one without that limit."""
    held = Book(budget(), reserved_nanos=10 * USD)
    tokens_only = budget()
    tokens_only.ClearField("limit")
    tokens_only.max_tokens = 1000
    spent = Book(tokens_only, spent_nanos=99 * USD, spent_tokens=499)
    assert await see(database, rules_of(Clock(), Log()), Seen(windows=[held, spent])) == []
    spent.spent_tokens = 500
    (alert,) = await see(database, rules_of(Clock(), Log()), Seen(windows=[held, spent]))
    assert (alert.percent, alert.budget.HasField("remaining"), alert.budget.remaining_tokens) == (50, False, 500)


async def test_each_percent_of_a_window_is_told_once_by_all_processes(database: Database) -> None:
    """Two processes that see the same window reach a percent raise one alert; the next window raises its own."""
    first, second = (rules_of(Clock(), Log()) for _ in range(2))
    for rules in (first, second, first):
        found = await see(database, rules, Seen(windows=[Book(budget(), spent_nanos=5 * USD)]))
        assert [alert.percent for alert in found] == [50]
    later = Book(budget(), MONDAY + 14 * HOUR, MONDAY + 38 * HOUR, spent_nanos=5 * USD)
    assert len(await see(database, first, Seen(windows=[later]))) == 2


async def test_another_limit_in_the_same_window_is_told_again(database: Database) -> None:
    """A budget that was raised, and of which as much is used up as before, alerts again."""
    clock = Clock()
    rules = rules_of(clock, Log())
    await see(database, rules, Seen(windows=[Book(budget(), spent_nanos=5 * USD)]))
    clock.go(SECOND)
    raised_budget = budget()
    raised_budget.limit.nanos = 20 * USD
    found = await see(database, rules, Seen(windows=[Book(raised_budget, spent_nanos=10 * USD)]))
    assert [alert.budget.budget.limit.nanos // USD for alert in found] == [10, 20]


async def test_a_budget_of_minutes_is_quiet(database: Database) -> None:
    """A budget of minutes alerts at the percents that it names only, and of its refusals at one in an hour."""
    rules = rules_of(Clock(), Log())
    by_minute = budget(period=cost_pb2.BUDGET_PERIOD_MINUTE)

    def window(number: int, of: cost_pb2.Budget = by_minute) -> Book:
        return Book(of, MONDAY + number * MINUTE, MONDAY + (number + 1) * MINUTE, spent_nanos=10 * USD)

    assert await see(database, rules, Seen(windows=[window(0)])) == []
    for number in (0, 1, 59):
        refusal = Refusal(window(number), facts(), "openai", "gpt-5")
        assert len(await see(database, rules, Seen(refusals=[refusal]))) == 1
    assert len(await see(database, rules, Seen(refusals=[Refusal(window(60), facts(), "openai", "gpt-5")]))) == 2
    named = budget((100,), period=cost_pb2.BUDGET_PERIOD_MINUTE)
    assert len(await see(database, rules, Seen(windows=[window(0, named)]))) == 3


@pytest.mark.parametrize(("running", "what"), [(False, "was refused"), (True, "ended while it was answering")])
async def test_the_first_refusal_of_a_window_is_told(database: Database, running: bool, what: str) -> None:
    """The first chat for which a budget has no room is told with who it is, and no further one of the window."""
    rules = rules_of(Clock(), Log())
    window = Book(budget(), spent_nanos=9 * USD + USD // 2, alerted_percent=80)
    seen = Seen(refusals=[Refusal(window, facts(), "openai", "gpt-5", running=running)] * 2)
    (alert,) = await see(database, rules, seen)
    assert (alert.kind, alert.record_id) == (cost_pb2.ALERT_KIND_BUDGET_EXCEEDED, facts().id)
    assert (alert.route.provider, alert.route.model, alert.budget.reached_percent) == ("openai", "gpt-5", 80)
    assert alert.title == f"Budget Team had no room: a chat {what}"
    assert alert.message.startswith(
        f"A chat of tenant acme, project web, persona writer with openai/gpt-5 {what}. Chats for which too little is "
        "left are refused"
    )
    assert window.alerted_refusal
    assert await database.write(counting(rules, seen)) == []


async def test_a_model_without_a_price_is_told_once_a_day(database: Database) -> None:
    """Each provider's model without a price is told once a day; soon it costs no statement any more."""
    clock = Clock()
    rules = rules_of(clock, Log())
    seen = Seen([record(attempt("local/mole", priced=False), attempt("openai/gpt-5")) for _ in range(3)])
    (alert,) = await see(database, rules, seen)
    assert (alert.kind, alert.title) == (cost_pb2.ALERT_KIND_UNPRICED_MODEL, "No price is known for local/mole")
    assert (alert.tenant, alert.route.model, alert.record_id) == ("", "mole", "0" * 31 + "7")
    assert await database.write(counting(rules, seen))  # it is seen to be there, and remembered
    assert await database.write(counting(rules, seen)) == []
    assert len(await see(database, rules, Seen([record(attempt("local/vole", priced=False))]))) == 2
    clock.go(DAY)
    assert len(await see(database, rules, seen)) == 3


async def test_a_correction_raises_nothing(database: Database) -> None:
    """A record that corrects another one is about the past."""
    correction = record(attempt("local/mole", priced=False), kind=cost_pb2.USAGE_RECORD_KIND_CORRECTION)
    assert await see(database, rules_of(Clock(), Log()), Seen([correction])) == []


async def test_a_dearer_answer_is_told_once_an_hour(database: Database) -> None:
    """A dearer model that answers in place of one that failed is told with both prices, once an hour."""
    clock, prices = Clock(), Prices({"a/cheap": 10, "b/dear": 100})
    rules = rules_of(clock, Log(), prices=prices)
    seen = Seen([record(attempt("a/cheap", FAILED), attempt("b/dear"))])
    (alert,) = await see(database, rules, seen)
    assert (alert.kind, alert.record_id) == (cost_pb2.ALERT_KIND_DEARER_FALLBACK, "0" * 31 + "7")
    assert (alert.observed.nanos, alert.expected.nanos, alert.route.provider) == (110_000, 11_000, "b")
    assert alert.title == "b/dear answers in place of a/cheap, which is cheaper"
    assert alert.message == (
        "a/cheap failed. By list prices this answer of tenant acme, project web, persona writer costs 0.00011 USD "
        "in place of 0.000011 USD."
    )
    await see(database, rules, seen)
    asked = prices.asked
    assert await database.write(counting(rules, seen)) == []
    assert prices.asked == asked  # nor are prices looked up
    clock.go(HOUR)
    assert len(await see(database, rules, seen)) == 2


@pytest.mark.parametrize(
    "attempts",
    [
        (attempt("b/dear", FAILED), attempt("a/cheap")),
        (attempt("a/cheap", FAILED), attempt("a/cheap")),
        (attempt("a/cheap", chat_pb2.ATTEMPT_OUTCOME_CANCELLED), attempt("b/dear")),
        (attempt("a/cheap", FAILED), attempt("b/dear", FAILED)),
        (attempt("a/cheap", FAILED), attempt("c/unknown")),
        (attempt("c/unknown", FAILED), attempt("b/dear")),
    ],
)
async def test_other_fallbacks_are_not_told(database: Database, attempts: tuple[chat_pb2.Attempt, ...]) -> None:
    """A cheaper answer, a retry, a faster attempt beside another, a failure and unknown prices raise nothing."""
    rules = rules_of(Clock(), Log(), prices=Prices({"a/cheap": 10, "b/dear": 100}))
    assert await see(database, rules, Seen([record(*attempts)])) == []


async def test_plain_tokens_are_compared_where_caches_have_no_price(database: Database) -> None:
    """Where one model has no price for what was read from a cache, both are compared by plain tokens."""

    def price_of(provider: str, _model: str, usage: usage_pb2.Usage) -> int | None:
        if provider == "a" and any(item.kind == usage_pb2.USAGE_KIND_CACHE_READ for item in usage.items):
            return None
        return sum(item.quantity for item in usage.items) * (1 if provider == "a" else 5)

    answer = attempt("b/dear")
    answer.usage.service_tier = "a word of b"
    answer.usage.items[0].kind = usage_pb2.USAGE_KIND_CACHE_READ
    rules = rules_of(Clock(), Log(), prices=price_of)  # type: ignore[arg-type]  # it is asked alike
    (alert,) = await see(database, rules, Seen([record(attempt("a/cheap", FAILED), answer)]))
    assert (alert.observed.nanos, alert.expected.nanos) == (5_500, 1_100)


async def test_an_outage_is_told_once(database: Database) -> None:
    """What several processes notice of one outage is one alert, with its times and what was lost meanwhile."""
    for rules in (rules_of(Clock(), Log()), rules_of(Clock(), Log())):
        outage = Outage(MONDAY, MONDAY + 90 * SECOND, spooled=3, refused=14)
        await database.write(partial(rules.outage, outage=outage))
    (alert,) = await database.read(raised)
    assert (alert.kind, alert.title) == (
        cost_pb2.ALERT_KIND_LEDGER_OUTAGE,
        "The ledger was away for 90 s, and is back",
    )
    assert "From 2026-11-23 10:00:00 UTC to 2026-11-23 10:01:30 UTC" in alert.message
    assert "refused: 14" in alert.message
    assert "spool of this server, and are written now: 3" in alert.message


async def test_deliveries_are_written_with_the_alert(database: Database) -> None:
    """Each target that wants an alert gets a delivery, once, however often it is raised."""
    settings = AlertSettings.model_validate(
        {
            "targets": {
                "ops": {"url": "json://host"},
                "money": {"url": "json://host", "kinds": ["threshold"], "tenants": ["acme"]},
                "other": {"url": "json://host", "tenants": ["other"]},
                "prices": {"url": "json://host", "kinds": ["unpriced_model"]},
            }
        }
    )
    rules = rules_of(Clock(), Log(), settings)
    for _ in range(2):
        await see(database, rules, Seen(windows=[Book(budget(), spent_nanos=5 * USD)]))
    assert await database.read(queue) == [("money", 0, False), ("ops", 0, False)]


async def test_what_is_rolled_back_is_raised_again(database: Database) -> None:
    """An alert of a transaction that fails is not there, and raised with the next one."""
    rules = rules_of(Clock(), Log())
    seen = Seen([record(attempt("local/mole", priced=False))])

    def fail(connection: Connection) -> None:
        rules.observe(connection, seen)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(fail)
    assert await database.read(raised) == []
    assert len(await see(database, rules, seen)) == 1


async def test_a_fault_of_the_rules_costs_no_record(database: Database) -> None:
    """A rule that fails is logged, and the transaction that it looked at goes on."""
    log = Log()

    def price_of(*_: object) -> int:
        raise ZeroDivisionError

    rules = rules_of(Clock(), log, prices=price_of)  # type: ignore[arg-type]  # it is never answered
    seen = Seen([record(attempt("a/cheap", FAILED), attempt("b/dear"))])
    assert await see(database, rules, seen) == []
    assert len(log.of("alert_rules_fault")) == 1


def test_topics_are_told_apart() -> None:
    """Topics of different parts differ, whatever is in them, and none is too long."""
    assert topic_of("a", "b:c") != topic_of("a:b", "c")
    long = topic_of("unpriced", "p", "m" * 600)
    assert len(long) <= 512
    assert long != topic_of("unpriced", "p", "m" * 601)
