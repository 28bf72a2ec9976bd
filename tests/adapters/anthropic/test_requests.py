"""What a ChatRequest says to the Messages API, and what it is told where a model cannot do it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import duration_pb2
from tests.adapters.anthropic.wire import Json

from execution_platform.adapters.anthropic.request import build_count, build_request
from execution_platform.adapters.errors import InvalidRequestError, UnsupportedOptionError
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

NEW = "claude-sonnet-5-5"
OLD = "claude-sonnet-4-5"
MIDDLE = "claude-sonnet-4-6"
OTHER = "some-local-model"

Block = content_pb2.ContentBlock
Notice = tuple[int, str]


def words(said: str, **more: Any) -> Block:
    return Block(text=content_pb2.TextBlock(text=said), **more)


def request(*blocks: Block, **more: Any) -> chat_pb2.ChatRequest:
    """One message of the user with these blocks, or "hi"."""
    user = content_pb2.Message(role=content_pb2.ROLE_USER, content=blocks or [words("hi")])
    return chat_pb2.ChatRequest(**{"messages": [user], **more})


def built(asked: chat_pb2.ChatRequest, model: str = MIDDLE) -> tuple[Json, list[Notice]]:
    """The body, and the notices but for the default of max_tokens."""
    wire = build_request(Call(asked, model), "anthropic")
    notices = [(notice.code, notice.field) for notice in wire.notices]
    return json.loads(wire.body), [notice for notice in notices if notice[0] != chat_pb2.NOTICE_CODE_PARAM_DEFAULTED]


def betas(asked: chat_pb2.ChatRequest, model: str = MIDDLE) -> tuple[str, ...]:
    return build_request(Call(asked, model), "anthropic").betas


def content(*blocks: Block, model: str = MIDDLE) -> tuple[list[Json], list[Notice]]:
    """The content of the only message, and the notices."""
    body, notices = built(request(*blocks), model)
    return body["messages"][0]["content"], notices


DROPPED = chat_pb2.NOTICE_CODE_PARAM_DROPPED
ADJUSTED = chat_pb2.NOTICE_CODE_PARAM_ADJUSTED
BLOCK = chat_pb2.NOTICE_CODE_BLOCK_DROPPED
STATE = chat_pb2.NOTICE_CODE_STATE_DROPPED


# -- limits and sampling


@pytest.mark.parametrize(("model", "most"), [(NEW, 128_000), (OLD, 64_000), (OTHER, 4096), ("claude-fable-5-2", 4096)])
def test_without_a_limit_the_models_own_is_filled_in(model: str, most: int) -> None:
    """max_tokens is required: the model's maximum, or a small number where that is not known, with a notice."""
    wire = build_request(Call(request(), model), "anthropic")
    assert json.loads(wire.body)["max_tokens"] == most
    (notice,) = wire.notices
    assert (notice.code, notice.field) == (chat_pb2.NOTICE_CODE_PARAM_DEFAULTED, "sampling.max_output_tokens")


def test_a_limit_above_the_models_is_lowered() -> None:
    """A model's known maximum is not exceeded, and a notice says so."""
    body, notices = built(request(sampling=chat_pb2.Sampling(max_output_tokens=70_000)), OLD)
    assert (body["max_tokens"], notices) == (64_000, [(ADJUSTED, "sampling.max_output_tokens")])


def test_sampling_goes_to_models_that_take_it() -> None:
    """Temperature, top_p, top_k and stop sequences stand in the body of an older model's request."""
    sampling = chat_pb2.Sampling(temperature=0.5, top_p=0.25, top_k=3, stop_sequences=["a", "b"], max_output_tokens=9)
    body, notices = built(request(sampling=sampling), MIDDLE)
    assert (body["temperature"], body["top_p"], body["top_k"], body["stop_sequences"]) == (0.5, 0.25, 3, ["a", "b"])
    assert notices == []


def test_sampling_that_a_newer_model_refuses_is_left_out() -> None:
    """Each option of sampling that is left out has its notice; a temperature of 1 is what the model does anyway."""
    body, notices = built(request(sampling=chat_pb2.Sampling(temperature=0.5, top_p=0.9, top_k=3)), NEW)
    assert not {"temperature", "top_p", "top_k"} & set(body)
    assert notices == [(DROPPED, f"sampling.{name}") for name in ("temperature", "top_p", "top_k")]
    assert built(request(sampling=chat_pb2.Sampling(temperature=1)), NEW)[1] == []


def test_temperature_ends_at_one_and_excludes_top_p_on_some_models() -> None:
    """A higher temperature becomes 1; where a model takes only one of the two, top_p is left out."""
    body, notices = built(request(sampling=chat_pb2.Sampling(temperature=1.5, top_p=0.9)), OLD)
    assert (body["temperature"], "top_p" in body) == (1.0, False)
    assert notices == [(ADJUSTED, "sampling.temperature"), (DROPPED, "sampling.top_p")]


def test_thinking_excludes_temperature_and_top_k() -> None:
    """While an older model thinks it takes no temperature and no top_k."""
    asked = request(
        sampling=chat_pb2.Sampling(temperature=0.5, top_k=3, max_output_tokens=9000),
        reasoning=chat_pb2.Reasoning(budget_tokens=2000),
    )
    body, notices = built(asked, OLD)
    assert not {"temperature", "top_k"} & set(body)
    assert notices == [(DROPPED, "sampling.temperature"), (DROPPED, "sampling.top_k")]


def test_options_that_no_model_here_has_are_told() -> None:
    """Penalties, seed, log probabilities and bias do not exist in this format."""
    sampling = chat_pb2.Sampling(
        frequency_penalty=1, presence_penalty=1, seed=1, logprobs=True, top_logprobs=2, logit_bias={1: 1.0}
    )
    names = ["frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs", "logit_bias"]
    assert built(request(sampling=sampling))[1] == [(DROPPED, f"sampling.{name}") for name in names]


def test_a_caller_may_want_unsupported_options_refused() -> None:
    """With REJECT the first option that the model cannot honour refuses the request and is named."""
    asked = request(
        sampling=chat_pb2.Sampling(temperature=0.5), unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    )
    with pytest.raises(UnsupportedOptionError) as raised:
        built(asked, NEW)
    assert raised.value.field == "sampling.temperature"
    built(asked, OLD)


def test_an_unknown_model_gets_everything() -> None:
    """Behind another server may be anything: nothing is left out on a guess."""
    asked = request(
        sampling=chat_pb2.Sampling(temperature=1, top_p=0.9, top_k=3, max_output_tokens=10**6),
        reasoning=chat_pb2.Reasoning(budget_tokens=2000, effort="minimal"),
        tools=[function("f")],
        tool_choice=chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_REQUIRED),
    )
    body, notices = built(asked, OTHER)
    assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (1.0, 0.9, 3, 10**6)
    assert (body["thinking"]["budget_tokens"], body["output_config"]["effort"]) == (2000, "minimal")
    assert (body["tool_choice"], notices) == ({"type": "any"}, [])


# -- reasoning and form


@pytest.mark.parametrize(
    ("model", "reasoning", "thinking", "notices"),
    [
        (MIDDLE, {}, None, []),
        (MIDDLE, {"enabled": True}, {"type": "adaptive"}, []),
        (NEW, {"enabled": True}, {"type": "adaptive"}, []),
        (MIDDLE, {"enabled": False}, {"type": "disabled"}, []),
        (MIDDLE, {"budget_tokens": 0}, {"type": "disabled"}, []),
        (MIDDLE, {"effort": "none"}, {"type": "disabled"}, []),
        (NEW, {"enabled": False}, {"type": "between_tools"}, [(ADJUSTED, "reasoning.enabled")]),
        ("claude-opus-5-5", {"enabled": False}, None, [(DROPPED, "reasoning.enabled")]),
        (MIDDLE, {"budget_tokens": 5000}, {"type": "enabled", "budget_tokens": 5000}, []),
        (
            OLD,
            {"budget_tokens": 99},
            {"type": "enabled", "budget_tokens": 1024},
            [(ADJUSTED, "reasoning.budget_tokens")],
        ),
        (
            OLD,
            {"budget_tokens": 90_000},
            {"type": "enabled", "budget_tokens": 63_999},
            [(ADJUSTED, "reasoning.budget_tokens")],
        ),
        (OLD, {"enabled": True}, {"type": "enabled", "budget_tokens": 32_000}, []),
        (NEW, {"budget_tokens": 5000}, {"type": "adaptive"}, [(ADJUSTED, "reasoning.budget_tokens")]),
        ("claude-3-5-haiku-20241022", {"enabled": True}, None, [(DROPPED, "reasoning")]),
        (
            MIDDLE,
            {"enabled": True, "display": chat_pb2.REASONING_DISPLAY_OMITTED},
            {"type": "adaptive", "display": "omitted"},
            [],
        ),
        (NEW, {"display": chat_pb2.REASONING_DISPLAY_SUMMARY}, {"type": "adaptive", "display": "summarized"}, []),
        (MIDDLE, {"display": chat_pb2.REASONING_DISPLAY_SUMMARY}, None, [(DROPPED, "reasoning.display")]),
        (
            NEW,
            {"display": chat_pb2.REASONING_DISPLAY_CONCISE_SUMMARY},
            {"type": "adaptive", "display": "summarized"},
            [(ADJUSTED, "reasoning.display")],
        ),
    ],
)
def test_reasoning_takes_the_form_that_the_model_knows(
    model: str, reasoning: dict[str, Any], thinking: Json | None, notices: list[Notice]
) -> None:
    """Adaptive, with a budget, off, or left to the provider, with a notice where that is not what was asked."""
    body, told = built(request(reasoning=chat_pb2.Reasoning(**reasoning)), model)
    assert (body.get("thinking"), told) == (thinking, notices)


def test_a_small_limit_leaves_no_room_for_thinking() -> None:
    """A budget needs 1024 tokens below the limit; without that room thinking is left out and told."""
    asked = request(sampling=chat_pb2.Sampling(max_output_tokens=500), reasoning=chat_pb2.Reasoning(enabled=True))
    body, notices = built(asked, OLD)
    assert ("thinking" in body, notices) == (False, [(DROPPED, "reasoning")])
    asked.reasoning.budget_tokens = 5000
    assert built(asked, OTHER)[0]["thinking"] == {"type": "enabled", "budget_tokens": 5000}


@pytest.mark.parametrize(
    ("model", "effort", "config", "notices"),
    [
        (NEW, "max", {"effort": "max"}, []),
        (NEW, "minimal", {"effort": "low"}, [(ADJUSTED, "reasoning.effort")]),
        ("claude-haiku-4-5", "low", None, [(DROPPED, "reasoning.effort")]),
    ],
)
def test_effort_stands_in_the_output_config(
    model: str, effort: str, config: Json | None, notices: list[Notice]
) -> None:
    """Effort alone switches no thinking on; a model without efforts gets none."""
    body, told = built(request(reasoning=chat_pb2.Reasoning(effort=effort)), model)
    assert (body.get("output_config"), told, "thinking" in body) == (config, notices, False)


def test_a_schema_is_handed_on_as_it_stands() -> None:
    """The schema's text is in the body unchanged: order, numbers and all."""
    schema = (
        '{"type":"object","properties":{"z":{"type":"number","minimum":1.0},"a":{"const":12345678901234567890123}}}'
    )
    form = chat_pb2.OutputFormat(json_schema=chat_pb2.JsonSchemaFormat(schema_json=schema, name="n", strict=True))
    wire = build_request(Call(request(output_format=form), NEW), "anthropic")
    assert schema.encode() in wire.body
    assert json.loads(wire.body)["output_config"]["format"]["type"] == "json_schema"


def test_forms_that_do_not_exist_here_are_told() -> None:
    """JSON without a schema, wordiness, and other modalities than text."""
    asked = request(
        output_format=chat_pb2.OutputFormat(json=chat_pb2.JsonFormat(), verbosity="low"),
        output_modalities=[content_pb2.MODALITY_TEXT, content_pb2.MODALITY_AUDIO],
        audio_output=chat_pb2.AudioOutput(voice="v"),
    )
    fields = [field for _, field in built(asked)[1]]
    assert fields == ["output_format.json", "output_format.verbosity", "output_modalities", "audio_output"]


# -- tools


def function(name: str, **more: Any) -> chat_pb2.Tool:
    return chat_pb2.Tool(function=chat_pb2.FunctionTool(name=name, **more))


def test_functions_keep_their_schema_and_strictness() -> None:
    """A function without parameters takes an empty object; what has no field is merged in."""
    tool = function("f", description="d", parameters_json='{"type":"object","x":1.0}', strict=True)
    tool.provider_options_json = '{"defer_loading":true}'
    tool.cache_hint.ttl.FromSeconds(3600)
    wire = build_request(Call(request(tools=[tool, function("g")]), NEW), "anthropic")
    first, second = json.loads(wire.body)["tools"]
    assert first == {
        "name": "f",
        "description": "d",
        "input_schema": {"type": "object", "x": 1.0},
        "strict": True,
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
        "defer_loading": True,
    }
    assert second == {"name": "g", "input_schema": {"type": "object", "properties": {}}}
    assert b'{"type":"object","x":1.0}' in wire.body


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (chat_pb2.TOOL_CHOICE_MODE_AUTO, None, {"type": "auto"}),
        (chat_pb2.TOOL_CHOICE_MODE_NONE, None, {"type": "none"}),
        (chat_pb2.TOOL_CHOICE_MODE_REQUIRED, False, {"type": "any", "disable_parallel_tool_use": True}),
        (chat_pb2.TOOL_CHOICE_MODE_NAMED, True, {"type": "tool", "name": "f", "disable_parallel_tool_use": False}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_of_tools(choice: int | None, parallel: bool | None, expected: Json | None) -> None:
    """Modes and parallel calls have their words; without either the provider decides."""
    asked = request(tools=[function("f")])
    if choice is not None:
        asked.tool_choice.CopyFrom(chat_pb2.ToolChoice(mode=choice, name="f"))  # type: ignore[arg-type]  # an enum's int
    if parallel is not None:
        asked.parallel_tool_calls = parallel
    assert built(asked)[0].get("tool_choice") == expected


def test_a_model_without_forced_calls_decides_itself() -> None:
    """A forced call becomes the model's own decision, with a notice."""
    choice = chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name="f")
    body, notices = built(request(tools=[function("f")], tool_choice=choice), NEW)
    assert (body["tool_choice"], notices) == ({"type": "auto"}, [(ADJUSTED, "tool_choice.mode")])


def test_a_choice_without_tools_is_not_sent() -> None:
    """The provider refuses a choice where there is nothing to choose."""
    choice = chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_AUTO)
    assert "tool_choice" not in built(request(tool_choice=choice))[0]


def test_allowed_tools_are_the_only_ones_shown() -> None:
    """A choice among some tools shows only those; none at all is the caller's mistake."""
    choice = chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_AUTO, allowed_names=["g"])
    body, notices = built(request(tools=[function("f"), function("g")], tool_choice=choice))
    assert [tool["name"] for tool in body["tools"]] == ["g"]
    assert notices == [(ADJUSTED, "tool_choice.allowed_names")]
    with pytest.raises(InvalidRequestError):
        built(request(tools=[function("f")], tool_choice=choice))
    server = chat_pb2.Tool(mcp_server=chat_pb2.McpServerTool(name="g", url="https://mcp.example/"))
    search = chat_pb2.Tool(provider=chat_pb2.ProviderTool(type="web_search_20250305", name="f"))
    body, _ = built(request(tools=[server, search], tool_choice=choice))
    assert [tool["type"] for tool in body["tools"]] == ["mcp_toolset"]


def test_tools_of_the_provider_and_of_others() -> None:
    """A tool of this family is handed on with its settings; one of another family is left out with a notice."""
    mine = chat_pb2.ProviderTool(
        family="anthropic", type="web_search_20250305", name="web_search", config_json='{"max_uses":2}'
    )
    theirs = chat_pb2.ProviderTool(family="gemini", type="googleSearch")
    body, notices = built(request(tools=[chat_pb2.Tool(provider=mine), chat_pb2.Tool(provider=theirs)]))
    assert body["tools"] == [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]
    assert notices == [(DROPPED, "tools[1]")]


def test_mcp_servers_come_with_their_toolset_and_beta() -> None:
    """A server is defined beside the tools; its allowed tools are the only ones switched on."""
    server = chat_pb2.McpServerTool(name="s", url="https://mcp.example/", authorization_token="t", allowed_tools=["a"])
    asked = request(tools=[chat_pb2.Tool(mcp_server=server)])
    body = built(asked)[0]
    assert body["mcp_servers"] == [
        {"type": "url", "url": "https://mcp.example/", "name": "s", "authorization_token": "t"}
    ]
    assert body["tools"] == [
        {
            "type": "mcp_toolset",
            "mcp_server_name": "s",
            "default_config": {"enabled": False},
            "configs": {"a": {"enabled": True}},
        }
    ]
    assert betas(asked) == ("mcp-client-2025-11-20",)


# -- media


def media(**fields: Any) -> Block:
    return Block(media=content_pb2.MediaBlock(**fields))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            media(mime_type="image/png", data=b"\x00\x01"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAE="}},
        ),
        (media(uri="https://a.example/x"), {"type": "image", "source": {"type": "url", "url": "https://a.example/x"}}),
        (
            media(uri="https://a.example/x.PDF?y"),
            {"type": "document", "source": {"type": "url", "url": "https://a.example/x.PDF?y"}},
        ),
        (
            media(mime_type="application/pdf", data=b"%", filename="t", citations=True),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JQ=="},
                "title": "t",
                "citations": {"enabled": True},
            },
        ),
        (
            media(mime_type="text/plain; charset=utf-8", data="\u00e9".encode()),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "\u00e9"}},
        ),
        (media(file_id="f"), {"type": "document", "source": {"type": "file", "file_id": "f"}}),
        (
            media(mime_type="image/webp", file_id="f"),
            {"type": "image", "source": {"type": "file", "file_id": "f"}},
        ),
    ],
)
def test_media_find_their_block(block: Block, expected: Json) -> None:
    """Images and documents by bytes, address or file."""
    assert content(block) == ([expected], [])


@pytest.mark.parametrize(
    "block",
    [
        media(mime_type="audio/wav", data=b"RIFF"),
        media(mime_type="image/png", uri="gs://bucket/x.png"),
        media(mime_type="text/plain", data=b"\xff\xfe"),
        media(data=b"??"),
    ],
)
def test_media_that_the_provider_cannot_take_are_left_out(block: Block) -> None:
    """Audio, foreign storage, text that is no UTF-8 and bytes of no type are named in a notice."""
    assert content(words("see"), block) == ([{"type": "text", "text": "see"}], [(BLOCK, "messages[0].content[1]")])


def test_other_text_is_sent_as_plain_text() -> None:
    """A table as text/csv is text all the same; how closely to look at an image cannot be said."""
    blocks, notices = content(
        media(mime_type="text/csv", data=b"a,b"), media(mime_type="image/png", data=b"x", detail="high")
    )
    assert blocks[0]["source"] == {"type": "text", "media_type": "text/plain", "data": "a,b"}
    assert notices == [
        (ADJUSTED, "messages[0].content[0].media.mime_type"),
        (DROPPED, "messages[0].content[1].media.detail"),
    ]


def test_files_name_their_beta() -> None:
    """A request with a file of the provider names the beta of files, one with a container's file too."""
    upload = media(file_id="f")
    upload.provider_metadata_json = '{"type":"container_upload"}'
    assert betas(request(media(file_id="f"))) == ("files-api-2025-04-14",)
    assert betas(request(upload)) == ("files-api-2025-04-14",)
    assert content(upload)[0] == [{"type": "container_upload", "file_id": "f"}]


# -- conversation


def turn(*blocks: Block) -> content_pb2.Message:
    return content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, content=blocks)


def call(**fields: Any) -> Block:
    return Block(tool_call=content_pb2.ToolCallBlock(**{"call_id": "c", "name": "f", **fields}))


def result(**fields: Any) -> Block:
    return Block(tool_result=content_pb2.ToolResultBlock(**{"call_id": "c", **fields}))


def test_results_of_tools_carry_text_images_and_errors() -> None:
    """A result holds content, or its JSON as text where there is no content."""
    image = media(mime_type="image/png", data=b"x")
    blocks, _ = content(
        result(content=[words("seen"), image], is_error=True), result(structured_content_json='{"n": 1}')
    )
    assert blocks[0]["is_error"] is True
    assert [part["type"] for part in blocks[0]["content"]] == ["text", "image"]
    assert blocks[1] == {
        "type": "tool_result",
        "tool_use_id": "c",
        "content": [{"type": "text", "text": '{"n": 1}'}],
    }


def test_both_forms_of_a_result_send_the_content() -> None:
    """Where a result has content and JSON the content goes, with a notice that never refuses."""
    both = result(content=[words("one")], structured_content_json="1")
    blocks, notices = content(both)
    assert blocks[0]["content"] == [{"type": "text", "text": "one"}]
    assert notices == [(DROPPED, "messages[0].content[0].tool_result.structured_content_json")]


def test_arguments_stand_as_the_model_wrote_them() -> None:
    """Replayed arguments are not written anew; none are an empty object; free text is wrapped."""
    written = '{"b":1.0,"a":1e2}'
    asked = request()
    asked.messages.append(turn(call(arguments_json=written), call(arguments_json=""), call(arguments_text="x")))
    wire = build_request(Call(asked, NEW), "anthropic")
    assert written.encode() in wire.body
    inputs = [part["input"] for part in json.loads(wire.body)["messages"][1]["content"]]
    assert inputs == [{"b": 1.0, "a": 100.0}, {}, {"input": "x"}]


def test_arguments_that_are_no_json_are_the_callers_mistake() -> None:
    """Arguments that were cut short are refused with the path of their field."""
    asked = request()
    asked.messages.append(turn(words("so"), call(arguments_json='{"a": 1')))
    with pytest.raises(InvalidRequestError) as raised:
        built(asked)
    assert raised.value.field == "messages[1].content[1].tool_call.arguments_json"


def test_foreign_call_ids_are_rewritten_alike_for_call_and_result() -> None:
    """Ids of other providers may hold characters that this one refuses."""
    asked = request()
    asked.messages.append(turn(call(call_id="call:1.x")))
    asked.messages.append(content_pb2.Message(role=content_pb2.ROLE_USER, content=[result(call_id="call:1.x")]))
    messages = built(asked)[0]["messages"]
    assert messages[1]["content"][0]["id"] == messages[2]["content"][0]["tool_use_id"] == "call_1_x"


def test_state_of_another_family_stays_behind() -> None:
    """Reasoning, opaque blocks and calls that another provider ran are left out; its words and our calls stay."""
    foreign = [
        Block(thinking=content_pb2.ThinkingBlock(text="hm")),
        Block(redacted_thinking=content_pb2.RedactedThinkingBlock(data=b"x")),
        words("said", states=[content_pb2.OpaqueState(kind="thought_signature", data=b"s")]),
        call(),
        call(executed_by=content_pb2.TOOL_EXECUTOR_PROVIDER),
        result(executed_by=content_pb2.TOOL_EXECUTOR_PROVIDER, structured_content_json="1"),
        Block(opaque=content_pb2.OpaqueBlock(type="x", json="{}")),
    ]
    for block in foreign:
        block.family = "gemini"
        block.provider_metadata_json = '{"caller":{"type":"direct"}}'
    asked = request()
    asked.messages.append(turn(*foreign))
    body, notices = built(asked)
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "said"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
    ]
    path = "messages[1].content"
    assert notices == [
        (STATE, f"{path}[0]"),
        (STATE, f"{path}[1]"),
        (STATE, f"{path}[2]"),
        (BLOCK, f"{path}[4]"),
        (BLOCK, f"{path}[5]"),
        (BLOCK, f"{path}[6]"),
    ]


def test_reasoning_that_a_caller_wrote_is_left_out() -> None:
    """Reasoning without a signature, of no family, is nothing that the provider takes."""
    asked = request()
    asked.messages.append(turn(Block(thinking=content_pb2.ThinkingBlock(text="hm")), words("so")))
    body, notices = built(asked)
    assert [part["type"] for part in body["messages"][1]["content"]] == ["text"]
    assert notices == [(STATE, "messages[1].content[0]")]


def test_empty_texts_and_messages_are_left_out() -> None:
    """The provider refuses them, and they say nothing: that is told, but never a reason to refuse."""
    asked = request(words(""), words("x"), unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT)
    asked.sampling.max_output_tokens = 9
    asked.messages.append(turn())
    body, notices = built(asked)
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    assert notices == [(BLOCK, "messages[0].content[0]"), (BLOCK, "messages[1]")]


def test_a_refusal_goes_back_as_text() -> None:
    """The words of a refusal are the model's words."""
    asked = request()
    asked.messages.append(turn(Block(refusal=content_pb2.RefusalBlock(text="no"), family="openai")))
    assert built(asked)[0]["messages"][1]["content"] == [{"type": "text", "text": "no"}]


@pytest.mark.parametrize(("model", "role"), [(NEW, "system"), (MIDDLE, "user")])
def test_instructions_in_the_middle(model: str, role: str) -> None:
    """Newer models take a system message in the middle; for others it is the user's, with a notice."""
    asked = request()
    asked.messages.add(role=content_pb2.ROLE_SYSTEM, content=[words("be brief")])
    body, notices = built(asked, model)
    assert body["messages"][1]["role"] == role
    assert [field for _, field in notices] == ([] if role == "system" else ["messages[1].role"])


def test_the_last_words_of_the_assistant_are_a_prefill() -> None:
    """A conversation that ends with the assistant is sent as it is."""
    asked = request()
    asked.messages.append(turn(words("The answer is (")))
    assert built(asked, OLD)[0]["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "The answer is ("}],
    }


# -- caching


@pytest.mark.parametrize(
    ("seconds", "control", "told"),
    [
        (None, {"type": "ephemeral"}, False),
        (300, {"type": "ephemeral", "ttl": "5m"}, False),
        (3600, {"type": "ephemeral", "ttl": "1h"}, False),
        (60, {"type": "ephemeral", "ttl": "5m"}, True),
        (600, {"type": "ephemeral", "ttl": "1h"}, True),
    ],
)
def test_hints_become_breakpoints(seconds: int | None, control: Json, told: bool) -> None:
    """A hint's life is rounded to the two that there are, with a notice where that changes it."""
    hint = content_pb2.CacheHint(ttl=duration_pb2.Duration(seconds=seconds)) if seconds else content_pb2.CacheHint()
    blocks, notices = content(words("x", cache_hint=hint))
    assert blocks[0]["cache_control"] == control
    assert bool(notices) == told


def test_the_policy_covers_the_whole_prompt_and_hints_without_a_life() -> None:
    """Automatic caching is asked for at the top; its life is that of hints that name none."""
    policy = chat_pb2.CachePolicy(automatic=True, ttl=duration_pb2.Duration(seconds=3600), key="k", cached_content="c")
    body, notices = built(request(words("x", cache_hint=content_pb2.CacheHint()), cache=policy))
    assert (
        body["cache_control"]
        == body["messages"][0]["content"][0]["cache_control"]
        == {
            "type": "ephemeral",
            "ttl": "1h",
        }
    )
    assert notices == [(DROPPED, "cache.key"), (DROPPED, "cache.cached_content")]


def test_thinking_cannot_end_a_cached_prompt() -> None:
    """A hint on reasoning is left out with a notice; on an opaque block it is added to its JSON."""
    asked = request()
    signed = [content_pb2.OpaqueState(kind="signature", data=b"s")]
    thinking = Block(thinking=content_pb2.ThinkingBlock(), states=signed, cache_hint=content_pb2.CacheHint())
    opaque = content_pb2.OpaqueBlock(type="search_result", json='{"type":"search_result"}')
    asked.messages.append(turn(thinking, Block(opaque=opaque, cache_hint=content_pb2.CacheHint())))
    body, notices = built(asked)
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "", "signature": "s"},
        {"type": "search_result", "cache_control": {"type": "ephemeral"}},
    ]
    assert notices == [(DROPPED, "messages[1].content[0].cache_hint")]


# -- the rest


def test_options_of_the_provider_are_merged_last() -> None:
    """Options of this provider or family override the body, null removes, and betas go into the header."""
    options = [
        chat_pb2.ProviderOptions(provider="openai", options_json='{"store": true}'),
        chat_pb2.ProviderOptions(
            provider="anthropic",
            options_json='{"speed":"fast","metadata":{"more":1},"max_tokens":7,"stream":null,"betas":["own-1"]}',
        ),
    ]
    asked = request(provider_options=options, context=chat_pb2.CallContext(end_user_id="u"), service_tier="auto")
    body, _ = built(asked)
    assert (body["speed"], body["max_tokens"], body["service_tier"]) == ("fast", 7, "auto")
    assert body["metadata"] == {"user_id": "u", "more": 1}
    assert "stream" not in body
    assert "store" not in body
    assert "betas" not in body
    assert betas(asked) == ("fast-mode-2026-02-01", "own-1")


@pytest.mark.parametrize("options", ["[]", "{", '{"betas": "one"}', '{"betas": [1]}'])
def test_options_that_are_none_are_the_callers_mistake(options: str) -> None:
    """Options must be a JSON object, betas a list of names; the error names the field."""
    asked = request(provider_options=[chat_pb2.ProviderOptions(provider="anthropic", options_json=options)])
    with pytest.raises(InvalidRequestError) as raised:
        built(asked)
    assert raised.value.field == "provider_options[0].options_json"


@pytest.mark.parametrize(
    ("options", "beta"),
    [
        ('{"context_management":{"edits":[{"type":"compact_20260112"}]}}', "compact-2026-01-12"),
        ('{"context_management":{"edits":[]}}', "context-management-2025-06-27"),
        ('{"fallbacks":"default"}', "server-side-fallback-2026-07-01"),
        ('{"container":{"skills":[{"type":"anthropic","skill_id":"pdf"}]}}', "skills-2025-10-02"),
        ('{"output_config":{"task_budget":{"type":"tokens","total":20000}}}', "task-budgets-2026-03-13"),
        ('{"tools":[{"type":"computer_20251124","name":"computer"}]}', "computer-use-2025-11-24"),
    ],
)
def test_members_that_need_a_beta_name_it(options: str, beta: str) -> None:
    """What the API takes only under a beta is asked for together with it."""
    asked = request(provider_options=[chat_pb2.ProviderOptions(provider="anthropic", options_json=options)])
    assert beta in betas(asked)


def test_a_participants_name_is_told_as_left_out() -> None:
    """The format does not name participants."""
    asked = request()
    asked.messages[0].name = "ann"
    assert built(asked)[1] == [(DROPPED, "messages[0].name")]


def test_a_whole_answer_is_asked_for_without_streaming() -> None:
    """A unary call leaves the member out that asks for a stream."""
    assert "stream" not in json.loads(build_request(Call(request(), NEW, unary=True), "anthropic").body)
    assert json.loads(build_request(Call(request(), NEW), "anthropic").body)["stream"] is True


def test_a_count_leaves_out_what_makes_no_prompt() -> None:
    """The counter gets the prompt, tools and thinking, not the options of the answer, and no notices about those."""
    asked = request(
        system=[words("be")],
        tools=[function("f")],
        sampling=chat_pb2.Sampling(temperature=0.5),
        reasoning=chat_pb2.Reasoning(enabled=True),
        service_tier="auto",
    )
    wire = build_count(Call(asked, NEW), "anthropic")
    assert set(json.loads(wire.body)) == {"model", "system", "messages", "tools", "thinking"}
    assert wire.notices == ()


@pytest.mark.parametrize("mode", ["TOOL_CHOICE_MODE_REQUIRED", "TOOL_CHOICE_MODE_NAMED"])
def test_a_call_that_no_tool_can_answer_is_not_forced(mode: str) -> None:
    """Without tools a forced call is left out with a notice; a free choice, and none, need no word."""
    choice = chat_pb2.ToolChoice(mode=chat_pb2.ToolChoiceMode.Value(mode), name="f")
    body, notices = built(request(tool_choice=choice))
    assert "tool_choice" not in body
    assert notices == [(DROPPED, "tool_choice.mode")]
    free = chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NONE)
    assert built(request(tool_choice=free))[1] == []


def test_a_providers_result_names_its_call_as_the_call_does() -> None:
    """A call that the provider ran and its result have one identifier, also where it had to be rewritten."""
    provider = content_pb2.TOOL_EXECUTOR_PROVIDER
    call = content_pb2.ToolCallBlock(
        call_id="srv:1.a", name="web_search", executed_by=provider, provider_type="server_tool_use"
    )
    result = content_pb2.ToolResultBlock(
        call_id="srv:1.a",
        structured_content_json="[]",
        executed_by=provider,
        provider_type="web_search_tool_result",
    )
    blocks, _ = content(Block(tool_call=call, family="anthropic"), Block(tool_result=result, family="anthropic"))
    assert blocks[0]["id"] == blocks[1]["tool_use_id"] == "srv_1_a"
