"""What a persona fills into a request: only what the request leaves open."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.server.conftest import chat_request

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.config.personas import PersonaSettings
from execution_platform.server.errors import NotAllowedError
from execution_platform.server.routing.persona import Persona
from execution_platform.v1 import chat_pb2, content_pb2

EVERYTHING = {
    "system_prompt": "Be brief.",
    "sampling": {
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.6,
        "top_k": 7,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "seed": 0,
        "stop_sequences": ["END"],
    },
    "reasoning": {"enabled": True, "effort": "low", "budget_tokens": 0, "display": "summary"},
    "service_tier": "flex",
    "unsupported_options": "reject",
    "labels": {"team": "blue", "tier": "gold"},
}


def applied(request: chat_pb2.ChatRequest, **settings: Any) -> chat_pb2.ChatRequest:
    """The request with what a persona fills in; the one given must stay as it was."""
    before = chat_pb2.ChatRequest()
    before.CopyFrom(request)
    result = Persona("dev", PersonaSettings.model_validate(settings)).applied(request)
    assert request == before
    return result


def function(name: str, description: str = "") -> chat_pb2.Tool:
    """A tool of the caller."""
    return chat_pb2.Tool(function=chat_pb2.FunctionTool(name=name, description=description))


def test_an_open_request_gets_everything() -> None:
    """Every default of the persona reaches the field that it is for."""
    result = applied(chat_request(), **EVERYTHING)
    assert [block.text.text for block in result.system] == ["Be brief."]
    sampling = chat_pb2.Sampling(
        max_output_tokens=9, temperature=0.5, top_p=0.6, top_k=7, frequency_penalty=0.1, presence_penalty=0.2, seed=0,
        stop_sequences=["END"],
    )  # fmt: skip
    assert result.sampling == sampling
    display = chat_pb2.REASONING_DISPLAY_SUMMARY
    assert result.reasoning == chat_pb2.Reasoning(enabled=True, effort="low", budget_tokens=0, display=display)
    assert (result.service_tier, dict(result.context.labels)) == ("flex", {"team": "blue", "tier": "gold"})
    assert result.unsupported_options == chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT


def test_what_the_request_says_stays() -> None:
    """Each field that the request sets is the request's, zeroes too; the persona's prompt comes before its own."""
    request = chat_request(
        system=[content_pb2.ContentBlock(text=content_pb2.TextBlock(text="In French."))],
        sampling=chat_pb2.Sampling(temperature=0.0, stop_sequences=["X"]),
        reasoning=chat_pb2.Reasoning(display=chat_pb2.REASONING_DISPLAY_OMITTED, effort="high"),
        service_tier="priority",
        unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_DROP,
        context=chat_pb2.CallContext(labels={"team": "red"}),
    )
    result = applied(request, **EVERYTHING)
    assert [block.text.text for block in result.system] == ["Be brief.", "In French."]
    assert (result.sampling.temperature, result.sampling.top_p) == (0.0, 0.6)
    assert list(result.sampling.stop_sequences) == ["X"]
    assert result.reasoning == request.reasoning
    assert (result.service_tier, result.unsupported_options) == ("priority", request.unsupported_options)
    assert dict(result.context.labels) == {"team": "red", "tier": "gold"}


def test_provider_options_come_before_the_requests() -> None:
    """A persona's options of a provider stand before those of the request, which are merged over them."""
    given = chat_pb2.ProviderOptions(provider="claude_agent", options_json='{"max_turns": 3}')
    options = {"claude_agent": {"allowed_tools": ["Read"], "max_turns": 20}, "openai": {"store": False}}
    result = applied(chat_request(provider_options=[given]), provider_options=options)
    assert [(each.provider, each.options_json) for each in result.provider_options] == [
        ("claude_agent", '{"allowed_tools": ["Read"], "max_turns": 20}'),
        ("openai", '{"store": false}'),
        ("claude_agent", '{"max_turns": 3}'),
    ]


def test_how_much_to_think_is_one_question() -> None:
    """A request that says a budget gets no effort of the persona's beside it, only how much of it to show."""
    result = applied(chat_request(reasoning=chat_pb2.Reasoning(budget_tokens=100)), **EVERYTHING)
    assert result.reasoning == chat_pb2.Reasoning(budget_tokens=100, display=chat_pb2.REASONING_DISPLAY_SUMMARY)


def test_a_persona_without_defaults_copies_nothing() -> None:
    """A request to which nothing is added is handed on as it is."""
    request = chat_request(sampling=chat_pb2.Sampling(temperature=1.0))
    assert applied(request) is request
    assert applied(request, sampling={"temperature": 0.5}) is request


def test_labels_stay_within_their_number() -> None:
    """More labels than a chat may have together are refused by name, not left out in silence."""
    request = chat_request(context=chat_pb2.CallContext(labels={f"k{number}": "" for number in range(31)}))
    assert len(applied(request, labels={"a": "1", "k0": "2"}).context.labels) == 32
    with pytest.raises(InvalidRequestError) as caught:
        applied(request, labels={"a": "1", "b": "2"})
    assert caught.value.field == "context.labels"


def test_offered_tools_come_behind_the_requests() -> None:
    """A tool with a definition is offered to every chat; where the request brings one of that name, that one stays."""
    schema = {"type": "object", "properties": {"z": {}, "a": {"minimum": 2**60}}}
    tools = [
        {"name": "search", "description": "finds", "parameters": schema},
        {"name": "read", "description": "reads"},
        {"name": "other"},
    ]
    request = chat_request(tools=[function("other"), function("read", "mine")])
    result = applied(request, tools=tools)
    named = [(tool.function.name, tool.function.description) for tool in result.tools]
    assert named == [("other", ""), ("read", "mine"), ("search", "finds")]
    assert json.loads(result.tools[2].function.parameters_json) == schema
    assert list(json.loads(result.tools[2].function.parameters_json)["properties"]) == ["z", "a"]


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (function("shell"), "shell"),
        (chat_pb2.Tool(provider=chat_pb2.ProviderTool(type="web_search_20250305", name="web_search")), "web_search"),
        (chat_pb2.Tool(mcp_server=chat_pb2.McpServerTool(name="files")), "files"),
    ],
    ids=["function", "provider", "mcp"],
)
def test_tools_that_are_not_allowed_are_refused(tool: chat_pb2.Tool, name: str) -> None:
    """A tool outside the persona's list is refused, naming tool, persona and place, whoever runs the tool."""
    with pytest.raises(NotAllowedError) as caught:
        applied(chat_request(tools=[function("read"), tool]), tools=[{"name": "read"}])
    assert caught.value.field == "tools[1]"
    assert caught.value.message == f"tools[1]: persona dev does not allow the tool {name!r}; allowed: read"


def test_a_star_allows_all_that_match() -> None:
    """A name with a star allows every tool that it matches, and no other."""
    tools = [{"name": "fs.*"}, {"name": "read"}]
    assert len(applied(chat_request(tools=[function("fs.list"), function("read")]), tools=tools).tools) == 2
    with pytest.raises(NotAllowedError, match=r"allowed: fs\.\*, read"):
        applied(chat_request(tools=[function("afs.list")]), tools=tools)


def test_no_list_allows_every_tool() -> None:
    """A persona that names no tools allows all."""
    assert len(applied(chat_request(tools=[function("anything")])).tools) == 1
