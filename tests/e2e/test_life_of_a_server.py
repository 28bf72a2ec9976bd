"""Starting, ending and sharing work, seen from outside the process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.e2e.caller import calling, heard, scripted, until
from tests.e2e.processes import Server, eventually, serving, settles
from tests.ports import lasting_port


def pieces(count: int, pause_ms: int) -> dict[str, object]:
    """Return a script step of many words with silence between them."""
    return {"repeat": {"times": count, "steps": [{"text": "word "}, {"pause_ms": pause_ms}]}}


def test_a_running_chat_is_finished_before_the_server_ends(tmp_path: Path) -> None:
    """After SIGTERM a running stream ends with `finished`, health is NOT_SERVING, new chats are refused, status 0."""
    with serving(tmp_path) as server, calling(server.address()) as caller:
        assert caller.serves()
        call = caller.begin(scripted(pieces(20, 100), {"text": "end"}))
        first = until(call, "block_delta")
        server.signal(signal.SIGTERM)
        server.wait_for(lambda: server.records("stopping"), "it stops")
        eventually(lambda: not caller.serves(), "health to say NOT_SERVING")
        assert not caller.serves("execution_platform.v1.ChatService")
        refused = caller.stream(scripted({"text": "late"}))
        answer = heard(call, first)
        assert server.wait() == 0
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert refused.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert (answer.code, answer.kinds[-1], answer.text) == (grpc.StatusCode.OK, "finished", "word " * 20 + "end")
    assert server.records("stopped")[0]["all_chats_finished"] is True


def test_a_chat_that_does_not_end_is_ended_after_the_grace_time(tmp_path: Path) -> None:
    """A chat that outlasts EP_DRAIN_SECONDS fails with DRAINING, and the server still ends by itself with status 0."""
    with serving(tmp_path, {"EP_DRAIN_SECONDS": "0.5"}) as server, calling(server.address()) as caller:
        call = caller.begin(scripted({"text": "word"}, {"hang": True}))
        first = until(call, "block_delta")
        server.signal(signal.SIGTERM)
        answer = heard(call, first)
        assert server.wait() == 0
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert answer.trailing["grpc-retry-pushback-ms"] == "-1"
    assert server.records("drain_cut_short")


def test_a_second_signal_ends_the_server_at_once(tmp_path: Path) -> None:
    """Whoever sends SIGINT twice does not wait for the grace time."""
    with serving(tmp_path, {"EP_DRAIN_SECONDS": "3600"}) as server, calling(server.address()) as caller:
        call = caller.begin(scripted({"text": "word"}, {"hang": True}))
        until(call, "block_delta")
        server.signal(signal.SIGINT)
        server.wait_for(lambda: server.records("stopping"), "it stops")
        server.signal(signal.SIGINT)
        assert server.wait() == -signal.SIGINT
        call.cancel()


def answered_by(server: Server, address: str, most: int) -> set[int]:
    """Return the processes that answer at an address, asked over many connections until two have."""
    for asked in range(1, most + 1):
        with calling(address, ("grpc.use_local_subchannel_pool", 1)) as caller:
            answer = caller.stream(scripted({"text": "shared"}))
            assert (answer.code, answer.text) == (grpc.StatusCode.OK, "shared")
        settles(lambda: len(server.records("chat")), asked, "the chat's line in the log")
        processes = {record["process"] for record in server.records("chat")}
        if len(processes) > 1:
            return processes
    return set()


def alive(pid: int) -> bool:
    """Return whether a process runs."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_workers_share_one_port_and_end_together(tmp_path: Path) -> None:
    """Two workers answer on the one port, a dead one is replaced, SIGTERM lets chats finish and ends all with 0."""
    server = Server(tmp_path, arguments=["--workers", "2"])
    try:
        server.wait_for(lambda: len(server.records("serving")) == 2, "both workers serve")
        addresses = {record["address"] for record in server.records("serving")}
        (address,) = addresses
        workers = [record["pid"] for record in server.records("worker_started")]
        assert answered_by(server, address, most=200) == set(workers)
        os.kill(workers[0], signal.SIGKILL)
        server.wait_for(lambda: len(server.records("serving")) == 3, "a new worker in place of the dead one")
        workers = [record["pid"] for record in server.records("worker_started")]
        with calling(address) as caller:
            call = caller.begin(scripted(pieces(10, 100), {"text": "end"}))
            first = until(call, "block_delta")
            server.signal(signal.SIGTERM)
            answer = heard(call, first)
        assert (answer.code, answer.text) == (grpc.StatusCode.OK, "word " * 10 + "end")
        assert server.wait() == 0
        eventually(lambda: not any(alive(pid) for pid in workers), "the workers to be gone")
    finally:
        server.end()


def test_ctrl_c_lets_the_chats_of_workers_finish(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to its whole group of processes: workers are not in the parent's, and hear of it once."""
    with serving(tmp_path, arguments=["--workers", "2"]) as server:
        workers = [record["pid"] for record in server.records("worker_started")]
        groups = {os.getpgid(pid) for pid in workers}
        assert len(groups) == 2
        assert os.getpgid(server.pid) not in groups


def test_a_second_signal_ends_workers_at_once(tmp_path: Path) -> None:
    """Whoever sends SIGTERM twice does not wait for the workers' grace time either."""
    settings = {"EP_DRAIN_SECONDS": "3600"}
    with serving(tmp_path, settings, ["--workers", "2"]) as server, calling(server.address()) as caller:
        server.wait_for(lambda: len(server.records("serving")) == 2, "both workers serve")
        call = caller.begin(scripted({"text": "word"}, {"hang": True}))
        until(call, "block_delta")
        workers = [record["pid"] for record in server.records("worker_started")]
        server.signal(signal.SIGTERM)
        server.wait_for(lambda: len(server.records("stopping")) == 2, "both workers stop")
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM
        eventually(lambda: not any(alive(pid) for pid in workers), "the workers to be gone")
        call.cancel()


def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    """When the parent is killed the workers end too, rather than hold the port that nobody guards."""
    with serving(tmp_path, arguments=["--workers", "2"]) as server:
        workers = [record["pid"] for record in server.records("worker_started")]
        server.signal(signal.SIGKILL)
        server.wait()
        eventually(lambda: not any(alive(pid) for pid in workers), "the workers to be gone")


def test_workers_that_cannot_live_are_not_started_again_and_again(tmp_path: Path) -> None:
    """A mistake that only a made server notices is told once and ends the parent with 2, whatever --workers says."""
    server = Server(tmp_path, {"EP_DEFAULT_MODEL": "scriptd/echo"}, ["--workers", "2"])
    assert server.wait() == 2
    [line] = server.err.splitlines()
    assert line.startswith("ep serve: EP_DEFAULT_MODEL")


def test_a_file_of_settings_that_is_named_must_be_there(tmp_path: Path) -> None:
    """--env-file with a file that is not there is refused: its settings would be missing in silence."""
    server = Server(tmp_path, arguments=["--env-file", "nothing.env"])
    assert server.wait() == 2
    assert "nothing.env" in server.err


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_in_use_is_told_in_one_line(tmp_path: Path, workers: int) -> None:
    """A server whose port is taken ends with status 1 and one line that names the port and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        server = Server(tmp_path, {"EP_LISTEN": address, "EP_WORKERS": str(workers)})
        assert server.wait() == 1
    lines = [line for line in server.err.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, server.err
    assert lines[0].startswith("ep serve: ")
    assert address in lines[0]
    assert "EP_LISTEN" in lines[0]


def test_two_servers_cannot_share_a_port_by_accident(tmp_path: Path) -> None:
    """A second server on the port of a running one is refused, rather than given half of the calls."""
    with serving(tmp_path) as first:
        (tmp_path / "second").mkdir()
        second = Server(tmp_path / "second", {"EP_LISTEN": first.address()})
        assert second.wait() == 1
        assert "already in use" in second.err


def test_wrong_settings_are_told_all_at_once(tmp_path: Path) -> None:
    """Each wrong setting gets a line that names it, without its value where that is a key; the status is 2."""
    (tmp_path / ".env").write_text("EP_DRAIN_SECONDS=soon\nEP_OPENAI_API_KEY=made up key\n")
    server = Server(
        tmp_path,
        {"EP_LISTEN": "nowhere", "EP_ANTHROPIC_BASE_URL": "ftp://127.0.0.1", "EP_MODEL_ALIASES": "fast"},
    )
    assert server.wait() == 2
    lines = server.err.splitlines()
    told = ("EP_LISTEN", "EP_DRAIN_SECONDS", "EP_OPENAI_API_KEY", "EP_ANTHROPIC_BASE_URL", "EP_MODEL_ALIASES")
    assert sorted(line.split(":")[1].strip() for line in lines) == sorted(told), server.err
    assert "made up key" not in server.err
    assert "Traceback" not in server.err


def test_a_default_that_leads_nowhere_is_told_at_start(tmp_path: Path) -> None:
    """EP_DEFAULT_MODEL with an unknown provider ends the start with status 2 and the nearest name."""
    server = Server(tmp_path, {"EP_DEFAULT_MODEL": "scriptd/echo"})
    assert server.wait() == 2
    assert "EP_DEFAULT_MODEL" in server.err
    assert "scripted" in server.err


def test_a_misspelt_setting_is_warned_of(tmp_path: Path) -> None:
    """A variable with our prefix that nobody reads is named in the log, with the setting that was meant."""
    with serving(tmp_path, {"EP_DRAIN_SECOND": "5"}) as server:
        warnings = [record["message"] for record in server.records("configuration")]
    assert any("EP_DRAIN_SECOND " in warning and "EP_DRAIN_SECONDS" in warning for warning in warnings)


def test_a_server_serves_on_a_unix_socket(tmp_path: Path) -> None:
    """EP_LISTEN=unix:/path serves there, for callers on the same machine."""
    address = f"unix:{tmp_path}/s"
    with serving(tmp_path, {"EP_LISTEN": address}) as server, calling(address) as caller:
        assert server.address() == address
        assert caller.stream(scripted({"text": "near"})).text == "near"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_can_be_started_again_at_once_on_its_port(tmp_path: Path, workers: int) -> None:
    """Connections that the ended server closed do not keep the next one from the port."""
    address = f"127.0.0.1:{lasting_port()}"
    with serving(tmp_path / "first", {"EP_LISTEN": address}, ["--workers", str(workers)]) as first:
        assert first.address() == address
        with calling(address) as caller:
            assert caller.stream(scripted({"text": "first"})).text == "first"
            first.signal(signal.SIGTERM)
            assert first.wait() == 0
    with (
        serving(tmp_path / "second", {"EP_LISTEN": address}, arguments=["--workers", str(workers)]) as second,
        calling(second.address()) as caller,
    ):
        assert caller.stream(scripted({"text": "second"})).text == "second"
