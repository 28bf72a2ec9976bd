"""What retries do to callers and to providers, over real HTTP: 20 % random 503, and full outages."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest
from tests.adapters.upstream import Received, Reply, upstream
from tests.server.conftest import Serve, Served, chat_request, error_info

from execution_platform.adapters import compatible
from execution_platform.v1 import chat_pb2

pytestmark = pytest.mark.unmeasured

COMPATIBLE = [each for each in compatible.PROVIDERS if each.name == "compatible"]

ANSWER = {
    "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip

#: Chats at once.
TOGETHER = 16


def platform(*, retries: bool = True, failures: int = 1_000, **more: Any) -> dict[str, Any]:
    """Retries as by default but for their waits, and circuits that open after so many failures."""
    waits = {"first_wait": "2ms", "longest_wait": "20ms"}
    defaults = {"retries": waits if retries else {"most": 0}}
    return {"defaults": defaults, "breaker": {"failures": failures, "open_seconds": 3600}, **more}


async def chats(served: Served, number: int) -> Counter[str]:
    """How so many chats end: the reasons of those that fail, and how many are answered."""
    ended: Counter[str] = Counter()
    left = iter(range(number))

    async def caller() -> None:
        for _ in left:
            request = chat_pb2.CompleteChatRequest(chat=chat_request(model="compatible/m"))
            try:
                await served.chat.CompleteChat(request, timeout=60)
                ended["answered"] += 1
            except grpc.aio.AioRpcError as error:
                ended[error_info(error).reason] += 1

    await asyncio.gather(*(caller() for _ in range(TOGETHER)))
    return ended


async def played(
    serve: Serve, number: int, fails: Callable[[], bool], configuration: dict[str, Any]
) -> tuple[Counter[str], int]:
    """Run chats against a provider some of whose answers are 503.

    Returns:
        How they ended, and how many requests came to the provider.
    """
    came = 0

    async def answer(_: Received, reply: Reply) -> None:
        nonlocal came
        came += 1
        if fails():
            await reply.json({"error": {"message": "down"}}, status=503)
        else:
            await reply.json(ANSWER)

    async with upstream(answer) as provider:
        environ = {"EP_COMPATIBLE_BASE_URL": f"{provider.url}/v1", "EP_COMPATIBLE_API_KEY": "made-up"}
        async with serve(environ, COMPATIBLE, configuration) as served:
            return await chats(served, number), came


def a_fifth(seed: int) -> Callable[[], bool]:
    """Say of 20 % that they fail, the same ones each time."""
    draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return lambda: draw.random() < 0.2


@pytest.mark.parametrize("seed", range(3))
async def test_retries_more_than_halve_the_errors_of_20_percent(serve: Serve, seed: int) -> None:
    """Under 20 % random 503 not a quarter as many chats fail as without retries, for a quarter more requests."""
    alone, _ = await played(serve, 400, a_fifth(seed), platform(retries=False))
    retried, came = await played(serve, 400, a_fifth(seed), platform())
    failed_alone, failed = 400 - alone["answered"], 400 - retried["answered"]
    assert failed_alone > 50
    assert failed < failed_alone / 4
    assert 400 * 1.15 < came < 400 * 1.4


async def test_an_outage_costs_a_tenth_more_requests(serve: Serve) -> None:
    """With circuits that never open, chats in a full outage bring a tenth more requests at most."""
    number = 900  # with their retries fewer than the thousand failures after which a circuit opens in any case
    ended, came = await played(serve, number, lambda: True, platform(retry_budget={"window_seconds": 3600}))
    assert ended == {"PROVIDER_OVERLOADED": number}
    assert number < came <= number * 1.1


async def test_an_outage_behind_good_times_costs_no_more(serve: Serve) -> None:
    """The answers before an outage do not pay for retries in it, but for a moment that is within the tenth."""
    came = 0

    def fails() -> bool:
        nonlocal came
        came += 1
        return came > 300

    # Short: even the quickest machine has few answers in a fifth of it. None for nothing: a slow one has many windows.
    budget = {"window_seconds": 0.25, "least": 0}
    ended, total = await played(serve, 1_000, fails, platform(retry_budget=budget))
    assert ended["answered"] == 300
    assert total - 1_000 <= 100


async def test_an_open_circuit_ends_an_outage_for_the_provider(serve: Serve) -> None:
    """With the default breaker a provider that is down is asked a few times only, however many chats come."""
    ended, came = await played(serve, 1_000, lambda: True, platform(failures=5))
    assert came <= 5 + TOGETHER
    assert ended["CIRCUIT_OPEN"] >= 1_000 - came
    assert sum(ended.values()) == 1_000
