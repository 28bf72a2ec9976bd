"""A few calls to Gemini itself. Run with --run-live and EP_GEMINI_API_KEY; they cost a fraction of a cent."""

import contextlib
import os
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from tests.adapters.gemini.answers import FAMILY, calls

from execution_platform.adapters.gemini import GeminiAdapter
from execution_platform.adapters.gemini.models import DEFAULT_MODEL
from execution_platform.adapters.spi import Call, ProviderConfig
from execution_platform.adapters.testing import Answer, check_stream
from execution_platform.v1 import chat_pb2, content_pb2

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif("EP_GEMINI_API_KEY" not in os.environ, reason="EP_GEMINI_API_KEY is not set"),
]

WEATHER = chat_pb2.Tool(
    function=chat_pb2.FunctionTool(
        name="get_weather",
        description="Tells the weather of a city. Always call it for weather.",
        parameters_json='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
    )
)


@pytest.fixture
async def adapter() -> AsyncIterator[GeminiAdapter]:
    key = SecretStr(os.environ["EP_GEMINI_API_KEY"])
    made = GeminiAdapter(ProviderConfig("gemini", key, os.environ.get("EP_GEMINI_BASE_URL", "")))
    yield made
    await made.aclose()


def asked(words: str) -> chat_pb2.ChatRequest:
    request = chat_pb2.ChatRequest(sampling=chat_pb2.Sampling(max_output_tokens=2000))
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = words
    return request


async def answered(adapter: GeminiAdapter, request: chat_pb2.ChatRequest, *, unary: bool = False) -> Answer:
    call = Call(request, DEFAULT_MODEL, request_id="live", unary=unary)
    async with contextlib.aclosing(adapter.stream(call)) as lists:
        return check_stream([events async for events in lists], family=FAMILY)


@pytest.mark.parametrize("unary", [False, True])
async def test_a_chat_is_answered(adapter: GeminiAdapter, *, unary: bool) -> None:
    """A short question is answered with text, usage and the answer's id."""
    answer = await answered(adapter, asked("Answer with the single word: yes"), unary=unary)
    assert "yes" in answer.text().lower()
    assert answer.finished is not None
    assert answer.finished.reason == chat_pb2.FINISH_REASON_STOP
    assert answer.usage is not None
    assert answer.usage.items
    assert answer.started is not None
    assert answer.started.provider_response_id


async def test_signed_calls_survive_two_turns(adapter: GeminiAdapter) -> None:
    """A signed call, sent back as it came with its result, is taken by the provider."""
    request = asked("What is the weather in Paris?")
    request.tools.append(WEATHER)
    first = await answered(adapter, request)
    assert [call.name for call in calls(first)] == ["get_weather"]
    request.messages.add(role=content_pb2.ROLE_ASSISTANT, content=first.blocks)
    result = request.messages.add(role=content_pb2.ROLE_USER).content.add().tool_result
    result.call_id = calls(first)[0].call_id
    result.content.add().text.text = "18 degrees and rain"
    second = await answered(adapter, request)
    assert "18" in second.text()


async def test_tokens_are_counted_and_models_listed(adapter: GeminiAdapter) -> None:
    """The provider counts a prompt and names the default model among its models."""
    counted = await adapter.count_tokens(Call(asked("one two three"), DEFAULT_MODEL))
    assert counted.input_tokens > 0
    assert DEFAULT_MODEL in {model.model for model in await adapter.list_models()}
