"""Tools, calls, results and choices are said in Converse's words, and what it has none for is told."""

from __future__ import annotations

import json

import pytest
from tests.adapters.bedrock.asking import (
    ASSISTANT,
    LLAMA,
    NOVA,
    NOVA_2,
    SONNET_45,
    TITAN,
    USER,
    Json,
    asked,
    both,
    built,
    choose,
    hello,
    with_call,
    with_tool,
)

from execution_platform.adapters.bedrock.request import build_request
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2


def test_a_tool_is_sent_with_its_schema_as_it_stands() -> None:
    """The schema is the caller's text, digit by digit; strict goes along, and a cache point comes behind."""
    request = hello()
    with_tool(request)
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
    with_tool(request)
    with_call(request)
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
    with_tool(request)
    with_call(request)
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
    with_tool(request)
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
    assert asked(choose(mode, name))[0]["toolConfig"]["toolChoice"] == choice
    body, notices = asked(choose(mode, name), LLAMA)
    assert body["toolConfig"].get("toolChoice", {"auto": {}}) == {"auto": {}}
    assert notices == ([] if choice == {"auto": {}} else [("PARAM_ADJUSTED", "tool_choice.mode")])


def test_none_of_the_tools_means_that_none_is_shown() -> None:
    """Converse has no word for it: without calls in the conversation the tools are left away."""
    body, notices = asked(choose(chat_pb2.TOOL_CHOICE_MODE_NONE))
    assert "toolConfig" not in body
    assert notices == []


def test_none_of_the_tools_after_calls_is_told() -> None:
    """With calls in the conversation Bedrock wants the tools: they are shown, and a notice says so."""
    body, notices = asked(both(choose(chat_pb2.TOOL_CHOICE_MODE_NONE), with_call))
    assert "toolChoice" not in body["toolConfig"]
    assert notices == [("PARAM_ADJUSTED", "tool_choice.mode")]


def test_calls_without_tools_bring_their_names_along() -> None:
    """Bedrock refuses calls in a conversation without tools, so that those which were called are named."""
    body, notices = asked(with_call)
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["look"]
    assert notices == [("PARAM_DEFAULTED", "tools")]


def test_a_model_without_tools_gets_none() -> None:
    """Tools, calls and results are left out for a model that knows none of them, and notices say so."""
    request = hello()
    with_tool(request)
    with_call(request)
    body, notices = built(request, TITAN)
    assert "toolConfig" not in body
    assert [message["content"] for message in body["messages"]] == [[{"text": "hello"}]]
    assert [field for _, field in notices][:3] == ["tools[0]", "messages[1].content[0]", "messages[1]"]


def test_only_the_allowed_tools_are_shown() -> None:
    """The others are left away, and none at all is a fault of the request."""
    request = hello()
    with_tool(request)
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
        choose(mode, name)(request)
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
