"""What alerts say to people. Names and amounts only: nothing of what was asked or answered, and no address."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from execution_platform.server.ledger.alerts.observer import Window
from execution_platform.server.ledger.budgets.budget_status import scope_in_words
from execution_platform.server.ledger.facts import Facts
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2

__all__ = ["anomaly", "dearer", "dollars", "exceeded", "message_of", "outage", "spend_rate", "threshold", "unpriced"]

_NANOS: Final = 1_000_000_000


def dollars(nanos: int) -> str:
    """Return an amount for people, such as ``12.50 USD``: exact, with at least two digits."""
    whole, rest = divmod(abs(nanos), _NANOS)
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanos < 0 else ''}{whole:,}.{digits} USD"


def threshold(window: Window, percent: int) -> cost_pb2.Alert:
    """Say that a budget has reached one of its percents."""
    budget = window.budget
    return cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_THRESHOLD,
        title=f"Budget {_name(budget)} has reached {percent} %",
        message="\n".join([*_spent(window), _window(window), f"Counts: {scope_in_words(budget.scope)}."]),
        tenant=budget.scope.tenant,
        budget=_status(window, percent),
        percent=percent,
    )


def exceeded(window: Window, facts: Facts, provider: str, model: str, running: bool) -> cost_pb2.Alert:
    """Say that a budget had no room for a chat."""
    budget = window.budget
    what = "ended while it was answering" if running else "was refused"
    hard = "Chats for which too little is left are refused until the window ends or the budget is raised."
    chat = f"A chat {_whose(facts.tenant, facts.project, facts.persona)} with {provider}/{model} {what}. {hard}"
    return cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_BUDGET_EXCEEDED,
        title=f"Budget {_name(budget)} had no room: a chat {what}",
        message="\n".join(
            [chat, *_spent(window), *_held(window), _window(window), f"Counts: {scope_in_words(budget.scope)}."]
        ),
        tenant=budget.scope.tenant,
        budget=_status(window, window.alerted_percent),
        route=chat_pb2.Route(provider=provider, model=model),
        record_id=facts.id,
    )


def unpriced(provider: str, model: str, record: cost_pb2.UsageRecord) -> cost_pb2.Alert:
    """Say that a model without a price was used."""
    return cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_UNPRICED_MODEL,
        title=f"No price is known for {provider}/{model}",
        message=f"It was used by a chat {_whose(record.tenant, record.project, record.persona)}, and is missing in all "
        "sums. Give its price in the configuration; then price what was used with: ep costs reprice",
        route=chat_pb2.Route(provider=provider, model=model),
        record_id=record.id,
    )


def dearer(
    record: cost_pb2.UsageRecord, first: chat_pb2.Attempt, last: chat_pb2.Attempt, there: int, here: int
) -> cost_pb2.Alert:
    """Say that a dearer model answered in place of one that failed.

    Args:
        record: of the chat.
        first: who was asked first.
        last: who answered.
        there: what the answer's usage costs at the first, in nanos.
        here: what it costs at the one who answered.
    """
    asked, answered = f"{first.provider}/{first.model}", f"{last.provider}/{last.model}"
    return cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_DEARER_FALLBACK,
        title=f"{answered} answers in place of {asked}, which is cheaper",
        message=f"{asked} failed. By list prices this answer {_whose(record.tenant, record.project, record.persona)} "
        f"costs {dollars(here)} in place of {dollars(there)}.",
        route=chat_pb2.Route(provider=last.provider, model=last.model),
        observed=_money(here),
        expected=_money(there),
        record_id=record.id,
    )


def outage(began: int, ended: int, spooled: int, refused: int) -> cost_pb2.Alert:
    """Say that the ledger could not be written; times in microseconds since the epoch."""
    seconds = max(ended - began, 0) // 1_000_000
    return cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_LEDGER_OUTAGE,
        title=f"The ledger was away for {seconds} s, and is back",
        message=f"From {_moment(began)} to {_moment(ended)} its database could not be written. Chats that were "
        f"refused: {refused}. Records that wait in the spool of this server, and are written now: {spooled}.",
    )


def anomaly(tenant: str, hour: int, observed: int, usual: int, limit: int, samples: int) -> cost_pb2.Alert:
    """Say that an hour is far dearer than usual.

    Args:
        tenant: whose; empty: all together.
        hour: when it began, in microseconds since the epoch.
        observed: spent in it, in nanos.
        usual: median of the hours that it is compared with.
        limit: what it would have had to stay below.
        samples: how many hours those are.
    """
    return cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_ANOMALY,
        title=f"{_spender(tenant)} spent {dollars(observed)} in an hour that usually costs {dollars(usual)}",
        message=f"The hour began at {_moment(hour)}. The median of {samples} comparable hours is {dollars(usual)}; "
        f"up to {dollars(limit)} would not have been told.",
        tenant=tenant,
        observed=_money(observed),
        expected=_money(usual),
    )


def spend_rate(tenant: str, began: int, observed: int, limit: int) -> cost_pb2.Alert:
    """Say that more is spent in an hour than was configured.

    Args:
        tenant: whose; empty: all together.
        began: when the hour began, in microseconds since the epoch.
        observed: spent in it, in nanos.
        limit: that was configured, in nanos.
    """
    return cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_SPEND_RATE,
        title=f"{_spender(tenant)} spent {dollars(observed)} in an hour, above {dollars(limit)}",
        message=f"Counted from {_moment(began)} on.",
        tenant=tenant,
        observed=_money(observed),
        expected=_money(limit),
    )


def _status(window: Window, percent: int) -> cost_pb2.BudgetStatus:
    budget = window.budget
    status = cost_pb2.BudgetStatus(
        budget=budget,
        window=common_pb2.TimeRange(start_time=_stamp(window.started_at), end_time=_stamp(window.ends_at)),
        spent=_money(window.spent_nanos),
        reserved=_money(window.reserved_nanos),
        spent_tokens=window.spent_tokens,
        reserved_tokens=window.reserved_tokens,
        reached_percent=max(percent, window.alerted_percent),
        unpriced=window.unpriced,
    )
    if budget.HasField("limit"):
        left = budget.limit.nanos - window.spent_nanos - window.reserved_nanos
        status.remaining.CopyFrom(_money(max(left, 0)))
    if budget.max_tokens:
        status.remaining_tokens = max(budget.max_tokens - window.spent_tokens - window.reserved_tokens, 0)
    return status


def _spent(window: Window) -> Iterator[str]:
    budget = window.budget
    if budget.HasField("limit"):
        yield f"Spent: {dollars(window.spent_nanos)} of {dollars(budget.limit.nanos)}."
    if budget.max_tokens:
        yield f"Used: {window.spent_tokens:,} of {budget.max_tokens:,} tokens."


def _held(window: Window) -> Iterator[str]:
    if window.budget.HasField("limit") and window.reserved_nanos:
        yield f"Held for chats that run: {dollars(window.reserved_nanos)}."
    if window.budget.max_tokens and window.reserved_tokens:
        yield f"Held for chats that run: {window.reserved_tokens:,} tokens."


def _window(window: Window) -> str:
    return f"Window: {_moment(window.started_at)} to {_moment(window.ends_at)}."


def _name(budget: cost_pb2.Budget) -> str:
    return budget.display_name or budget.id


def _whose(tenant: str, project: str, persona: str) -> str:
    words = [f"of tenant {tenant}"]
    words += [f"{name} {value}" for name, value in (("project", project), ("persona", persona)) if value]
    return ", ".join(words)


def _spender(tenant: str) -> str:
    return f"Tenant {tenant}" if tenant else "All tenants together"


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _stamp(micros: int) -> Timestamp:
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def _money(nanos: int) -> common_pb2.Money:
    return common_pb2.Money(currency_code="USD", nanos=nanos)


def message_of(alert: cost_pb2.Alert) -> str:
    """Return the text that is sent for an alert. It ends with the alert's id: one that comes twice has the same."""
    kind = cost_pb2.AlertKind.Name(alert.kind).removeprefix("ALERT_KIND_")
    raised = alert.create_time.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    record = f"Record: {alert.record_id}\n" if alert.record_id else ""
    return f"{alert.message}\n\n{record}Alert: {kind} {alert.id}, raised {raised}"
