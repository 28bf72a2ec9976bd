"""Whoever watches gets every alert that is raised, also by other processes, late or at once, and beats in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial

import pytest
from sqlalchemy import Connection
from tests.server.ledger.alerts.things import SECOND, Clock, Log, alert, outbox_of

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.errors import ServerOverloadedError
from execution_platform.server.ledger.alerts.feed import OVERLAP_SECONDS, Feed
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.services.costs.alerts import WatchedAlerts
from execution_platform.v1 import cost_pb2

#: Seconds of silence before a beat, where a test wants none.
NEVER = 600.0


class Station:
    """A feed, and the outbox of another process."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        self.log = Log()
        self.feed = Feed(database, self.clock, self.log.logger, poll_seconds=0.01)
        self._outbox = outbox_of(self.clock, AlertSettings())

    async def put(self, *titles: str, **fields: object) -> list[str]:
        """Raise alerts, a millisecond apart, and return their ids."""
        ids: list[str] = []
        for title in titles:
            self.clock.go(1000)
            made = alert(title, **fields)
            await self.database.write(partial(self._put, made=made))
            ids.append(made.id)
        return ids

    def _put(self, connection: Connection, made: cost_pb2.Alert) -> None:
        assert self._outbox.put(connection, f"topic {made.title} {self.clock.now}", made)

    @contextlib.asynccontextmanager
    async def watching(
        self, after_id: str = "", heartbeat: float = NEVER
    ) -> AsyncIterator[AsyncGenerator[list[str], None]]:
        """Watch: gives the titles of each answer. Watching has begun when the context is entered."""
        answers = self._titles(after_id, heartbeat)
        async with contextlib.aclosing(answers):
            yield answers

    async def _titles(self, after_id: str, heartbeat: float) -> AsyncGenerator[list[str], None]:
        async with contextlib.aclosing(self.feed.watch(after_id, heartbeat)) as found:
            async for alerts in found:
                yield [each.title for each in alerts]


@pytest.fixture
async def station(database: Database) -> AsyncIterator[Station]:
    """A station whose feed is closed in the end."""
    one = Station(database)
    yield one
    await one.feed.aclose()


async def next_of(answers: AsyncGenerator[list[str], None], count: int) -> list[str]:
    """Return the next titles, so many."""
    found: list[str] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await anext(answers)
    return found


async def begun(station: Station, answers: AsyncGenerator[list[str], None]) -> None:
    """Wait until watching has begun, which a first beat shows."""
    async with asyncio.timeout(30):
        assert await anext(answers) == []
    assert station.feed.watching


async def test_what_is_raised_from_now_on_is_told(station: Station) -> None:
    """Who begins without an id gets what is raised afterwards, in order, and nothing from before."""
    await station.put("old")
    async with station.watching(heartbeat=0.01) as answers:
        await begun(station, answers)
        await station.put("first", "second")
        assert await next_of(answers, 2) == ["first", "second"]
        await station.put("third")
        assert await next_of(answers, 1) == ["third"]


async def test_what_came_after_an_id_is_told_first(station: Station) -> None:
    """Who begins after an id gets all that was raised since, page by page, and then what is new."""
    (seen,) = await station.put("seen")
    station.clock.go(60 * SECOND)
    old = [f"missed {number}" for number in range(3)]
    await station.put(*old)
    async with station.watching(seen) as answers:
        assert await next_of(answers, 3) == old
        await station.put("new")
        assert await next_of(answers, 1) == ["new"]


async def test_many_that_were_missed_come_in_pages(station: Station) -> None:
    """More than a page of alerts comes in order, and each once."""
    titles = [f"missed {number:04}" for number in range(1203)]
    made = [alert(title) for title in titles]

    def put_all(connection: Connection) -> None:
        outbox = outbox_of(station.clock, AlertSettings())
        for each in made:
            station.clock.go(1000)
            outbox.put(connection, each.title, each)

    await station.database.write(put_all)
    async with station.watching("0" * 32) as answers:
        assert await next_of(answers, len(titles)) == titles
        await station.put("new")
        assert await next_of(answers, 1) == ["new"]


async def test_what_is_committed_late_is_not_missed(station: Station) -> None:
    """An alert that was minted before others, and committed after they were told, is told as well."""
    late = Clock(station.clock.now)
    async with station.watching(heartbeat=0.01) as answers:
        await begun(station, answers)
        station.clock.go(5 * SECOND)
        (last,) = await station.put("prompt")
        assert await next_of(answers, 1) == ["prompt"]
        late.go(SECOND)
        made = alert("late")
        await station.database.write(lambda connection: outbox_of(late, AlertSettings()).put(connection, "late", made))
        assert made.id < last
        assert await next_of(answers, 1) == ["late"]
    async with station.watching(last) as answers:  # and so is it for who comes back
        assert await next_of(answers, 1) == ["late"]


async def test_all_watchers_share_one_poller(station: Station) -> None:
    """A hundred watchers all get an alert, and the last one to go ends the polling."""
    async with contextlib.AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(station.watching(heartbeat=0.05)) for _ in range(100)]
        await asyncio.gather(*(begun(station, each) for each in answers))
        assert station.feed.watching == 100
        await station.put("for all")
        assert await asyncio.gather(*(next_of(each, 1) for each in answers)) == [["for all"]] * 100
        assert [task.get_name() for task in asyncio.all_tasks()].count("alerts-feed") == 1
    assert station.feed.watching == 0
    assert [task.get_name() for task in asyncio.all_tasks()].count("alerts-feed") == 0


async def test_nothing_for_a_while_is_a_beat(station: Station) -> None:
    """While nothing is raised an empty answer comes each time the beat is due."""
    async with station.watching(heartbeat=0.01) as answers:
        assert [await anext(answers) for _ in range(3)] == [[], [], []]


async def test_watching_ends_as_the_feed_does(station: Station) -> None:
    """A feed that is closed ends all that watch it, and who comes later ends at once."""
    async with station.watching(heartbeat=0.01) as answers:
        await begun(station, answers)
        await station.feed.aclose()
        async with asyncio.timeout(30):
            while await anext(answers, None) is not None:
                pass
    async with station.watching("0" * 32) as answers:
        assert await anext(answers, None) is None


async def test_watching_goes_on_when_the_database_is_back(station: Station, database_url: str) -> None:
    """While the database is away watchers get beats; when it is there they get what was raised."""
    (seen,) = await station.put("seen")
    later = Database(DatabaseAddress.parse(database_url), station.log.logger)
    feed = Feed(later, station.clock, station.log.logger, poll_seconds=0.01)
    await station.put("meanwhile")
    try:
        async with contextlib.aclosing(feed.watch(seen, 0.01)) as answers:
            assert await anext(answers) == ()
            await later.start()
            async with asyncio.timeout(30):
                while not (found := await anext(answers)):
                    pass
        assert [each.title for each in found] == ["meanwhile"]
    finally:
        await feed.aclose()
        await later.aclose()


async def test_the_service_tells_what_was_asked_for(station: Station) -> None:
    """Only alerts of the kinds and the tenant of the request are told, and an id that is none is refused."""
    await station.put("theirs", tenant="other")
    await station.put("another kind", kind=cost_pb2.ALERT_KIND_ANOMALY)
    await station.put("ours")
    part = WatchedAlerts(station.feed, NEVER)
    request = cost_pb2.WatchBudgetAlertsRequest(after_id="0" * 32, kinds=[cost_pb2.ALERT_KIND_THRESHOLD], tenant="acme")
    async with contextlib.aclosing(part.watch(request)) as answers:
        assert [each.title for each in (await anext(answers)).alerts] == ["ours"]
    with pytest.raises(InvalidRequestError, match="after_id is not the id of an alert"):
        await anext(part.watch(cost_pb2.WatchBudgetAlertsRequest(after_id="'; --")))


async def test_there_is_an_end_to_watchers(station: Station) -> None:
    """Where too many watch already, one more is refused."""
    part = WatchedAlerts(station.feed, 0.01, most=1)
    async with contextlib.aclosing(part.watch(cost_pb2.WatchBudgetAlertsRequest())) as answers:
        assert not (await anext(answers)).alerts
        with pytest.raises(ServerOverloadedError, match="1 streams watch alerts already"):
            await anext(part.watch(cost_pb2.WatchBudgetAlertsRequest()))


def test_the_overlap_is_longer_than_a_transaction() -> None:
    """What is committed as late as a transaction may take is within the overlap."""
    assert OVERLAP_SECONDS > 10
