"""Circuits that replicas share through Redis.

Each replica keeps its own circuits and asks nobody before a chat. What opens or closes is written to one hash in Redis,
and each replica reads that hash several times a second; of two records of a circuit the later one holds, whoever wrote
it. So everybody comes to the same, in whatever order records arrive, and also after Redis was away or lost everything:
who knows more writes it again. "Later" is by Redis's own clock, but always after what the writer knew before.

Only a probe asks first: one key with a time to live is the right to probe. A replica that dies lets it run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from execution_platform.server.resilience.circuit import LONGEST_AT_LEAST, Circuit
from execution_platform.server.resilience.circuits import MOST_CIRCUITS, Circuits
from execution_platform.server.shared_state import SharedState, SharedStateUnavailableError
from execution_platform.server.telemetry import Logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["SharedCircuits"]

#: Seconds between two looks at what the others know.
_PAUSE = 0.2

#: Who probes renews its right with each look, so this is how long a replica that has died keeps others from probing.
_LEASE = 10_000

#: Milliseconds after which a record tells nothing any more.
_OLD = 3_600_000

#: Seconds after a fault of our own.
_FAULT_PAUSE = 10.0

_RENEW = """
local held = redis.call('get', KEYS[1])
if not held or held == ARGV[1] then redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2]) end
"""

_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"


class _Record(msgspec.Struct, frozen=True):
    """What is known of a circuit. Times are in milliseconds of Redis's clock.

    Attributes:
        at: when it changed.
        open: whether it is open; False: it has closed.
        opened: when it opened.
        at_least: seconds that it stays open at least.
        failures: in a row.
        reason: of the last one.
    """

    at: int
    open: bool
    opened: int = 0
    at_least: float = 0.0
    failures: int = 0
    reason: str = ""

    @property
    def rank(self) -> tuple[int, bool]:
        """What orders records: of two of the same moment the careful one holds."""
        return (self.at, self.open)


_NOTHING = _Record(at=0, open=False)


class SharedCircuits:
    """Keeps the circuits of this process and those of the other replicas the same, as far as Redis is there.

    Args:
        shared: the connection.
        circuits: of this process.
        logger: for faults.
        wall: seconds since the epoch; counts until Redis's clock is known.
        pause: seconds between two looks.
        lease: milliseconds until the right to probe of a replica that has died is free again.
    """

    def __init__(
        self,
        shared: SharedState,
        circuits: Circuits,
        logger: Logger,
        *,
        wall: Callable[[], float] = time.time,
        pause: float = _PAUSE,
        lease: int = _LEASE,
    ) -> None:
        self._shared = shared
        self._circuits = circuits
        self._logger = logger
        self._pause = pause
        self._lease = lease
        self._hash = shared.key("circuits")
        self._offset = wall() - circuits.clock()
        self._records: dict[str, _Record] = {}
        self._unsaid: set[str] = set()
        self._useless: set[str] = set()
        self._leases: dict[str, str] = {}
        self._releases: dict[str, str] = {}
        self._numbers = itertools.count()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        circuits.replicas = self
        circuits.patience = pause

    async def start(self) -> None:
        """Look once, so that nobody is asked who is known to be down, and from now on until :meth:`aclose`."""
        with contextlib.suppress(SharedStateUnavailableError):
            await self.sync()
        self._task = asyncio.create_task(self._keep(), name="shared-circuits")

    async def aclose(self) -> None:
        """Say what is still to be said, and let go. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(SharedStateUnavailableError):
            await self.sync()

    def changed(self, circuit: Circuit, *, is_open: bool) -> None:
        """Take note that a circuit opened or closed here. The others hear of it soon."""
        field = _field(circuit)
        known = self._records.get(field)
        storage = circuit.storage
        now = self._milliseconds(self._circuits.clock())
        self._records[field] = _Record(
            at=now if known is None else max(now, known.at + 1),
            open=is_open,
            opened=0 if storage.opened is None else self._milliseconds(storage.opened),
            at_least=storage.at_least,
            failures=storage.failures,
            reason=storage.reason,
        )
        self._unsaid.add(field)
        self._news.set()
        if len(self._records) > MOST_CIRCUITS:
            self._drop(min(self._records, key=lambda name: self._records[name].rank))

    async def lease(self, circuit: Circuit) -> str | None:
        """Take the right to probe: a token; empty: Redis cannot be asked; None: another replica has it."""
        field = _field(circuit)
        token = f"{self._shared.replica}-{next(self._numbers)}"
        try:
            async with self._shared.asking() as redis:
                commands = [
                    ("SET", self._lease_key(field), token, "NX", "PX", self._lease),
                    ("HGET", self._hash, field),
                ]
                taken, raw = await _together(redis, commands)
        except SharedStateUnavailableError:
            return ""
        except BaseException:
            # It may have been taken all the same.
            self._releases[field] = token
            self._news.set()
            raise
        if raw is not None:
            self._hear(field, raw)
        if not taken:
            return None
        self._leases[field] = token
        return token

    def release(self, circuit: Circuit, token: str) -> None:
        """Give the right to probe back, after what the probe has shown is said."""
        field = _field(circuit)
        if self._leases.get(field) == token:
            del self._leases[field]
        self._releases[field] = token
        self._news.set()

    async def sync(self) -> None:
        """Say what is new here and hear what is new elsewhere. Raises SharedStateUnavailableError."""
        unsaid, releases = {field: self._records[field] for field in self._unsaid}, dict(self._releases)
        clock = self._circuits.clock
        asked = clock()
        async with self._shared.asking() as redis:
            commands = self._news_of(unsaid, releases)
            *_, (seconds, microseconds), found = await _together(redis, [*commands, ("TIME",), ("HGETALL", self._hash)])
        self._offset = seconds + microseconds / 1e6 - (asked + clock()) / 2
        for field, record in unsaid.items():
            if self._records.get(field) is record:
                self._unsaid.discard(field)
        for field, token in releases.items():
            if self._releases.get(field) == token:
                del self._releases[field]
        self._merge(found)

    def _news_of(self, unsaid: Mapping[str, _Record], releases: Mapping[str, str]) -> list[tuple[Any, ...]]:
        """Return the commands that tell what is new here; a right to probe goes after what the probe has shown."""
        commands: list[tuple[Any, ...]] = []
        if self._useless:
            commands.append(("HDEL", self._hash, *self._useless))
        for field, record in unsaid.items():
            commands.append(("HSET", self._hash, field, msgspec.json.encode(record)))
        if unsaid:
            commands.append(("PEXPIRE", self._hash, 2 * _OLD))
        for field, token in releases.items():
            commands.append(("EVAL", _RELEASE, 1, self._lease_key(field), token))
        for field, token in self._leases.items():
            commands.append(("EVAL", _RENEW, 1, self._lease_key(field), token, self._lease))
        return commands

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._news.wait()
            self._news.clear()
            try:
                await self.sync()
            except SharedStateUnavailableError:
                # News wait for Redis, not the other way round; rights to probe run out by themselves.
                self._releases.clear()
                await asyncio.sleep(self._pause)
            except Exception:
                self._logger.exception("shared_circuits_fault")
                await asyncio.sleep(_FAULT_PAUSE)

    def _merge(self, found: Mapping[bytes, bytes]) -> None:
        theirs = {
            name.decode(errors="replace"): self._hear(name.decode(errors="replace"), raw) for name, raw in found.items()
        }
        old = self._milliseconds(self._circuits.clock()) - _OLD
        for field, record in list(self._records.items()):
            if record.at < old:
                self._drop(field)
                continue
            # Redis may have lost it, or hold something older that was written later.
            lost = field not in theirs and record.open and len(found) < MOST_CIRCUITS
            if lost or (field in theirs and record.rank > theirs[field].rank):
                self._unsaid.add(field)
                self._news.set()
        eldest = sorted(theirs, key=lambda field: theirs[field].rank)
        self._useless = {field for field in eldest if theirs[field].at < old}
        self._useless.update(eldest[: max(0, len(eldest) - MOST_CIRCUITS)])

    def _hear(self, field: str, raw: bytes) -> _Record:
        """Take what another replica wrote, if it is later than what is known, and return it."""
        try:
            record = msgspec.json.decode(raw, type=_Record)
            provider, model = msgspec.json.decode(field, type=tuple[str, str])
        except msgspec.MsgspecError:
            return _NOTHING
        known = self._records.get(field, _NOTHING)
        clock = self._circuits.clock()
        if known.rank >= record.rank or record.at < self._milliseconds(clock) - _OLD:
            return record
        if known is _NOTHING and len(self._records) >= MOST_CIRCUITS:
            return record
        self._records[field] = record
        self._unsaid.discard(field)
        circuit = self._circuits.of(provider, model) if record.open else self._circuits.known(provider, model)
        if circuit is not None:
            circuit.bring(
                is_open=record.open,
                opened=min(clock, record.opened / 1000 - self._offset),
                at_least=min(record.at_least, LONGEST_AT_LEAST),
                failures=record.failures,
                reason=record.reason[:100],
            )
            circuit.forget_if_idle()
        return record

    def _drop(self, field: str) -> None:
        del self._records[field]
        self._unsaid.discard(field)

    def _lease_key(self, field: str) -> str:
        return self._shared.key("circuits", "probe", field)

    def _milliseconds(self, clock: float) -> int:
        """Return a time of this process by Redis's clock."""
        return int((clock + self._offset) * 1000)


def _field(circuit: Circuit) -> str:
    return msgspec.json.encode((circuit.provider, circuit.model)).decode()


async def _together(redis: Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Run commands in one transaction and return their answers."""
    async with redis.pipeline(transaction=True) as pipe:
        for command in commands:
            _ = pipe.execute_command(*command)
        return await pipe.execute()
