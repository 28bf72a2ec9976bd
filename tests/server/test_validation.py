"""Bad requests are refused with the field and the fix; none of them is ever a fault of the platform."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.conftest import Serve, Served, chat_request, details_of, failed_stream, user

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.chat.validation import check_chat, check_tool_choice
from execution_platform.v1 import capability_pb2, chat_pb2, content_pb2

Change = Callable[[chat_pb2.ChatRequest], object]

BROKEN: dict[str, Change] = {
    "messages": lambda r: r.ClearField("messages"),
    "messages[0].role": lambda r: r.messages[0].ClearField("role"),
    "messages[1].role": lambda r: r.messages.add(role=77),
    "messages[1].content": lambda r: r.messages.add(role=content_pb2.ROLE_USER),
    "messages[0].content[1]": lambda r: r.messages[0].content.add(),
    "messages[0].content[1].media": lambda r: r.messages[0].content.add(media=content_pb2.MediaBlock()),
    "messages[0].content[1].media.mime_type": lambda r: r.messages[0].content.add(
        media=content_pb2.MediaBlock(data=b"x")
    ),
    "messages[0].content[1].media.uri": lambda r: r.messages[0].content.add(media=content_pb2.MediaBlock(uri="")),
    "messages[0].content[1].tool_call.call_id": lambda r: r.messages[0].content.add(
        tool_call=content_pb2.ToolCallBlock(name="f")
    ),
    "messages[0].content[1].tool_call.name": lambda r: r.messages[0].content.add(
        tool_call=content_pb2.ToolCallBlock(call_id="1")
    ),
    "messages[0].content[1].tool_result.call_id": lambda r: r.messages[0].content.add(
        tool_result=content_pb2.ToolResultBlock()
    ),
    "messages[0].content[1].tool_result.structured_content_json": lambda r: r.messages[0].content.add(
        tool_result=content_pb2.ToolResultBlock(call_id="1", structured_content_json="{")
    ),
    "messages[0].content[1].opaque.json": lambda r: r.messages[0].content.add(opaque=content_pb2.OpaqueBlock(type="t")),
    "messages[0].content[0].provider_metadata_json": lambda r: setattr(
        r.messages[0].content[0], "provider_metadata_json", "[1]"
    ),
    "messages[0].content[0].cache_hint.ttl": lambda r: r.messages[0].content[0].cache_hint.ttl.FromSeconds(-5),
    "system[0]": lambda r: r.system.add(),
    "request_id": lambda r: setattr(r, "request_id", "not-a-uuid"),
    "persona": lambda r: setattr(r, "persona", "two words"),
    "model": lambda r: setattr(r, "model", "m" * 513),
    "tools[0]": lambda r: r.tools.add(),
    "tools[0].function.name": lambda r: r.tools.add(function=chat_pb2.FunctionTool(name="with space")),
    "tools[0].function.parameters_json": lambda r: r.tools.add(
        function=chat_pb2.FunctionTool(name="f", parameters_json="[]")
    ),
    "tools[0].provider.type": lambda r: r.tools.add(provider=chat_pb2.ProviderTool()),
    "tools[0].mcp_server.name": lambda r: r.tools.add(mcp_server=chat_pb2.McpServerTool(url="http://127.0.0.1")),
    "tools[1]": lambda r: [r.tools.add(function=chat_pb2.FunctionTool(name="f")) for _ in range(2)],
    "tool_choice.name": lambda r: setattr(r.tool_choice, "mode", chat_pb2.TOOL_CHOICE_MODE_NAMED),
    "tool_choice.mode": lambda r: setattr(r.tool_choice, "mode", chat_pb2.TOOL_CHOICE_MODE_REQUIRED),
    "tool_choice": lambda r: r.tool_choice.allowed_names.append("nobody"),
    "sampling.max_output_tokens": lambda r: setattr(r.sampling, "max_output_tokens", 0),
    "sampling.temperature": lambda r: setattr(r.sampling, "temperature", 2.5),
    "sampling.top_p": lambda r: setattr(r.sampling, "top_p", math.nan),
    "sampling.top_k": lambda r: setattr(r.sampling, "top_k", -1),
    "sampling.frequency_penalty": lambda r: setattr(r.sampling, "frequency_penalty", math.inf),
    "sampling.presence_penalty": lambda r: setattr(r.sampling, "presence_penalty", -3.0),
    "sampling.top_logprobs": lambda r: setattr(r.sampling, "top_logprobs", 21),
    "sampling.stop_sequences[0]": lambda r: r.sampling.stop_sequences.append(""),
    "sampling.logit_bias[7]": lambda r: r.sampling.logit_bias.update({7: 101.0}),
    "sampling.logit_bias[8]": lambda r: r.sampling.logit_bias.update({8: math.nan}),
    "reasoning.budget_tokens": lambda r: setattr(r.reasoning, "budget_tokens", -1),
    "reasoning.display": lambda r: setattr(r.reasoning, "display", 99),
    "output_format.json_schema.schema_json": lambda r: r.output_format.json_schema.SetInParent(),
    "output_format.json_schema.name": lambda r: r.output_format.json_schema.MergeFrom(
        chat_pb2.JsonSchemaFormat(schema_json="{}", name="a b")
    ),
    "output_modalities[0]": lambda r: r.output_modalities.append(content_pb2.MODALITY_UNSPECIFIED),
    "cache.ttl": lambda r: r.cache.ttl.FromSeconds(-1),
    "context.labels": lambda r: r.context.labels.update({"k": "v" * 129}),
    "provider_options[0].provider": lambda r: r.provider_options.add(options_json="{}"),
    "provider_options[0].options_json": lambda r: r.provider_options.add(provider="openai", options_json="nope"),
    "unsupported_options": lambda r: setattr(r, "unsupported_options", 9),
    "routing.fallback_models": lambda r: r.routing.fallback_models.extend(["a"] * 17),
    "routing.fallback_models[1]": lambda r: r.routing.fallback_models.extend(["a", ""]),
    "routing.fallback_models[0]": lambda r: r.routing.fallback_models.append("m" * 513),
    "routing.allowed_providers[0]": lambda r: r.routing.allowed_providers.append(""),
    "routing.allowed_regions": lambda r: r.routing.allowed_regions.extend(["eu"] * 17),
    "routing.first_token_timeout": lambda r: r.routing.first_token_timeout.SetInParent(),
    "routing.idle_timeout": lambda r: r.routing.idle_timeout.FromSeconds(-1),
    "routing.mid_stream": lambda r: setattr(r.routing, "mid_stream", 9),
    "routing.required_capabilities[0]": lambda r: r.routing.required_capabilities.append(
        capability_pb2.CAPABILITY_UNSPECIFIED
    ),
    "routing.required_capabilities[1]": lambda r: r.routing.required_capabilities.extend(
        [capability_pb2.CAPABILITY_TOOLS, 99]  # type: ignore[list-item]  # unknown on purpose
    ),
}


def check(request: chat_pb2.ChatRequest) -> None:
    """Make both checks, as a chat without a persona passes them."""
    check_chat(request)
    check_tool_choice(request)


def test_a_plain_request_is_valid() -> None:
    """The request that the broken ones are made from is valid itself."""
    check(chat_request())


def test_a_route_is_explained_without_messages() -> None:
    """Where nothing is said yet messages may be absent, and every other check holds."""
    check_chat(chat_pb2.ChatRequest(), needs_messages=False)
    with pytest.raises(InvalidRequestError, match="persona: "):
        check_chat(chat_pb2.ChatRequest(persona="two words"), needs_messages=False)


@pytest.mark.parametrize("field", BROKEN)
def test_refusal_names_the_field(field: str) -> None:
    """A broken field is refused with its path, and the message begins with it."""
    request = chat_request()
    BROKEN[field](request)
    with pytest.raises(InvalidRequestError) as caught:
        check(request)
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")


async def test_refusal_reaches_the_caller_with_its_field(served: Served) -> None:
    """Over gRPC the refusal is INVALID_ARGUMENT with BadRequest; within CompleteChat the path begins with chat."""
    _, error = await failed_stream(served.chat.Chat(chat_pb2.ChatRequest()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.chat.CompleteChat(chat_pb2.CompleteChatRequest())
    fields = []
    for failure in (error, caught.value):
        bad = error_details_pb2.BadRequest()
        assert any(part.Unpack(bad) for part in details_of(failure).details)
        fields.append(bad.field_violations[0].field)
    assert fields == ["messages", "chat.messages"]


def test_tool_results_nested_too_deep_are_refused() -> None:
    """Blocks within blocks within blocks end somewhere, with a refusal rather than a crash."""
    block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text="x"))
    for _ in range(12):
        block = content_pb2.ContentBlock(tool_result=content_pb2.ToolResultBlock(call_id="1", content=[block]))
    request = chat_pb2.ChatRequest(messages=[content_pb2.Message(role=content_pb2.ROLE_USER, content=[block])])
    with pytest.raises(InvalidRequestError, match="nested deeper"):
        check_chat(request)


@settings(max_examples=3000)
@given(wire=st.binary(max_size=200), keep=st.booleans())
def test_no_bytes_that_parse_crash_the_check(wire: bytes, keep: bool) -> None:
    """Whatever parses as a ChatRequest is accepted or refused with a field."""
    request = chat_pb2.ChatRequest()
    try:
        request.ParseFromString(wire)
    except Exception:  # noqa: BLE001 - bytes that are no message never reach the server's code
        return
    if keep:
        request.messages.append(user("Hi"))
    with contextlib.suppress(InvalidRequestError):
        check_chat(request)


def mutations() -> st.SearchStrategy[list[Change]]:
    """Combinations of broken fields."""
    return st.lists(st.sampled_from(list(BROKEN.values())), max_size=4)


@st.composite
def malformed(draw: st.DrawFn) -> chat_pb2.ChatRequest:
    """A request with broken fields, odd texts, odd scripts and odd options, for any provider that is there."""
    request = chat_request(text=draw(st.text(max_size=20)), model=draw(st.sampled_from(MODELS) | st.text(max_size=9)))
    for change in draw(mutations()):
        with contextlib.suppress(IndexError):  # another one has taken the messages away
            change(request)
    for _ in range(draw(st.integers(0, 2))):
        request.provider_options.add(
            provider=draw(st.sampled_from(["scripted", "openai", ""])), options_json=draw(st.sampled_from(SCRIPTS))
        )
    request.sampling.temperature = draw(st.floats())
    return request


MODELS = ["", "scripted", "scripted/echo", "scripted/", "/x", "openai/", "nobody/x", "scripted/none"]
SCRIPTS = [
    "{}",
    "null",
    "[]",
    '{"script":1}',
    '{"script":[{"text":1}]}',
    '{"script":[{}]}',
    '{"script":[{"finish":"NOPE"}]}',
    '{"script":[{"tool_call":{"name":""}}]}',
    '{"script":[{"text":"\\ud83d"}]}',
    '{"script":[{"citation":{"nope":1}}]}',
]


@pytest.mark.unmeasured
async def test_ten_thousand_malformed_requests_are_never_internal(serve: Serve) -> None:
    """10,000 malformed requests over gRPC give answers or refusals, never INTERNAL or UNKNOWN."""
    seen: set[grpc.StatusCode] = set()
    async with serve({"EP_LOG_LEVEL": "error"}) as served:
        for request in examples(10_000):
            call = served.chat.Chat(request, timeout=60)
            try:
                async for _ in call:
                    pass
            except grpc.aio.AioRpcError as error:
                seen.add(error.code())
    assert not {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN} & seen
    assert {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} <= seen


def examples(count: int) -> list[chat_pb2.ChatRequest]:
    """Draw that many malformed requests."""
    drawn: list[chat_pb2.ChatRequest] = []

    @settings(max_examples=count, database=None)
    @given(malformed())
    def draw(request: chat_pb2.ChatRequest) -> None:
        drawn.append(request)

    while len(drawn) < count:
        draw()
    return drawn[:count]
