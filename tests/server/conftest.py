"""A server in this process, on a real socket, with the scripted provider and whatever a test adds."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from execution_platform.adapters import scripted
from execution_platform.adapters.registry import Registry
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import ProviderSpec
from execution_platform.server.app import App
from execution_platform.server.config.load import load
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.config.source import PlatformSource
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import catalog_pb2_grpc, chat_pb2, chat_pb2_grpc, content_pb2, cost_pb2_grpc


@dataclass
class Served:
    """A running server and the means to talk to it."""

    app: App
    channel: grpc.aio.Channel
    log: io.StringIO

    @property
    def chat(self) -> chat_pb2_grpc.ChatServiceAsyncStub:
        """The chat service."""
        return chat_pb2_grpc.ChatServiceStub(self.channel)

    @property
    def costs(self) -> cost_pb2_grpc.CostServiceAsyncStub:
        """The cost service."""
        return cost_pb2_grpc.CostServiceStub(self.channel)

    @property
    def catalog(self) -> catalog_pb2_grpc.CatalogServiceAsyncStub:
        """The catalog service."""
        return catalog_pb2_grpc.CatalogServiceStub(self.channel)

    async def health(self, service: str = "") -> int:
        """What the health check says of a service."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))  # type: ignore[attr-defined]  # lacking in its stubs
        return int(answer.status)

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        """The logged lines of one event."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


#: What tests of everything else run with: a failure is told at once.
ONE_ATTEMPT: Mapping[str, Any] = {"defaults": {"retries": {"most": 0}}}

Serve = Callable[..., contextlib.AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve() -> Serve:
    """How a test makes servers of its own, given variables, further providers and a configuration of routes."""

    @contextlib.asynccontextmanager
    async def make(
        environ: Mapping[str, str] | None = None,
        specs: Sequence[ProviderSpec] = (),
        platform: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Served]:
        registry = Registry([*scripted.PROVIDERS, *specs])
        configuration = load(registry.specs(), {"EP_LISTEN": "127.0.0.1:0", "EP_LEDGER": "off", **(environ or {})})
        if not configuration.platform.files:
            source = PlatformSource(PlatformConfiguration.model_validate(ONE_ATTEMPT if platform is None else platform))
            configuration = dataclasses.replace(configuration, platform=source)
        log = io.StringIO()
        app = App(configuration, registry, make_logger("info", "json", log))
        async with app.serving(), grpc.aio.insecure_channel(app.address) as channel:
            yield Served(app, channel, log)

    return make


@pytest.fixture
async def served(serve: Serve) -> AsyncIterator[Served]:
    """A server with the scripted provider only."""
    async with serve() as one:
        yield one


def chat_request(
    script: Sequence[object] | None = None, text: str = "Hi", model: str = "scripted", **fields: Any
) -> chat_pb2.ChatRequest:
    """A chat with one message; with a script, the scripted provider plays it."""
    request = chat_pb2.ChatRequest(model=model, **fields)
    request.messages.append(user(text))
    if script is not None:
        request.provider_options.add(provider="scripted", options_json=json.dumps({"script": list(script)}))
    return request


def user(text: str) -> content_pb2.Message:
    """What a user says."""
    block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=text))
    return content_pb2.Message(role=content_pb2.ROLE_USER, content=[block])


async def events_of(call: Any) -> list[chat_pb2.ChatEvent]:
    """All events of a stream that ends well."""
    return [event async for response in call for event in response.events]


async def failed_stream(call: Any) -> tuple[list[chat_pb2.ChatEvent], grpc.aio.AioRpcError]:
    """All events of a stream that fails, and its status."""
    events: list[chat_pb2.ChatEvent] = []
    try:
        async for response in call:
            events.extend(response.events)
    except grpc.aio.AioRpcError as error:
        return events, error
    pytest.fail(f"the stream ended well: {kinds(events)}")


def kinds(events: Sequence[chat_pb2.ChatEvent]) -> list[str | None]:
    """What kinds of events they are."""
    return [event.WhichOneof("event") for event in events]


def trailers_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The trailing metadata of a failed call."""
    return dict(error.trailing_metadata() or ())


def details_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The google.rpc.Status of a failed call."""
    return status_pb2.Status.FromString(trailers_of(error)["grpc-status-details-bin"])


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failed call, which is always its first detail."""
    info = error_details_pb2.ErrorInfo()
    assert details_of(error).details[0].Unpack(info)
    return info


def open_streams(served: Served) -> int:
    """How many streams the scripted provider has open."""
    adapter = served.app.providers.adapter("scripted")
    assert isinstance(adapter, ScriptedAdapter)
    return adapter.open_streams


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds. The limit only keeps a failing run from hanging."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for is a state, not an event
            await asyncio.sleep(0.005)
