"""Makes chats and what Bedrock is asked with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from execution_platform.adapters.bedrock.request import build_request
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

Json = dict[str, Any]
Ask = Callable[[chat_pb2.ChatRequest], object]
Code = chat_pb2.NoticeCode

SONNET_4 = "us.anthropic.claude-sonnet-4-20250514-v1:0"
SONNET_45 = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
OPUS_46 = "us.anthropic.claude-opus-4-6-v1"
OPUS_5 = "global.anthropic.claude-opus-5"
NOVA = "amazon.nova-pro-v1:0"
NOVA_2 = "global.amazon.nova-2-lite-v1:0"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
TITAN = "amazon.titan-text-express-v1"
GPT_OSS = "openai.gpt-oss-120b-1:0"
DEEPSEEK = "us.deepseek.r1-v1:0"
QWEN = "qwen.qwen3-32b-v1:0"
HIDDEN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2"

USER, ASSISTANT, SYSTEM = content_pb2.ROLE_USER, content_pb2.ROLE_ASSISTANT, content_pb2.ROLE_SYSTEM


def hello() -> chat_pb2.ChatRequest:
    """A request that asks for nothing in particular."""
    request = chat_pb2.ChatRequest()
    say(request, USER, "hello")
    return request


def say(request: chat_pb2.ChatRequest, role: content_pb2.Role.ValueType, *texts: str) -> content_pb2.Message:
    """Add a message of texts."""
    message = request.messages.add(role=role)
    for text in texts:
        message.content.add().text.text = text
    return message


def attach(request: chat_pb2.ChatRequest, **media: Any) -> content_pb2.ContentBlock:
    """Add a medium to the first message."""
    block = request.messages[0].content.add()
    block.media.CopyFrom(content_pb2.MediaBlock(**media))
    return block


def built(request: chat_pb2.ChatRequest, model: str = SONNET_45, **call: Any) -> tuple[Json, list[tuple[str, str]]]:
    """The body, and the notices as (code, field)."""
    wire = build_request(Call(request, model, **call), "bedrock", "eu-central-1")
    return json.loads(wire.body), [
        (Code.Name(notice.code).removeprefix("NOTICE_CODE_"), notice.field) for notice in wire.notices
    ]


def asked(ask: Ask, model: str = SONNET_45) -> tuple[Json, list[tuple[str, str]]]:
    """The body of a request that asks for something, without its messages, and the notices."""
    request = hello()
    ask(request)
    body, notices = built(request, model)
    del body["messages"]
    return body, notices


def content_of(ask: Ask, model: str = SONNET_45) -> tuple[list[Json], list[tuple[str, str]]]:
    """The first message's content, and the notices."""
    request = hello()
    ask(request)
    body, notices = built(request, model)
    content: list[Json] = body["messages"][0]["content"]
    return content, notices


def reasons(**reasoning: Any) -> Ask:
    """Ask for reasoning."""
    return lambda request: request.reasoning.CopyFrom(chat_pb2.Reasoning(**reasoning))


def samples(**sampling: Any) -> Ask:
    """Ask for a sampling."""
    return lambda request: request.sampling.CopyFrom(chat_pb2.Sampling(**sampling))


def both(*asks: Ask) -> Ask:
    """Ask for several things."""
    return lambda request: [ask(request) for ask in asks]


def with_tool(request: chat_pb2.ChatRequest) -> None:
    """Give the model a tool."""
    function = request.tools.add().function
    function.name, function.description = "look", "Looks."
    function.parameters_json = '{"type":"object", "properties":{"n":{"type":"number","maximum":1e2}}}'


def with_call(request: chat_pb2.ChatRequest) -> None:
    """Add a call of the tool and its result, a failure."""
    call = request.messages.add(role=ASSISTANT).content.add().tool_call
    call.call_id, call.name, call.arguments_json = "c1", "look", '{"n":1.0}'
    result = request.messages.add(role=USER).content.add().tool_result
    result.call_id, result.is_error = "c1", True
    result.content.add().text.text = "nothing there"


def choose(mode: chat_pb2.ToolChoiceMode.ValueType, name: str = "") -> Ask:
    """Ask for a tool by a choice."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        with_tool(request)
        request.tool_choice.mode, request.tool_choice.name = mode, name

    return ask
