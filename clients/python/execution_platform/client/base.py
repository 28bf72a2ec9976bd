"""What both clients share: how they are made, what they fill in, and what has no need to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Self, TypedDict, TypeVar

import grpc

from execution_platform.client import protowire
from execution_platform.client.options import (
    DEFAULT_TARGET,
    MAX_RECEIVE_BYTES,
    MAX_SEND_BYTES,
    ConnectionOptions,
    Tls,
)
from execution_platform.client.requests import ChatFields, Defaults, Prompt, build_request
from execution_platform.v1 import catalog_pb2, chat_pb2, error_pb2

__all__ = [
    "HEALTH_METHOD",
    "CallArguments",
    "ClientBase",
    "HealthStatus",
    "Metadata",
    "ModelList",
    "health_request",
    "health_status",
    "models_request",
    "personas_request",
]

Metadata = Iterable[tuple[str, str | bytes]]

HEALTH_METHOD = "/grpc.health.v1.Health/Check"

_PAGE = 1000


class HealthStatus(StrEnum):
    """What a server says of a service, by grpc.health.v1."""

    UNKNOWN = "UNKNOWN"
    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"


@dataclass(frozen=True, slots=True)
class ModelList:
    """The models that a server offers.

    Attributes:
        models: the models, by name.
        errors: providers that were asked and did not answer.
    """

    models: tuple[catalog_pb2.Model, ...] = ()
    errors: tuple[error_pb2.ErrorDetail, ...] = ()

    def __iter__(self) -> Iterator[catalog_pb2.Model]:
        """Iterate over the models."""
        return iter(self.models)

    def __len__(self) -> int:
        """Count the models."""
        return len(self.models)

    def with_page(self, page: catalog_pb2.ListModelsResponse) -> ModelList:
        """Return this list with the next page behind it."""
        return ModelList((*self.models, *page.models), (*self.errors, *page.errors))


class CallArguments(TypedDict):
    """The keyword arguments that every call of a stub takes."""

    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...]


ChannelT = TypeVar("ChannelT", grpc.Channel, grpc.aio.Channel)


class ClientBase(Generic[ChannelT]):
    """How a client is made; see `ConnectionOptions` for everything that concerns the connection."""

    def __init__(  # noqa: PLR0913 - what a caller may say of a client, by keyword
        self,
        target: str = DEFAULT_TARGET,
        *,
        model: str = "",
        provider: str = "",
        persona: str = "",
        timeout: float | None = None,
        tls: bool | Tls = False,
        token: str | Callable[[], str] | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
        max_receive_bytes: int = MAX_RECEIVE_BYTES,
        max_send_bytes: int = MAX_SEND_BYTES,
        channel_options: Sequence[tuple[str, Any]] = (),
        channel: ChannelT | None = None,
    ) -> None:
        """Make a client; nothing is sent before the first call.

        Args:
            target: ``host:port``, ``unix:/path`` or ``unix:///path``.
            model: model of every chat that names neither model nor provider.
            provider: provider that this model is of; without a model: whose default model answers.
            persona: who asks, in every chat that does not say.
            timeout: seconds that a call may take; None: the server's default.
            tls: True, or a Tls that says more: the connection is encrypted.
            token: bearer token, or what gives one at each call.
            metadata: more metadata of every call.
            max_receive_bytes: largest message taken.
            max_send_bytes: largest message sent.
            channel_options: more gRPC channel arguments.
            channel: a channel that the caller made and closes, for interceptors and tests; nothing that concerns the
                connection is looked at then.

        Raises:
            TargetError: the target names no server.
            ValueError: a token would travel unencrypted to another machine.
        """
        self.options = ConnectionOptions(
            target=target,
            tls=tls,
            token=token,
            metadata=dict(metadata or {}),
            timeout=timeout,
            max_receive_bytes=max_receive_bytes,
            max_send_bytes=max_send_bytes,
            channel_options=tuple(channel_options),
        )
        self.defaults = Defaults(model, provider, persona)
        self._open(channel)

    def _open(self, channel: ChannelT | None) -> None:
        """Prepare the connection over this channel, or one to be made by the options."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return the target and the defaults; never a credential."""
        return f"{type(self).__name__}({self.options.target!r}, {self.defaults!r})"

    def with_defaults(self, *, model: str = "", provider: str = "", persona: str = "") -> Self:
        """Return a client over the same connection that fills in these; what is left out stays as it is here."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        named = model or provider
        other.defaults = Defaults(
            model if named else self.defaults.model,
            provider if named else self.defaults.provider,
            persona or self.defaults.persona,
        )
        return other

    def chat_request(self, prompt: Prompt, fields: ChatFields) -> chat_pb2.ChatRequest:
        """Return the request that `chat` and `stream` send."""
        return build_request(prompt, fields, self.defaults)

    def route_request(self, prompt: Prompt, fields: ChatFields) -> catalog_pb2.ExplainRouteRequest:
        """Return the request that `explain_route` sends."""
        return catalog_pb2.ExplainRouteRequest(chat=self.chat_request(prompt, fields))

    def _call(self, timeout: float | None, metadata: Metadata) -> CallArguments:
        timeout = timeout if timeout is not None else self.options.timeout
        return {"timeout": timeout, "metadata": self.options.call_metadata(metadata)}


def models_request(provider: str, page_token: str) -> catalog_pb2.ListModelsRequest:
    """Return the request for a page of models."""
    return catalog_pb2.ListModelsRequest(provider=provider, page_size=_PAGE, page_token=page_token)


def personas_request(page_token: str) -> catalog_pb2.ListPersonasRequest:
    """Return the request for a page of personas."""
    return catalog_pb2.ListPersonasRequest(page_size=_PAGE, page_token=page_token)


def health_request(service: str) -> bytes:
    """Return a HealthCheckRequest, encoded."""
    return protowire.bytes_field(1, service.encode()) if service else b""


def health_status(response: bytes) -> HealthStatus:
    """Return what a HealthCheckResponse says; a status that is not known counts as UNKNOWN."""
    number = next((value for field, value in reversed(list(protowire.fields(response))) if field == 1), 0)
    known = list(HealthStatus)
    return known[number] if isinstance(number, int) and number < len(known) else HealthStatus.UNKNOWN
