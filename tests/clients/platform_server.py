# ruff: noqa: N802 - RPC names are the contract's
"""A server of the contract whose answers a test writes: real sockets, no provider."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tests.clients.cost_server import CostBook

from execution_platform.client import Fold
from execution_platform.v1 import (
    capability_pb2,
    catalog_pb2,
    catalog_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    content_pb2,
    cost_pb2_grpc,
    error_pb2,
    usage_pb2,
)

Answering = Callable[[chat_pb2.ChatRequest, Any], Iterable[list[chat_pb2.ChatEvent]]]

SECONDS = 20.0
"""How long a test waits for what must come, before it counts as missing."""


class Platform(chat_pb2_grpc.ChatServiceServicer, catalog_pb2_grpc.CatalogServiceServicer):
    """Both services. Set `answering` to decide what a chat says: lists of events, each sent as one message."""

    def __init__(self) -> None:
        self.answering: Answering = lambda request, _: [spoken(echo(request))]
        self.requests: list[Message] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.time_remaining: list[float | None] = []
        self.arrived = threading.Event()
        self.ended = threading.Event()
        self.health = health.HealthServicer()
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        self.models = [f"scripted/model-{number:04}" for number in range(3)]
        self.failing: Callable[[Any], NoReturn] | None = None
        self.costs = CostBook()

    def Chat(self, request: chat_pb2.ChatRequest, context: Any) -> Iterator[chat_pb2.ChatResponse]:
        """Stream what the test says."""
        self._note(request, context)
        context.add_callback(self.ended.set)
        context.send_initial_metadata((("x-request-id", "from-metadata"),))
        sequence = 0
        for events in self.answering(request, context):
            for event in events:
                sequence += 1
                event.sequence = event.sequence or sequence
            yield chat_pb2.ChatResponse(events=events)

    def CompleteChat(self, request: chat_pb2.CompleteChatRequest, context: Any) -> chat_pb2.CompleteChatResponse:
        """Answer with the fold of what the test says."""
        self._note(request, context)
        fold = Fold()
        for events in self.answering(request.chat, context):
            fold.add_all(events)
        return fold.response

    def CountTokens(self, request: chat_pb2.CountTokensRequest, context: Any) -> chat_pb2.CountTokensResponse:
        """Count the characters of what was said."""
        self._note(request, context)
        return chat_pb2.CountTokensResponse(input_tokens=len(echo(request.chat)))

    def ListModels(self, request: catalog_pb2.ListModelsRequest, context: Any) -> catalog_pb2.ListModelsResponse:
        """Answer with two models a page, and a failure on the first."""
        self._note(request, context)
        start = int(request.page_token or 0)
        names = [name for name in self.models if name.startswith(request.provider)]
        return catalog_pb2.ListModelsResponse(
            models=[catalog_pb2.Model(name=name, context_window=4096) for name in names[start : start + 2]],
            next_page_token=str(start + 2) if start + 2 < len(names) else "",
            errors=[] if start else [error_pb2.ErrorDetail(provider="broken", message="it did not answer")],
        )

    def GetModel(self, request: catalog_pb2.GetModelRequest, context: Any) -> catalog_pb2.GetModelResponse:
        """Answer if it is one of the models."""
        self._note(request, context)
        if request.name not in self.models:
            abort(context, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", f"no model {request.name}")
        return catalog_pb2.GetModelResponse(model=catalog_pb2.Model(name=request.name))

    def ListProviders(
        self, request: catalog_pb2.ListProvidersRequest, context: Any
    ) -> catalog_pb2.ListProvidersResponse:
        """Answer with one that can be used and one that cannot."""
        self._note(request, context)
        usable = catalog_pb2.Provider(name="scripted", configured=True, default_model="model-0000")
        return catalog_pb2.ListProvidersResponse(
            providers=[usable, catalog_pb2.Provider(name="other", missing="EP_OTHER_API_KEY")]
        )

    def GetProviderStatus(
        self, request: catalog_pb2.GetProviderStatusRequest, context: Any
    ) -> catalog_pb2.GetProviderStatusResponse:
        """Answer that it is healthy."""
        self._note(request, context)
        status = catalog_pb2.GetProviderStatusResponse(
            provider=request.provider, state=catalog_pb2.PROVIDER_STATE_HEALTHY, finished_chats=7
        )
        status.last_success_time.FromSeconds(1)
        broken = status.circuits.add(model="m1", state=catalog_pb2.CIRCUIT_STATE_OPEN, consecutive_failures=5)
        broken.probe_time.FromSeconds(2)
        status.circuits.add(model="m2", state=catalog_pb2.CIRCUIT_STATE_CLOSED, consecutive_failures=1)
        return status

    def ListPersonas(self, request: catalog_pb2.ListPersonasRequest, context: Any) -> catalog_pb2.ListPersonasResponse:
        """Answer with two personas, one on each page."""
        self._note(request, context)
        name, token = ("writer", "") if request.page_token else ("reviewer", "writer")
        return catalog_pb2.ListPersonasResponse(personas=[persona(name)], next_page_token=token)

    def GetPersona(self, request: catalog_pb2.GetPersonaRequest, context: Any) -> catalog_pb2.GetPersonaResponse:
        """Answer with a persona of that name, unless it is called nobody."""
        self._note(request, context)
        if request.name == "nobody":
            abort(context, grpc.StatusCode.NOT_FOUND, "PERSONA_NOT_FOUND", "name: no 'nobody'")
        return catalog_pb2.GetPersonaResponse(persona=persona(request.name))

    def ExplainRoute(self, request: catalog_pb2.ExplainRouteRequest, context: Any) -> catalog_pb2.ExplainRouteResponse:
        """Answer with one that is asked and one that is not; with nobody for the persona `nobody`."""
        self._note(request, context)
        response = catalog_pb2.ExplainRouteResponse(
            persona=request.chat.persona,
            strategy=catalog_pb2.ROUTE_STRATEGY_LOWEST_LATENCY,
            decided_by=f"persona {request.chat.persona}",
        )
        response.first_token_timeout.FromMilliseconds(1_500)
        asked = response.candidates.add(verdict=catalog_pb2.ROUTE_VERDICT_CHOSEN, position=1, reasons=["it is first"])
        asked.route.MergeFrom(chat_pb2.Route(provider="scripted", model="a", region="eu"))
        other = response.candidates.add(verdict=catalog_pb2.ROUTE_VERDICT_NOT_CONFIGURED, reasons=["no key", "set it"])
        other.route.provider = "openai"
        if request.chat.persona == "nobody":
            response.candidates[0].position = 0
            response.error.reason = error_pb2.ERROR_REASON_NOT_ALLOWED
            response.error.message = "no route is allowed"
        return response

    def GetServerInfo(
        self, request: catalog_pb2.GetServerInfoRequest, context: Any
    ) -> catalog_pb2.GetServerInfoResponse:
        """Answer with made-up versions."""
        self._note(request, context)
        return catalog_pb2.GetServerInfoResponse(version="9.8.7", contract_version="1.0")

    def _note(self, request: Message, context: Any) -> None:
        self.requests.append(request)
        self.arrived.set()
        self.metadata.append(dict(context.invocation_metadata()))
        self.time_remaining.append(context.time_remaining())
        if self.failing is not None:
            self.failing(context)


@contextmanager
def serving(
    platform: Platform, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> Iterator[str]:
    """Serve, and yield the target."""
    server = grpc.server(
        ThreadPoolExecutor(8),
        # As strict as the contract's server: more pings than one in 10 s would end the connection.
        options=[("grpc.http2.min_ping_interval_without_data_ms", 10_000), ("grpc.keepalive_permit_without_calls", 1)],
    )
    chat_pb2_grpc.add_ChatServiceServicer_to_server(platform, server)
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(platform, server)
    cost_pb2_grpc.add_CostServiceServicer_to_server(platform.costs, server)
    health_pb2_grpc.add_HealthServicer_to_server(platform.health, server)
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    server.start()
    try:
        yield address if address.startswith("unix:") else f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(SECONDS)


def persona(name: str) -> catalog_pb2.Persona:
    """Return a persona with everything that is shown."""
    made = catalog_pb2.Persona(
        name=name,
        description="Reads code.",
        models=["scripted/a", "openai/b"],
        strategy=catalog_pb2.ROUTE_STRATEGY_STICKY,
        required_capabilities=[capability_pb2.CAPABILITY_PARALLEL_TOOLS],
        tools=["read_*"],
        allowed_providers=["scripted"],
        allowed_regions=["eu"],
        labels={"team": "blue"},
        mid_stream=chat_pb2.MID_STREAM_POLICY_RESTART,
        source="personas.yaml:3",
        definition_json='{"provider": "scripted"}',
    )
    made.limits.MergeFrom(catalog_pb2.Limits(requests_per_min=5, tokens_per_min=6, concurrent=7))
    made.limits.cost_per_min.MergeFrom(common_pb2.Money(currency_code="USD", nanos=250_000_000))
    return made


def echo(request: chat_pb2.ChatRequest) -> str:
    """Return what was said last."""
    return "".join(block.text.text for block in request.messages[-1].content)


def spoken(
    *pieces: str, reason: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_STOP
) -> list[chat_pb2.ChatEvent]:
    """Return the events of a whole answer of one text block."""
    return [
        started(),
        opened(content_pb2.ContentBlock(text=content_pb2.TextBlock())),
        *texts(*pieces),
        finished(reason),
    ]


def started(request_id: str = "request-1") -> chat_pb2.ChatEvent:
    """Return the first event."""
    route = chat_pb2.Route(provider="scripted", model="model-0000")
    return chat_pb2.ChatEvent(started=chat_pb2.Started(request_id=request_id, route=route))


def opened(block: content_pb2.ContentBlock) -> chat_pb2.ChatEvent:
    """Return the start of a block."""
    return chat_pb2.ChatEvent(block_started=chat_pb2.BlockStarted(block=block))


def texts(*pieces: str, index: int = 0) -> list[chat_pb2.ChatEvent]:
    """Return deltas of a text block."""
    return [chat_pb2.ChatEvent(block_delta=chat_pb2.BlockDelta(index=index, text=piece)) for piece in pieces]


def used(quantity: int = 3) -> usage_pb2.Usage:
    """Return a usage."""
    item = usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_OUTPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=quantity)
    return usage_pb2.Usage(items=[item])


def finished(reason: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_STOP) -> chat_pb2.ChatEvent:
    """Return the end of an answer."""
    route = chat_pb2.Route(provider="scripted", model="model-0000")
    return chat_pb2.ChatEvent(finished=chat_pb2.Finished(reason=reason, usage=used(), route=route))


def failed(detail: error_pb2.ErrorDetail) -> chat_pb2.ChatEvent:
    """Return the end of a chat that failed."""
    return chat_pb2.ChatEvent(failed=chat_pb2.Failed(error=detail, usage=used(2)))


def status_of(code: grpc.StatusCode, message: str, *details: Message) -> bytes:
    """Return a google.rpc.Status, serialized."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def abort(
    context: Any, code: grpc.StatusCode, reason: str, message: str, *details: Message, **metadata: str
) -> NoReturn:
    """End a call as the contract's server does."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="execution-platform", metadata=metadata)
    said = f"{reason}: {message}"
    context.set_trailing_metadata((("grpc-status-details-bin", status_of(code, said, info, *details)),))
    context.abort(code, said)
    raise AssertionError("abort returns never")


def endless(context: Any) -> Iterator[list[chat_pb2.ChatEvent]]:
    """Yield a first piece of an answer, and then nothing until the call has ended."""
    over = threading.Event()
    context.add_callback(over.set)
    yield [started(), opened(content_pb2.ContentBlock(text=content_pb2.TextBlock())), *texts("first")]
    over.wait(SECONDS)
