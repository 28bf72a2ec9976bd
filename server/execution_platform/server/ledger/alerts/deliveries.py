"""The queue of deliveries, on a connection: who is due, who takes it, and what came of it. Times are microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, select, update

from execution_platform.server.ledger.store.tables import alert_deliveries, alerts
from execution_platform.v1 import cost_pb2

__all__ = ["Taken", "delivered", "due_targets", "expire", "failed", "take"]

#: `next_at` of what is never due again, so that the index shows only what is.
_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery that is ours until a time.

    Attributes:
        alert: what to send.
        target: to whom.
        attempts: how many there have been, with this one.
        until: until when it is ours; then anybody may take it again.
        created: when the alert was raised.
    """

    alert: cost_pb2.Alert
    target: str
    attempts: int
    until: int
    created: int


def due_targets(connection: Connection, now: int) -> tuple[str, ...]:
    """Return the targets that something is due for."""
    found = select(alert_deliveries.c.target).where(_due(now)).distinct().order_by(alert_deliveries.c.target)
    return tuple(connection.scalars(found))


def take(connection: Connection, target: str, now: int, until: int) -> Taken | None:
    """Take the delivery that has been due for longest; None: there is none, or another process was faster.

    Args:
        connection: within a transaction that writes.
        target: whose.
        now: the time.
        until: when it is anybody's again, should nothing be heard of it.
    """
    row = connection.execute(
        select(alerts.c.id, alerts.c.data, alerts.c.created_at, alert_deliveries.c.attempts)
        .join(alerts, alerts.c.id == alert_deliveries.c.alert_id)
        .where(alert_deliveries.c.target == target, _due(now))
        .order_by(alert_deliveries.c.next_at, alert_deliveries.c.alert_id)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    taken = (
        update(alert_deliveries)
        .where(alert_deliveries.c.alert_id == row.id, alert_deliveries.c.target == target, _due(now))
        .values(taken_until=until, attempts=alert_deliveries.c.attempts + 1)
    )
    if connection.execute(taken).rowcount != 1:
        return None
    return Taken(cost_pb2.Alert.FromString(row.data), target, row.attempts + 1, until, row.created_at)


def delivered(connection: Connection, taken: Taken, now: int) -> None:
    """Write down that a target has an alert."""
    connection.execute(
        update(alert_deliveries)
        .where(_is(taken))
        .values(delivered_at=now, next_at=_NEVER, taken_until=0, last_error="")
    )


def failed(connection: Connection, taken: Taken, next_at: int | None, why: str) -> None:
    """Write down that it did not work, and when to try again; None: never."""
    connection.execute(
        update(alert_deliveries)
        .where(_is(taken), alert_deliveries.c.taken_until == taken.until, alert_deliveries.c.delivered_at.is_(None))
        .values(next_at=_NEVER if next_at is None else next_at, taken_until=0, last_error=why[:1024])
    )


def expire(connection: Connection, target: str, now: int, before: int) -> int:
    """Give up what is due for a target and was raised before a time; return how many that are."""
    old = select(alerts.c.id).where(alerts.c.created_at < before)
    given_up = (
        update(alert_deliveries)
        .where(alert_deliveries.c.target == target, _due(now), alert_deliveries.c.alert_id.in_(old))
        .values(next_at=_NEVER, last_error="given up: it is no target of the configuration")
    )
    return connection.execute(given_up).rowcount


def _is(taken: Taken) -> ColumnElement[bool]:
    return and_(alert_deliveries.c.alert_id == taken.alert.id, alert_deliveries.c.target == taken.target)


def _due(now: int) -> ColumnElement[bool]:
    return and_(
        alert_deliveries.c.delivered_at.is_(None),
        alert_deliveries.c.next_at <= now,
        alert_deliveries.c.taken_until <= now,
    )
