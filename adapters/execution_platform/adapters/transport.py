"""The HTTP life that providers share: clients, reading an answer as raw bytes, and faults of the transport."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import math
import time
from collections.abc import AsyncGenerator, Iterator, Mapping

import httpx2

from execution_platform.adapters.errors import (
    AdapterError,
    NotConfiguredError,
    ProtocolError,
    ProviderTimeoutError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.spi import Events, Timeouts, Translation
from execution_platform.adapters.wire import MAX_EVENT_BYTES

__all__ = [
    "http_client",
    "read_stream",
    "read_whole",
    "retry_after",
    "should_retry",
    "transport_errors",
    "unanswered",
    "with_request_id",
]

_YEAR = 31_536_000.0

#: Bytes of an answer that may wait while the caller is slow: one read of a socket, as httpcore2 makes it.
_MOST_AHEAD = 64 * 1024

#: Faults that only a request meets which its server has.
_AFTER_SENDING = (httpx2.ReadTimeout, httpx2.ReadError, httpx2.RemoteProtocolError)

_DECISIONS: Mapping[str, bool] = {"true": True, "false": False}


#: Seconds that an idle connection is kept. Servers of one's own end idle ones after 5 s (uvicorn, llama.cpp), and a
#: request that meets that end fails; those are asked without TLS, where a new connection costs next to nothing.
_KEEP_SECONDS = 30.0
_KEEP_PLAIN_SECONDS = 3.0


def http_client(timeouts: Timeouts, base_url: str = "") -> httpx2.AsyncClient:
    """Make the client that a provider's SDK sends through. The caller closes it.

    Args:
        timeouts: of the provider.
        base_url: the provider's address; decides how long idle connections are kept.

    Proxies and certificates come from the environment, as everywhere; redirects are not followed, since they
    would carry credentials elsewhere.
    """
    keep = _KEEP_PLAIN_SECONDS if base_url.startswith("http://") else _KEEP_SECONDS
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(timeouts.read, connect=timeouts.connect),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=keep),
        follow_redirects=False,
    )


@contextlib.contextmanager
def transport_errors(*, answering: bool = False) -> Iterator[None]:
    """Map httpx2's transport faults to the error tree, ``from`` their cause; `unanswered` where they came late.

    Args:
        answering: the provider's answer has begun, so that a fault breaks it.

    Raises:
        ProviderTimeoutError: the provider was silent for too long.
        StreamBrokenError: the connection broke in the middle of an answer.
        UnavailableError: the provider cannot be reached, or its connection broke before it answered.
        NotConfiguredError: the provider's address or key cannot be sent as they are.
    """
    try:
        yield
    except httpx2.TimeoutException as error:
        late = ProviderTimeoutError(f"the provider did not answer in time ({type(error).__name__})")
        late.unanswered = unanswered(error)
        raise late from error
    except (
        httpx2.RemoteProtocolError,
        httpx2.ReadError,
        httpx2.DecodingError,
        httpx2.StreamError,
    ) as error:
        kind = StreamBrokenError if answering else UnavailableError
        broken = kind(f"the connection to the provider broke ({_cause(error)})")
        broken.unanswered = broken.unanswered or unanswered(error)
        raise broken from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise NotConfiguredError(f"the provider's address is not valid ({_cause(error)})") from error
    except (httpx2.LocalProtocolError, UnicodeEncodeError) as error:
        # Their text and their cause may hold a header, and so the key.
        name = type(error).__name__
        raise NotConfiguredError(f"a header for the provider cannot be sent: check its key ({name})") from None
    except (httpx2.HTTPError, OSError, ExceptionGroup) as error:
        raise UnavailableError(f"the provider cannot be reached ({_cause(error)})") from error


def unanswered(cause: BaseException | None) -> bool:
    """Return whether a fault of the transport is one of a request that had been sent; then it may be charged for."""
    return isinstance(cause, _AFTER_SENDING)


def _cause(error: Exception) -> str:
    text = str(error)[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _ReadAhead:
    """Reads an answer in a task of its own, so that pieces which are there already travel together.

    Servers send a chunk of HTTP for each event and httpx2 gives each by itself, also where one read of the socket
    brought many. Bounded: above `_MOST_AHEAD` nothing more is read until what is there has been taken.
    """

    def __init__(self, response: httpx2.Response) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._task = asyncio.create_task(self._read(response))
        self._task.add_done_callback(lambda _: self._news.set())

    async def take(self) -> bytes:
        """Return what has come, once something has; empty: the answer is over. Raises like transport_errors."""
        await self._news.wait()
        if not self._task.done():
            self._news.clear()
        if not self._pieces:
            self._task.result()
            return b""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._room.set()
        return data

    async def aclose(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, response: httpx2.Response) -> None:
        with transport_errors(answering=True):
            async with contextlib.aclosing(response.aiter_bytes()) as pieces:
                async for piece in pieces:
                    self._pieces.append(piece)
                    self._size += len(piece)
                    self._news.set()
                    if self._size > _MOST_AHEAD:
                        self._room.clear()
                        await self._room.wait()


async def read_stream(response: httpx2.Response, translation: Translation) -> AsyncGenerator[Events, None]:
    """Translate a streamed answer, a list of events for what came together. Closes the response.

    Raises:
        AdapterError: as the translation says, or by transport_errors.
    """
    ahead = _ReadAhead(response)
    try:
        _refuse_page(response)
        while data := await ahead.take():
            events = translation.feed(data)
            if events:
                yield events
        events = translation.end()
        if events:
            yield events
    except AdapterError as error:
        if error.events:
            yield error.events
        raise
    finally:
        await ahead.aclose()
        await response.aclose()


async def read_whole(response: httpx2.Response, translation: Translation, limit: int = MAX_EVENT_BYTES) -> Events:
    """Translate an unstreamed answer of at most `limit` bytes. Closes the response. Raises like read_stream."""
    try:
        _refuse_page(response)
        return translation.whole(await _body(response, limit))
    finally:
        await response.aclose()


async def _body(response: httpx2.Response, limit: int) -> bytes:
    read: list[bytes] = []
    with transport_errors(answering=True):
        async with contextlib.aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                limit -= len(piece)
                if limit < 0:
                    raise ProtocolError("the provider's answer is too large", provider_status=response.status_code)
                read.append(piece)
    return b"".join(read)


def _refuse_page(response: httpx2.Response) -> None:
    """Tell the commonest mistake of a base URL by its name: a website answers there."""
    if response.headers.get("content-type", "").lower().startswith("text/html"):
        raise ProtocolError(
            "the provider answered with a page of HTML: does its base URL lead to its API?",
            provider_status=response.status_code,
        )


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that ``retry-after-ms`` or ``retry-after`` ask to wait, or None.

    Args:
        headers: of an answer with an error status; other answers carry the header without meaning it.
        now: seconds since the epoch, for dates; default: now.
    """
    exact = _seconds(headers.get("retry-after-ms", ""), unit=0.001)
    value = headers.get("retry-after", "")
    # Azure sends 0 milliseconds beside whole seconds: then the seconds are what it means.
    if exact or not value:
        return exact
    seconds = _seconds(value)
    if seconds is None:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            moment = email.utils.parsedate_to_datetime(value).timestamp()
            seconds = _within_year(moment - (time.time() if now is None else now))
    return exact if seconds is None else seconds


def _seconds(text: str, unit: float = 1.0) -> float | None:
    try:
        number = float(text) * unit
    except ValueError:
        return None
    return _within_year(number) if math.isfinite(number) else None


def _within_year(seconds: float) -> float:
    """Keep a wait within what every representation of time can hold."""
    return min(max(0.0, seconds), _YEAR)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return what ``x-should-retry`` decides, or None. It is authoritative where it is present."""
    return _DECISIONS.get(headers.get("x-should-retry", "").strip().lower())


def with_request_id(error: AdapterError, provider_request_id: str) -> AdapterError:
    """Fill in the provider's identifier of the request where the error has none yet."""
    error.provider_request_id = error.provider_request_id or provider_request_id
    return error
