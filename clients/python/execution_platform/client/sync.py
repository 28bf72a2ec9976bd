"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self, Unpack, cast

import grpc

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
from execution_platform.client.costs import Costs
from execution_platform.client.errors import ExecutionPlatformError, TransportError, error_from_rpc, raising_ours
from execution_platform.client.fold import Fold
from execution_platform.client.options import ConnectionOptions
from execution_platform.client.reader import EventReader, checked_answer, text_in
from execution_platform.client.requests import ChatFields, Prompt
from execution_platform.v1 import catalog_pb2, catalog_pb2_grpc, chat_pb2, chat_pb2_grpc

__all__ = ["ChatStream", "ExecutionPlatformClient"]


class ResponseCall(Protocol):
    """What a stream needs of a gRPC call."""

    def __next__(self) -> chat_pb2.ChatResponse:
        """Wait for the next message."""

    def cancel(self) -> object:
        """End the call."""


class ChatStream:
    """A running chat: iterate over its events, one by one.

    Leaving the `with` block before the end cancels the chat, and so does `close`. Events that this client does not
    know are passed over. What iterating raises carries in `partial` what had come before.
    """

    def __init__(self, call: ResponseCall) -> None:
        self._call = call
        self._reader = EventReader()
        self._over = False
        self._error: ExecutionPlatformError | None = None

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the stream."""
        self.close()

    def __iter__(self) -> Self:
        """Return the stream, which is its own iterator."""
        return self

    def __next__(self) -> chat_pb2.ChatEvent:
        """Return the next event.

        Raises:
            ExecutionPlatformError: the chat failed, or the server broke a promise of the stream.
        """
        try:
            while (event := self._reader.next_event()) is None:
                self._receive()
        except ExecutionPlatformError as error:
            self._error = error
            self.close()
            raise
        return event

    @property
    def fold(self) -> Fold:
        """What the events handed out so far add up to."""
        return self._reader.fold

    def text_deltas(self) -> Iterator[str]:
        """Iterate over the text of the answer only, piece by piece."""
        return filter(None, map(text_in, self))

    def answer(self) -> Answer:
        """Read what is left and return the whole answer.

        Raises:
            ExecutionPlatformError: the chat failed, or the stream was closed before its end.
        """
        for _ in self:
            pass
        return self._reader.answer()

    def close(self) -> None:
        """Cancel the chat unless it has ended; may be called again."""
        if not self._over:
            self._over = True
            self._call.cancel()

    def _receive(self) -> None:
        if self._error is not None:
            raise self._error
        if self._over:
            self._reader.answer()
            raise StopIteration
        try:
            self._reader.feed(next(self._call))
        except StopIteration:
            self._over = True
            self._reader.end()
            raise
        except grpc.RpcError as error:
            self._over = True
            raise error_from_rpc(error, self.fold) from error


class Connection:
    """A channel with the stubs over it."""

    def __init__(self, options: ConnectionOptions, channel: grpc.Channel | None) -> None:
        self._owned = channel is None
        self.channel = channel if channel is not None else _channel(options)
        self.chat = chat_pb2_grpc.ChatServiceStub(self.channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        self.health: grpc.UnaryUnaryMultiCallable[str, HealthStatus] = self.channel.unary_unary(
            HEALTH_METHOD, health_request, health_status
        )

    def close(self) -> None:
        """Close the channel if it was made here; may be called again."""
        if self._owned:
            self.channel.close()


class ExecutionPlatformClient(ClientBase[grpc.Channel]):
    """Talks to a server of Execution Platform. May be used by several threads at once.

    Every call takes `timeout` in seconds, which stands for the client's own, and more `metadata`; every call raises
    ExecutionPlatformError, whose tree `execution_platform.client.errors` draws.

    Attributes:
        costs: the server's ledger.
    """

    costs: Costs

    def _open(self, channel: grpc.Channel | None) -> None:
        self._connection = Connection(self.options, channel)
        self.costs = Costs(self._connection.channel, self._call, self.chat_request)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Close the connection, which cancels what still runs; may be called again."""
        self._connection.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until the server can be reached.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TransportError: it could not be reached in time.
        """
        ready = grpc.channel_ready_future(self._connection.channel)
        try:
            ready.result(timeout)
        except grpc.FutureTimeoutError as error:
            raise TransportError(f"{self.options.target} could not be reached within {timeout:g} s") from error
        finally:
            ready.cancel()

    def chat(
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
        with raising_ours():
            return checked_answer(self._connection.chat.CompleteChat(request, **self._call(timeout, metadata)))

    def stream(
        self, prompt: Prompt, *, timeout: float | None = None, metadata: Metadata = (), **fields: Unpack[ChatFields]
    ) -> ChatStream:
        """Ask and return the stream of the answer; use it in a `with` block. Arguments as of `chat`."""
        request = self.chat_request(prompt, fields)
        with raising_ours():
            call = self._connection.chat.Chat(request, **self._call(timeout, metadata))
        return ChatStream(cast("ResponseCall", call))

    def count_tokens(
        self, prompt: Prompt, *, timeout: float | None = None, metadata: Metadata = (), **fields: Unpack[ChatFields]
    ) -> chat_pb2.CountTokensResponse:
        """Count the input tokens of a chat without running it. Arguments as of `chat`."""
        request = chat_pb2.CountTokensRequest(chat=self.chat_request(prompt, fields))
        with raising_ours():
            return self._connection.chat.CountTokens(request, **self._call(timeout, metadata))

    def models(self, provider: str = "", *, timeout: float | None = None, metadata: Metadata = ()) -> ModelList:
        """List all models, or those of one provider."""
        found, token = ModelList(), ""
        while True:
            request = models_request(provider, token)
            with raising_ours():
                page = self._connection.catalog.ListModels(request, **self._call(timeout, metadata))
            found, token = found.with_page(page), page.next_page_token
            if not token:
                return found

    def model(self, name: str, *, timeout: float | None = None, metadata: Metadata = ()) -> catalog_pb2.Model:
        """Return one model, given as ``provider/model`` or an alias."""
        request = catalog_pb2.GetModelRequest(name=name)
        with raising_ours():
            return self._connection.catalog.GetModel(request, **self._call(timeout, metadata)).model

    def providers(self, *, timeout: float | None = None, metadata: Metadata = ()) -> list[catalog_pb2.Provider]:
        """List all providers, configured or not."""
        request = catalog_pb2.ListProvidersRequest()
        with raising_ours():
            return list(self._connection.catalog.ListProviders(request, **self._call(timeout, metadata)).providers)

    def provider_status(
        self, provider: str, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> catalog_pb2.GetProviderStatusResponse:
        """Tell how a provider has answered lately."""
        request = catalog_pb2.GetProviderStatusRequest(provider=provider)
        with raising_ours():
            return self._connection.catalog.GetProviderStatus(request, **self._call(timeout, metadata))

    def list_personas(self, *, timeout: float | None = None, metadata: Metadata = ()) -> list[catalog_pb2.Persona]:
        """List the personas of the server's configuration, by name."""
        found: list[catalog_pb2.Persona] = []
        token = ""
        while True:
            request = personas_request(token)
            with raising_ours():
                page = self._connection.catalog.ListPersonas(request, **self._call(timeout, metadata))
            found.extend(page.personas)
            token = page.next_page_token
            if not token:
                return found

    def get_persona(self, name: str, *, timeout: float | None = None, metadata: Metadata = ()) -> catalog_pb2.Persona:
        """Return one persona."""
        request = catalog_pb2.GetPersonaRequest(name=name)
        with raising_ours():
            return self._connection.catalog.GetPersona(request, **self._call(timeout, metadata)).persona

    def explain_route(
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
        with raising_ours():
            return self._connection.catalog.ExplainRoute(request, **self._call(timeout, metadata))

    def server_info(
        self, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> catalog_pb2.GetServerInfoResponse:
        """Tell about the server."""
        request = catalog_pb2.GetServerInfoRequest()
        with raising_ours():
            return self._connection.catalog.GetServerInfo(request, **self._call(timeout, metadata))

    def health(self, service: str = "", *, timeout: float | None = None, metadata: Metadata = ()) -> HealthStatus:
        """Tell whether the server, or one of its services by full name, serves."""
        with raising_ours():
            return self._connection.health(service, **self._call(timeout, metadata))


def _channel(options: ConnectionOptions) -> grpc.Channel:
    arguments, credentials = options.channel_arguments(), options.credentials()
    if credentials is None:
        return grpc.insecure_channel(options.target, arguments)
    return grpc.secure_channel(options.target, credentials, arguments)
