"""The HTTP life that providers share: clients, reading an answer as raw bytes, and faults of the transport."""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import AsyncGenerator, Iterator, Mapping

import httpx2

from execution_platform.adapters.errors import (
    AdapterError,
    ProviderTimeoutError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.spi import Events, Timeouts, Translation

__all__ = [
    "http_client",
    "read_stream",
    "read_whole",
    "retry_after",
    "should_retry",
    "transport_errors",
    "with_request_id",
]


def http_client(timeouts: Timeouts) -> httpx2.AsyncClient:
    """Make the client that a provider's SDK sends through. The caller closes it.

    Proxies and certificates come from the environment, as everywhere; redirects are not followed, since they
    would carry credentials elsewhere.
    """
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(timeouts.read, connect=timeouts.connect),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0),
        follow_redirects=False,
    )


@contextlib.contextmanager
def transport_errors() -> Iterator[None]:
    """Map httpx2's transport faults to the error tree, ``from`` their cause.

    Raises:
        ProviderTimeoutError: the provider was silent for too long.
        StreamBrokenError: the connection broke in the middle of an answer.
        UnavailableError: the provider cannot be reached.
    """
    try:
        yield
    except httpx2.TimeoutException as error:
        raise ProviderTimeoutError(f"the provider did not answer in time ({type(error).__name__})") from error
    except (
        httpx2.RemoteProtocolError,
        httpx2.ReadError,
        httpx2.DecodingError,
        httpx2.StreamError,
    ) as error:
        raise StreamBrokenError(f"the connection to the provider broke ({_cause(error)})") from error
    except httpx2.HTTPError as error:
        raise UnavailableError(f"the provider cannot be reached ({_cause(error)})") from error


def _cause(error: Exception) -> str:
    text = str(error)[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def read_stream(response: httpx2.Response, translation: Translation) -> AsyncGenerator[Events, None]:
    """Translate a streamed answer, a list of events for each read that brought some. Closes the response.

    Raises:
        AdapterError: as the translation says, or by transport_errors.
    """
    try:
        with transport_errors():
            async for data in response.aiter_bytes():
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
        await response.aclose()


async def read_whole(response: httpx2.Response, translation: Translation) -> Events:
    """Translate an unstreamed answer. Closes the response. Raises like read_stream."""
    try:
        with transport_errors():
            body = await response.aread()
        return translation.whole(body)
    finally:
        await response.aclose()


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that ``retry-after-ms`` or ``retry-after`` ask to wait, or None.

    Args:
        headers: of an answer with an error status; other answers carry the header without meaning it.
        now: seconds since the epoch, for dates; default: now.
    """
    exact: float | None = None
    with contextlib.suppress(ValueError):
        exact = max(0.0, float(headers.get("retry-after-ms", "")) / 1000)
    value = headers.get("retry-after")
    # Azure sends 0 milliseconds beside whole seconds: then the seconds are what it means.
    if exact or value is None:
        return exact
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(ValueError, TypeError):
        moment = email.utils.parsedate_to_datetime(value).timestamp()
        return max(0.0, moment - (time.time() if now is None else now))
    return None


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return what ``x-should-retry`` decides, or None. It is authoritative where it is present."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())


def with_request_id(error: AdapterError, provider_request_id: str) -> AdapterError:
    """Fill in the provider's identifier of the request where the error has none yet."""
    error.provider_request_id = error.provider_request_id or provider_request_id
    return error
