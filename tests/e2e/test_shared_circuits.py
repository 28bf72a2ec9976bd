"""Two server processes share their circuits through a real Redis, and go on without it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from tests.e2e.caller import Caller, Heard, calling, chat
from tests.e2e.processes import Server, eventually, serving
from tests.real_redis import RealRedis, real_redis

from execution_platform.v1 import catalog_pb2

OPEN_SECONDS = 1.0
FAILURES = 3
CONFIGURATION = f"""
breaker: {{failures: {FAILURES}, open_seconds: {OPEN_SECONDS}}}
defaults: {{retries: {{most: 0}}}}
"""
ANSWER = {
    "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "back"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip


class Moody:
    """A provider with OpenAI's chat format that is up, down or hangs as a test says, and counts who asks.

    Attributes:
        up: it answers; else with 503.
        gate: while it is not set, whoever asks waits before the answer.
        asked: requests for an answer, by server: each has a key of its own.
    """

    def __init__(self) -> None:
        self.up = False
        self.gate = threading.Event()
        self.gate.set()
        self.asked: dict[str, int] = {}
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()
        moody = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with moody.counted(self.headers["authorization"].removeprefix("Bearer ")):
                    moody.gate.wait()
                    self._answer(streams=bool(json.loads(body).get("stream")))

            def _answer(self, *, streams: bool) -> None:
                if not moody.up:
                    self._send(503, "application/json", b'{"error": {"message": "down"}}')
                elif streams:
                    self._send(200, "text/event-stream", b"".join(_pieces()))
                else:
                    self._send(200, "application/json", json.dumps(ANSWER).encode())

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def total(self) -> int:
        return sum(self.asked.values())

    @contextlib.contextmanager
    def counted(self, who: str) -> Iterator[None]:
        """Count one request while it is answered."""
        with self._lock:
            self.asked[who] = self.asked.get(who, 0) + 1
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            yield
        finally:
            with self._lock:
                self.running -= 1

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _pieces() -> Iterator[bytes]:
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for delta, reason in (({"role": "assistant", "content": "back"}, None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield f"data: {json.dumps({**base, 'choices': [choice]})}\n\n".encode()
    yield b"data: [DONE]\n\n"


@dataclass
class Replica:
    """A server process and a caller of it."""

    name: str
    server: Server
    caller: Caller

    def ask(self) -> Heard:
        return self.caller.stream(chat("vllm/m", "Hi"))

    def circuit(self) -> tuple[str, int]:
        """Return the state of the model's circuit and the failures in a row."""
        request = catalog_pb2.GetProviderStatusRequest(provider="vllm")
        for circuit in self.caller.catalog.GetProviderStatus(request, timeout=60).circuits:
            return catalog_pb2.CircuitState.Name(circuit.state).removeprefix("CIRCUIT_STATE_"), (
                circuit.consecutive_failures
            )
        return "CLOSED", 0

    def state(self) -> str:
        return self.circuit()[0]

    def answers(self) -> bool:
        """Return whether a chat is answered now."""
        return self.ask().code == grpc.StatusCode.OK


@dataclass
class Site:
    """Two replicas, their provider and their Redis."""

    first: Replica
    second: Replica
    upstream: Moody
    redis: RealRedis

    @property
    def replicas(self) -> tuple[Replica, Replica]:
        return (self.first, self.second)

    def open_on(self, replica: Replica) -> None:
        """Let chats fail until a replica asks no more."""
        eventually(lambda: replica.ask().reason == "CIRCUIT_OPEN", "the circuit to open")

    def shares(self, event: str, times: int) -> None:
        """Wait until both have logged an event so many times."""
        for each in self.replicas:
            each.server.wait_for(lambda each=each: len(each.server.records(event)) >= times, event)  # type: ignore[misc]  # a default keeps a loop's value


@pytest.fixture
def upstream() -> Iterator[Moody]:
    """The provider."""
    running = Moody()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def site(tmp_path: Path, upstream: Moody) -> Iterator[Site]:
    """Two servers that share a Redis and a provider."""
    (tmp_path / "routes.yaml").write_text(CONFIGURATION)
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(real_redis(tmp_path, "made-up-password"))
        replicas = []
        for name in ("first", "second"):
            settings = {
                "EP_REDIS_URL": redis.url,
                "EP_REDIS_WAIT_SECONDS": "60",
                "EP_CONFIG_PATH": str(tmp_path / "routes.yaml"),
                "EP_VLLM_BASE_URL": upstream.url,
                "EP_VLLM_API_KEY": name,
            }
            server = stack.enter_context(serving(tmp_path / name, settings))
            replicas.append(Replica(name, server, stack.enter_context(calling(server.address()))))
        yield Site(replicas[0], replicas[1], upstream, redis)


def test_failures_on_one_server_stop_the_other_and_one_probe_brings_both_back(site: Site) -> None:
    """The second server stops asking though it never failed; in all one chat probes; its answer lets both in."""
    for _ in range(FAILURES):
        assert site.first.ask().reason == "PROVIDER_OVERLOADED"
    eventually(lambda: site.second.state() == "OPEN", "the second server to hear of it")
    assert site.second.circuit() == ("OPEN", FAILURES)
    assert site.upstream.asked == {"first": FAILURES}

    site.upstream.gate.clear()
    site.upstream.up = True
    site.upstream.most_running = 0
    with ThreadPoolExecutor(12) as threads:
        chats = [threads.submit(each.ask) for each in site.replicas for _ in range(3)]
        # From now on somebody asks on both servers all the time, while one probe hangs.
        eventually(lambda: site.upstream.running or _again(site, threads, chats), "a probe")
        for _ in range(10):
            for each in site.replicas:
                refused = each.ask()
                assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "CIRCUIT_OPEN")
        assert site.upstream.total == FAILURES + 1
        eventually(lambda: sum(not chat.done() for chat in chats) == 1, "all but the probe to be refused")
        site.upstream.gate.set()
        ended = [chat.result() for chat in chats]
    assert [each.code for each in ended].count(grpc.StatusCode.OK) == 1
    assert (site.upstream.most_running, site.upstream.total) == (1, FAILURES + 1)
    for each in site.replicas:
        eventually(lambda each=each: each.state() == "CLOSED", "all to know that it is back")  # type: ignore[misc]  # a default keeps a loop's value
        assert each.ask().text == "back"
        assert [len(each.server.records(event)) for event in ("circuit_opened", "circuit_closed")] == [1, 1]


def _again(site: Site, threads: ThreadPoolExecutor, chats: list[Future[Heard]]) -> bool:
    """Ask once more on each server, unless a chat is still out."""
    if all(chat.done() for chat in chats):
        chats.extend(threads.submit(each.ask) for each in site.replicas)
    return False


def test_without_redis_both_go_on_alone_and_share_again_when_it_is_back(site: Site) -> None:
    """Redis killed: chats are answered, circuits open and close in each process; Redis back: one opening is for all."""
    site.upstream.up = True
    assert site.first.answers()
    assert site.second.answers()
    site.redis.kill()
    site.shares("shared_state_lost", 1)

    assert site.first.answers()
    assert site.second.answers()
    site.upstream.up = False
    site.open_on(site.first)
    assert site.second.state() == "CLOSED"
    asked = site.upstream.asked["second"]
    site.open_on(site.second)
    assert site.upstream.asked["second"] >= asked + FAILURES
    site.upstream.up = True
    for each in site.replicas:
        eventually(each.answers, "each to find by itself that the provider is back")

    site.redis.start()
    site.shares("shared_state_joined", 2)
    site.upstream.up = False
    site.open_on(site.second)
    asked = site.upstream.asked["first"]
    eventually(lambda: site.first.state() == "OPEN", "the first server to hear of it")
    assert site.upstream.asked["first"] == asked
    for each in site.replicas:
        assert [len(each.server.records(event)) for event in ("shared_state_lost", "shared_state_joined")] == [1, 2]
        assert "made-up-password" not in each.server.err


def test_servers_start_without_redis_and_find_each_other_later(tmp_path: Path, upstream: Moody) -> None:
    """A Redis that is absent at the start holds nothing up; what is open is told once it is there."""
    (tmp_path / "routes.yaml").write_text(CONFIGURATION.replace(f"open_seconds: {OPEN_SECONDS}", "open_seconds: 600"))
    redis = RealRedis(tmp_path)
    with contextlib.ExitStack() as stack:
        replicas = []
        for name in ("first", "second"):
            settings = {
                "EP_REDIS_URL": redis.url,
                "EP_REDIS_WAIT_SECONDS": "60",
                "EP_CONFIG_PATH": str(tmp_path / "routes.yaml"),
                "EP_VLLM_BASE_URL": upstream.url,
                "EP_VLLM_API_KEY": name,
            }
            server = stack.enter_context(serving(tmp_path / name, settings))
            replicas.append(Replica(name, server, stack.enter_context(calling(server.address()))))
        first, second = replicas
        eventually(lambda: first.ask().reason == "CIRCUIT_OPEN", "the circuit to open")
        assert second.state() == "CLOSED"
        stack.callback(redis.kill)
        redis.start()
        eventually(lambda: second.state() == "OPEN", "the second server to hear of it")
        assert upstream.asked == {"first": FAILURES}
