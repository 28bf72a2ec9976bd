"""A few calls to Anthropic itself. Run with --run-live and EP_ANTHROPIC_API_KEY; they cost a fraction of a cent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from tests.adapters.anthropic.wire import folded

from execution_platform.adapters.anthropic import AnthropicAdapter
from execution_platform.adapters.spi import Call, Events, ProviderConfig
from execution_platform.v1 import chat_pb2, content_pb2

MODEL = "claude-haiku-4-5"

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif("EP_ANTHROPIC_API_KEY" not in os.environ, reason="EP_ANTHROPIC_API_KEY is not set"),
]


@pytest.fixture
async def adapter() -> AsyncIterator[AnthropicAdapter]:
    key = SecretStr(os.environ["EP_ANTHROPIC_API_KEY"])
    made = AnthropicAdapter(ProviderConfig("anthropic", key, os.environ.get("EP_ANTHROPIC_BASE_URL", "")))
    yield made
    await made.aclose()


def call(words: str, *, unary: bool = False, **more: object) -> Call:
    block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=words))
    message = content_pb2.Message(role=content_pb2.ROLE_USER, content=[block])
    request = chat_pb2.ChatRequest(messages=[message], sampling=chat_pb2.Sampling(max_output_tokens=2000))
    request.MergeFrom(chat_pb2.ChatRequest(**more))  # type: ignore[arg-type]  # fields of the request
    return Call(request, MODEL, unary=unary)


async def answered(adapter: AnthropicAdapter, asked: Call) -> chat_pb2.CompleteChatResponse:
    events: Events = []
    async with contextlib.aclosing(adapter.stream(asked)) as lists:
        async for some in lists:
            events += some
    return folded(events)


@pytest.mark.parametrize("unary", [False, True])
async def test_a_chat_is_answered(adapter: AnthropicAdapter, unary: bool) -> None:
    """A short question is answered with text, usage and the provider's ids."""
    answer = await answered(adapter, call("Answer with the single word: yes", unary=unary))
    assert "yes" in answer.message.content[0].text.text.lower()
    assert answer.finished.reason == chat_pb2.FINISH_REASON_STOP
    assert answer.finished.usage.items
    assert answer.started.provider_request_id


async def test_thinking_and_a_tool_survive_two_turns(adapter: AnthropicAdapter) -> None:
    """Signed thinking and a call, sent back as they came, are taken by the provider."""
    schema = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'
    tool = chat_pb2.Tool(function=chat_pb2.FunctionTool(name="get_weather", parameters_json=schema))
    asked = call("What is the weather in Paris?", tools=[tool], reasoning=chat_pb2.Reasoning(budget_tokens=1024))
    first = await answered(adapter, asked)
    assert first.finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    calls = [block.tool_call for block in first.message.content if block.HasField("tool_call")]
    sunny = content_pb2.ContentBlock(text=content_pb2.TextBlock(text="sunny"))
    results = [
        content_pb2.ContentBlock(tool_result=content_pb2.ToolResultBlock(call_id=made.call_id, content=[sunny]))
        for made in calls
    ]
    asked.request.messages.append(first.message)
    asked.request.messages.add(role=content_pb2.ROLE_USER, content=results)
    second = await answered(adapter, asked)
    assert second.finished.reason == chat_pb2.FINISH_REASON_STOP


async def test_tokens_are_counted_and_models_listed(adapter: AnthropicAdapter) -> None:
    """The counter counts, and the list names models."""
    assert (await adapter.count_tokens(call("hi"))).input_tokens > 0
    assert any(model.model.startswith("claude-") for model in await adapter.list_models())
