"""A few calls to OpenAI itself. Run with --run-live and EP_OPENAI_API_KEY; they cost a fraction of a cent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.adapter import CountingOpenAIAdapter
from execution_platform.adapters.spi import Call, ProviderConfig
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, content_pb2

RESPONSES_MODEL = "gpt-5.4-nano"
CHAT_MODEL = "gpt-3.5-turbo"

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif("EP_OPENAI_API_KEY" not in os.environ, reason="EP_OPENAI_API_KEY is not set"),
]


@pytest.fixture
async def adapter() -> AsyncIterator[CountingOpenAIAdapter]:
    key = SecretStr(os.environ["EP_OPENAI_API_KEY"])
    url = os.environ.get("EP_OPENAI_BASE_URL", "https://api.openai.com/v1")
    made = CountingOpenAIAdapter(DIALECT, ProviderConfig("openai", key, url))
    yield made
    await made.aclose()


def call(words: str, model: str = RESPONSES_MODEL, *, unary: bool = False) -> Call:
    block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=words))
    message = content_pb2.Message(role=content_pb2.ROLE_USER, content=[block])
    request = chat_pb2.ChatRequest(messages=[message], sampling=chat_pb2.Sampling(max_output_tokens=2000))
    return Call(request, model, unary=unary)


async def answered(adapter: CountingOpenAIAdapter, asked: Call) -> chat_pb2.CompleteChatResponse:
    fold = Fold()
    async with contextlib.aclosing(adapter.stream(asked)) as lists:
        async for events in lists:
            fold.add_all(events)
    return fold.response


@pytest.mark.parametrize("unary", [False, True])
@pytest.mark.parametrize("model", [RESPONSES_MODEL, CHAT_MODEL])
async def test_a_chat_is_answered(adapter: CountingOpenAIAdapter, model: str, unary: bool) -> None:
    """A short question is answered by either API with text, usage and the provider's ids."""
    answer = await answered(adapter, call("Answer with the single word: yes", model, unary=unary))
    assert "yes" in "".join(block.text.text for block in answer.message.content).lower()
    assert answer.finished.reason == chat_pb2.FINISH_REASON_STOP
    assert answer.finished.usage.items
    assert answer.started.provider_request_id


async def test_reasoning_and_a_tool_survive_two_turns(adapter: CountingOpenAIAdapter) -> None:
    """Encrypted reasoning and a call, sent back as they came, are taken by the provider."""
    asked = call("What is the weather in Paris? Use the tool.")
    schema = (
        '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
    )
    asked.request.tools.add(function=chat_pb2.FunctionTool(name="get_weather", parameters_json=schema, strict=False))
    asked.request.reasoning.effort = "low"
    first = await answered(adapter, asked)
    assert first.finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    sunny = content_pb2.ContentBlock(text=content_pb2.TextBlock(text="sunny"))
    results = [
        content_pb2.ContentBlock(
            tool_result=content_pb2.ToolResultBlock(call_id=block.tool_call.call_id, content=[sunny])
        )
        for block in first.message.content
        if block.HasField("tool_call")
    ]
    asked.request.messages.append(first.message)
    asked.request.messages.add(role=content_pb2.ROLE_USER, content=results)
    second = await answered(adapter, asked)
    assert second.finished.reason == chat_pb2.FINISH_REASON_STOP


async def test_tokens_are_counted_and_models_listed(adapter: CountingOpenAIAdapter) -> None:
    """The counter counts, and the list names models."""
    assert (await adapter.count_tokens(call("hi"))).input_tokens > 0
    assert any(model.model.startswith("gpt-") for model in await adapter.list_models())
