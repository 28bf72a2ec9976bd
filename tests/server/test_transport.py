"""What the server takes from the wire: pings, messages, metadata, connections that say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.server.conftest import Serve, Served, chat_request, error_info, events_of, failed_stream, kinds, trailers_of
from tests.server.test_routing import BARE

from execution_platform.adapters.spi import ProviderConfig
from execution_platform.v1 import catalog_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
PING = b"\0\0\x08\x06\0\0\0\0\0--ping--"
TYPE_PING, TYPE_GOAWAY = 6, 7


@contextlib.asynccontextmanager
async def raw_connection(served: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that speaks HTTP/2 by hand."""
    host, _, port = served.app.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def frame(reader: asyncio.StreamReader) -> int:
    """Read a frame; return its type (RFC 9113, section 4.1)."""
    head = await reader.readexactly(9)
    await reader.readexactly(int.from_bytes(head[:3], "big"))
    return head[3]


async def test_pings_without_calls_are_answered_and_not_punished(served: Served) -> None:
    """A connection without calls may ping, more often than every 10 s too, and is not sent away for it."""
    async with raw_connection(served) as (reader, writer):
        writer.write(PREFACE + EMPTY_SETTINGS + PING * 50)
        seen: list[int] = []
        async with asyncio.timeout(60):
            while seen.count(TYPE_PING) < 50:
                seen.append(await frame(reader))
        assert TYPE_GOAWAY not in seen


async def test_connections_that_say_nothing_hold_up_no_end(serve: Serve) -> None:
    """Connections that were opened and left alone keep neither chats nor the server's end waiting."""
    async with contextlib.AsyncExitStack() as silent, serve() as served:
        for _ in range(50):
            await silent.enter_async_context(raw_connection(served))
        assert kinds(await events_of(served.chat.Chat(chat_request())))[-1] == "finished"
        await served.app.shut_down()
        assert served.log_lines("stopped")


async def test_message_beyond_the_limit_is_refused_with_the_limit(serve: Serve) -> None:
    """A larger message than GetServerInfo tells is RESOURCE_EXHAUSTED with the number and without our details."""
    async with serve({"EP_MAX_RECEIVE_BYTES": "65536"}) as served:
        info = await served.catalog.GetServerInfo(catalog_pb2.GetServerInfoRequest())
        assert info.max_receive_bytes == 65536
        _, error = await failed_stream(served.chat.Chat(chat_request(text="x" * 65536)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "65536" in (error.details() or "")
        assert "grpc-status-details-bin" not in trailers_of(error)
        assert kinds(await events_of(served.chat.Chat(chat_request())))[-1] == "finished"


async def test_message_of_many_mebibytes_is_taken(served: Served) -> None:
    """By default the server takes messages up to 32 MiB."""
    events = await events_of(served.chat.Chat(chat_request([{"text": "taken"}], text="x" * (31 * 1024 * 1024))))
    assert kinds(events)[-1] == "finished"


@pytest.mark.parametrize("size", [30_000, 1_000_000])
async def test_metadata_beyond_the_limit_is_refused_alone(served: Served, size: int) -> None:
    """Metadata beyond 16 KiB fails its own call and no other on the connection."""
    _, error = await failed_stream(served.chat.Chat(chat_request(), metadata=(("x-large", "x" * size),)))
    assert error.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
    assert kinds(await events_of(served.chat.Chat(chat_request())))[-1] == "finished"


METHODS = [
    "ChatService/Chat",
    "ChatService/CompleteChat",
    "ChatService/CountTokens",
    "CatalogService/ListModels",
    "CatalogService/GetModel",
    "CatalogService/GetProviderStatus",
]


@pytest.mark.parametrize(
    "body", [b"\xff\xff garbage", b"\x0a\x50cut", b"\x0a\x02\xff\xfe"], ids=["garbage", "cut", "no UTF-8"]
)
@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_request_are_refused_with_details(served: Served, method: str, body: bytes) -> None:
    """What cannot be parsed is INVALID_ARGUMENT with our details, and tells nothing of the server's inside."""
    path = f"/execution_platform.v1.{method}"
    channel: Any = served.channel
    call = channel.unary_stream(path)(body).read() if method.endswith("/Chat") else channel.unary_unary(path)(body)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), error_info(caught.value).reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
    )
    assert "DecodeError" not in (caught.value.details() or "")


async def test_fault_of_a_handler_is_internal_and_tells_nothing_of_the_inside(serve: Serve) -> None:
    """A bug outside of any chat is INTERNAL with our details and without its text, which is in the log."""

    def missing(_: ProviderConfig) -> str:
        raise KeyError("the inside")

    faulty = dataclasses.replace(BARE, name="faulty", missing=missing, automatic_rank=None)
    async with serve({}, [faulty]) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.catalog.ListProviders(catalog_pb2.ListProvidersRequest())
        assert "the inside" in served.log_lines("rpc_fault")[0]["exception"]
    assert (caught.value.code(), error_info(caught.value).reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "inside" not in str(caught.value)


async def test_a_gzipped_request_is_taken(served: Served) -> None:
    """A caller may compress its request."""
    async with grpc.aio.insecure_channel(served.app.address, compression=grpc.Compression.Gzip) as channel:
        again = Served(served.app, channel, served.log)
        assert kinds(await events_of(again.chat.Chat(chat_request(text="x" * 100_000))))[-1] == "finished"
