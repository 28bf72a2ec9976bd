"""The adapter with the real CLI in its cage, and a mock of its model's API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.adapters.claude_agent.cages import require_cages
from tests.adapters.claude_agent.messages_api import MessagesApi

from execution_platform.adapters.claude_agent import PROVIDERS
from execution_platform.adapters.claude_agent.stream import FAMILY
from execution_platform.adapters.errors import CredentialsError, InvalidRequestError, UnsupportedOptionError
from execution_platform.adapters.spi import Adapter, Call, Events, ProviderConfig
from execution_platform.adapters.testing import Answer, check_adapter, check_stream
from execution_platform.v1 import chat_pb2, content_pb2

SPEC = PROVIDERS[0]
KEY = "sk-ant-made-up"


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    """A mock of the Messages API."""
    require_cages()
    with MessagesApi() as mock:
        yield mock


def made(api: MessagesApi, folder: Path, **options: str) -> Adapter:
    """Return an adapter that asks the mock."""
    defaults = {option.name: option.default for option in SPEC.options}
    told = defaults | {"config_dir": str(folder / "config")} | options
    return SPEC.create(ProviderConfig(SPEC.name, SecretStr(KEY), api.url, told))


def said(text: str) -> content_pb2.Message:
    """Return what a user says."""
    block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=text))
    return content_pb2.Message(role=content_pb2.ROLE_USER, content=[block])


def asked(*messages: content_pb2.Message, options: dict[str, Any] | None = None, **fields: Any) -> chat_pb2.ChatRequest:
    """Return a request, with provider options."""
    given = [chat_pb2.ProviderOptions(provider=FAMILY, options_json=json.dumps(options))] if options else []
    return chat_pb2.ChatRequest(messages=messages, provider_options=given, **fields)


async def answer(adapter: Adapter, request: chat_pb2.ChatRequest, **more: Any) -> Answer:
    """Return the answer to a request."""
    lists: list[Events] = []
    stream = adapter.stream(Call(request, "claude-sonnet-5", "r1", **more))
    try:
        async for events in stream:
            lists.append(events)  # noqa: PERF401 - what came stays where it fails
    finally:
        await stream.aclose()
    return check_stream(lists, family=FAMILY)


def of_answer(told: Answer) -> content_pb2.Message:
    """Return an answer as it is sent back."""
    return content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, content=told.blocks)


async def test_it_conforms(api: MessagesApi, tmp_path: Path) -> None:
    """The conformance kit's life: to the end, unary, several at once, closed and cancelled in the middle."""
    request = asked(
        said('@tool Bash {"command": "echo seen"}\n@text It said {result}.'), options={"allowed_tools": ["Bash"]}
    )
    told = await check_adapter(
        lambda: made(api, tmp_path), Call(request, "claude-sonnet-5"), is_free=lambda: api.open == 0, family=FAMILY
    )
    assert told.text() == "It said seen."
    assert [block.WhichOneof("content") for block in told.blocks] == ["tool_call", "tool_result", "text"]


async def test_a_conversation_goes_on_and_can_branch(api: MessagesApi, tmp_path: Path) -> None:
    """The second turn sees the first; gone on with twice at once, it is what it was; start-up time is told."""
    adapter = made(api, tmp_path)
    seconds: list[float] = []
    first = await answer(adapter, asked(said("@text The first.")), on_startup=seconds.append)
    assert len(seconds) == 1
    assert seconds[0] > 0

    async def go_on(words: str) -> None:
        request = asked(said("@text The first."), of_answer(first), said(f"@text {words}: {{asked}}"))
        second = await answer(adapter, request)
        assert second.text() == f"{words}: @text The first. | @text {words}: {{asked}}"
        assert not second.notices
        assert second.finished is not None
        assert [line.amount.nanos for line in second.finished.cost.lines] == [119_600]

    await asyncio.gather(go_on("second"), go_on("another second"))
    await adapter.aclose()


async def test_a_session_that_is_gone_is_told_as_text(api: MessagesApi, tmp_path: Path) -> None:
    """Where the session's file is not there the earlier turns go as text, in one run, and notices say so."""
    adapter = made(api, tmp_path)
    first = await answer(adapter, asked(said("The first.")))
    elsewhere = made(api, tmp_path / "elsewhere")
    told = await answer(elsewhere, asked(said("The first."), of_answer(first), said("@text {asked}")))
    assert "The first." in told.text()
    assert [notice.code for notice in told.notices] == [
        chat_pb2.NOTICE_CODE_STATE_DROPPED,
        chat_pb2.NOTICE_CODE_BLOCK_DROPPED,
    ]
    await adapter.aclose()
    await elsewhere.aclose()


async def test_options_reach_the_model(api: MessagesApi, tmp_path: Path) -> None:
    """System prompt, effort and the longest answer are in what the model is asked; a schema's answer comes as text."""
    adapter = made(api, tmp_path)
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'
    request = asked(
        said('@tool StructuredOutput {"n": 7}\n@text Done.'),
        options={"system_prompt": "You are a test."},
        system=[content_pb2.ContentBlock(text=content_pb2.TextBlock(text="Be kind."))],
        reasoning=chat_pb2.Reasoning(effort="low"),
        sampling=chat_pb2.Sampling(max_output_tokens=777),
        output_format=chat_pb2.OutputFormat(json_schema=chat_pb2.JsonSchemaFormat(schema_json=schema)),
    )
    told = await answer(adapter, request)
    assert told.text() == '{"n":7}'
    body = next(each["body"] for each in api.requests if each["body"].get("messages"))
    assert body["max_tokens"] == 777
    assert body["output_config"]["effort"] == "low"
    assert body["system"][-1]["text"] == "You are a test.\n\nBe kind."
    await adapter.aclose()


async def test_images_and_documents_reach_the_model(api: MessagesApi, tmp_path: Path) -> None:
    """An image and a PDF of a message are blocks of what the model is asked."""
    adapter = made(api, tmp_path)
    message = said("@text Seen.")
    message.content.add().media.CopyFrom(content_pb2.MediaBlock(mime_type="image/png", data=PIXEL))
    message.content.add().media.CopyFrom(content_pb2.MediaBlock(mime_type="application/pdf", data=b"%PDF-1.4\n%%EOF"))
    await answer(adapter, asked(message))
    body = next(each["body"] for each in api.requests if each["body"].get("messages"))
    kinds = [block["type"] for block in body["messages"][0]["content"]]
    assert {"image", "document"} <= set(kinds)
    await adapter.aclose()


async def test_what_is_refused_is_refused_before_anything_is_spent(api: MessagesApi, tmp_path: Path) -> None:
    """An option that no caller may set, a workspace where none is allowed, and an option that is to be refused."""
    adapter = made(api, tmp_path)
    reject = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    sampling = chat_pb2.Sampling(temperature=0.1)
    for request, wanted, field in (
        (asked(said("x"), options={"env": {}}), InvalidRequestError, "provider_options[0].options_json.env"),
        (
            asked(said("x"), options={"workspace": "/"}),
            InvalidRequestError,
            "provider_options[0].options_json.workspace",
        ),
        (
            asked(said("x"), unsupported_options=reject, sampling=sampling),
            UnsupportedOptionError,
            "sampling.temperature",
        ),
    ):
        with pytest.raises(wanted) as caught:
            await answer(adapter, request)
        assert caught.value.field == field
    assert not api.requests
    await adapter.aclose()


async def test_a_refused_key_is_in_no_error(api: MessagesApi, tmp_path: Path) -> None:
    """Where the model's API refuses the key the error says so, with its status, and without the key."""
    adapter = made(api, tmp_path)
    with pytest.raises(CredentialsError) as caught:
        await answer(adapter, asked(said("@error 401")))
    assert caught.value.provider_status == 401
    assert KEY not in repr(caught.value)
    await adapter.aclose()


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6364f8cf500f00038601805a347d6b0000000049454e44ae426082"
)
