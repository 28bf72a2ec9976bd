"""What a chat asks is said in Converse's words, and what Bedrock or a model cannot do is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from execution_platform.adapters.bedrock.request import build_request
from execution_platform.adapters.errors import InvalidRequestError, NotConfiguredError, UnsupportedOptionError
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


# -- where it goes


@pytest.mark.parametrize(
    ("model", "region", "path"),
    [
        (NOVA, "eu-central-1", "/model/amazon.nova-pro-v1%3A0/converse-stream"),
        (f"us-east-1/{NOVA}", "us-east-1", "/model/amazon.nova-pro-v1%3A0/converse-stream"),
        (
            HIDDEN,
            "eu-west-1",
            f"/model/{HIDDEN.replace(':', '%3A').replace('/', '%2F')}/converse-stream",
        ),
    ],
)
def test_a_model_is_asked_in_its_region(model: str, region: str, path: str) -> None:
    """The name's region goes before the configured one, and the path holds the id or the whole ARN."""
    wire = build_request(Call(hello(), model), "bedrock", "eu-central-1")
    assert (wire.region, wire.path) == (region, path)
    assert wire.headers["accept"] == "application/vnd.amazon.eventstream"


def test_without_a_region_nobody_can_be_asked() -> None:
    """A name without a region is not configured where none is; one with a region is."""
    with pytest.raises(NotConfiguredError, match="EP_BEDROCK_REGION"):
        build_request(Call(hello(), NOVA), "bedrock", "")
    assert build_request(Call(hello(), f"us-east-1/{NOVA}"), "bedrock", "").region == "us-east-1"


@pytest.mark.parametrize(
    ("model", "tools", "unary", "operation"),
    [
        (NOVA, True, False, "converse-stream"),
        (NOVA, True, True, "converse"),
        (LLAMA, False, False, "converse-stream"),
        (LLAMA, True, False, "converse"),
    ],
)
def test_a_model_that_streams_no_calls_is_asked_for_a_whole_answer(
    model: str, tools: bool, unary: bool, operation: str
) -> None:
    """Where tools are at hand, such a model is asked by Converse instead of being refused by ConverseStream."""
    request = hello()
    if tools:
        request.tools.add().function.name = "look"
    wire = build_request(Call(request, model, unary=unary), "bedrock", "eu-central-1")
    assert wire.path.rpartition("/")[2] == operation
    assert (wire.headers["accept"] == "application/json") == (operation == "converse")


# -- messages


def test_roles_alternate() -> None:
    """Neighbours of one role become one message, in order; results of parallel calls so come together."""
    request = chat_pb2.ChatRequest()
    say(request, USER, "one")
    say(request, USER, "two", "three")
    say(request, ASSISTANT, "four")
    body, notices = built(request)
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "one"}, {"text": "two"}, {"text": "three"}]},
        {"role": "assistant", "content": [{"text": "four"}]},
    ]
    assert notices == []


def test_a_conversation_begins_with_the_user() -> None:
    """Words are put before an answer that nobody asked for, and a notice says so."""
    request = chat_pb2.ChatRequest()
    say(request, ASSISTANT, "welcome")
    say(request, USER, "hello")
    body, notices = built(request)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert notices == [("PARAM_DEFAULTED", "messages[0]")]


def test_blank_text_and_empty_messages_are_left_out() -> None:
    """Bedrock refuses both; the rest goes through."""
    request = hello()
    say(request, ASSISTANT, " \n")
    say(request, USER, "go on")
    body, notices = built(request)
    assert body["messages"] == [{"role": "user", "content": [{"text": "hello"}, {"text": "go on"}]}]
    assert notices == [("BLOCK_DROPPED", "messages[1].content[0]"), ("BLOCK_DROPPED", "messages[1]")]


@pytest.mark.parametrize(("model", "role"), [(OPUS_5, "system"), (SONNET_45, "user")])
def test_instructions_in_between_keep_their_role_where_it_is_taken(model: str, role: str) -> None:
    """Newer Claudes take system messages, others read them as the user's, with a notice."""
    request = hello()
    say(request, ASSISTANT, "hi")
    say(request, SYSTEM, "be brief")
    body, notices = built(request, model)
    assert body["messages"][2] == {"role": role, "content": [{"text": "be brief"}]}
    assert notices == ([] if role == "system" else [("PARAM_ADJUSTED", "messages[2].role")])


def test_instructions_go_to_the_user_where_a_model_takes_none() -> None:
    """Titan has no system prompt: its words come first in the conversation."""
    request = hello()
    request.system.add().text.text = "be brief"
    assert built(request)[0]["system"] == [{"text": "be brief"}]
    body, notices = built(request, TITAN)
    assert "system" not in body
    assert body["messages"][0]["content"] == [{"text": "be brief"}, {"text": "hello"}]
    assert notices == [("PARAM_ADJUSTED", "system")]


# -- media


@pytest.mark.parametrize(
    ("mime", "kind", "form"),
    [
        ("image/png", "image", "png"),
        ("image/jpg", "image", "jpeg"),
        ("application/pdf", "document", "pdf"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "document", "docx"),
        ("text/markdown; charset=utf-8", "document", "md"),
        ("video/quicktime", "video", "mov"),
        ("video/3gpp", "video", "three_gp"),
    ],
)
def test_media_go_as_bytes(mime: str, kind: str, form: str) -> None:
    """Each type has its block and format; the bytes go as base64."""
    content, notices = content_of(lambda request: attach(request, mime_type=mime, data=b"\x00x"), NOVA)
    assert content[1][kind]["format"] == form
    assert content[1][kind]["source"] == {"bytes": "AHg="}
    assert notices == []


def test_media_at_s3_are_named_and_not_fetched() -> None:
    """The address goes as it is, with the bucket's owner where it is told; an ending tells a missing type."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        attach(request, uri="s3://bucket/a.MP4").provider_metadata_json = '{"bucketOwner":"123456789012"}'
        attach(request, uri="s3://bucket/key", mime_type="image/webp")

    content, notices = content_of(ask, NOVA)
    location = {"uri": "s3://bucket/a.MP4", "bucketOwner": "123456789012"}
    assert content[1] == {"video": {"format": "mp4", "source": {"s3Location": location}}}
    assert content[2]["image"]["source"] == {"s3Location": {"uri": "s3://bucket/key"}}
    assert notices == []


@pytest.mark.parametrize(
    ("media", "model"),
    [
        ({"mime_type": "image/png", "uri": "https://a.example/a.png"}, NOVA),
        ({"mime_type": "image/bmp", "data": b"x"}, NOVA),
        ({"mime_type": "image/png", "data": b""}, NOVA),
        ({"file_id": "file_1"}, NOVA),
        ({"mime_type": "image/png", "data": b"x"}, "amazon.nova-micro-v1:0"),
        ({"mime_type": "audio/wav", "data": b"x"}, SONNET_45),
        ({"mime_type": "video/mp4", "data": b"x"}, SONNET_45),
    ],
)
def test_media_that_nobody_takes_are_left_out_or_refused(media: Json, model: str) -> None:
    """Bedrock fetches nothing but from S3, and models take few kinds; a notice says so, or the request is refused."""
    content, notices = content_of(lambda request: attach(request, **media), model)
    assert content == [{"text": "hello"}]
    assert notices == [("BLOCK_DROPPED", "messages[0].content[1]")]
    refused = hello()
    refused.unsupported_options = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    attach(refused, **media)
    with pytest.raises(UnsupportedOptionError):
        built(refused, model)


def test_documents_have_names_that_bedrock_takes() -> None:
    """Names lose their ending and what is refused, and no two are alike, so that the same chat has the same names."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        for name in ("Q3_report (final).pdf", "a/b/Q3-report (final).pdf", "  ", "", "ünï.pdf", "x" * 300 + ".pdf"):
            attach(request, mime_type="application/pdf", data=b"x", filename=name)

    content, _ = content_of(ask)
    names = [block["document"]["name"] for block in content[1:]]
    assert names == [
        "Q3-report (final)",
        "Q3-report (final) (2)",
        "document",
        "document (2)",
        "n",
        "x" * 190,
    ]


def test_a_document_comes_with_a_text() -> None:
    """Bedrock refuses a message of documents alone: words are put behind it, with a notice."""
    request = chat_pb2.ChatRequest()
    request.messages.add(role=USER)
    attach(request, mime_type="application/pdf", data=b"x")
    body, notices = built(request)
    assert [next(iter(block)) for block in body["messages"][0]["content"]] == ["document", "text"]
    assert notices == [("PARAM_DEFAULTED", "messages[0].content")]


def test_a_document_is_cited_from_where_that_is_asked() -> None:
    """Plain text goes as text then, since only so are its characters counted; a context goes with it."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        block = attach(request, mime_type="text/plain", data=b"facts", filename="f.txt", citations=True)
        block.provider_metadata_json = '{"context":"from a wiki"}'

    content, notices = content_of(ask)
    assert content[1]["document"] == {
        "name": "f",
        "format": "txt",
        "source": {"text": "facts"},
        "context": "from a wiki",
        "citations": {"enabled": True},
    }
    assert notices == []
    _, notices = content_of(ask, LLAMA)
    assert notices == [("PARAM_DROPPED", "messages[0].content[1].media.citations")]


def test_media_of_the_model_stay_behind() -> None:
    """Bedrock takes media only from the user."""
    request = hello()
    say(request, ASSISTANT, "look").content.add().media.CopyFrom(
        content_pb2.MediaBlock(mime_type="image/png", data=b"x")
    )
    body, notices = built(request)
    assert body["messages"][1]["content"] == [{"text": "look"}]
    assert notices == [("BLOCK_DROPPED", "messages[1].content[1]")]


# -- guardrails


def test_a_guardrail_looks_at_what_it_is_told_to() -> None:
    """Metadata turn a text into guardContent with its qualifiers; another family's or a result's text stays one."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        for family in ("", "bedrock", "anthropic"):
            block = request.messages[0].content.add(family=family)
            block.text.text = "Tokyo is in Japan."
            block.provider_metadata_json = '{"guardContent":{"qualifiers":["grounding_source"]}}'
        image = attach(request, mime_type="image/png", data=b"x")
        image.provider_metadata_json = '{"guardContent":{}}'

    content, _ = content_of(ask)
    guarded = {"guardContent": {"text": {"text": "Tokyo is in Japan.", "qualifiers": ["grounding_source"]}}}
    assert content[1:4] == [guarded, guarded, {"text": "Tokyo is in Japan."}]
    assert content[4] == {"guardContent": {"image": {"format": "png", "source": {"bytes": "eA=="}}}}


def test_options_of_the_provider_are_merged_last() -> None:
    """What Converse knows and the contract does not goes through, objects key by key, and null takes away."""
    request = hello()
    request.sampling.max_output_tokens = 100
    request.sampling.temperature = 0.5
    options = {
        "guardrailConfig": {"guardrailIdentifier": "g1", "guardrailVersion": "1", "trace": "enabled"},
        "performanceConfig": {"latency": "optimized"},
        "promptVariables": {"name": {"text": "Ann"}},
        "requestMetadata": {"team": "backend"},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "inferenceConfig": {"temperature": None, "topP": 0.5},
    }
    request.provider_options.add(provider="bedrock", options_json=json.dumps(options))
    request.provider_options.add(provider="anthropic", options_json='{"top_k":1}')
    body, notices = built(request)
    del body["messages"]
    assert body == {**options, "inferenceConfig": {"maxTokens": 100, "topP": 0.5}}
    assert notices == []


# -- tools


def _with_tool(request: chat_pb2.ChatRequest) -> None:
    function = request.tools.add().function
    function.name, function.description = "look", "Looks."
    function.parameters_json = '{"type":"object", "properties":{"n":{"type":"number","maximum":1e2}}}'


def _with_call(request: chat_pb2.ChatRequest) -> None:
    call = request.messages.add(role=ASSISTANT).content.add().tool_call
    call.call_id, call.name, call.arguments_json = "c1", "look", '{"n":1.0}'
    result = request.messages.add(role=USER).content.add().tool_result
    result.call_id, result.is_error = "c1", True
    result.content.add().text.text = "nothing there"


def test_a_tool_is_sent_with_its_schema_as_it_stands() -> None:
    """The schema is the caller's text, digit by digit; strict goes along, and a cache point comes behind."""
    request = hello()
    _with_tool(request)
    request.tools[0].function.strict = True
    request.tools[0].cache_hint.ttl.seconds = 3600
    request.tools[0].provider_options_json = '{"description":"Sees."}'
    wire = build_request(Call(request, SONNET_45), "bedrock", "eu-central-1")
    assert b'{"json":{"type":"object", "properties":{"n":{"type":"number","maximum":1e2}}}}' in wire.body
    spec, point = json.loads(wire.body)["toolConfig"]["tools"]
    assert (spec["toolSpec"]["strict"], spec["toolSpec"]["description"]) == (True, "Sees.")
    assert point == {"cachePoint": {"type": "default", "ttl": "1h"}}


def test_calls_and_results_go_back() -> None:
    """Arguments are an object as they stand, an error is a status."""
    request = hello()
    _with_tool(request)
    _with_call(request)
    body, notices = built(request)
    assert body["messages"][1]["content"] == [{"toolUse": {"toolUseId": "c1", "name": "look", "input": {"n": 1.0}}}]
    result = {"toolUseId": "c1", "content": [{"text": "nothing there"}], "status": "error"}
    assert body["messages"][2]["content"] == [{"toolResult": result}]
    assert notices == []


@pytest.mark.parametrize(
    ("text", "structured", "content", "notices"),
    [
        ("", '{"n": 1e2}', [{"json": {"n": 100.0}}], []),
        ("", "[1]", [{"text": "[1]"}], []),
        ("one", '{"n":1}', [{"text": "one"}], ["PARAM_DROPPED"]),
        ("", "", [], []),
    ],
)
def test_a_result_has_one_form(text: str, structured: str, content: list[Json], notices: list[str]) -> None:
    """JSON is sent as such where it is an object and nothing is said in words."""
    request = hello()
    _with_tool(request)
    _with_call(request)
    result = request.messages[2].content[0].tool_result
    del result.content[:]
    if text:
        result.content.add().text.text = text
    result.structured_content_json = structured
    body, told = built(request)
    assert body["messages"][2]["content"][0]["toolResult"]["content"] == content
    assert [code for code, _ in told] == notices


def test_ids_of_other_providers_are_made_to_fit() -> None:
    """An id with other characters or of more than 64 becomes one that fits, the same in the result and in no other."""
    request = hello()
    _with_tool(request)
    ids = ["call_1|fc_1", "call_1_fc_1", "x" * 100, "x" * 99]
    for call_id in ids:
        call = request.messages.add(role=ASSISTANT).content.add().tool_call
        call.call_id, call.name = call_id, "look"
        request.messages.add(role=USER).content.add().tool_result.call_id = call_id
    messages = built(request)[0]["messages"]
    sent = [message["content"][-1]["toolUse"]["toolUseId"] for message in messages[1::2]]
    assert [message["content"][-1]["toolResult"]["toolUseId"] for message in messages[2::2]] == sent
    assert len(set(sent)) == 4
    assert sent[1] == ids[1]
    assert all(len(one) <= 64 and "|" not in one for one in sent)


@pytest.mark.parametrize("name", ["a.b", "x" * 65])
def test_a_tool_of_an_unfit_name_is_refused(name: str) -> None:
    """It could not be called: the error names the field."""
    request = hello()
    request.tools.add().function.name = name
    with pytest.raises(InvalidRequestError) as caught:
        built(request)
    assert caught.value.field == "tools[0].function.name"


def _choose(mode: chat_pb2.ToolChoiceMode.ValueType, name: str = "") -> Ask:
    def ask(request: chat_pb2.ChatRequest) -> None:
        _with_tool(request)
        request.tool_choice.mode, request.tool_choice.name = mode, name

    return ask


@pytest.mark.parametrize(
    ("mode", "name", "choice"),
    [
        (chat_pb2.TOOL_CHOICE_MODE_AUTO, "", {"auto": {}}),
        (chat_pb2.TOOL_CHOICE_MODE_REQUIRED, "", {"any": {}}),
        (chat_pb2.TOOL_CHOICE_MODE_NAMED, "look", {"tool": {"name": "look"}}),
    ],
)
def test_a_choice_of_tools_is_sent(mode: chat_pb2.ToolChoiceMode.ValueType, name: str, choice: Json) -> None:
    """Each choice has its word; a model that takes none of the forced ones decides itself, with a notice."""
    assert asked(_choose(mode, name))[0]["toolConfig"]["toolChoice"] == choice
    body, notices = asked(_choose(mode, name), LLAMA)
    assert body["toolConfig"].get("toolChoice", {"auto": {}}) == {"auto": {}}
    assert notices == ([] if choice == {"auto": {}} else [("PARAM_ADJUSTED", "tool_choice.mode")])


def test_none_of_the_tools_means_that_none_is_shown() -> None:
    """Converse has no word for it: without calls in the conversation the tools are left away."""
    body, notices = asked(_choose(chat_pb2.TOOL_CHOICE_MODE_NONE))
    assert "toolConfig" not in body
    assert notices == []


def test_none_of_the_tools_after_calls_is_told() -> None:
    """With calls in the conversation Bedrock wants the tools: they are shown, and a notice says so."""
    body, notices = asked(both(_choose(chat_pb2.TOOL_CHOICE_MODE_NONE), _with_call))
    assert "toolChoice" not in body["toolConfig"]
    assert notices == [("PARAM_ADJUSTED", "tool_choice.mode")]


def test_calls_without_tools_bring_their_names_along() -> None:
    """Bedrock refuses calls in a conversation without tools, so that those which were called are named."""
    body, notices = asked(_with_call)
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["look"]
    assert notices == [("PARAM_DEFAULTED", "tools")]


def test_a_model_without_tools_gets_none() -> None:
    """Tools, calls and results are left out for a model that knows none of them, and notices say so."""
    request = hello()
    _with_tool(request)
    _with_call(request)
    body, notices = built(request, TITAN)
    assert "toolConfig" not in body
    assert [message["content"] for message in body["messages"]] == [[{"text": "hello"}]]
    assert [field for _, field in notices][:3] == ["tools[0]", "messages[1].content[0]", "messages[1]"]


def test_only_the_allowed_tools_are_shown() -> None:
    """The others are left away, and none at all is a fault of the request."""
    request = hello()
    _with_tool(request)
    request.tools.add().function.name = "other"
    request.tool_choice.allowed_names.append("other")
    body, notices = built(request)
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["other"]
    assert notices == [("PARAM_ADJUSTED", "tool_choice.allowed_names")]
    request.tool_choice.allowed_names[0] = "third"
    with pytest.raises(InvalidRequestError):
        built(request)


@pytest.mark.parametrize(
    ("mode", "name", "told"),
    [
        (chat_pb2.TOOL_CHOICE_MODE_UNSPECIFIED, "", {"type": "auto"}),
        (chat_pb2.TOOL_CHOICE_MODE_REQUIRED, "", {"type": "any"}),
        (chat_pb2.TOOL_CHOICE_MODE_NAMED, "look", {"type": "tool", "name": "look"}),
    ],
)
def test_one_call_at_a_time_is_said_in_claudes_words(
    mode: chat_pb2.ToolChoiceMode.ValueType, name: str, told: Json
) -> None:
    """Converse has no word for it; others are not told, with a notice."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        _choose(mode, name)(request)
        request.parallel_tool_calls = False

    body, notices = asked(ask)
    assert body["additionalModelRequestFields"] == {"tool_choice": {**told, "disable_parallel_tool_use": True}}
    assert notices == []
    assert asked(ask, NOVA)[1] == [("PARAM_DROPPED", "parallel_tool_calls")]


def test_tools_of_the_provider_are_named() -> None:
    """Bedrock's own tools are system tools; those of others and MCP servers are left out."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        request.tools.add().provider.CopyFrom(chat_pb2.ProviderTool(family="bedrock", type="nova_grounding"))
        request.tools.add().provider.CopyFrom(chat_pb2.ProviderTool(type="systemTool", name="nova_code_interpreter"))
        request.tools.add().provider.CopyFrom(chat_pb2.ProviderTool(family="openai", type="web_search"))
        request.tools.add().mcp_server.name = "files"

    body, notices = asked(ask, NOVA_2)
    names = [tool["systemTool"]["name"] for tool in body["toolConfig"]["tools"]]
    assert names == ["nova_grounding", "nova_code_interpreter"]
    assert notices == [("PARAM_DROPPED", "tools[2]"), ("PARAM_DROPPED", "tools[3]")]


# -- sampling and reasoning


@pytest.mark.parametrize(
    ("ask", "model", "body", "notices"),
    [
        (
            samples(max_output_tokens=9, temperature=0.5, top_p=0.5, stop_sequences=["END"]),
            NOVA,
            {"inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.5, "stopSequences": ["END"]}},
            [],
        ),
        (
            samples(temperature=0.5, top_p=0.5),
            SONNET_45,
            {"inferenceConfig": {"temperature": 0.5}},
            [("PARAM_DROPPED", "sampling.top_p")],
        ),
        (samples(temperature=1.5), NOVA, {"inferenceConfig": {"temperature": 1.0}}, ["sampling.temperature"]),
        (samples(max_output_tokens=99_999), SONNET_45, {"inferenceConfig": {"maxTokens": 64_000}}, None),
        (samples(temperature=1, top_p=0.5), OPUS_5, {}, [("PARAM_DROPPED", "sampling.top_p")]),
        (samples(top_k=5), SONNET_45, {"additionalModelRequestFields": {"top_k": 5}}, []),
        (samples(top_k=5), NOVA, {"additionalModelRequestFields": {"inferenceConfig": {"topK": 5}}}, []),
        (samples(top_k=5), "cohere.command-r-v1:0", {"additionalModelRequestFields": {"k": 5}}, []),
        (samples(top_k=5), LLAMA, {}, [("PARAM_DROPPED", "sampling.top_k")]),
        (samples(seed=5), NOVA, {}, [("PARAM_DROPPED", "sampling.seed")]),
    ],
)
def test_sampling_is_said_as_the_model_takes_it(ask: Ask, model: str, body: Json, notices: Any) -> None:
    """Converse's words first, then the maker's; what is neither is dropped or adjusted with a notice."""
    sent, told = asked(ask, model)
    assert sent == body
    if notices is None:
        assert [code for code, _ in told] == ["PARAM_ADJUSTED"]
    elif notices and isinstance(notices[0], str):
        assert told == [("PARAM_ADJUSTED", field) for field in notices]
    else:
        assert told == notices


@pytest.mark.parametrize(("model", "asks"), [(SONNET_45, True), (NOVA, False)])
def test_a_claude_is_asked_which_stop_sequence_came(model: str, asks: bool) -> None:
    """Converse tells it only where it is asked for by its place in Claude's own answers, whole or streamed."""
    body, notices = asked(samples(stop_sequences=["END"]), model)
    paths = body.get("additionalModelResponseFieldPaths")
    assert paths == (["/stop_sequence", "/delta/stop_sequence"] if asks else None)
    assert "additionalModelResponseFieldPaths" not in asked(samples(), model)[0]
    assert notices == []


def _thinking(**thinking: Any) -> Json:
    return {"additionalModelRequestFields": {"thinking": thinking}}


_ADJUSTED_EFFORT = [("PARAM_ADJUSTED", "reasoning.effort")]


@pytest.mark.parametrize(
    ("ask", "model", "body", "notices"),
    [
        (reasons(budget_tokens=2048), SONNET_4, _thinking(type="enabled", budget_tokens=2048), []),
        (
            both(reasons(budget_tokens=9000), samples(max_output_tokens=4096)),
            SONNET_4,
            {"inferenceConfig": {"maxTokens": 4096}, **_thinking(type="enabled", budget_tokens=4095)},
            [("PARAM_ADJUSTED", "reasoning.budget_tokens")],
        ),
        (
            both(reasons(enabled=True), samples(max_output_tokens=1000)),
            SONNET_4,
            {"inferenceConfig": {"maxTokens": 1000}},
            [("PARAM_DROPPED", "reasoning")],
        ),
        (
            reasons(enabled=True),
            SONNET_4,
            _thinking(type="enabled", budget_tokens=32_000),
            [("PARAM_DEFAULTED", "reasoning.budget_tokens")],
        ),
        (reasons(enabled=False), SONNET_4, _thinking(type="disabled"), []),
        (reasons(enabled=True), OPUS_46, _thinking(type="adaptive"), []),
        (
            reasons(enabled=True, effort="max", display=chat_pb2.REASONING_DISPLAY_OMITTED),
            OPUS_46,
            {**_thinking(type="adaptive", display="omitted"), "outputConfig": {"effort": "max"}},
            [],
        ),
        (reasons(effort="minimal"), OPUS_46, {"outputConfig": {"effort": "low"}}, _ADJUSTED_EFFORT),
        (reasons(effort="low"), SONNET_4, {}, [("PARAM_DROPPED", "reasoning.effort")]),
        (
            reasons(budget_tokens=2048),
            OPUS_5,
            _thinking(type="adaptive"),
            [("PARAM_ADJUSTED", "reasoning.budget_tokens")],
        ),
        (reasons(enabled=False), OPUS_5, {}, [("PARAM_DROPPED", "reasoning.enabled")]),
        (
            reasons(display=chat_pb2.REASONING_DISPLAY_SUMMARY),
            OPUS_5,
            _thinking(type="adaptive", display="summarized"),
            [],
        ),
        (
            reasons(display=chat_pb2.REASONING_DISPLAY_SUMMARY),
            OPUS_46,
            {},
            [("PARAM_DROPPED", "reasoning.display")],
        ),
        (
            reasons(effort="low"),
            NOVA_2,
            {"additionalModelRequestFields": {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}},
            [],
        ),
        (
            reasons(enabled=True),
            NOVA_2,
            {"additionalModelRequestFields": {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}},
            [("PARAM_DEFAULTED", "reasoning.effort")],
        ),
        (
            reasons(enabled=False),
            NOVA_2,
            {"additionalModelRequestFields": {"reasoningConfig": {"type": "disabled"}}},
            [],
        ),
        (
            both(reasons(effort="high"), samples(temperature=0.5, top_p=0.5)),
            NOVA_2,
            {"additionalModelRequestFields": {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}},
            [("PARAM_DROPPED", "sampling.temperature"), ("PARAM_DROPPED", "sampling.top_p")],
        ),
        (
            both(reasons(effort="high"), samples(max_output_tokens=500)),
            NOVA_2,
            {
                "inferenceConfig": {"maxTokens": 500},
                "additionalModelRequestFields": {
                    "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}
                },
            },
            _ADJUSTED_EFFORT,
        ),
        (reasons(effort="high"), GPT_OSS, {"additionalModelRequestFields": {"reasoning_effort": "high"}}, []),
        (
            reasons(effort="max"),
            GPT_OSS,
            {"additionalModelRequestFields": {"reasoning_effort": "high"}},
            _ADJUSTED_EFFORT,
        ),
        (reasons(enabled=False), GPT_OSS, {}, [("PARAM_DROPPED", "reasoning.enabled")]),
        (reasons(enabled=True), DEEPSEEK, {}, []),
        (reasons(budget_tokens=9), DEEPSEEK, {}, [("PARAM_DROPPED", "reasoning.budget_tokens")]),
        (reasons(enabled=True), NOVA, {}, [("PARAM_DROPPED", "reasoning")]),
        (reasons(enabled=False), NOVA, {}, []),
        (reasons(enabled=True), QWEN, {}, [("PARAM_DROPPED", "reasoning.enabled")]),
        (reasons(enabled=False), HIDDEN, {}, [("PARAM_DROPPED", "reasoning.enabled")]),
        (reasons(effort="high"), HIDDEN, {"outputConfig": {"effort": "high"}}, []),
    ],
)
def test_reasoning_is_asked_for_in_the_makers_words(ask: Ask, model: str, body: Json, notices: Any) -> None:
    """A budget, a free hand or an effort: as each model takes it, and a notice where it does not."""
    assert asked(ask, model) == (body, notices)


def test_a_model_that_thinks_is_not_tuned_or_forced() -> None:
    """Claude refuses temperature, top_k and a forced call beside thinking: the thinking stays, with notices."""
    ask = both(
        reasons(budget_tokens=2048),
        samples(temperature=0.2, top_k=5),
        _choose(chat_pb2.TOOL_CHOICE_MODE_REQUIRED),
    )
    body, notices = asked(ask)
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert "inferenceConfig" not in body
    assert "toolChoice" not in body["toolConfig"]
    fields = {"sampling.temperature", "sampling.top_k", "tool_choice.mode"}
    assert {field for _, field in notices} == fields


# -- form, tier, cache


def test_an_answer_is_held_to_a_schema() -> None:
    """The schema is a string with the caller's text; models that keep to none are not asked, with a notice."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        schema = request.output_format.json_schema
        schema.schema_json, schema.name, schema.description = '{"type": "object", "x": 1e2}', "city", "A city."

    body, notices = asked(ask)
    told = {"schema": '{"type": "object", "x": 1e2}', "name": "city", "description": "A city."}
    assert body["outputConfig"] == {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": told}}}
    assert notices == []
    assert asked(ask, NOVA) == ({}, [("PARAM_DROPPED", "output_format.json_schema")])


@pytest.mark.parametrize("field", ["schema", "arguments", "parameters", "opaque", "options"])
def test_broken_json_is_refused(field: str) -> None:
    """The error names the field that is no JSON."""
    request = hello()
    match field:
        case "schema":
            request.output_format.json_schema.schema_json = "{"
        case "arguments":
            request.messages[0].content.add().tool_call.arguments_json = "{"
        case "parameters":
            function = request.tools.add().function
            function.name, function.parameters_json = "look", "{"
        case "opaque":
            request.messages[0].content.add().opaque.json = "{"
        case _:
            request.provider_options.add(provider="bedrock", options_json="{")
    with pytest.raises(InvalidRequestError) as caught:
        built(request)
    assert field in caught.value.field


@pytest.mark.parametrize(
    ("tier", "body", "notices"),
    [
        ("flex", {"serviceTier": {"type": "flex"}}, []),
        ("reserved", {"serviceTier": {"type": "reserved"}}, []),
        ("batch", {}, [("PARAM_DROPPED", "service_tier")]),
    ],
)
def test_a_tier_is_one_of_bedrocks(tier: str, body: Json, notices: Any) -> None:
    """Another provider's word is dropped with a notice instead of failing the request."""
    assert asked(lambda request: setattr(request, "service_tier", tier), NOVA) == (body, notices)


@pytest.mark.parametrize(
    ("model", "seconds", "point", "notices"),
    [
        (SONNET_45, None, {"type": "default"}, []),
        (SONNET_45, 300, {"type": "default", "ttl": "5m"}, []),
        (SONNET_45, 3600, {"type": "default", "ttl": "1h"}, []),
        (SONNET_45, 7200, {"type": "default", "ttl": "1h"}, ["PARAM_ADJUSTED"]),
        (SONNET_4, 3600, {"type": "default"}, ["PARAM_ADJUSTED"]),
        (NOVA, 300, {"type": "default"}, []),
        (LLAMA, None, None, ["PARAM_DROPPED"]),
    ],
)
def test_a_hint_is_a_cache_point(model: str, seconds: int | None, point: Json | None, notices: list[str]) -> None:
    """It comes behind its block; its time is one that the model's caches have."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        hint = request.messages[0].content[0].cache_hint
        hint.SetInParent()
        if seconds is not None:
            hint.ttl.seconds = seconds

    content, told = content_of(ask, model)
    assert content[1:] == ([{"cachePoint": point}] if point else [])
    assert [code for code, _ in told] == notices


def test_caching_by_itself_is_points_at_the_ends() -> None:
    """Points end the instructions and the last message, with the policy's time, and never two at one place."""
    request = hello()
    request.system.add().text.text = "be brief"
    request.cache.automatic = True
    request.cache.ttl.seconds = 3600
    request.messages[0].content[0].cache_hint.SetInParent()
    body, notices = built(request)
    point = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert body["system"] == [{"text": "be brief"}, point]
    assert body["messages"][0]["content"] == [{"text": "hello"}, point]
    assert notices == []


def test_reasoning_and_blocks_of_another_family_stay_behind() -> None:
    """Signatures, citations and what another provider ran itself mean nothing here; the words go through."""
    request = hello()
    answer = request.messages.add(role=ASSISTANT)
    thinking = answer.content.add(family="anthropic")
    thinking.thinking.text = "hm"
    thinking.states.add(kind="signature", data=b"sig")
    answer.content.add(family="openai").redacted_thinking.data = b"AAAA"
    words = answer.content.add(family="gemini")
    words.text.text = "It is so."
    words.states.add(kind="thought_signature", data=b"sig")
    words.citations.add(raw_json="{}")
    answer.content.add(family="openai").opaque.json = "{}"
    ran = answer.content.add(family="anthropic")
    ran.tool_call.call_id, ran.tool_call.name = "s1", "web_search"
    ran.tool_call.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    say(request, USER, "and?")
    body, notices = built(request)
    assert body["messages"][1]["content"] == [{"text": "It is so."}]
    assert notices == [
        ("STATE_DROPPED", "messages[1].content[0]"),
        ("STATE_DROPPED", "messages[1].content[1]"),
        ("STATE_DROPPED", "messages[1].content[2]"),
        ("BLOCK_DROPPED", "messages[1].content[3]"),
        ("BLOCK_DROPPED", "messages[1].content[4]"),
    ]


def test_what_has_no_place_is_told() -> None:
    """Names of participants, cache keys, other modalities and verbosity are dropped with a notice each."""
    request = hello()
    request.messages[0].name = "ann"
    request.cache.key = "k"
    request.cache.cached_content = "c"
    request.output_modalities.append(content_pb2.MODALITY_AUDIO)
    request.audio_output.voice = "alloy"
    request.output_format.verbosity = "low"
    request.output_format.json.SetInParent()
    _, notices = built(request)
    assert {field for _, field in notices} == {
        "messages[0].name",
        "cache.key",
        "cache.cached_content",
        "output_modalities",
        "audio_output",
        "output_format.verbosity",
        "output_format.json",
    }
