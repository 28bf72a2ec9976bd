"""Personas and routes of a running server are replaced without a chat noticing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import grpc
import pytest
from tests.e2e.caller import Caller, Heard, calling, chat, heard
from tests.e2e.processes import Server, eventually, serving

from execution_platform.v1 import catalog_pb2, chat_pb2

RELOADS = 100


def put(file: Path, text: str) -> None:
    """Replace a file as a whole."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(file)


def with_personas(*names: str) -> str:
    """Return a configuration with these personas."""
    return "personas:\n" + "".join(f"  {name}: {{provider: scripted}}\n" for name in names)


def asked_by(persona: str, **fields: object) -> chat_pb2.ChatRequest:
    """Return a chat of a persona."""
    return chat("", "Hi", persona=persona, **fields)


def configuration_of(caller: Caller) -> catalog_pb2.ConfigurationStatus:
    """Return what a server says of its configuration."""
    request = catalog_pb2.GetServerInfoRequest()
    info: catalog_pb2.GetServerInfoResponse = caller.catalog.GetServerInfo(request, timeout=60)
    return info.configuration


@pytest.mark.parametrize("workers", [1, 2])
def test_a_wrong_file_at_the_start_ends_the_server(tmp_path: Path, workers: int) -> None:
    """A server whose files are wrong ends with status 2 and a line for each mistake, once however many workers."""
    (tmp_path / "personas.yaml").write_text("a: {provider: opnai}\nb: {stratgy: weighted}\n")
    (tmp_path / "map.json").write_text('{"c": {"extends": "d"}}')
    settings = {
        "EP_CONFIG_PATH": "personas.yaml",
        "EP_PERSONA_PROVIDER_MAP_PATH": "map.json",
        "EP_WORKERS": str(workers),
        "EP_DRAIN_SECONDS": "soon",
    }
    server = Server(tmp_path, settings)
    assert server.wait() == 2
    lines = server.err.splitlines()
    assert lines[0].startswith("ep serve: EP_DRAIN_SECONDS: ")
    assert lines[1:] == [
        "ep serve: personas.yaml:1: a.provider: no provider 'opnai'; did you mean 'openai'?",
        "ep serve: personas.yaml:2: b.stratgy: unknown key; did you mean 'strategy'?",
        "ep serve: map.json:1: c.extends: no persona 'd'; there are: a, b, c",
    ]


def test_sighup_reads_the_files_anew(tmp_path: Path) -> None:
    """With the watch off SIGHUP alone brings in what the file says, and a wrong file is refused and told."""
    file = tmp_path / "personas.yaml"
    put(file, with_personas("first"))
    settings = {"EP_CONFIG_PATH": str(file), "EP_CONFIG_WATCH": "off"}
    with serving(tmp_path, settings) as server, calling(server.address()) as caller:
        assert caller.stream(asked_by("first")).code is grpc.StatusCode.OK
        put(file, with_personas("second"))
        server.signal(signal.SIGHUP)
        server.wait_for(lambda: server.records("configuration_reloaded"), "the reload")
        assert caller.stream(asked_by("second")).code is grpc.StatusCode.OK
        assert caller.stream(asked_by("first")).reason == "PERSONA_NOT_FOUND"
        put(file, "personas: [third]\n")
        server.signal(signal.SIGHUP)
        [refused] = server.wait_for(lambda: server.records("configuration_refused"), "the refusal")
        assert refused["problems"] == [f"{file}:1: personas: must be a mapping of names to personas"]
        assert list(configuration_of(caller).problems) == refused["problems"]
        assert caller.stream(asked_by("second")).code is grpc.StatusCode.OK
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_sighup_is_handed_on_to_workers(tmp_path: Path) -> None:
    """SIGHUP at the parent reaches every worker, and none of them ends of it."""
    file = tmp_path / "personas.yaml"
    put(file, with_personas("first"))
    settings = {"EP_CONFIG_PATH": str(file), "EP_CONFIG_WATCH": "off"}
    with serving(tmp_path, settings, ["--workers", "2"]) as server:
        # Before both serve: what is asked of a worker that is not there yet is not lost.
        put(file, with_personas("second"))
        server.signal(signal.SIGHUP)
        server.wait_for(lambda: len(server.records("serving")) == 2, "both workers serve")
        put(file, with_personas("second", "third"))
        server.signal(signal.SIGHUP)

        def workers_with_both() -> set[int]:
            records = server.records("configuration_reloaded")
            return {record["process"] for record in records if record["personas"] == 2}

        workers = {record["pid"] for record in server.records("worker_started")}
        server.wait_for(lambda: workers_with_both() == workers, "both workers have read the file")
        assert server.records("worker_died") == []
        with calling(server.address()) as caller:
            assert caller.stream(asked_by("third")).code is grpc.StatusCode.OK


def test_a_worker_that_dies_while_a_file_is_wrong_is_started_until_it_is_right(tmp_path: Path) -> None:
    """A wrong file keeps a new worker from starting, but ends neither the other workers nor the parent."""
    file = tmp_path / "personas.yaml"
    put(file, with_personas("first"))
    settings = {"EP_CONFIG_PATH": str(file), "EP_CONFIG_WATCH": "off"}
    with serving(tmp_path, settings, ["--workers", "2"]) as server:
        server.wait_for(lambda: len(server.records("serving")) == 2, "both workers serve")
        put(file, "personas: [second]\n")
        os.kill(server.records("worker_started")[0]["pid"], signal.SIGKILL)
        server.wait_for(
            lambda: [record for record in server.records("worker_died") if record["status"] == 2],
            "a new worker ends of the wrong file",
        )
        with calling(server.address()) as caller:
            assert caller.stream(asked_by("first")).code is grpc.StatusCode.OK
        put(file, with_personas("first", "second"))
        server.wait_for(lambda: len(server.records("serving")) == 3, "a new worker serves")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_without_files_sighup_ends_a_server_as_ever(tmp_path: Path) -> None:
    """Where there is nothing to read anew the signal means what it means to every program."""
    with serving(tmp_path) as server:
        server.signal(signal.SIGHUP)
        assert server.wait() == -signal.SIGHUP


@contextlib.contextmanager
def provider_that_waits(release: threading.Event, asked: threading.Semaphore) -> Iterator[str]:
    """Run a provider that says it is overloaded, but not before it is told to; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.release()
            release.wait()
            self.send_response(503)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_running_chat_keeps_the_configuration_with_which_it_began(tmp_path: Path) -> None:
    """A chat that waits for its provider falls back to whom its persona named when it began, and no later one."""
    file = tmp_path / "personas.yaml"
    text = "asker: {provider: openai, model: gpt-4, retries: {most: 0}, fallback: [scripted/%s]}\n"
    put(file, text % "echo")
    release, asked = threading.Event(), threading.Semaphore(0)
    with provider_that_waits(release, asked) as address:
        settings = {
            "EP_CONFIG_PATH": str(file),
            "EP_CONFIG_WATCH": "off",
            "EP_OPENAI_API_KEY": "made-up-key",
            "EP_OPENAI_BASE_URL": address,
        }
        with serving(tmp_path, settings) as server, calling(server.address()) as caller:
            running = caller.begin(asked_by("asker"))
            assert asked.acquire(timeout=60)
            put(file, text % "slow")
            server.signal(signal.SIGHUP)
            server.wait_for(lambda: server.records("configuration_reloaded"), "the reload")
            release.set()
            before, after = heard(running), caller.stream(asked_by("asker"))
    for answer, model in ((before, "echo"), (after, "slow")):
        assert (answer.code, answer.text) == (grpc.StatusCode.OK, "You said: Hi")
        attempts = [f"{attempt.provider}/{attempt.model}" for attempt in answer.fold.finished.attempts]
        assert attempts == ["openai/gpt-4", f"scripted/{model}"]


class Callers:
    """Threads that chat all the time.

    Attributes:
        answers: all that they heard.
    """

    def __init__(self, address: str, requests: list[chat_pb2.ChatRequest]) -> None:
        self._address = address
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._chat, args=(request,)) for request in requests]
        self.answers: list[Heard] = []

    def _chat(self, request: chat_pb2.ChatRequest) -> None:
        with calling(self._address, ("grpc.use_local_subchannel_pool", 1)) as caller:
            # A moment between two: without it they keep the machine too busy for what is tried.
            while not self._over.wait(0.02):
                self.answers.append(caller.stream(request))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.unmeasured
def test_no_chat_fails_over_a_hundred_reloads(tmp_path: Path) -> None:
    """While chats run all the time the file is replaced 100 times, a third of them wrong: none of the chats fails."""
    # A folder of its own: where the server's log grows there is no quiet moment, for which the watch waits.
    (tmp_path / "configuration").mkdir()
    file = tmp_path / "configuration/personas.yaml"

    def right(number: int) -> str:
        model = ("echo", "slow")[number % 2]
        return f"personas:\n  asker: {{provider: scripted, model: {model}, description: version {number}}}\n"

    put(file, right(0))
    with serving(tmp_path, {"EP_CONFIG_PATH": str(file)}) as server, calling(server.address()) as caller:
        # Some chats outlast a reload or several, and some end between two.
        quick = chat("scripted/echo", "Hi", persona="asker")
        requests = [asked_by("asker"), asked_by("asker"), asked_by("asker"), quick]
        digest = configuration_of(caller).digest
        with Callers(server.address(), requests) as callers:
            for number in range(1, RELOADS + 1):
                text = f"personas: {{asker: {{provider: nobody{number}}}}}\n" if number % 3 == 0 else right(number)
                put(file, text)
                if number % 3 == 0:
                    problem = f"{file}:1: personas.asker.provider: no provider 'nobody{number}'"
                    eventually(
                        lambda wanted=problem: any(  # type: ignore[misc]  # a default's type is not inferred
                            line.startswith(wanted) for line in configuration_of(caller).problems
                        ),
                        f"file {number} to be refused",
                    )
                    assert configuration_of(caller).digest == digest
                else:
                    digest = hashlib.sha256(text.encode()).hexdigest()
                    eventually(
                        lambda wanted=digest: configuration_of(caller).digest == wanted,  # type: ignore[misc]  # as above
                        f"file {number} to be in force",
                    )
                    assert list(configuration_of(caller).problems) == []
                heard_until_now = len(callers.answers)
                eventually(
                    lambda least=heard_until_now: len(callers.answers) > least,  # type: ignore[misc]  # as above
                    "a chat to end between two reloads",
                )
        assert len(server.records("configuration_refused")) == RELOADS // 3
        assert len(server.records("configuration_reloaded")) == RELOADS - RELOADS // 3
    failed = [answer.message for answer in callers.answers if answer.code is not grpc.StatusCode.OK]
    assert failed == []
    assert {(answer.text, answer.kinds[-1]) for answer in callers.answers} == {("You said: Hi", "finished")}
    assert {answer.fold.finished.route.model for answer in callers.answers} == {"echo", "slow"}
    assert all(len(answer.fold.finished.attempts) == 1 for answer in callers.answers)
