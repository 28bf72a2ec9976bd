"""A caller of the server: the generated stubs over a channel, and all that a call tells."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.processes import PATIENCE

from execution_platform.client.fold import Fold
from execution_platform.v1 import catalog_pb2, catalog_pb2_grpc, chat_pb2, chat_pb2_grpc, content_pb2

M = TypeVar("M", bound=Message)

WEATHER = chat_pb2.Tool(
    function=chat_pb2.FunctionTool(
        name="get_weather",
        description="tells the weather of a city",
        parameters_json='{"type":"object","properties":{"city":{"type":"string","maxLength":20}},"required":["city"]}',
    )
)


def user(text: str) -> content_pb2.Message:
    """Return a message of the user."""
    block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=text))
    return content_pb2.Message(role=content_pb2.ROLE_USER, content=[block])


def results(calls: Sequence[content_pb2.ToolCallBlock], *texts: str) -> content_pb2.Message:
    """Return the message that answers tool calls."""
    message = content_pb2.Message(role=content_pb2.ROLE_USER)
    for call, text in zip(calls, texts, strict=True):
        told = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=text))
        result = content_pb2.ToolResultBlock(call_id=call.call_id, name=call.name, content=[told])
        message.content.append(content_pb2.ContentBlock(tool_result=result))
    return message


def tool_calls(message: content_pb2.Message) -> list[content_pb2.ToolCallBlock]:
    """Return the tool calls of an answer."""
    return [block.tool_call for block in message.content if block.HasField("tool_call")]


def chat(model: str, text: str, **fields: Any) -> chat_pb2.ChatRequest:
    """Return a request with one message of the user; `sampling.max_output_tokens` is set, as Anthropic wants it."""
    request = chat_pb2.ChatRequest(model=model, messages=[user(text)], **fields)
    if not request.sampling.HasField("max_output_tokens"):
        request.sampling.max_output_tokens = 4096
    return request


def scripted(*steps: dict[str, Any], **fields: Any) -> chat_pb2.ChatRequest:
    """Return a request that brings its own answer for the scripted provider."""
    options = chat_pb2.ProviderOptions(provider="scripted", options_json=json.dumps({"script": list(steps)}))
    return chat("scripted/echo", "play", provider_options=[options], **fields)


@dataclass(slots=True)
class Heard:
    """All that one call told."""

    code: grpc.StatusCode
    message: str
    trailing: dict[str, str | bytes]
    initial: dict[str, str | bytes]
    events: list[chat_pb2.ChatEvent] = field(default_factory=list)

    @property
    def fold(self) -> chat_pb2.CompleteChatResponse:
        fold = Fold()
        fold.add_all(self.events)
        return fold.response

    @property
    def text(self) -> str:
        return "".join(block.text.text for block in self.fold.message.content if block.HasField("text"))

    @property
    def kinds(self) -> list[str | None]:
        return [event.WhichOneof("event") for event in self.events]

    @property
    def failed(self) -> chat_pb2.Failed:
        assert self.kinds[-1] == "failed", self.kinds
        return self.events[-1].failed

    def detail(self, kind: type[M]) -> M:
        """Return the status's detail of a kind; fail if there is none."""
        packed = self.trailing.get("grpc-status-details-bin")
        assert isinstance(packed, bytes), f"no details: {self.code} {self.message}"
        found = kind()
        for part in status_pb2.Status.FromString(packed).details:
            if part.Unpack(found):
                return found
        raise AssertionError(f"no {kind.__name__} in {self.message}")

    @property
    def reason(self) -> str:
        return str(self.detail(error_details_pb2.ErrorInfo).reason)


class Caller:
    """The stubs of every service over one channel."""

    def __init__(self, address: str, *options: tuple[str, Any]) -> None:
        self.channel = grpc.insecure_channel(address, options=list(options))
        self.chats = chat_pb2_grpc.ChatServiceStub(self.channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        self._health = health_pb2_grpc.HealthStub(self.channel)

    def begin(self, request: chat_pb2.ChatRequest, timeout: float | None = PATIENCE) -> Any:
        """Start a stream and return grpc's call."""
        return self.chats.Chat(request, timeout=timeout)

    def stream(self, request: chat_pb2.ChatRequest, timeout: float | None = PATIENCE) -> Heard:
        """Stream a chat to its end."""
        return heard(self.begin(request, timeout))

    def complete(self, request: chat_pb2.ChatRequest) -> chat_pb2.CompleteChatResponse:
        """Chat without a stream. Raises grpc.RpcError."""
        response: chat_pb2.CompleteChatResponse = self.chats.CompleteChat(
            chat_pb2.CompleteChatRequest(chat=request), timeout=PATIENCE
        )
        return response

    def serves(self, service: str = "") -> bool:
        """Return whether health says SERVING. Raises grpc.RpcError."""
        request = health_pb2.HealthCheckRequest(service=service)
        answer = self._health.Check(request, timeout=PATIENCE)  # type: ignore[attr-defined]  # the stubs lack it
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def running(self) -> int:
        """Return how many chats the server says to run."""
        info = self.catalog.GetServerInfo(catalog_pb2.GetServerInfoRequest(), timeout=PATIENCE)
        return int(info.running_chats)


def heard(call: Any, events: Sequence[chat_pb2.ChatEvent] = ()) -> Heard:
    """Read what is left of a call."""
    got = list(events)
    with contextlib.suppress(grpc.RpcError):
        for response in call:
            got.extend(response.events)
    return Heard(
        call.code(), call.details() or "", dict(call.trailing_metadata()), dict(call.initial_metadata() or ()), got
    )


def until(call: Any, kind: str, times: int = 1) -> list[chat_pb2.ChatEvent]:
    """Read a call until it has told `times` events of a kind."""
    got: list[chat_pb2.ChatEvent] = []
    for response in call:
        got.extend(response.events)
        if sum(event.WhichOneof("event") == kind for event in got) >= times:
            return got
    raise AssertionError(f"the stream ended without {times} {kind}")


@contextlib.contextmanager
def calling(address: str, *options: tuple[str, Any]) -> Iterator[Caller]:
    """Call a server while the context is entered."""
    caller = Caller(address, *options)
    try:
        yield caller
    finally:
        caller.channel.close()
