"""Limits of personas, tenants, keys and providers, as callers meet them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from tests.server.conftest import (
    ONE_ATTEMPT,
    Serve,
    Served,
    chat_request,
    details_of,
    error_info,
    events_of,
    failed_stream,
    kinds,
    until,
)
from tests.server.test_lifecycle import first_message

from execution_platform.adapters import scripted
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.v1 import chat_pb2, content_pb2

TOKEN = "sk-made-up-token-of-a-caller"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
HANG = [{"text": "a"}, {"hang": True}]
FAIL = [{"error": {"reason": "PROVIDER_UNAVAILABLE"}}]
OTHER = dataclasses.replace(scripted.PROVIDERS[0], name="other", create=lambda _: ScriptedAdapter())


def limited(**fields: Any) -> dict[str, Any]:
    """A configuration without retries, with limits."""
    return {**ONE_ATTEMPT, **fields}


def reviewer(**limits: Any) -> dict[str, Any]:
    """A configuration with one persona that has limits."""
    return limited(personas={"reviewer": {"provider": "scripted", "retries": {"most": 0}, "limits": limits}})


def bearer(token: str = TOKEN) -> tuple[tuple[str, str], ...]:
    """The metadata of a caller with a credential."""
    return (("authorization", f"Bearer {token}"),)


def quota_of(error: grpc.aio.AioRpcError) -> tuple[str, float | None]:
    """Whose limit a status names, and the seconds after which to come again; None: it tells none."""
    subject, seconds = "", None
    for part in details_of(error).details:
        quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
        if part.Unpack(quota):
            subject = quota.violations[0].subject
        elif part.Unpack(retry):
            seconds = retry.retry_delay.ToMilliseconds() / 1000
    return subject, seconds


def counted(served: Served, name: str) -> int:
    """What counts of a limit now."""
    return served.app.limits.limiter.windows.counted(name)


async def test_persona_is_refused_beyond_its_requests(serve: Serve) -> None:
    """The chat beyond a persona's requests is RESOURCE_EXHAUSTED with whose limit it is and when there is room."""
    async with serve(platform=reviewer(requests_per_min=2)) as served:
        for _ in range(2):
            await events_of(served.chat.Chat(chat_request(model="", persona="reviewer")))
        events, error = await failed_stream(served.chat.Chat(chat_request(model="", persona="reviewer")))
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    subject, seconds = quota_of(error)
    assert subject == "persona:reviewer"
    assert seconds is not None
    assert 0 < seconds <= 60
    assert "requests_per_min" in (error.details() or "")
    assert kinds(events) == ["failed"]
    assert list(events[0].failed.attempts) == []


async def test_tokens_are_those_that_were_used(serve: Serve) -> None:
    """What an answer really used counts after it, whatever was expected."""
    script = [{"text": "a"}, {"usage": {"input": 30, "output": 12}}]
    async with serve(platform=reviewer(tokens_per_min=5_000)) as served:
        await events_of(served.chat.Chat(chat_request(script, model="", persona="reviewer")))
        assert counted(served, "persona/reviewer/tokens_per_min") == 42


async def test_chat_that_used_nothing_counts_no_tokens(serve: Serve) -> None:
    """A chat whose provider tells its failure before any output counts as a request, and not a token."""
    async with serve(platform=reviewer(tokens_per_min=5_000, requests_per_min=9, concurrent=1)) as served:
        await failed_stream(served.chat.Chat(chat_request(FAIL, model="", persona="reviewer")))
        assert counted(served, "persona/reviewer/requests_per_min") == 1
        assert counted(served, "persona/reviewer/tokens_per_min") == 0
        assert served.app.limits.limiter.places.held == {}


@pytest.mark.parametrize("limits", ["personas", "providers"])
async def test_chat_that_is_given_up_counts_its_prompt(serve: Serve, limits: str) -> None:
    """A silent provider that is given up before any output counts with its prompt, for the persona and the provider."""
    held = {"tokens_per_min": 50_000}
    persona = {"provider": "scripted", "retries": {"most": 0}, "timeouts": {"first_token": "50ms"}}
    platform: dict[str, Any] = {"personas": {"reviewer": persona}}
    if limits == "personas":
        persona["limits"] = held
    else:
        platform["providers"] = {"scripted": {"limits": held}}
    name = "persona/reviewer" if limits == "personas" else "provider/scripted"
    async with serve(platform=platform) as served:
        script = [{"hang": True}]
        await failed_stream(served.chat.Chat(chat_request(script, text="x" * 400, model="", persona="reviewer")))
        assert 100 <= counted(served, f"{name}/tokens_per_min") <= 110


async def test_cancelled_chat_counts_what_it_was_expected_to_use(serve: Serve) -> None:
    """A chat that is cancelled in the middle, before its provider told any usage, counts by estimate; not its place."""
    async with serve(platform=reviewer(tokens_per_min=5_000, concurrent=1)) as served:
        call = served.chat.Chat(chat_request(HANG, text="x" * 400, model="", persona="reviewer"))
        await first_message(call)
        call.cancel()
        await until(lambda: served.app.limits.limiter.places.held == {})
        assert 1_100 <= counted(served, "persona/reviewer/tokens_per_min") <= 1_200


async def test_next_chat_is_expected_to_be_as_long_as_the_last_ones(serve: Serve) -> None:
    """After answers of a model the expected length is theirs, so that a limit holds more than one chat."""
    script = [{"text": "a"}, {"usage": {"input": 1, "output": 10}}]
    async with serve(platform=reviewer(tokens_per_min=2_000)) as served:
        await events_of(served.chat.Chat(chat_request(script, model="", persona="reviewer")))
        calls = [served.chat.Chat(chat_request(HANG, model="", persona="reviewer")) for _ in range(5)]
        await asyncio.gather(*(first_message(call) for call in calls))
        for call in calls:
            call.cancel()


async def test_chat_larger_than_the_limit_is_not_told_to_come_again(serve: Serve) -> None:
    """A chat that may answer more than a whole limit is told that it can never pass, without RetryInfo."""
    async with serve(platform=reviewer(tokens_per_min=100)) as served:
        request = chat_request(model="", persona="reviewer", sampling=chat_pb2.Sampling(max_output_tokens=200))
        _, error = await failed_stream(served.chat.Chat(request))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert quota_of(error) == ("persona:reviewer", None)
    assert "max_output_tokens" in (error.details() or "")
    assert error_info(error).metadata["retryable"] == "false"


async def test_cost_is_limited_by_the_prices_that_are_known(serve: Serve) -> None:
    """A persona's cost a minute is what its answers cost by the configuration's prices."""
    platform = reviewer(cost_per_min="0.01")
    platform["models"] = {"scripted/echo": {"input_price": "1", "output_price": "1"}}
    script = [{"text": "a"}, {"usage": {"input": 9_000, "output": 1_000}}]
    async with serve(platform=platform) as served:
        await events_of(served.chat.Chat(chat_request(script, model="", persona="reviewer")))
        assert counted(served, "persona/reviewer/cost_per_min") == 10_000_000
        _, error = await failed_stream(served.chat.Chat(chat_request(model="", persona="reviewer")))
    assert "cost_per_min is reached (0.01 US dollars)" in (error.details() or "")


async def test_credential_decides_the_tenant(serve: Serve) -> None:
    """A tenant's limit is for those that show its key; all others share that of the default tenant."""
    platform = limited(
        tenants={"acme": {"key_sha256": [DIGEST], "limits": {"requests_per_min": 1}}},
        default_tenant={"requests_per_min": 2},
    )
    async with serve(platform=platform) as served:
        await events_of(served.chat.Chat(chat_request(), metadata=bearer()))
        _, error = await failed_stream(served.chat.Chat(chat_request(), metadata=bearer()))
        assert quota_of(error)[0] == "tenant:acme"
        await events_of(served.chat.Chat(chat_request(), metadata=bearer("another")))
        await events_of(served.chat.Chat(chat_request()))
        _, error = await failed_stream(served.chat.Chat(chat_request()))
        assert quota_of(error)[0] == "tenant:default"


async def test_each_key_has_its_own_limit_and_is_told_nowhere(serve: Serve) -> None:
    """Each credential has a limit of its own, and neither status nor log tell more than a part of its digest."""
    async with serve(platform=limited(each_key={"requests_per_min": 1})) as served:
        await events_of(served.chat.Chat(chat_request(), metadata=bearer()))
        _, error = await failed_stream(served.chat.Chat(chat_request(), metadata=bearer()))
        await events_of(served.chat.Chat(chat_request(), metadata=bearer("another")))
        await events_of(served.chat.Chat(chat_request()))
        log = served.log.getvalue()
        lines = served.log_lines("chat")
    told = f"{error}{error.trailing_metadata()}{log}"
    assert quota_of(error)[0] == f"key:{DIGEST[:8]}"
    assert [line.get("key") for line in lines] == [DIGEST[:8], DIGEST[:8], lines[2]["key"], None]
    assert [line.get("tenant") for line in lines] == ["default", "default", "default", None]
    assert TOKEN not in told
    assert DIGEST[:16] not in told


async def test_reached_limit_of_a_provider_is_passed_over(serve: Serve) -> None:
    """A provider whose limit is reached is not asked; the next one answers, and the attempts tell why."""
    platform = limited(providers={"scripted": {"limits": {"concurrent": 1}}})
    async with serve({}, [OTHER], platform) as served:
        first = served.chat.Chat(chat_request(HANG))
        await first_message(first)
        routing = chat_pb2.Routing(fallback_models=["other/echo"])
        events = await events_of(served.chat.Chat(chat_request(routing=routing)))
        first.cancel()
        await until(lambda: served.app.limits.limiter.places.held == {})
    attempts = events[-1].finished.attempts
    assert [(each.provider, chat_pb2.AttemptOutcome.Name(each.outcome)) for each in attempts] == [
        ("scripted", "ATTEMPT_OUTCOME_SKIPPED"),
        ("other", "ATTEMPT_OUTCOME_FINISHED"),
    ]
    assert "provider:scripted: 1 chats run" in attempts[0].error.message


async def test_reached_limit_of_the_only_provider_is_told(serve: Serve) -> None:
    """Without another model a provider's reached limit is the chat's failure, with whose it is and when to come."""
    platform = limited(providers={"scripted": {"limits": {"requests_per_min": 1}}})
    async with serve({}, [OTHER], platform) as served:
        await events_of(served.chat.Chat(chat_request()))
        _, error = await failed_stream(served.chat.Chat(chat_request()))
    subject, seconds = quota_of(error)
    assert (error.code(), subject) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "provider:scripted")
    assert seconds is not None


async def test_retries_count_at_the_provider_and_not_at_the_persona(serve: Serve) -> None:
    """A provider's requests are attempts, a persona's are chats."""
    persona = {"provider": "scripted", "limits": {"requests_per_min": 9}}
    persona["retries"] = {"most": 2, "first_wait": "1ms", "longest_wait": "1ms"}
    platform = {"personas": {"reviewer": persona}, "providers": {"scripted": {"limits": {"requests_per_min": 9}}}}
    async with serve(platform=platform) as served:
        await failed_stream(served.chat.Chat(chat_request(FAIL, model="", persona="reviewer")))
        assert counted(served, "persona/reviewer/requests_per_min") == 1
        assert counted(served, "provider/scripted/requests_per_min") == 3


async def test_image_is_not_taken_for_text(serve: Serve) -> None:
    """The bytes of an image do not count as text."""
    request = chat_request(model="", persona="reviewer")
    image = content_pb2.MediaBlock(data=b"x" * 1_000_000, mime_type="image/png")
    request.messages[0].content.append(content_pb2.ContentBlock(media=image))
    async with serve(platform=reviewer(tokens_per_min=5_000)) as served:
        assert kinds(await events_of(served.chat.Chat(request)))[-1] == "finished"
