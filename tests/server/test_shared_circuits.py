"""Circuits that replicas share through a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.real_redis import RealRedis, real_redis
from tests.server.conftest import until

from execution_platform.adapters.errors import InvalidRequestError, UnavailableError
from execution_platform.server.config.load import ConfigurationError
from execution_platform.server.config.personas import Breaker
from execution_platform.server.errors import CircuitOpenError
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.circuits import MOST_CIRCUITS, Circuits
from execution_platform.server.resilience.shared_circuits import SharedCircuits
from execution_platform.server.shared_state import SharedState, SharedStateUnavailableError
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import catalog_pb2

CLOSED = catalog_pb2.CIRCUIT_STATE_CLOSED
OPEN = catalog_pb2.CIRCUIT_STATE_OPEN
HALF_OPEN = catalog_pb2.CIRCUIT_STATE_HALF_OPEN

WORD = "open-sesame"
FOREVER = 10_000.0


class Replica:
    """What one server process has: circuits with a clock of the test's, and a connection to Redis."""

    def __init__(self, url: str, *, bound: float = 60.0, lease: int = 60_000, pause: float = 0.01) -> None:
        self.ahead = 0.0
        self.breaker = Breaker(failures=2, open_seconds=30)
        self.log = io.StringIO()
        logger = make_logger("info", "json", self.log)
        self.circuits = Circuits(lambda _: self.breaker, Metrics(), logger, clock=lambda: time.monotonic() + self.ahead)
        self.shared = SharedState(SecretStr(url), "test", Metrics(), logger, bound=bound, pause=0.01)
        self.sharing = SharedCircuits(self.shared, self.circuits, logger, pause=pause, lease=lease)

    async def start(self) -> None:
        await self.shared.start()
        await self.sharing.start()

    async def aclose(self) -> None:
        await self.sharing.aclose()
        await self.shared.aclose()

    async def call(self, error: Exception | None = None, model: str = "m") -> None:
        with contextlib.suppress(UnavailableError, InvalidRequestError):
            async with self.circuits.of("p", model).calling():
                if error is not None:
                    raise error

    async def fail(self, times: int = 2, model: str = "m") -> None:
        for _ in range(times):
            await self.call(UnavailableError("down"), model)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass here, and let it know how far Redis's clock is then."""
        self.ahead += seconds
        with contextlib.suppress(SharedStateUnavailableError):
            await self.sharing.sync()

    def state(self, model: str = "m") -> int:
        return self.circuits.state("p", model)[0]

    def told(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRedis]:
    """A Redis that wants a password."""
    with real_redis(tmp_path_factory.mktemp("redis"), WORD) as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RealRedis]:
    """A Redis for one test, which may kill it."""
    with real_redis(tmp_path) as running:
        yield running


Replicas = Callable[..., contextlib.AbstractAsyncContextManager[list[Replica]]]


@contextlib.asynccontextmanager
async def replicas(
    redis: RealRedis, count: int = 2, *, empty: bool = True, **options: Any
) -> AsyncIterator[list[Replica]]:
    """Run replicas while the context is entered."""
    made = [Replica(redis.url, **options) for _ in range(count)]
    try:
        if empty:
            await made[0].shared.start()
            async with made[0].shared.asking() as client:
                await client.flushall()
            await made[0].shared.aclose()
        for each in made:
            await each.start()
        yield made
    finally:
        for each in made:
            await each.aclose()


async def test_an_opening_on_one_opens_it_on_all(redis: RealRedis) -> None:
    """Who never failed refuses as well, with the same time and reason, and says so in its log."""
    async with replicas(redis, 3) as (first, second, third):
        await first.fail()
        for other in (second, third):
            await until(lambda other=other: other.state() == OPEN)  # type: ignore[misc]  # a default is how a loop's value is kept
            with pytest.raises(CircuitOpenError, match="after 2 failures in a row, the last PROVIDER_UNAVAILABLE") as e:
                await other.call()
            assert e.value.retry_after is not None
            assert 0 < e.value.retry_after <= 30
            assert [line["failures"] for line in other.told("circuit_opened")] == [2]


async def test_who_comes_later_knows_too(redis: RealRedis) -> None:
    """A replica that starts during an outage does not have to find out."""
    async with replicas(redis, 1) as [first]:
        await first.fail()
        await first.sharing.sync()
        async with replicas(redis, 1, empty=False) as [late]:
            assert late.state() == OPEN


async def test_one_probe_in_all_and_its_answer_closes_everywhere(redis: RealRedis) -> None:
    """While one replica probes nobody else does, also on the others; its answer lets all in."""
    async with replicas(redis, 3) as all_of_them:
        await all_of_them[0].fail()
        for each in all_of_them:
            await until(lambda each=each: each.state() == OPEN)  # type: ignore[misc]  # as above
            await each.pass_time(31)
        gate, passed = asyncio.Event(), []

        async def chat(replica: Replica) -> str:
            try:
                async with replica.circuits.of("p", "m").calling():
                    passed.append(replica)
                    await gate.wait()
            except CircuitOpenError:
                return "refused"
            return "asked"

        chats = [asyncio.create_task(chat(each)) for each in all_of_them for _ in range(10)]
        await until(lambda: sum(task.done() for task in chats) == 29)
        assert len(passed) == 1
        gate.set()
        assert sorted(await asyncio.gather(*chats)) == ["asked"] + ["refused"] * 29
        for each in all_of_them:
            await until(lambda each=each: each.state() == CLOSED)  # type: ignore[misc]  # as above
            await each.call()


async def test_a_failed_probe_keeps_all_away(redis: RealRedis) -> None:
    """What a probe on one replica found is known to the others before another one could begin."""
    async with replicas(redis, 2, pause=FOREVER) as (first, second):
        await first.fail()
        await first.sharing.sync()
        await second.sharing.sync()
        assert second.state() == OPEN
        await first.pass_time(31)
        await second.pass_time(31)
        await first.fail(1)
        await first.sharing.sync()
        with pytest.raises(CircuitOpenError, match="the next probe is due in") as refused:
            await second.call()
        assert refused.value.retry_after is not None
        assert 0 < refused.value.retry_after <= 30


async def test_a_probe_that_tells_nothing_leaves_another_replica_to_probe(redis: RealRedis) -> None:
    """The right to probe goes back when a probe ends with the caller's own error."""
    async with replicas(redis) as (first, second):
        await first.fail()
        await until(lambda: second.state() == OPEN)
        await first.pass_time(31)
        await second.pass_time(31)
        await first.call(InvalidRequestError("mine"))
        assert first.state() == OPEN

        async def answered() -> bool:
            with contextlib.suppress(CircuitOpenError):
                await second.call()
            return second.state() == CLOSED

        async with asyncio.timeout(60):
            while not await answered():  # noqa: ASYNC110 - another replica is asked each time
                await asyncio.sleep(0.01)
        await until(lambda: first.state() == CLOSED)


async def test_a_replica_that_dies_while_it_probes_is_outlived(redis: RealRedis) -> None:
    """The right to probe of a process that is no more runs out."""
    async with replicas(redis, lease=300) as (first, second):
        await first.fail()
        await until(lambda: second.state() == OPEN)
        await first.pass_time(31)
        await second.pass_time(31)
        circuit = first.circuits.of("p", "m")
        async with circuit.calling():
            assert first.sharing._task is not None
            first.sharing._task.cancel()  # nobody renews any more, as after SIGKILL
            await asyncio.gather(first.sharing._task, return_exceptions=True)
            async with asyncio.timeout(60):
                while second.state() != CLOSED:
                    with contextlib.suppress(CircuitOpenError):
                        await second.call()
                    await asyncio.sleep(0.01)


async def test_a_long_probe_keeps_its_right(redis: RealRedis) -> None:
    """The right to probe lives as long as the probe, also if Redis loses it, and goes back with its end."""
    async with replicas(redis, lease=60_000, pause=FOREVER) as (first, second):
        await first.fail()
        for each in (first, second):
            await each.sharing.sync()
            await each.pass_time(31)
        name = first.shared.key("circuits", "probe", '["p","m"]')
        async with first.circuits.of("p", "m").calling():
            for forget in (False, True):
                async with first.shared.asking() as client:
                    await (client.delete(name) if forget else client.pexpire(name, 5_000))
                await first.sharing.sync()
                async with first.shared.asking() as client:
                    assert await client.pttl(name) > 5_000
                with pytest.raises(CircuitOpenError, match="another replica is probing it"):
                    await second.call()
        await first.sharing.sync()
        async with first.shared.asking() as client:
            assert not await client.exists(name)


async def test_a_redis_that_loses_everything_is_told_again(redis: RealRedis) -> None:
    """After FLUSHALL what is open stays open, and those who come later know."""
    async with replicas(redis) as (first, second):
        await first.fail()
        await until(lambda: second.state() == OPEN)
        async with first.shared.asking() as client:
            await client.flushall()
        async with replicas(redis, 1, empty=False) as [late]:
            await until(lambda: late.state() == OPEN)
        assert (first.state(), second.state()) == (OPEN, OPEN)


async def test_without_redis_each_breaks_alone_and_then_they_agree(mortal: RealRedis) -> None:
    """Redis killed: circuits open, probe and close in each process; back, empty: what is open is known to all."""
    async with replicas(mortal) as (first, second):
        await first.fail(model="before")
        await until(lambda: second.state("before") == OPEN)
        mortal.kill()
        await first.fail(model="during")
        assert (first.state("during"), second.state("during")) == (OPEN, CLOSED)
        await until(lambda: not (first.shared.available or second.shared.available))
        await first.pass_time(31)
        await first.call(model="before")
        assert (first.state("before"), second.state("before")) == (CLOSED, OPEN)
        mortal.start()
        await until(lambda: second.state("during") == OPEN)
        await until(lambda: second.state("before") == CLOSED)
        assert first.state("during") == OPEN
        for each in (first, second):
            assert len(each.told("shared_state_lost")) == 1
            assert len(each.told("shared_state_joined")) == 2


async def test_a_server_starts_without_redis_and_joins_later(mortal: RealRedis) -> None:
    """Redis absent at the start: said once; there is no need to start anything again."""
    mortal.kill()
    async with replicas(mortal, empty=False) as (first, second):
        await first.fail()
        assert (first.state(), second.state()) == (OPEN, CLOSED)
        mortal.start()
        await until(lambda: second.state() == OPEN)
        assert [len(each.told("shared_state_lost")) for each in (first, second)] == [1, 1]


async def test_a_redis_that_hangs_holds_nobody_up(mortal: RealRedis) -> None:
    """A probe goes on without the others' word when Redis does not answer, and Redis is left alone until it does."""
    async with replicas(mortal, bound=0.2) as (first, _):
        await first.fail()
        await first.sharing.sync()
        mortal.pause()
        await first.pass_time(31)
        await first.call()
        assert first.state() == CLOSED
        await until(lambda: len(first.told("shared_state_lost")) == 1)
        with pytest.raises(SharedStateUnavailableError):
            async with first.shared.asking():
                pytest.fail("a Redis that hangs was asked")
        mortal.resume()
        await until(lambda: first.shared.available)


async def test_what_others_write_there_does_no_harm(redis: RealRedis) -> None:
    """Records that cannot be read are passed over, and impossible times are not believed."""
    async with replicas(redis, 1, pause=FOREVER) as [replica]:
        hash_name = replica.shared.key("circuits")
        record = {"at": 1, "open": True, "opened": 10**15, "at_least": 1e9, "failures": 3, "reason": "r" * 10_000}
        async with replica.shared.asking() as client:
            seconds, _ = await client.time()
            record["at"] = seconds * 1000
            await client.hset(hash_name, '["p","m"]', json.dumps(record))
            await client.hset(hash_name, "no name", json.dumps(record))
            await client.hset(hash_name, '["p","n"]', b"\xff not json")
            await client.hset(hash_name, '["p","old"]', json.dumps({**record, "at": 1}))
        await replica.sharing.sync()
        assert (replica.state(), replica.state("n"), replica.state("old")) == (OPEN, CLOSED, CLOSED)
        assert 0 < replica.circuits.state("p", "m")[1] <= 300
        await replica.sharing.sync()
        async with replica.shared.asking() as client:
            assert await client.hkeys(hash_name) == [b'["p","m"]']


async def test_what_is_kept_in_redis_is_bounded(redis: RealRedis) -> None:
    """However many models fail, no more than a thousand circuits stay there, and every key has a time to live."""
    async with replicas(redis, 1, pause=FOREVER) as [replica]:
        for number in range(MOST_CIRCUITS + 50):
            await replica.fail(2, f"m{number}")
        for _ in range(3):
            await replica.sharing.sync()
        async with replica.shared.asking() as client:
            assert await client.hlen(replica.shared.key("circuits")) <= MOST_CIRCUITS
            for name in await client.keys("test:*"):
                assert await client.pttl(name) > 0
        assert len(replica.circuits) <= MOST_CIRCUITS


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_replicas_come_to_agree(redis: RealRedis, seed: int) -> None:
    """In whatever order openings, closings, looks and losses come: at the end all know the same."""
    draws = random.Random(seed)  # noqa: S311 - a test's choices

    async def run() -> None:
        async with replicas(redis, 3, pause=FOREVER) as all_of_them:
            for _ in range(40):
                replica = draws.choice(all_of_them)
                match draws.randrange(6):
                    case 0 | 1:
                        with contextlib.suppress(CircuitOpenError):
                            await replica.fail(1, draws.choice("ab"))
                    case 2:
                        with contextlib.suppress(CircuitOpenError):
                            await replica.call(model=draws.choice("ab"))
                    case 3:
                        passed = draws.choice([1, 40])
                        for each in all_of_them:
                            await each.pass_time(passed)
                    case 4:
                        await replica.sharing.sync()
                    case _:
                        if draws.random() < 0.2:
                            async with replica.shared.asking() as client:
                                await client.delete(replica.shared.key("circuits"))
            for _ in range(3):
                for each in all_of_them:
                    await each.sharing.sync()
            for model in "ab":
                assert len({each.state(model) for each in all_of_them}) == 1, model

    asyncio.run(run())


async def test_the_password_stays_secret(redis: RealRedis) -> None:
    """Neither the log nor an error tells it, whether it is right or wrong."""
    right, wrong = Replica(redis.url), Replica(redis.url.replace(WORD, "wrong-sesame"))
    for replica in (right, wrong):
        await replica.start()
        await replica.aclose()
        told = replica.log.getvalue() + repr(vars(replica.shared))
        assert "127.0.0.1" in told
        assert "sesame" not in told
    assert wrong.told("shared_state_lost")
    with pytest.raises(ConfigurationError) as refused:
        Replica(f"redis://:{WORD}@127.0.0.1:99999999/0?socket_timeout=x")
    assert "sesame" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_missing_package_is_said_at_the_start(tmp_path: Path) -> None:
    """EP_REDIS_URL without the extra ends the command with what to install."""
    program = "import sys; sys.modules['redis'] = None\nfrom execution_platform.server.__main__ import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "serve"],
        cwd=tmp_path,
        env={"EP_REDIS_URL": "redis://127.0.0.1:1/0", "EP_LISTEN": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "EP_REDIS_URL: needs the package redis: pip install 'execution-platform[redis]'" in done.stdout + done.stderr


async def test_a_cancel_while_redis_is_asked_is_a_cancel(redis: RealRedis) -> None:
    """Wherever a cancel meets a command, whoever made the command ends, and the connection still serves others."""
    async with replicas(redis, 1, pause=FOREVER) as [replica]:

        async def ask() -> None:
            async with replica.shared.asking() as client:
                await client.get("test:x")

        for steps in [*range(25)] * 4:
            task = asyncio.create_task(ask())
            for _ in range(steps):
                await asyncio.sleep(0)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            await ask()


async def test_a_redis_that_is_there_and_fails_is_told(redis: RealRedis) -> None:
    """A key of another kind in our place: circuits work alone, the log says why once, and sharing goes on after it."""
    async with replicas(redis) as (first, second):
        async with first.shared.asking() as client:
            await client.set(first.shared.key("circuits"), "not ours", ex=60)
        await until(lambda: bool(first.told("shared_state_faltered") and second.told("shared_state_faltered")))
        await first.fail()
        assert (first.state(), second.state()) == (OPEN, CLOSED)
        await until(lambda: first.shared.available)
        async with first.shared.asking() as client:
            await client.delete(first.shared.key("circuits"))
        await until(lambda: second.state() == OPEN)
        [line] = first.told("shared_state_faltered")
        assert "WRONGTYPE" in line["reason"]
