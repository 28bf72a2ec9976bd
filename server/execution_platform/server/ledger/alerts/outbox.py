"""Where alerts are written, together with who is to be told: in the transaction of what raised them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, insert
from sqlalchemy.dialects import postgresql, sqlite

from execution_platform.server.ledger.facts import mint_id
from execution_platform.server.ledger.store import tables
from execution_platform.v1 import cost_pb2

__all__ = ["Outbox", "Recipient", "topic_of"]

_LONGEST_TOPIC = 512


class Recipient(Protocol):
    """Somebody to be told."""

    @property
    def name(self) -> str:
        """Its name in the configuration, never its address."""
        ...

    def wants(self, kind: int, tenant: str) -> bool:
        """Return whether it is to be told of alerts of this kind and tenant; an empty one: of nobody in particular."""
        ...


def topic_of(*parts: object) -> str:
    """Return a topic of these parts, the same for the same ones and for no others. At most 512 characters."""
    topic = ":".join(quote(str(part), safe="") for part in parts)
    if len(topic) <= _LONGEST_TOPIC:
        return topic
    return f"{quote(str(parts[0]), safe='')}:sha256:{hashlib.sha256(topic.encode()).hexdigest()}"


class Outbox:
    """Writes alerts.

    Args:
        recipients: gives who there is to be told now.
        clock: microseconds since the epoch.
    """

    def __init__(self, recipients: Callable[[], Sequence[Recipient]], clock: Callable[[], int]) -> None:
        self._recipients = recipients
        self._clock = clock

    def put(self, connection: Connection, topic: str, alert: cost_pb2.Alert) -> bool:
        """Write an alert and its deliveries, unless its topic has been raised before.

        Args:
            connection: within a transaction.
            topic: what it is about; from :func:`topic_of`.
            alert: gets its id and time here.

        Returns:
            Whether it is new.
        """
        now = self._clock()
        alert.id = mint_id(now // 1000)
        alert.create_time.CopyFrom(Timestamp(seconds=now // 1_000_000, nanos=now % 1_000_000 * 1000))
        row = {
            "id": alert.id,
            "topic": topic,
            "kind": alert.kind,
            "tenant": alert.tenant,
            "created_at": now,
            "data": alert.SerializeToString(),
        }
        if connection.execute(_insert_once(connection), row).rowcount != 1:
            return False
        told = [each.name for each in self._recipients() if each.wants(alert.kind, alert.tenant)]
        if told:
            connection.execute(insert(tables.alert_deliveries), [_delivery(alert.id, name, now) for name in told])
        return True


def _insert_once(connection: Connection) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(tables.alerts).on_conflict_do_nothing(index_elements=["topic"])


def _delivery(alert_id: str, target: str, now: int) -> dict[str, object]:
    return {
        "alert_id": alert_id,
        "target": target,
        "attempts": 0,
        "next_at": now,
        "taken_until": 0,
        "delivered_at": None,
        "last_error": "",
    }
