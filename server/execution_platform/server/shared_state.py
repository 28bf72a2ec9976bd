"""The Redis that replicas share, as far as it is there.

Made in app.py from EP_REDIS_URL, None without it. Whoever keeps state there asks for it so::

    try:
        async with shared.asking() as redis:
            value = await redis.get(shared.key("limits", name))
    except SharedStateUnavailableError:
        ...  # go on with what this process knows

Within ``asking()`` everything together takes at most `bound` seconds; anything that goes wrong with Redis becomes
SharedStateUnavailableError. While Redis is away ``asking()`` refuses at once, without trying: only the keeper here
tries, each `pause` seconds, and tells the log and the metrics once when Redis goes and once when it is back. A library
that makes commands by itself is given ``shared.client.connection_pool`` and used within ``asking()`` too.

Keys are made by ``key()``, which puts EP_REDIS_PREFIX before them. Redis is a meeting place, not a store: it may be
empty at any time, and every key is written with a time to live.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from execution_platform.server.config.load import ConfigurationError
from execution_platform.server.metrics import Metrics
from execution_platform.server.telemetry import Logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["SharedState", "SharedStateUnavailableError"]

#: Connections of one process. More commands at once wait for one, within their bound.
_CONNECTIONS = 32

#: Seconds that connecting and closing may take; neither is on a chat's path.
_PATIENCE = 2.0

#: Seconds between two lines of the log about a Redis that is there and yet fails.
_FALTER_SECONDS = 60.0


class SharedStateUnavailableError(Exception):
    """Redis cannot be asked now."""


class SharedState:
    """The connection to Redis, and whether it can be used.

    Args:
        url: where it is: ``redis://``, ``rediss://`` or ``unix://``.
        prefix: what the names of all keys begin with.
        metrics: are told when it goes and comes.
        logger: is told as well.
        bound: seconds that one use may take.
        pause: seconds between the keeper's looks.

    Attributes:
        client: the asyncio client; use it within :meth:`asking`.
        replica: names this process among those that share.
        available: whether it answered when it was asked last.
        joins: how often it has become available.

    Raises:
        ConfigurationError: the package `redis` is missing, or the address cannot be read.
    """

    def __init__(
        self,
        url: SecretStr,
        prefix: str,
        metrics: Metrics,
        logger: Logger,
        *,
        bound: float = 0.25,
        pause: float = 0.5,
    ) -> None:
        try:
            import redis.asyncio as library  # noqa: PLC0415 - an extra: servers without EP_REDIS_URL do without it
        except ImportError:
            raise ConfigurationError(
                ["EP_REDIS_URL: needs the package redis: pip install 'execution-platform[redis]'"]
            ) from None
        self.client: Redis = _client(url, bound)
        self.replica = uuid.uuid4().hex
        self.available = False
        self.joins = 0
        self.bound = bound
        self._failures = (library.RedisError, OSError, TimeoutError)
        self._where = _without_credentials(url)
        self._prefix = prefix
        self._metrics = metrics
        self._logger = logger
        self._pause = pause
        self._suspect = asyncio.Event()
        self._told_available: bool | None = None
        self._faltered = ""
        self._faltered_at = -_FALTER_SECONDS
        self._keeper: asyncio.Task[None] | None = None

    def key(self, *parts: str) -> str:
        """Return the name of a key: the prefix and the parts, with colons between."""
        return ":".join((self._prefix, *parts))

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[Redis]:
        """Use Redis, for at most `bound` seconds.

        Raises:
            SharedStateUnavailableError: it is away, slow, or refuses.
        """
        if not self.available:
            raise SharedStateUnavailableError("Redis is away")
        try:
            async with asyncio.timeout(self.bound):
                yield self.client
        except self._failures as error:
            # Until the keeper has looked nobody else waits for it.
            self.available = False
            self._faltered = _reason(error)
            self._suspect.set()
            raise SharedStateUnavailableError(f"Redis: {_reason(error)}") from error

    async def start(self) -> None:
        """Look once whether Redis is there, and from now on until :meth:`aclose`. Does not fail if it is not."""
        await self._look()
        self._keeper = asyncio.create_task(self._keep(), name="shared-state")

    async def aclose(self) -> None:
        """Let go of Redis. Idempotent."""
        keeper, self._keeper = self._keeper, None
        self.available = False
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        with contextlib.suppress(*self._failures):
            async with asyncio.timeout(_PATIENCE):
                await self.client.aclose()

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._suspect.wait()
            suspected = self._suspect.is_set()
            self._suspect.clear()
            await self._look()
            if suspected:
                if self.available:
                    self._tell_faltered()
                # It may be there for us and fail for others: no more than one such turn in a pause.
                await asyncio.sleep(self._pause)

    async def _look(self) -> None:
        """Write a key, as fast as others would: a Redis that is slow, only reads or has no memory is of no use."""
        try:
            async with asyncio.timeout(max(_PATIENCE, self.bound)):
                await self.client.ping()  # connects, which may take longer
            async with asyncio.timeout(self.bound):
                await self.client.set(self.key("replica", self.replica), 1, ex=60)
        except self._failures as error:
            self.available = False
            with contextlib.suppress(*self._failures):
                await self.client.connection_pool.disconnect(inuse_connections=False)
            self._tell(available=False, reason=_reason(error))
        else:
            self.joins += not self.available
            self.available = True
            self._tell(available=True, reason="")

    def _tell_faltered(self) -> None:
        """Say that it is there and yet failed somebody, now and then."""
        now = time.monotonic()
        if now - self._faltered_at >= _FALTER_SECONDS:
            self._faltered_at = now
            self._logger.warning("shared_state_faltered", redis=self._where, reason=self._faltered)

    def _tell(self, *, available: bool, reason: str) -> None:
        """Say in log and metrics what has changed."""
        if available is self._told_available:
            return
        self._told_available = available
        self._metrics.shared_state(available=available)
        if available:
            self._logger.info("shared_state_joined", redis=self._where)
        else:
            self._logger.warning("shared_state_lost", redis=self._where, reason=reason)


def _client(url: SecretStr, bound: float) -> Redis:
    from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - an extra
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    try:
        pool = BlockingConnectionPool.from_url(
            url.get_secret_value(),
            max_connections=_CONNECTIONS,
            timeout=bound,
            # asking() bounds everything. This one would be an asyncio.wait_for, which in Python 3.11 loses cancels.
            socket_timeout=None,
            socket_connect_timeout=max(_PATIENCE, bound),
            # Who asks decides whether it is worth another time.
            retry=Retry(NoBackoff(), 0),
            # What every version speaks, without greetings.
            protocol=2,
            driver_info=None,
        )
    except ValueError:
        # Its message may hold the address, and so the password.
        raise ConfigurationError(["EP_REDIS_URL: cannot be read; write it as redis://host:6379/0"]) from None
    return Redis.from_pool(pool)


def _reason(error: BaseException) -> str:
    """Say in one line what is wrong."""
    return f"{type(error).__name__}: {error}".removesuffix(": ").splitlines()[0][:200]


def _without_credentials(url: SecretStr) -> str:
    parts = urlsplit(url.get_secret_value())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
