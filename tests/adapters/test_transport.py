"""Answers are read as raw bytes, every fault of the transport has its error, and connections are let go."""

import asyncio
import email.utils
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.adapters.errors import (
    AdapterError,
    NotConfiguredError,
    OverloadedError,
    ProtocolError,
    ProviderTimeoutError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.spi import Events, Timeouts
from execution_platform.adapters.transport import (
    http_client,
    read_stream,
    read_whole,
    retry_after,
    should_retry,
    transport_errors,
    with_request_id,
)
from execution_platform.v1 import chat_pb2

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Upstream:
    """A server on loopback that answers each connection as a test says, and counts those that are open."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.open = 0
        self.gone = asyncio.Event()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            await self.serve(reader, writer)
        finally:
            self.open -= 1
            self.gone.set()
            writer.close()


@asynccontextmanager
async def upstream(serve: Serve) -> AsyncIterator[tuple[Upstream, str]]:
    served = Upstream(serve)
    server = await asyncio.start_server(served.connected, "127.0.0.1", 0)
    async with server:
        yield served, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def answer(client: httpx2.AsyncClient, url: str) -> httpx2.Response:
    with transport_errors():
        return await client.send(client.build_request("POST", url, content=b"{}"), stream=True)


class Echo:
    """Tells each piece of bytes as a notice; b"!" is an error, b"~" says nothing."""

    def __init__(self) -> None:
        self.said = b""
        self.fed = asyncio.Event()

    def feed(self, data: bytes) -> Events:
        self.said += data
        self.fed.set()
        if data == b"~":
            return []
        events = [chat_pb2.ChatEvent(notice=chat_pb2.Notice(message=data.decode()))]
        if b"!" in data:
            error = OverloadedError("told")
            error.events = events if len(data) > 1 else []
            raise error
        return events

    def end(self) -> Events:
        if self.said.endswith(b"~"):
            raise StreamBrokenError("no end")
        return [] if self.said.endswith(b"-") else [chat_pb2.ChatEvent(notice=chat_pb2.Notice(message="end"))]

    def whole(self, body: bytes) -> Events:
        return self.feed(body)


def told(lists: list[Events]) -> list[str]:
    return [event.notice.message for events in lists for event in events]


def sends(*pieces: bytes) -> Serve:
    """Answer with pieces."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"".join(pieces))
        await writer.drain()

    return serve


async def streamed(*pieces: bytes) -> tuple[list[str], AdapterError | None]:
    """Read a streamed answer, each piece in a read of its own; return what was told, and the error that ended it."""
    lists: list[Events] = []
    echo = Echo()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + pieces[0])
        for piece in pieces[1:]:
            await echo.fed.wait()
            echo.fed.clear()
            writer.write(piece)
        await writer.drain()

    async with upstream(serve) as (served, url), http_client(Timeouts()) as client:
        response = await answer(client, url)
        try:
            async for events in read_stream(response, echo):
                lists.append(events)  # noqa: PERF401  # what came before an error is wanted
        except AdapterError as error:
            return told(lists), error
        finally:
            assert response.is_closed
            await client.aclose()
            await served.gone.wait()
    return told(lists), None


async def test_a_stream_is_told_piece_by_piece() -> None:
    """Each read that says something becomes one list, and the end has its say."""
    assert await streamed(chunk(b"a"), chunk(b"~"), chunk(b"b"), END) == (["a", "b", "end"], None)
    assert await streamed(chunk(b"a-"), END) == (["a-"], None)


async def test_what_came_together_is_told_together() -> None:
    """Pieces that one read of the socket brought make one list, although each is a chunk of HTTP by itself."""
    assert await streamed(chunk(b"a") + chunk(b"b") + chunk(b"c-") + END) == (["abc-"], None)


async def test_a_slow_caller_holds_the_provider_back() -> None:
    """Not more is read ahead than a few pieces, however much the provider has to say."""
    full = asyncio.Event()

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(chunk(b"a" * 65_536))
                try:
                    await asyncio.wait_for(writer.drain(), 0.2)
                except TimeoutError:
                    full.set()
                    await writer.drain()

    async with upstream(endless) as (served, url), http_client(Timeouts()) as client:
        stream = read_stream(await answer(client, url), Echo())
        await anext(stream)
        await full.wait()
        taken = sum([len(events[0].notice.message) for events in [await anext(stream) for _ in range(2)]])
        assert taken < 1_000_000
        await stream.aclose()
        await served.gone.wait()


@pytest.mark.parametrize(
    ("pieces", "before", "kind"),
    [
        ([chunk(b"a"), chunk(b"!"), END], ["a"], OverloadedError),
        ([chunk(b"a"), chunk(b"b!"), END], ["a", "b!"], OverloadedError),
        ([chunk(b"~"), END], [], StreamBrokenError),
        ([chunk(b"a")], ["a"], StreamBrokenError),
        ([chunk(b"a"), b"zz\r\n"], ["a"], StreamBrokenError),
    ],
)
async def test_a_stream_that_fails_tells_what_came_before(
    pieces: list[bytes], before: list[str], kind: type[AdapterError]
) -> None:
    """An error in a stream comes after everything that was said before it, also in the same read."""
    said, error = await streamed(*pieces)
    assert (said, type(error)) == (before, kind)


async def test_a_closed_stream_lets_its_connection_go() -> None:
    """Closing a stream in the middle closes the connection to the provider."""

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(chunk(b"a"))
                await writer.drain()
                await asyncio.sleep(0.001)

    async with upstream(endless) as (served, url), http_client(Timeouts()) as client:
        stream = read_stream(await answer(client, url), Echo())
        await anext(stream)
        assert served.open == 1
        await stream.aclose()
        await served.gone.wait()


async def test_a_cancelled_stream_lets_its_connection_go() -> None:
    """Cancelling the reader of a silent stream closes the connection to the provider."""
    waiting = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"a"))
        await writer.drain()
        waiting.set()
        await reader.read()  # until the other side closes

    async with upstream(silent) as (served, url), http_client(Timeouts()) as client:

        async def read() -> None:
            async for _ in read_stream(await answer(client, url), Echo()):
                pass

        task = asyncio.create_task(read())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await served.gone.wait()


async def test_a_whole_answer_is_read_at_once() -> None:
    """An unstreamed answer is read to its end and its connection let go, also when it is an error."""
    async with upstream(sends(chunk(b"a"), chunk(b"b"), END)) as (_, url), http_client(Timeouts()) as client:
        response = await answer(client, url)
        assert told([await read_whole(response, Echo())]) == ["ab"]
        assert response.is_closed
    async with upstream(sends(chunk(b"!"), END)) as (_, url), http_client(Timeouts()) as client:
        response = await answer(client, url)
        with pytest.raises(OverloadedError):
            await read_whole(response, Echo())
        assert response.is_closed


async def test_a_whole_answer_that_breaks_off_is_broken() -> None:
    """An unstreamed answer that ends too early is a broken stream."""
    async with upstream(sends(chunk(b"a"))) as (_, url), http_client(Timeouts()) as client:
        response = await answer(client, url)
        with pytest.raises(StreamBrokenError):
            await read_whole(response, Echo())


async def test_a_whole_answer_that_does_not_end_fills_no_memory() -> None:
    """An unstreamed answer is read up to a limit; beyond it the provider has broken its protocol."""

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        with suppress(ConnectionError):
            while True:
                writer.write(chunk(b"x" * 10_000))
                await writer.drain()

    async with upstream(endless) as (served, url), http_client(Timeouts()) as client:
        response = await answer(client, url)
        with pytest.raises(ProtocolError, match="too large"):
            await read_whole(response, Echo(), limit=1_000_000)
        await served.gone.wait()


@pytest.mark.parametrize("whole", [False, True])
async def test_a_website_in_place_of_an_api_is_told(whole: bool) -> None:
    """A page of HTML, as a wrong base URL gives it, is named, in a stream as in a whole answer."""

    async def page(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Type: Text/HTML; charset=utf-8\r\n\r\n")
        writer.write(head + chunk(b"<html></html>") + END)

    async with upstream(page) as (_, url), http_client(Timeouts()) as client:
        response = await answer(client, url)
        reading = read_whole(response, Echo()) if whole else anext(read_stream(response, Echo()))
        with pytest.raises(ProtocolError, match=r"HTML.*base URL") as caught:
            await reading
        assert caught.value.provider_status == 200
        assert response.is_closed


async def test_silence_is_a_timeout() -> None:
    """A provider that is silent for longer than its read timeout has not answered in time."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with upstream(silent) as (served, url), http_client(Timeouts(read=0.05)) as client:
        with pytest.raises(ProviderTimeoutError) as caught:
            await answer(client, url)
        await served.gone.wait()
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, httpx2.ReadTimeout)


async def test_nobody_there_is_unavailable() -> None:
    """A port on which nobody listens is a provider that cannot be reached."""
    async with upstream(sends()) as (_, url):
        pass
    async with http_client(Timeouts()) as client:
        with pytest.raises(UnavailableError) as caught:
            await answer(client, url)
    assert caught.value.retryable


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "", "http://[::x/"])
async def test_an_address_that_is_none_is_a_setting_to_mend(url: str) -> None:
    """An address that is not valid is told as a fault of the settings."""
    async with http_client(Timeouts()) as client:
        with pytest.raises(NotConfiguredError, match="address is not valid") as caught, transport_errors():
            await client.get(url)
    assert not caught.value.retryable


@pytest.mark.parametrize("key", ["sk-made-up\r\nx: y", "sk-made-up\x00", "sk-made-up-é"])
async def test_a_key_that_cannot_be_sent_is_not_shown(key: str) -> None:
    """A key with characters that HTTP cannot carry is refused without being shown, in the cause neither."""
    async with upstream(sends()) as (_, url), http_client(Timeouts()) as client:
        with pytest.raises(NotConfiguredError, match="check its key") as caught, transport_errors():
            await client.get(url, headers={"authorization": f"Bearer {key}"})
    assert "made-up" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def all_faults() -> list[type[httpx2.HTTPError | httpx2.StreamError | httpx2.InvalidURL]]:
    """Every class of error that httpx2 has."""
    found = [getattr(httpx2, name) for name in httpx2.__all__]
    bases = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL)
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, bases)]


@pytest.mark.parametrize("kind", [*all_faults(), OSError, ConnectionResetError], ids=lambda kind: str(kind.__name__))
def test_every_fault_of_the_transport_is_mapped(kind: type[Exception]) -> None:
    """Each error class of the HTTP library becomes an AdapterError that names it."""
    fault = kind.__new__(kind)
    Exception.__init__(fault, "what happened")
    with pytest.raises(AdapterError, match=kind.__name__) as caught, transport_errors():
        raise fault
    assert type(caught.value) in {ProviderTimeoutError, StreamBrokenError, UnavailableError, NotConfiguredError}


def test_a_group_of_faults_is_mapped() -> None:
    """Several faults at once, as parallel attempts to connect bring, are one provider that cannot be reached."""
    with pytest.raises(UnavailableError), transport_errors():
        raise ExceptionGroup("connecting", [OSError("one")])


def test_a_fault_without_words_is_named() -> None:
    """A fault that says nothing is told by its class."""
    with pytest.raises(UnavailableError, match=r"\(ReadError\)"), transport_errors():
        raise httpx2.ReadError("")


def test_a_connection_breaks_an_answer_only_once_it_has_begun() -> None:
    """A connection that ends before the answer is a provider out of reach; one that ends within it breaks it."""
    with pytest.raises(UnavailableError), transport_errors():
        raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
    with pytest.raises(StreamBrokenError), transport_errors(answering=True):
        raise httpx2.RemoteProtocolError("peer closed connection")


@pytest.mark.parametrize(
    ("fault", "late"),
    [
        (httpx2.ReadTimeout, True),
        (httpx2.ReadError, True),
        (httpx2.RemoteProtocolError, True),
        (httpx2.ConnectTimeout, False),
        (httpx2.PoolTimeout, False),
        (httpx2.WriteTimeout, False),
        (httpx2.ConnectError, False),
    ],
)
def test_what_had_been_sent_may_be_charged_for(fault: type[httpx2.TransportError], late: bool) -> None:
    """A fault behind the request leaves it unanswered; one before it is of a request that nobody has seen."""
    with pytest.raises(AdapterError) as caught, transport_errors():
        raise fault("what happened")
    assert caught.value.unanswered is late


def test_other_errors_pass() -> None:
    """What is no fault of the transport passes unchanged."""
    with pytest.raises(ProtocolError), transport_errors():
        raise ProtocolError("p")
    with pytest.raises(KeyError), transport_errors():
        raise KeyError


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "0", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "0"}, 0.0),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "0", "retry-after": "x"}, 0.0),
        ({"retry-after": email.utils.formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": email.utils.formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, 31_536_000.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"}, 31_536_000.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """The wait is read from milliseconds, seconds or a date, within a year, and nonsense is no answer."""
    assert retry_after(headers, NOW) == seconds


@given(st.text(), st.text())
def test_any_wait_is_within_a_year(milliseconds: str, value: str) -> None:
    """Whatever the headers hold, the wait is none or between nothing and a year."""
    seconds = retry_after({"retry-after-ms": milliseconds, "retry-after": value})
    assert seconds is None or 0 <= seconds <= 31_536_000


def test_a_date_counts_from_now() -> None:
    """Without a given moment a date counts from the clock."""
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0


@pytest.mark.parametrize(
    ("headers", "decision"),
    [
        ({"x-should-retry": "true"}, True),
        ({"x-should-retry": "False "}, False),
        ({"x-should-retry": "perhaps"}, None),
        ({}, None),
    ],
)
def test_the_provider_may_decide_about_retrying(headers: dict[str, str], decision: bool | None) -> None:
    """The header x-should-retry decides where it says true or false."""
    assert should_retry(headers) is decision


def test_a_request_id_is_filled_in_once() -> None:
    """The provider's identifier of a request goes into an error that has none yet."""
    error = with_request_id(OverloadedError("m"), "r1")
    assert with_request_id(error, "r2").provider_request_id == "r1"


async def test_a_client_follows_no_redirect() -> None:
    """A redirect is an answer like any other, since following it would carry credentials elsewhere."""

    async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with upstream(redirect) as (_, url), http_client(Timeouts(connect=1, read=7)) as client:
        assert (await client.get(url)).status_code == 307
        assert (client.timeout.connect, client.timeout.read) == (1, 7)
