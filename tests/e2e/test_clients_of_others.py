"""Clients that we did not write: buf, grpcurl, and Node's gRPC from the .proto files."""

from __future__ import annotations

import base64
import json
import shutil
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from tests.e2e.caller import Caller
from tests.e2e.conftest import HERE, output_of, quiet
from tests.e2e.processes import ROOT, Server

CHAT = "execution_platform.v1.ChatService"
CATALOG = "execution_platform.v1.CatalogService"
HEALTH = "grpc.health.v1.Health"
METHODS = {
    CHAT: {"Chat", "CompleteChat", "CountTokens"},
    CATALOG: {"ListModels", "GetModel", "ListProviders", "GetProviderStatus", "GetServerInfo"},
    HEALTH: {"Check", "Watch", "List"},
}
HI = {"chat": {"model": "scripted/echo", "messages": [{"role": "ROLE_USER", "content": [{"text": {"text": "Hi"}}]}]}}
CALLS: dict[str, Any] = {
    f"{CHAT}/CompleteChat": HI,
    f"{CHAT}/CountTokens": HI,
    f"{CATALOG}/ListModels": {"provider": "scripted"},
    f"{CATALOG}/GetModel": {"name": "scripted/echo"},
    f"{CATALOG}/ListProviders": {},
    f"{CATALOG}/GetProviderStatus": {"provider": "scripted"},
    f"{CATALOG}/GetServerInfo": {},
    f"{HEALTH}/Check": {"service": CHAT},
}
EXPECTED = {
    f"{CHAT}/CompleteChat": "You said: Hi",
    f"{CHAT}/CountTokens": '"inputTokens"',
    f"{CATALOG}/ListModels": "scripted/echo",
    f"{CATALOG}/GetModel": "scripted/echo",
    f"{CATALOG}/ListProviders": '"scripted"',
    f"{CATALOG}/GetProviderStatus": '"scripted"',
    f"{CATALOG}/GetServerInfo": '"contractVersion"',
    f"{HEALTH}/Check": "SERVING",
}
SAID = "Hello from the mock, in several pieces."


def saying(text: str) -> dict[str, Any]:
    """Return a request to a mocked provider, as JSON."""
    message = {"role": "ROLE_USER", "content": [{"text": {"text": text}}]}
    return {"model": "anthropic/claude-sonnet-4-5", "messages": [message]}


HELLO = saying("Please say hello")


def objects(text: str) -> list[Any]:
    """Return the JSON objects that stand one after the other in a text."""
    decoder, found, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        found.append(value)
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def spoken(events: list[Any]) -> str:
    """Return the text that events in JSON add up to, whatever their spelling of names."""
    deltas = [event.get("blockDelta") or event.get("block_delta") or {} for event in events]
    return "".join(delta.get("text", "") for delta in deltas)


class BufCurl:
    """``buf curl`` with the server's reflection as its only schema."""

    def __init__(self, buf: str, address: str) -> None:
        self._command = [buf, "curl", "--http2-prior-knowledge", "--protocol", "grpc"]
        self._url = f"http://{address}"

    def run(self, path: str = "", *arguments: str, body: Any = None) -> str:
        data = [] if body is None else ["--data", json.dumps(body)]
        return output_of([*self._command, *arguments, *data, f"{self._url}{path}"])


@pytest.fixture
def buf_curl(buf: str, server: Server) -> BufCurl:
    """``buf curl`` at the server."""
    return BufCurl(buf, server.address())


def test_buf_lists_services_and_methods(buf_curl: BufCurl) -> None:
    """Reflection tells every service and method, health included, to a client that knows nothing."""
    assert set(METHODS) <= set(buf_curl.run("", "--list-services").split())
    methods = set(buf_curl.run("", "--list-methods").split())
    assert {f"{service}/{name}" for service, names in METHODS.items() for name in names} <= methods


@pytest.mark.parametrize("path", CALLS)
def test_buf_calls_every_method_that_answers_once(buf_curl: BufCurl, path: str) -> None:
    """Each unary method can be called with nothing but JSON and reflection."""
    assert EXPECTED[path] in buf_curl.run(f"/{path}", body=CALLS[path])


def test_buf_streams_a_chat(buf_curl: BufCurl) -> None:
    """A chat with a mocked provider streams through buf to its `finished`."""
    answer = buf_curl.run(f"/{CHAT}/Chat", body=HELLO)
    events = [event for message in objects(answer) for event in message["events"]]
    assert spoken(events) == SAID
    assert "started" in events[0]
    assert events[-1]["finished"]["reason"] == "FINISH_REASON_STOP"


class GrpcUrl:
    """grpcurl with the server's reflection as its only schema."""

    def __init__(self, command: str, address: str) -> None:
        self._command = [command, "-plaintext"]
        self._address = address

    def run(self, *words: str, body: Any = None) -> str:
        data = [] if body is None else ["-d", json.dumps(body)]
        return output_of([*self._command, *data, self._address, *words])


@pytest.fixture
def grpcurl(server: Server) -> GrpcUrl:
    """Grpcurl at the server."""
    command = shutil.which("grpcurl")
    if command is None:
        pytest.skip("grpcurl is not installed")
    return GrpcUrl(command, server.address())


def test_grpcurl_lists_and_describes(grpcurl: GrpcUrl) -> None:
    """Grpcurl lists the services, and describes services, methods, messages and enums."""
    assert set(METHODS) <= set(grpcurl.run("list").split())
    for service, names in METHODS.items():
        assert {f"{service}.{name}" for name in names} <= set(grpcurl.run("list", service).split())
    assert "returns ( stream .execution_platform.v1.ChatResponse )" in grpcurl.run("describe", f"{CHAT}.Chat")
    assert "oneof event" in grpcurl.run("describe", "execution_platform.v1.ChatEvent")
    assert "ERROR_REASON_STREAM_BROKEN" in grpcurl.run("describe", "execution_platform.v1.ErrorReason")


@pytest.mark.parametrize("path", CALLS)
def test_grpcurl_calls_every_method_that_answers_once(grpcurl: GrpcUrl, path: str) -> None:
    """Each unary method can be called with nothing but JSON and reflection."""
    assert EXPECTED[path] in grpcurl.run(path, body=CALLS[path])


def test_grpcurl_streams_a_chat(grpcurl: GrpcUrl) -> None:
    """A chat with a mocked provider streams through grpcurl to its `finished`."""
    answer = grpcurl.run(f"{CHAT}/Chat", body=HELLO)
    events = [event for message in objects(answer) for event in message["events"]]
    assert spoken(events) == SAID
    assert events[-1]["finished"]["reason"] == "FINISH_REASON_STOP"


def node_chat(node: str, server: Server, request: Any, *more: str) -> list[Any]:
    """Return what the Node client prints: events, then the status."""
    command = [node, str(HERE / "chat.cjs"), server.address(), str(ROOT / "protos"), json.dumps(request), *more]
    return [json.loads(line) for line in output_of(command).splitlines()]


def test_node_streams_a_chat(node: str, server: Server) -> None:
    """Node's gRPC client, made of the .proto files alone, streams a chat with a mocked provider."""
    *events, status = node_chat(node, server, HELLO)
    assert status["code"] == 0
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert spoken(events) == SAID
    assert events[0]["event"] == "started"
    assert events[-1]["finished"]["reason"] == "FINISH_REASON_STOP"


def test_node_is_told_why_a_chat_failed(node: str, server: Server) -> None:
    """A client of another language reads reason and retry delay from the status's details."""
    *events, status = node_chat(node, server, saying("You ask too often"))
    assert [event["event"] for event in events] == ["failed"]
    assert status["code"] == 8
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    details = status_pb2.Status.FromString(base64.b64decode(status["details"][0])).details
    assert any(detail.Unpack(info) for detail in details)
    assert any(detail.Unpack(retry) for detail in details)
    assert (info.reason, retry.retry_delay.seconds) == ("PROVIDER_RATE_LIMITED", 3)


def test_node_cancels_a_chat(node: str, server: Server, caller: Caller) -> None:
    """When a Node client cancels in mid-stream, the server stops too."""
    *_, status = node_chat(node, server, saying("Please take your time"), "2")
    assert status["code"] == 1
    quiet(caller)
