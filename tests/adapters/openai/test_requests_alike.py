"""What both of OpenAI's formats make of one request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.chat.request import build_chat
from execution_platform.adapters.openai_api.responses.request import build_responses
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2


def bodies(request: chat_pb2.ChatRequest, model: str = "gpt-5.6-sol") -> tuple[Any, Any]:
    """The bodies of Chat Completions and of Responses."""
    call, dialect = Call(request, model, unary=True), DIALECT.for_model(model)
    return json.loads(build_chat(call, dialect).body), json.loads(build_responses(call, dialect).body)


def test_no_reasoning_wins_over_an_effort() -> None:
    """Where reasoning is switched off, an effort beside that changes nothing."""
    request = chat_pb2.ChatRequest(reasoning=chat_pb2.Reasoning(enabled=False, effort="high"))
    chat, responses = bodies(request)
    assert chat["reasoning_effort"] == "none"
    assert responses["reasoning"] == {"effort": "none"}


def test_a_providers_tool_without_a_name_is_chosen_by_its_type() -> None:
    """A choice of such a tool names its type."""
    request = chat_pb2.ChatRequest(
        tools=[chat_pb2.Tool(provider=chat_pb2.ProviderTool(type="web_search"))],
        tool_choice=chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name="web_search"),
    )
    assert [body["tool_choice"] for body in bodies(request)] == [{"type": "web_search"}] * 2


def test_a_number_of_log_probabilities_asks_for_them() -> None:
    """top_logprobs implies logprobs, whatever that says itself."""
    request = chat_pb2.ChatRequest(sampling=chat_pb2.Sampling(logprobs=False, top_logprobs=3))
    chat, responses = bodies(request, "gpt-4o")
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 3)
    assert responses["include"] == ["message.output_text.logprobs"]


@pytest.mark.parametrize(
    ("media", "types"),
    [
        (content_pb2.MediaBlock(uri="https://example.com/a.png"), ("image_url", "input_image")),
        (content_pb2.MediaBlock(uri="https://example.com/a"), ("image_url", "input_file")),
        (content_pb2.MediaBlock(mime_type="Image/PNG", data=b"a"), ("image_url", "input_image")),
        (content_pb2.MediaBlock(mime_type="AUDIO/mpeg", data=b"a"), ("input_audio", "input_audio")),
        (content_pb2.MediaBlock(mime_type="application/pdf", data=b"a"), ("file", "input_file")),
        (content_pb2.MediaBlock(file_id="file-1"), ("file", "input_file")),
    ],
)
def test_media_are_sent_as_what_they_are(media: content_pb2.MediaBlock, types: tuple[str, str]) -> None:
    """The media type decides, in any case of letters; without one the address does, if it tells."""
    block = content_pb2.ContentBlock(media=media)
    message = content_pb2.Message(role=content_pb2.ROLE_USER, content=[block])
    chat, responses = bodies(chat_pb2.ChatRequest(messages=[message]), "a-model-of-tomorrow")
    told = (chat["messages"][0]["content"][0]["type"], responses["input"][0]["content"][0]["type"])
    assert told == types
