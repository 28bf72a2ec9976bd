"""The asynchronous client."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, Unpack

import grpc

from execution_platform.client.aio_costs import AsyncCosts
from execution_platform.client.aio_response import being_cancelled, response
from execution_platform.client.answer import Answer
from execution_platform.client.base import (
    HEALTH_METHOD,
    ClientBase,
    HealthStatus,
    Metadata,
    ModelList,
    health_request,
    health_status,
    models_request,
    personas_request,
)
from execution_platform.client.errors import (
    ExecutionPlatformError,
    TransportError,
    error_from_rpc,
)
from execution_platform.client.fold import Fold
from execution_platform.client.options import ConnectionOptions
from execution_platform.client.reader import EventReader, checked_answer, text_in
from execution_platform.client.requests import ChatFields, Prompt
from execution_platform.v1 import catalog_pb2, catalog_pb2_grpc, chat_pb2, chat_pb2_grpc, cost_pb2_grpc

__all__ = ["AsyncChatStream", "AsyncExecutionPlatformClient", "AsyncTextDeltas"]


class AsyncChatStream:
    """A running chat: iterate over its events, one by one.

    Leaving the `async with` block before the end cancels the chat, and so do `aclose` and cancelling the task that
    waits for the next event. Events that this client does not know are passed over. What iterating raises carries in
    `partial` what had come before.
    """

    def __init__(self, call: grpc.aio.UnaryStreamCall[chat_pb2.ChatRequest, chat_pb2.ChatResponse]) -> None:
        self._call = call
        self._reader = EventReader()
        self._over = False
        self._error: ExecutionPlatformError | None = None

    async def __aenter__(self) -> Self:
        """Return the stream."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the stream."""
        await self.aclose()

    def __aiter__(self) -> Self:
        """Return the stream, which is its own iterator."""
        return self

    async def __anext__(self) -> chat_pb2.ChatEvent:
        """Return the next event.

        Raises:
            ExecutionPlatformError: the chat failed, or the server broke a promise of the stream.
        """
        try:
            while (event := self._reader.next_event()) is None:
                await self._receive()
        except ExecutionPlatformError as error:
            self._error = error
            await self.aclose()
            raise
        return event

    @property
    def fold(self) -> Fold:
        """What the events handed out so far add up to."""
        return self._reader.fold

    def text_deltas(self) -> AsyncTextDeltas:
        """Iterate over the text of the answer only, piece by piece."""
        return AsyncTextDeltas(self)

    async def answer(self) -> Answer:
        """Read what is left and return the whole answer.

        Raises:
            ExecutionPlatformError: the chat failed, or the stream was closed before its end.
        """
        async for _ in self:
            pass
        return self._reader.answer()

    async def aclose(self) -> None:
        """Cancel the chat unless it has ended; may be called again."""
        if not self._over:
            self._over = True
            self._call.cancel()

    async def _receive(self) -> None:
        if self._error is not None:
            raise self._error
        if self._over:
            self._reader.answer()
            raise StopAsyncIteration
        try:
            response = await self._call.read()
        except grpc.RpcError as error:
            self._over = True
            raise error_from_rpc(error, self.fold) from error
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            raise self._reader.closed_early() from None  # another task closed the stream or the client
        if not isinstance(response, chat_pb2.ChatResponse):  # grpc.aio.EOF
            self._over = True
            self._reader.end()
            raise StopAsyncIteration
        self._reader.feed(response)


class AsyncTextDeltas:
    """The text of an answer, piece by piece. It is no generator: left early, it leaves nothing to be closed."""

    def __init__(self, stream: AsyncChatStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> str:
        """Return the next piece."""
        while True:
            if text := text_in(await anext(self._stream)):
                return text


class Stubs:
    """A channel with the stubs over it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.loop = asyncio.get_running_loop()
        self.channel = channel
        self.chat = chat_pb2_grpc.ChatServiceStub(channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        self.costs = cost_pb2_grpc.CostServiceStub(channel)
        self.health: grpc.aio.UnaryUnaryMultiCallable[str, HealthStatus] = channel.unary_unary(
            HEALTH_METHOD, health_request, health_status
        )


class Connection:
    """Makes channel and stubs at the first call, because a channel belongs to the event loop in which it is made."""

    def __init__(self, options: ConnectionOptions, channel: grpc.aio.Channel | None) -> None:
        self._options = options
        self._owned = channel is None
        self._channel = channel
        self._stubs: Stubs | None = None
        self._closed = False

    def stubs(self) -> Stubs:
        """Return the stubs.

        Raises:
            RuntimeError: the connection is closed, or was made in another event loop.
        """
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._stubs is None:
            self._stubs = Stubs(self._channel if self._channel is not None else _channel(self._options))
        if self._stubs.loop is not asyncio.get_running_loop():
            raise RuntimeError("the client is in use in another event loop: make one client for each")
        return self._stubs

    async def close(self) -> None:
        """Close the channel if it was made here; may be called again."""
        self._closed = True
        stubs, self._stubs = self._stubs, None
        if stubs is not None and self._owned:
            await stubs.channel.close(None)


class AsyncExecutionPlatformClient(ClientBase[grpc.aio.Channel]):
    """Talks to a server of Execution Platform, from one event loop.

    Every call takes `timeout` in seconds, which stands for the client's own, and more `metadata`; every call raises
    ExecutionPlatformError, whose tree `execution_platform.client.errors` draws. Cancelling a task cancels its call.

    Attributes:
        costs: the server's ledger.
    """

    costs: AsyncCosts

    def _open(self, channel: grpc.aio.Channel | None) -> None:
        self._connection = Connection(self.options, channel)
        self.costs = AsyncCosts(lambda: self._connection.stubs().costs, self._call, self.chat_request)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, which cancels what still runs; may be called again."""
        await self._connection.close()

    async def wait_until_ready(self, timeout: float) -> None:
        """Wait until the server can be reached.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TransportError: it could not be reached in time.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._connection.stubs().channel.channel_ready()
        except TimeoutError as error:
            raise TransportError(f"{self.options.target} could not be reached within {timeout:g} s") from error

    async def chat(
        self, prompt: Prompt, *, timeout: float | None = None, metadata: Metadata = (), **fields: Unpack[ChatFields]
    ) -> Answer:
        """Ask and return the whole answer.

        Args:
            prompt: text, a message, the conversation so far, or a ready request.
            timeout: seconds that this call may take.
            metadata: more metadata of this call.
            **fields: the request's fields; see `ChatFields`.
        """
        request = chat_pb2.CompleteChatRequest(chat=self.chat_request(prompt, fields))
        stub = self._connection.stubs().chat
        return checked_answer(await response(stub.CompleteChat(request, **self._call(timeout, metadata))))

    def stream(
        self, prompt: Prompt, *, timeout: float | None = None, metadata: Metadata = (), **fields: Unpack[ChatFields]
    ) -> AsyncChatStream:
        """Ask and return the stream of the answer; use it in an `async with` block. Arguments as of `chat`."""
        request = self.chat_request(prompt, fields)
        return AsyncChatStream(self._connection.stubs().chat.Chat(request, **self._call(timeout, metadata)))

    async def count_tokens(
        self, prompt: Prompt, *, timeout: float | None = None, metadata: Metadata = (), **fields: Unpack[ChatFields]
    ) -> chat_pb2.CountTokensResponse:
        """Count the input tokens of a chat without running it. Arguments as of `chat`."""
        request = chat_pb2.CountTokensRequest(chat=self.chat_request(prompt, fields))
        return await response(self._connection.stubs().chat.CountTokens(request, **self._call(timeout, metadata)))

    async def models(self, provider: str = "", *, timeout: float | None = None, metadata: Metadata = ()) -> ModelList:
        """List all models, or those of one provider."""
        found, token = ModelList(), ""
        while True:
            request = models_request(provider, token)
            page = await response(self._connection.stubs().catalog.ListModels(request, **self._call(timeout, metadata)))
            found, token = found.with_page(page), page.next_page_token
            if not token:
                return found

    async def model(self, name: str, *, timeout: float | None = None, metadata: Metadata = ()) -> catalog_pb2.Model:
        """Return one model, given as ``provider/model`` or an alias."""
        request = catalog_pb2.GetModelRequest(name=name)
        return (
            await response(self._connection.stubs().catalog.GetModel(request, **self._call(timeout, metadata)))
        ).model

    async def providers(self, *, timeout: float | None = None, metadata: Metadata = ()) -> list[catalog_pb2.Provider]:
        """List all providers, configured or not."""
        request = catalog_pb2.ListProvidersRequest()
        stub = self._connection.stubs().catalog
        return list((await response(stub.ListProviders(request, **self._call(timeout, metadata)))).providers)

    async def provider_status(
        self, provider: str, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> catalog_pb2.GetProviderStatusResponse:
        """Tell how a provider has answered lately."""
        request = catalog_pb2.GetProviderStatusRequest(provider=provider)
        stub = self._connection.stubs().catalog
        return await response(stub.GetProviderStatus(request, **self._call(timeout, metadata)))

    async def list_personas(
        self, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> list[catalog_pb2.Persona]:
        """List the personas of the server's configuration, by name."""
        found: list[catalog_pb2.Persona] = []
        token = ""
        while True:
            stub = self._connection.stubs().catalog
            page = await response(stub.ListPersonas(personas_request(token), **self._call(timeout, metadata)))
            found.extend(page.personas)
            token = page.next_page_token
            if not token:
                return found

    async def get_persona(
        self, name: str, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> catalog_pb2.Persona:
        """Return one persona."""
        request = catalog_pb2.GetPersonaRequest(name=name)
        stub = self._connection.stubs().catalog
        return (await response(stub.GetPersona(request, **self._call(timeout, metadata)))).persona

    async def explain_route(
        self,
        prompt: Prompt = (),
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
        **fields: Unpack[ChatFields],
    ) -> catalog_pb2.ExplainRouteResponse:
        """Tell where a chat would go now and why; asks no provider. Arguments as of `chat`; the prompt may be left out.

        Where no route is left the response's `error` says why.
        """
        request = self.route_request(prompt, fields)
        return await response(self._connection.stubs().catalog.ExplainRoute(request, **self._call(timeout, metadata)))

    async def server_info(
        self, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> catalog_pb2.GetServerInfoResponse:
        """Tell about the server."""
        request = catalog_pb2.GetServerInfoRequest()
        return await response(self._connection.stubs().catalog.GetServerInfo(request, **self._call(timeout, metadata)))

    async def health(self, service: str = "", *, timeout: float | None = None, metadata: Metadata = ()) -> HealthStatus:
        """Tell whether the server, or one of its services by full name, serves."""
        return await response(self._connection.stubs().health(service, **self._call(timeout, metadata)))


def _channel(options: ConnectionOptions) -> grpc.aio.Channel:
    arguments, credentials = options.channel_arguments(), options.credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(options.target, arguments)
    return grpc.aio.secure_channel(options.target, credentials, arguments)
