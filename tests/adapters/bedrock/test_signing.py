"""Requests are signed as AWS wants it: checked by another computation, and beside botocore's own client."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import botocore.auth
import botocore.config
import botocore.exceptions
import botocore.session
import pytest
from tests.adapters.bedrock.serving import KEYS, MODEL, REGION, against, call, collected, either
from tests.adapters.upstream import Received, Reply

from execution_platform.adapters.bedrock.signing import Keys

ARN = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
PROMPT = "arn:aws:bedrock:eu-west-1:123456789012:prompt/PROMPT12345:1"
MODELS = (MODEL, "eu.amazon.nova-pro-v1:0", ARN, PROMPT, "us-east-1/meta.llama3-3-70b-instruct-v1:0")
NOW = dt.datetime(2026, 2, 28, 23, 59, 59, tzinfo=dt.UTC)
TOKEN = "made-up//session+token=="

#: What decides whether AWS takes a request, and what the signature is made of.
TELLING = ("authorization", "x-amz-date", "x-amz-security-token", "content-type", "host")


@pytest.fixture(params=[False, True], ids=["key", "session"])
def token(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials in the environment; with the token of a session, or without one."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    if request.param:
        monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    return TOKEN if request.param else ""


def signature(received: Received, region: str, secret: str) -> str:
    """What the signature of a request has to be, computed from AWS's description alone."""
    _, _, fields = received.headers["authorization"].partition(" ")
    names = dict(each.strip().split("=", 1) for each in fields.split(","))["SignedHeaders"]
    path, _, query = received.target.partition("?")
    canonical = "\n".join(
        [
            received.method,
            quote(path, safe="/-._~"),  # what is encoded already is encoded once more
            "&".join(sorted(query.split("&"))),
            *(f"{name}:{' '.join(received.headers[name].split())}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(received.body).hexdigest(),
        ]
    )
    moment = received.headers["x-amz-date"]
    scope = f"{moment[:8]}/{region}/bedrock/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def of(received: Received) -> dict[str, str]:
    return {name: received.headers[name] for name in TELLING if name in received.headers}


@pytest.mark.parametrize("unary", [False, True], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", MODELS)
async def test_the_signature_is_what_aws_computes(model: str, unary: bool, token: str) -> None:
    """The signature covers path, body, host, time and token, for the region of the model's name."""
    async with against(either) as (adapter, served):
        await collected(adapter, call(model, unary=unary))
    (received,) = served.received
    region = {PROMPT: "eu-west-1", MODELS[-1]: "us-east-1"}.get(model, REGION)
    told = received.headers["authorization"]
    assert told.endswith(f"Signature={signature(received, region, KEYS['AWS_SECRET_ACCESS_KEY'])}")
    assert f"/{region}/bedrock/aws4_request," in told
    signed = "content-type;host;x-amz-date" + (";x-amz-security-token" if token else "")
    assert f"SignedHeaders={signed}," in told
    assert received.headers.get("x-amz-security-token", "") == token


def ask_with_botocore(url: str, service: str, ask: Callable[[Any], Any], body: bytes, region: str) -> None:
    """Let botocore's own client send a body, whatever it thinks of the answer."""
    config = botocore.config.Config(retries={"total_max_attempts": 1})
    client = botocore.session.Session().create_client(service, region_name=region, endpoint_url=url, config=config)

    def replace(params: dict[str, Any], **_: Any) -> None:
        params["body"] = body

    if body:
        client.meta.events.register("before-call", replace)
    with contextlib.suppress(botocore.exceptions.BotoCoreError):
        ask(client)
    client.close()


MESSAGES = [{"role": "user", "content": [{"text": "hi"}]}]


@pytest.mark.parametrize("model", MODELS)
async def test_a_chat_looks_like_botocores_own(model: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path, signature and whatever it is made of are byte for byte those of botocore's client at the same moment."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
    async with against(either) as (adapter, served):
        await collected(adapter, call(model))
        ours = served.received[0]
        region = ours.headers["authorization"].split("/")[2]
        wire = model.removeprefix("us-east-1/")
        await asyncio.to_thread(
            ask_with_botocore,
            served.url,
            "bedrock-runtime",
            lambda client: list(client.converse_stream(modelId=wire, messages=MESSAGES)["stream"]),
            ours.body,
            region,
        )
        theirs = served.received[1]
    assert ours.line == theirs.line
    assert ours.body == theirs.body
    assert of(ours) == of(theirs)
    assert len(of(ours)) == (5 if token else 4)


@pytest.mark.usefixtures("token")
async def test_counting_looks_like_botocores_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count of tokens is asked for as botocore does."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)

    async def counting(_: Received, reply: Reply) -> None:
        await reply.json({"inputTokens": 7})

    async with against(counting) as (adapter, served):
        await adapter.count_tokens(call())
        ours = served.received[0]
        asked = {"converse": {"messages": MESSAGES}}
        await asyncio.to_thread(
            ask_with_botocore,
            served.url,
            "bedrock-runtime",
            lambda client: client.count_tokens(modelId=MODEL, input=asked),
            ours.body,
            REGION,
        )
        theirs = served.received[1]
    assert (ours.line, ours.body, of(ours)) == (theirs.line, theirs.body, of(theirs))


@pytest.mark.usefixtures("token")
async def test_a_list_looks_like_botocores_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests without a body, with a query that has to be encoded, are signed as botocore does."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
    next_token = "a+/= b~ü"

    async def paging(received: Received, reply: Reply) -> None:
        more = "type=SYSTEM_DEFINED" in received.target and "nextToken" not in received.target
        await reply.json({"inferenceProfileSummaries": [], **({"nextToken": next_token} if more else {})})

    def list_all(client: Any) -> None:
        client.list_inference_profiles(maxResults=1000, typeEquals="SYSTEM_DEFINED", nextToken=next_token)

    async with against(paging) as (adapter, served):
        await adapter.list_models()
        ours = next(each for each in served.received if "nextToken" in each.target)
        await asyncio.to_thread(ask_with_botocore, served.url, "bedrock", list_all, b"", REGION)
        theirs = served.received[-1]
    assert sorted(ours.target.partition("?")[2].split("&")) == sorted(theirs.target.partition("?")[2].split("&"))
    assert of(ours) == of(theirs)


async def test_an_address_may_have_a_path_and_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before the path of Bedrock's own is signed along."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    async with against(either, under="/a%20proxy/") as (adapter, served):
        await collected(adapter, call())
    (received,) = served.received
    assert received.target == "/a%20proxy/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream"
    expected = signature(received, REGION, KEYS["AWS_SECRET_ACCESS_KEY"])
    assert received.headers["authorization"].endswith(expected)


def test_keys_show_nothing() -> None:
    """The text of keys, as it may come into a log, holds none of them."""
    shown = f"{Keys('AKIAMADEUP', 'secret', 'token')!r}"
    assert not any(part in shown for part in ("AKIAMADEUP", "secret", "token"))
