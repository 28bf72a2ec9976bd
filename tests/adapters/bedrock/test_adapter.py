"""The adapter against a real HTTP server: what goes out, what comes back, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from tests.adapters.bedrock.givers import ROLE, Sts
from tests.adapters.bedrock.serving import (
    BODY,
    END,
    FRAMES,
    KEYS,
    MODEL,
    REGION,
    START,
    against,
    call,
    collected,
    either,
    failed,
    frame,
    stream,
    text,
)
from tests.adapters.upstream import Received, Reply, upstream

from execution_platform.adapters import errors
from execution_platform.adapters.bedrock.adapter import BedrockAdapter
from execution_platform.adapters.spi import CountsTokens, Events, ListsModels, ProviderConfig, Timeouts
from execution_platform.adapters.testing import check_adapter
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2

PATH = "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0"
API_KEY = "made-up-bedrock-key"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def folded(events: Events) -> chat_pb2.CompleteChatResponse:
    fold = Fold()
    fold.add_all(events)
    return fold.response


def said(events: Events) -> str:
    return "".join(block.text.text for block in folded(events).message.content)


# --- requests and answers ---------------------------------------------------------------------------------------------


async def test_a_stream_tells_who_answered() -> None:
    """A chat asks the model's path for frames; the answer has text, usage, region and AWS's id of the request."""
    async with against(either) as (adapter, served):
        answer = folded(await collected(adapter, call()))
    (received,) = served.received
    assert received.line == f"POST {PATH}/converse-stream HTTP/1.1"
    assert (received.headers["content-type"], received.headers["accept"]) == ("application/json", FRAMES)
    assert received.json()["messages"] == [{"role": "user", "content": [{"text": "hi"}]}]
    assert answer.message.content[0].text.text == "Hello there!"
    assert (answer.started.request_id, answer.started.provider_request_id) == ("chat-1", "req-1")
    route = answer.started.route
    assert (route.provider, route.model, route.region) == ("bedrock", MODEL, REGION)
    assert {item.quantity for item in answer.finished.usage.items} == {7, 3}


async def test_a_whole_answer_says_the_same() -> None:
    """A unary call asks another path and brings the same blocks and usage."""
    async with against(either) as (adapter, served):
        whole = folded(await collected(adapter, call(unary=True)))
        streamed = folded(await collected(adapter, call()))
    assert served.received[0].line == f"POST {PATH}/converse HTTP/1.1"
    assert served.received[0].headers["accept"] == "application/json"
    assert whole.message == streamed.message
    assert whole.finished.usage.items == streamed.finished.usage.items


async def test_a_server_may_answer_whole_where_a_stream_was_asked_for() -> None:
    """What came decides how it is read."""

    async def whole(_: Received, reply: Reply) -> None:
        await reply.json(BODY)

    async with against(whole) as (adapter, _):
        assert said(await collected(adapter, call())) == "Hello there!"


@pytest.mark.parametrize(
    ("model", "path", "region"),
    [
        ("us-west-2/amazon.nova-pro-v1:0", "amazon.nova-pro-v1%3A0", "us-west-2"),
        (
            "arn:aws:bedrock:eu-west-3:123456789012:application-inference-profile/abc123",
            "arn%3Aaws%3Abedrock%3Aeu-west-3%3A123456789012%3Aapplication-inference-profile%2Fabc123",
            "eu-west-3",
        ),
        (
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "global.anthropic.claude-sonnet-4-5-20250929-v1%3A0",
            REGION,
        ),
    ],
)
async def test_a_models_name_says_which_region_is_asked(model: str, path: str, region: str) -> None:
    """The region of a name or an ARN is the one that is asked; the name goes into the path as AWS encodes it."""
    async with against(either) as (adapter, served):
        answer = folded(await collected(adapter, call(model)))
    (received,) = served.received
    assert received.target == f"/model/{path}/converse-stream"
    assert f"/{region}/bedrock/aws4_request" in received.headers["authorization"]
    assert answer.started.route.model == model


async def test_an_api_key_is_sent_instead_of_a_signature() -> None:
    """With an API key of Bedrock nothing is signed, and no other credential goes along."""
    async with against(either, api_key=SecretStr(API_KEY)) as (adapter, served):
        await collected(adapter, call())
    headers = served.received[0].headers
    assert headers["authorization"] == f"Bearer {API_KEY}"
    assert not [name for name in headers if name.startswith("x-amz")]


async def test_an_assumed_role_signs() -> None:
    """A whole chain: the key of the environment asks STS for the role, whose session signs the chat."""
    sts = Sts()
    async with upstream(sts) as giver:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ENDPOINT_URL_STS", giver.url)
            async with against(either, {"role_arn": ROLE}) as (adapter, served):
                await asyncio.gather(*(collected(adapter, call()) for _ in range(5)))
    assert len(sts.asked) == 1
    assert {received.headers["x-amz-security-token"] for received in served.received} == {"session-token-1"}
    assert all("Credential=ASIAMADEUP1/" in received.headers["authorization"] for received in served.received)


# --- its life ---------------------------------------------------------------------------------------------------------


async def test_the_adapter_passes_the_conformance_kit() -> None:
    """Streams to the end, unary, closed and cancelled in the middle, several at once; nothing stays connected."""
    answering: set[int] = set()

    async def counting(received: Received, reply: Reply) -> None:
        answering.add(id(reply))
        try:
            await either(received, reply)
        finally:
            answering.remove(id(reply))

    async with upstream(counting) as served:
        config = ProviderConfig("bedrock", base_url=served.url, options={"region": REGION})
        await check_adapter(lambda: BedrockAdapter(config), call(), is_free=lambda: not answering, family="bedrock")


async def test_events_come_while_the_answer_is_made() -> None:
    """What one read brought is told at once, before the provider goes on; half a frame waits for the rest."""
    go_on = asyncio.Event()

    async def paused(_: Received, reply: Reply) -> None:
        rest = text(" there") + END
        await reply.head(200, FRAMES)
        await reply.piece(START + text("Hello") + rest[:20])
        await go_on.wait()
        await reply.piece(rest[20:])
        await reply.end()

    async with against(paused) as (adapter, _), contextlib.aclosing(adapter.stream(call())) as lists:
        first = await anext(lists)
        assert said(first) == "Hello"
        go_on.set()
        rest = [event async for some in lists for event in some]
        assert said([*first, *rest]) == "Hello there"


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_leaving_in_the_middle_ends_the_providers_request(how: str) -> None:
    """Closing the generator or cancelling its task breaks the connection while the provider still answers."""
    left = asyncio.Event()

    async def endless(_: Received, reply: Reply) -> None:
        try:
            await reply.head(200, FRAMES)
            await reply.piece(START + text("Hello"))
            await reply.hold()
        finally:
            left.set()

    async with against(endless) as (adapter, served):
        lists = adapter.stream(call())
        await anext(lists)
        assert served.connections == 1
        if how == "close":
            await lists.aclose()
        else:
            waiting = asyncio.ensure_future(anext(lists))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await lists.aclose()
        await asyncio.wait_for(left.wait(), 30)


async def test_connections_are_used_again() -> None:
    """Answers after each other come over one connection, signed each for itself."""
    seen = set()

    async def counting(received: Received, reply: Reply) -> None:
        seen.add(id(reply._writer))
        await either(received, reply)

    async with against(counting) as (adapter, _):
        await collected(adapter, call())
        await collected(adapter, call())
    assert len(seen) == 1


@pytest.mark.parametrize("ending", ["hang up", "end", "cut frame"])
async def test_a_cut_stream_is_broken_after_what_it_said(ending: str) -> None:
    """Text that came is told; then the break is raised, wherever it is."""

    async def cut(_: Received, reply: Reply) -> None:
        await reply.head(200, FRAMES, x_amzn_requestid="req-2")
        await reply.piece(START + text("Hel") + (END[:30] if ending == "cut frame" else b""))
        if ending == "hang up":
            await reply.cut()
        else:
            await reply.end()

    async with against(cut) as (adapter, _):
        events, error = await failed(adapter)
    assert type(error) is errors.StreamBrokenError
    assert (error.provider_status, error.provider_request_id) == (200, "req-2")
    assert said(events) == "Hel"


async def test_an_exception_in_the_stream_comes_after_what_was_said() -> None:
    """An exception frame that arrives together with text does not swallow it, and carries the request's id."""
    told = frame("throttlingException", {"message": "Too many requests"}, kind="exception")

    async def failing(_: Received, reply: Reply) -> None:
        await reply.head(200, FRAMES, x_amzn_requestid="req-3")
        await reply.piece(START + text("Hel") + told)
        await reply.hold()

    async with against(failing) as (adapter, _):
        events, error = await failed(adapter)
    assert type(error) is errors.RateLimitedError
    assert (error.provider_status, error.provider_code) == (200, "throttlingException")
    assert error.provider_request_id == "req-3"
    assert said(events) == "Hel"


async def test_a_damaged_frame_is_not_believed() -> None:
    """A frame whose sums are wrong breaks the answer off before what it says."""
    damaged = bytearray(text("Hel"))
    damaged[-6] ^= 1

    async def damaging(_: Received, reply: Reply) -> None:
        await stream(reply, START + bytes(damaged) + END)

    async with against(damaging) as (adapter, _):
        events, error = await failed(adapter)
    assert type(error) is errors.StreamBrokenError
    assert "checksum" in error.message
    assert said(events) == ""


async def test_a_silent_provider_times_out() -> None:
    """A provider that says nothing, before or within its answer, is a timeout and not a broken stream."""

    async def silent(_: Received, reply: Reply) -> None:
        await reply.hold()

    async def silent_later(_: Received, reply: Reply) -> None:
        await reply.head(200, FRAMES)
        await reply.piece(START)
        await reply.hold()

    for handler in (silent, silent_later):
        async with against(handler, timeouts=Timeouts(connect=5, read=0.1)) as (adapter, _):
            _, error = await failed(adapter)
        assert type(error) is errors.ProviderTimeoutError


async def test_nobody_there_is_unavailable() -> None:
    """A refused connection is the provider's unavailability, which a retry may mend; the end is idempotent."""
    async with upstream(either) as served:
        address = served.url
    adapter = BedrockAdapter(ProviderConfig("bedrock", base_url=address, options={"region": REGION}))
    _, error = await failed(adapter)
    assert type(error) is errors.UnavailableError
    assert error.retryable
    await adapter.aclose()
    await adapter.aclose()


# --- tokens and models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "counted"),
    [
        (MODEL, MODEL),
        (f"eu.{MODEL}", MODEL),
        (f"us-east-1/us.{MODEL}", MODEL),
        (f"arn:aws:bedrock:eu-west-1::foundation-model/{MODEL}",) * 2,
    ],
)
async def test_tokens_are_counted_by_the_provider(model: str, counted: str) -> None:
    """A count asks the model behind a profile, with what the prompt is made of and nothing else."""

    async def counting(_: Received, reply: Reply) -> None:
        await reply.json({"inputTokens": 13})

    async with against(counting) as (adapter, served):
        assert isinstance(adapter, CountsTokens)
        count = await adapter.count_tokens(call(model, request={"system": [{"text": {"text": "be brief"}}]}))
    (received,) = served.received
    encoded = counted.replace(":", "%3A").replace("/", "%2F")
    assert received.line == f"POST /model/{encoded}/count-tokens HTTP/1.1"
    prompt = received.json()["input"]["converse"]
    assert prompt["messages"] == [{"role": "user", "content": [{"text": "hi"}]}]
    assert set(prompt) <= {"messages", "system", "toolConfig", "additionalModelRequestFields"}
    assert "be brief" in json.dumps(prompt["system"])
    assert (count.input_tokens, json.loads(count.raw_json)) == (13, {"inputTokens": 13})


@pytest.mark.parametrize("answer", [{"tokens": 1}, {"inputTokens": "x"}])
async def test_a_count_without_a_number_is_a_breach(answer: dict[str, Any]) -> None:
    """A counter that counts nothing is not believed."""

    async def counting(_: Received, reply: Reply) -> None:
        await reply.json(answer)

    async with against(counting) as (adapter, _):
        with pytest.raises(errors.ProtocolError):
            await adapter.count_tokens(call())


async def test_counting_and_listing_fail_like_a_chat() -> None:
    """An error status of a count or a list is mapped the same way."""

    async def refusing(_: Received, reply: Reply) -> None:
        await reply.json({"message": "no"}, 403, x_amzn_errortype="AccessDeniedException")

    async with against(refusing) as (adapter, _):
        assert isinstance(adapter, ListsModels)
        with pytest.raises(errors.ForbiddenError):
            await adapter.count_tokens(call())
        with pytest.raises(errors.ForbiddenError):
            await adapter.list_models()


@pytest.mark.parametrize("region", ["", "eu-central1"])
async def test_a_list_needs_a_region(region: str) -> None:
    """Without a region nobody can be asked for models; the error names the setting."""
    async with against(either, {"region": region}) as (adapter, served):
        with pytest.raises(errors.NotConfiguredError, match="EP_BEDROCK_REGION"):
            await adapter.list_models()
    assert not served.received


# --- what others pay --------------------------------------------------------------------------------------------------


def modules_after(code: str) -> Iterator[str]:
    """Names of the modules that a fresh interpreter has imported after some code."""
    run = f"{code}\nimport sys; print(*sys.modules, sep='\\n')"
    yield from subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True).stdout.split()


def test_who_does_not_use_it_does_not_import_it() -> None:
    """Finding the provider and asking what is missing import nothing of botocore's; making the adapter does."""
    find = (
        "from execution_platform.adapters.registry import Registry\n"
        "from execution_platform.adapters.spi import ProviderConfig\n"
        "spec = next(spec for spec in Registry.discover().specs() if spec.name == 'bedrock')\n"
        "config = ProviderConfig('bedrock', options={'region': 'eu-central-1'})\n"
        "assert spec.missing(config) == ''\n"
        "spec.places.of(config, 'eu.amazon.nova-pro-v1:0')\n"
    )
    assert not [name for name in modules_after(find) if name.startswith("botocore")]
    assert "botocore.session" in set(modules_after(f"{find}spec.create(config)\n"))
