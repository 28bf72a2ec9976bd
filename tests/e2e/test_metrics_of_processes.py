"""Metrics of real processes: each worker's own, and what is told when an address is taken."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.caller import calling, scripted
from tests.e2e.processes import PATIENCE, Server, eventually
from tests.ports import lasting_port


def chats(address: str) -> float:
    """How many chats an endpoint has counted."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/metrics", timeout=PATIENCE) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("ep_chats_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_each_worker_counts_its_own_chats(tmp_path: Path) -> None:
    """Two workers serve metrics on neighbouring ports, together count every chat, and one that died is back at zero."""
    port = lasting_port(2)
    server = Server(tmp_path, {"EP_METRICS_LISTEN": f"127.0.0.1:{port}"}, ["--workers", "2"])
    addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
    try:
        server.wait_for(lambda: len(server.records("serving")) == 2, "both workers serve")
        told = {record["process"]: record["address"] for record in server.records("serving_metrics")}
        assert sorted(told.values()) == addresses
        for _ in range(8):
            with calling(server.address(), ("grpc.use_local_subchannel_pool", 1)) as caller:
                caller.stream(scripted({"text": "Hello"}))
        eventually(lambda: sum(map(chats, addresses)) == 8, "all chats to be counted")
        victim = next(record["pid"] for record in server.records("worker_started") if record["worker"] == 1)
        assert told[victim] == addresses[1]
        os.kill(victim, signal.SIGKILL)
        server.wait_for(lambda: len(server.records("serving")) == 3, "a new worker in place of the dead one")
        assert server.records("serving_metrics")[2]["address"] == addresses[1]
        assert chats(addresses[1]) == 0
    finally:
        server.end()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_metrics_address_in_use_is_told_in_one_line(tmp_path: Path, workers: int) -> None:
    """A server whose address for metrics is taken ends with status 1 and one line that names address and setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        server = Server(tmp_path, {"EP_METRICS_LISTEN": address, "EP_WORKERS": str(workers)})
        assert server.wait() == 1
    lines = [line for line in server.err.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, server.err
    assert address in lines[0]
    assert "EP_METRICS_LISTEN" in lines[0]
