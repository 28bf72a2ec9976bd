"""How Bedrock fails: with which error, told once, and what of it stays secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.adapters.bedrock.serving import (
    KEYS,
    against,
    call,
    collected,
    either,
    failed,
)
from tests.adapters.upstream import Received, Reply

from execution_platform.adapters import errors
from execution_platform.adapters.spi import Events
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2

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


@pytest.mark.parametrize(
    ("status", "kind", "cls"),
    [
        (429, "ThrottlingException", errors.RateLimitedError),
        (400, "ValidationException", errors.InvalidRequestError),
        (403, "AccessDeniedException", errors.ForbiddenError),
        (408, "ModelTimeoutException", errors.ProviderTimeoutError),
        (424, "ModelErrorException", errors.UnavailableError),
        (500, "InternalServerException", errors.UnavailableError),
        (503, "ServiceUnavailableException", errors.OverloadedError),
    ],
)
@pytest.mark.parametrize("unary", [False, True])
async def test_an_error_status_is_asked_for_once(
    status: int, kind: str, cls: type[errors.AdapterError], unary: bool
) -> None:
    """An error is mapped with status, type and request id, and is not retried here."""

    async def refusing(_: Received, reply: Reply) -> None:
        await reply.json({"message": "no"}, status, x_amzn_errortype=f"{kind}:http://made.up/", x_amzn_requestid="r-4")

    async with against(refusing) as (adapter, served):
        _, error = await failed(adapter, call(unary=unary))
    assert type(error) is cls
    assert (error.provider_status, error.provider_code, error.provider_request_id) == (status, kind, "r-4")
    assert len(served.received) == 1


async def test_an_explanation_that_breaks_leaves_the_error() -> None:
    """Status and headers of an error tell it, also where its body is cut."""

    async def cut(_: Received, reply: Reply) -> None:
        await reply.head(429, "application/json", x_amzn_errortype="ThrottlingException")
        await reply.piece(b'{"mess')
        await reply.cut()

    async with against(cut) as (adapter, _):
        _, error = await failed(adapter)
    assert (type(error), error.provider_code) == (errors.RateLimitedError, "ThrottlingException")


async def test_an_answer_that_a_filter_stops_is_a_finish() -> None:
    """An error status for blocked content is an answer that ends with the filter."""

    async def blocking(_: Received, reply: Reply) -> None:
        message = "Output blocked by content filtering policy"
        await reply.json({"message": message}, 400, x_amzn_errortype="ValidationException")

    async with against(blocking) as (adapter, _):
        events = await collected(adapter, call())
    assert [event.WhichOneof("event") for event in events] == ["started", "finished"]
    assert events[-1].finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER


async def test_expired_credentials_are_renewed_by_the_next_attempt(aws_home: Path) -> None:
    """What AWS calls expired is read anew, once: the error says that another attempt makes sense, until it does not."""
    file = aws_home / "credentials"
    file.write_text("[rotated]\naws_access_key_id = AKIAOLD\naws_secret_access_key = made-up-old-secret\n")

    async def rotating(received: Received, reply: Reply) -> None:
        if "Credential=AKIANEW/" in received.headers["authorization"]:
            await either(received, reply)
        else:
            message = "The security token included in the request is expired"
            await reply.json({"message": message}, 403, x_amzn_errortype="ExpiredTokenException")

    async with against(rotating, {"profile": "rotated"}) as (adapter, served):
        attempts = [await failed(adapter) for _ in range(2)]
        assert [type(error) for _, error in attempts] == [errors.CredentialsError] * 2
        assert [(error.retryable, error.decision.retry) for _, error in attempts] == [(True, True), (False, False)]
        assert "made-up-old-secret" not in "".join(f"{error!r}{error.message}" for _, error in attempts)
        file.write_text("[rotated]\naws_access_key_id = AKIANEW\naws_secret_access_key = made-up-new-secret\n")
        assert said(await collected(adapter, call())) == "Hello there!"
    assert len(served.received) == 3


async def test_a_refused_api_key_stays_secret() -> None:
    """A wrong API key is the operator's matter, is not tried again, and is not shown."""

    async def refusing(_: Received, reply: Reply) -> None:
        message = "Authentication failed: Please make sure your API Key is valid."
        await reply.json({"Message": message}, 403, x_amzn_errortype="AccessDeniedException")

    async with against(refusing, api_key=SecretStr(API_KEY)) as (adapter, _):
        _, error = await failed(adapter)
        assert API_KEY not in f"{error!r}{error.message}{adapter!r}"
    assert (type(error), error.retryable) == (errors.CredentialsError, False)


async def test_an_api_key_that_cannot_be_sent_is_told() -> None:
    """A key that a header cannot hold is a mistake of the configuration; it is not shown."""
    async with against(either, api_key=SecretStr("made-up\nkey")) as (adapter, _):
        _, error = await failed(adapter)
    assert type(error) is errors.NotConfiguredError
    assert "made-up" not in f"{error!r}{error.message}"


async def test_without_credentials_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no credentials the provider is not asked, and the error names the remedy."""
    for name in KEYS:
        monkeypatch.delenv(name)
    async with against(either) as (adapter, served):
        _, error = await failed(adapter)
    assert type(error) is errors.NotConfiguredError
    assert "EP_BEDROCK_API_KEY" in error.message
    assert not served.received
