"""Limits that two server processes share through a real Redis, also when one of them is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.e2e.caller import Caller, calling, scripted, until
from tests.e2e.processes import eventually, serving
from tests.real_redis import real_redis

PERSONAS = """
personas:
  reviewer:
    provider: scripted
    model: echo
    limits: {concurrent: 2}
"""


def answers(caller: Caller) -> bool:
    """Return whether a chat of the persona is answered; fail if it is refused for another reason than its limit."""
    request = scripted({"text": "a"}, persona="reviewer")
    request.model = ""
    heard = caller.stream(request)
    if heard.code is grpc.StatusCode.OK:
        return True
    assert heard.reason == "RATE_LIMITED"
    assert heard.detail(error_details_pb2.QuotaFailure).violations[0].subject == "persona:reviewer"
    return False


@pytest.mark.slow
def test_places_of_a_killed_process_come_back(tmp_path: Path) -> None:
    """While a process lives its chats hold their places for all; when it is killed they come back by themselves."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "personas.yaml").write_text(PERSONAS)
    with real_redis(tmp_path / "redis") as redis:
        settings = {
            "EP_REDIS_URL": redis.url,
            "EP_REDIS_WAIT_SECONDS": "60",
            "EP_CONFIG_PATH": str(tmp_path / "personas.yaml"),
        }
        with (
            serving(tmp_path / "one", settings) as doomed,
            serving(tmp_path / "other", settings) as other,
            calling(doomed.address()) as theirs,
            calling(other.address()) as ours,
        ):
            request = scripted({"text": "a"}, {"hang": True}, persona="reviewer")
            request.model = ""
            calls = [theirs.begin(request) for _ in range(2)]
            for call in calls:
                until(call, "block_delta")
            assert not answers(ours)
            doomed.signal(signal.SIGKILL)
            doomed.wait()
            assert not answers(ours)
            eventually(lambda: answers(ours), "the leases of the killed process to end")
