"""How each part of a ChatRequest is said in a body of Responses, and what is told where it cannot be said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import text_format

from execution_platform.adapters.errors import InvalidRequestError, UnsupportedOptionError
from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.responses.request import build_count, build_responses
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

NEW = "gpt-5.6-sol"
OLD = "gpt-4.1"
HELLO = ' messages { role: ROLE_USER content { text { text: "Hello" } } }'


def built(request: str, model: str = NEW, dialect: Dialect = DIALECT, *, unary: bool = True) -> tuple[Any, list[str]]:
    """The body, and the fields that notices name.

    Args:
        request: a ChatRequest in text format; a greeting is added where it has no messages.
        model: what is asked.
        dialect: who is asked.
        unary: not streamed.
    """
    parsed = text_format.Parse(request if "messages" in request else request + HELLO, chat_pb2.ChatRequest())
    wire = build_responses(Call(parsed, model, unary=unary), dialect.for_model(model))
    return json.loads(wire.body), [notice.field for notice in wire.notices]


def said(request: str, model: str = NEW) -> Any:
    """The body of a request that gives no notice, without what every body holds."""
    body, notices = built(request, model)
    assert notices == []
    always = {"model", "input", "store", "include"} if "input" not in request else set()
    return {key: value for key, value in body.items() if key not in always}


def test_a_plain_request_is_plain() -> None:
    """A greeting becomes a message with a string; nothing is kept, and the answer streams."""
    body, notices = built("", unary=False)
    assert body == {
        "model": NEW,
        "input": [{"role": "user", "content": "Hello"}],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "stream": True,
    }
    assert notices == []


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("sampling { max_output_tokens: 5 }", {"max_output_tokens": 5}),
        ("reasoning { effort: 'xhigh' }", {"reasoning": {"effort": "xhigh"}}),
        ("reasoning { enabled: false }", {"reasoning": {"effort": "none"}}),
        ("reasoning { enabled: true }", {}),
        ("reasoning { display: REASONING_DISPLAY_SUMMARY }", {"reasoning": {"summary": "auto"}}),
        ("reasoning { display: REASONING_DISPLAY_CONCISE_SUMMARY }", {"reasoning": {"summary": "concise"}}),
        ("reasoning { display: REASONING_DISPLAY_DETAILED_SUMMARY }", {"reasoning": {"summary": "detailed"}}),
        ("reasoning { display: REASONING_DISPLAY_OMITTED }", {}),
        ("output_format { text {} }", {"text": {"format": {"type": "text"}}}),
        (
            "output_format { json {} verbosity: 'low' }",
            {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
        ),
        (
            "output_format { json_schema { schema_json: '{\"type\":\"object\"}' description: 'd' strict: false } }",
            {
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "answer",
                        "schema": {"type": "object"},
                        "description": "d",
                        "strict": False,
                    }
                }
            },
        ),
        ("parallel_tool_calls: false", {"parallel_tool_calls": False}),
        ("service_tier: 'flex'", {"service_tier": "flex"}),
        ("context { end_user_id: 'u1' session_id: 's' }", {"safety_identifier": "u1"}),
        ("cache { key: 'k' automatic: true }", {"prompt_cache_key": "k"}),
        (
            "cache { automatic: false ttl { seconds: 1800 } }",
            {"prompt_cache_options": {"mode": "explicit", "ttl": "30m"}},
        ),
        ("cache { ttl { seconds: 43200 } }", {"prompt_cache_options": {"ttl": "12h"}}),
        ("tool_choice { mode: TOOL_CHOICE_MODE_NONE }", {"tool_choice": "none"}),
        ("output_modalities: MODALITY_TEXT", {}),
        ("provider_options { provider: 'openai' options_json: '{\"truncation\":\"auto\"}' }", {"truncation": "auto"}),
        ("provider_options { provider: 'anthropic' options_json: '{\"x\":1}' }", {}),
    ],
)
def test_options_have_their_places(request_text: str, expected: Any) -> None:
    """Each option is said where Responses takes it."""
    assert said(request_text) == expected


@pytest.mark.parametrize(
    ("request_text", "field", "model"),
    [
        ("sampling { top_k: 4 }", "sampling.top_k", NEW),
        ("sampling { seed: 4 }", "sampling.seed", NEW),
        ("sampling { frequency_penalty: 1 }", "sampling.frequency_penalty", NEW),
        ("sampling { presence_penalty: 0 }", "sampling.presence_penalty", NEW),
        ("sampling { stop_sequences: 'x' }", "sampling.stop_sequences", NEW),
        ("sampling { logit_bias { key: 1 value: 2 } }", "sampling.logit_bias", NEW),
        ("sampling { temperature: 0.5 }", "sampling.temperature", NEW),
        ("sampling { top_p: 0.5 }", "sampling.top_p", "gpt-6.1-sol"),
        ("sampling { logprobs: true }", "sampling.logprobs", "o3"),
        ("reasoning { budget_tokens: 5 }", "reasoning.budget_tokens", NEW),
        ("reasoning { effort: 'low' }", "reasoning", OLD),
        ("reasoning { enabled: false }", "reasoning.enabled", "gpt-6.1-sol"),
        ("output_modalities: MODALITY_AUDIO", "output_modalities", NEW),
        ("audio_output { voice: 'alloy' }", "audio_output", NEW),
        ("cache { cached_content: 'x' }", "cache.cached_content", NEW),
        ("cache { automatic: false }", "cache.automatic", OLD),
        ("tool_choice { mode: TOOL_CHOICE_MODE_NAMED name: 'f' }", "tool_choice.name", NEW),
        ("tools { provider { family: 'gemini' type: 'googleSearch' } }", "tools[0]", NEW),
        ("tools { function { name: 'f' } cache_hint {} }", "tools[0].cache_hint", NEW),
        ("messages { role: ROLE_USER name: 'Ann' content { text {} } }", "messages[0].name", NEW),
        (
            "messages { role: ROLE_USER content { text {} cache_hint {} } }",
            "messages[0].content[0].cache_hint",
            OLD,
        ),
        (
            "messages { role: ROLE_USER content { media { mime_type: 'video/mp4' uri: 'https://a.example' } } }",
            "messages[0].content[0]",
            NEW,
        ),
        (
            "messages { role: ROLE_USER content { media { mime_type: 'audio/ogg' data: 'x' } } }",
            "messages[0].content[0]",
            NEW,
        ),
    ],
)
def test_what_cannot_be_said_is_told(request_text: str, field: str, model: str) -> None:
    """An option without a place gives a notice that names it; with REJECT the request is refused instead."""
    _, notices = built(request_text, model)
    assert notices == [field]
    with pytest.raises(UnsupportedOptionError) as refused:
        built(f"unsupported_options: UNSUPPORTED_OPTION_POLICY_REJECT {request_text}", model)
    assert refused.value.field == field


@pytest.mark.parametrize("model", [OLD, "gpt-5.4", "gpt-4o"])
def test_sampling_goes_to_models_that_take_it(model: str) -> None:
    """Temperature, nucleus and log probabilities reach models that do not reason by themselves."""
    body, notices = built("sampling { temperature: 0.5 top_p: 0.25 top_logprobs: 3 }", model)
    assert (body["temperature"], body["top_p"], body["top_logprobs"]) == (0.5, 0.25, 3)
    assert "message.output_text.logprobs" in body["include"]
    assert notices == []


def test_sampling_goes_to_a_model_that_is_told_not_to_reason() -> None:
    """A reasoning model takes a temperature with effort none."""
    body, notices = built("sampling { temperature: 0.5 } reasoning { effort: 'none' }")
    assert body["temperature"] == 0.5
    assert notices == []


def test_an_older_model_keeps_prompts_by_retention() -> None:
    """Models without cache options keep a prompt in memory or for 24 hours, with a notice for other lifetimes."""
    assert built("cache { ttl { seconds: 86400 } }", OLD)[0]["prompt_cache_retention"] == "24h"
    body, notices = built("cache { ttl { seconds: 300 } }", OLD)
    assert (body["prompt_cache_retention"], notices) == ("in_memory", ["cache.ttl"])


def test_instructions_are_one_text_or_a_message() -> None:
    """A single text is `instructions`; what is more than that stands at the head, part by part."""
    assert built("system { text { text: 'Be brief.' } }")[0]["instructions"] == "Be brief."
    body, notices = built(
        "system { text { text: 'a' } } system { text { text: 'b' } cache_hint { ttl { seconds: 60 } } }"
    )
    assert "instructions" not in body
    assert body["input"][0] == {
        "role": "developer",
        "content": [
            {"type": "input_text", "text": "a"},
            {
                "type": "input_text",
                "text": "b",
                "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"},
            },
        ],
    }
    assert notices == ["system[1].cache_hint.ttl"]


def test_instructions_in_the_middle_have_the_dialects_role() -> None:
    """OpenAI's instructions come from the developer, those of servers that copy the format from the system."""
    request = "messages { role: ROLE_SYSTEM content { text { text: 'x' } } }"
    assert built(request)[0]["input"][0]["role"] == "developer"
    other = Dialect(provider="xai", family="xai", api="responses")
    assert built(request, dialect=other)[0]["input"][0]["role"] == "system"


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (
            "mime_type: 'image/png' data: 'ab' detail: 'low'",
            {"type": "input_image", "image_url": "data:image/png;base64,YWI=", "detail": "low"},
        ),
        (
            "mime_type: 'image/png' uri: 'https://a.example/b.png'",
            {"type": "input_image", "image_url": "https://a.example/b.png"},
        ),
        ("mime_type: 'image/png' file_id: 'file_1'", {"type": "input_image", "file_id": "file_1"}),
        (
            "mime_type: 'application/pdf' data: 'ab' filename: 'a.pdf'",
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,YWI="},
        ),
        ("uri: 'https://a.example/b.pdf'", {"type": "input_file", "file_url": "https://a.example/b.pdf"}),
        ("file_id: 'file_1'", {"type": "input_file", "file_id": "file_1"}),
        (
            "mime_type: 'audio/mpeg' data: 'ab'",
            {"type": "input_audio", "input_audio": {"data": "YWI=", "format": "mp3"}},
        ),
    ],
)
def test_media_are_parts_of_a_message(media: str, expected: Any) -> None:
    """Images, files and audio are said by bytes, address or file id."""
    body, notices = built(f"messages {{ role: ROLE_USER content {{ media {{ {media} }} }} }}", "a-model-of-tomorrow")
    assert body["input"] == [{"role": "user", "content": [expected]}]
    assert notices == []


def test_a_file_without_a_name_gets_one() -> None:
    """Bytes need a file name, which is filled in with a notice."""
    media = "mime_type: 'application/pdf' data: 'ab'"
    body, notices = built(f"messages {{ role: ROLE_USER content {{ media {{ {media} }} }} }}")
    assert body["input"][0]["content"][0]["filename"] == "document.pdf"
    assert notices == ["messages[0].content[0].media.filename"]


def test_results_stand_between_the_words_around_them() -> None:
    """A result is an item of its own; a message is cut where it stands."""
    request = """messages { role: ROLE_USER
        content { text { text: 'before' } }
        content { tool_result { call_id: 'c1' content { text { text: 'done' } } } }
        content { tool_result { call_id: 'c2' content { text { text: 'a' } }
                                content { media { mime_type: 'image/png' data: 'ab' } } } }
        content { tool_result { call_id: 'c3' structured_content_json: '{"a": 1.50}' } }
        content { text { text: 'after' } } }"""
    body, notices = built(request)
    image = {"type": "input_image", "image_url": "data:image/png;base64,YWI="}
    assert body["input"] == [
        {"role": "user", "content": "before"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "a"}, image]},
        {"type": "function_call_output", "call_id": "c3", "output": '{"a": 1.50}'},
        {"role": "user", "content": "after"},
    ]
    assert notices == []


def test_a_result_may_be_a_place_to_cache() -> None:
    """A cache hint on a result stands on the last part of its output."""
    result = "tool_result { call_id: 'c' content { text { text: 'done' } } } cache_hint {}"
    body, notices = built(f"messages {{ role: ROLE_USER content {{ {result} }} }}")
    breakpoint_ = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    assert body["input"][0]["output"] == [{"type": "input_text", "text": "done", **breakpoint_}]
    assert notices == []


REJECT = "unsupported_options: UNSUPPORTED_OPTION_POLICY_REJECT"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("", ["is_error"]),
        ("custom_tool_call_output", ["is_error"]),
        ("computer_call_output", ["is_error"]),
        ("shell_call_output", []),
        ("apply_patch_call_output", []),
        ("mcp_approval_response", []),
    ],
)
def test_a_failure_is_marked_or_told(kind: str, told: list[str]) -> None:
    """Results whose item has no mark for a failure give a notice, which never refuses."""
    result = f"call_id: 'c' is_error: true provider_type: '{kind}' content {{ text {{ text: 'no' }} }}"
    _, notices = built(f"{REJECT} messages {{ role: ROLE_USER content {{ tool_result {{ {result} }} }} }}")
    assert notices == [f"messages[0].content[0].tool_result.{field}" for field in told]


@pytest.mark.parametrize(
    ("kind", "sent", "told"),
    [
        ("", {"type": "function_call_output", "output": "words"}, "structured_content_json"),
        ("shell_call_output", {"type": "shell_call_output", "output": []}, "content"),
    ],
)
def test_one_form_of_a_result_is_sent(kind: str, sent: Any, told: str) -> None:
    """Of content and structured content the one that the item takes is sent, and a notice names the other."""
    forms = "content { text { text: 'words' } } structured_content_json: '{\"output\": []}'"
    result = f"call_id: 'c' provider_type: '{kind}' {forms}"
    body, notices = built(f"{REJECT} messages {{ role: ROLE_USER content {{ tool_result {{ {result} }} }} }}")
    assert body["input"] == [{"call_id": "c", **sent}]
    assert notices == [f"messages[0].content[0].tool_result.{told}"]


def test_a_server_without_strict_functions_is_not_told_of_them() -> None:
    """A function's strictness gives a notice where the server has no such option."""
    strict = "tools { function { name: 'f' strict: true } }"
    body, notices = built(strict, dialect=Dialect(provider="p", family="p", strict_tools=False))
    assert ("strict" in body["tools"][0], notices) == (False, ["tools[0].function.strict"])


def test_an_end_user_is_told_to_servers_that_ask_for_one() -> None:
    """Where a server asks for no end user it is told of none, without a notice."""
    asked = "context { end_user_id: 'u1' }"
    body, notices = built(asked, dialect=Dialect(provider="p", family="p", places={}))
    assert ("u1" in json.dumps(body), notices) == (False, [])


def test_a_result_of_another_form_is_no_place_to_cache() -> None:
    """A hint on an item that has no parts gives a notice."""
    result = "tool_result { call_id: 'c' provider_type: 'shell_call_output' } cache_hint {}"
    _, notices = built(f"messages {{ role: ROLE_USER content {{ {result} }} }}")
    assert notices == ["messages[0].content[0].cache_hint"]


def test_a_result_without_content_is_an_empty_text() -> None:
    """The format needs an output; nothing is an empty text."""
    body, _ = built("messages { role: ROLE_USER content { tool_result { call_id: 'c' } } }")
    assert body["input"][0]["output"] == ""


TOOLS = """
    tools { function { name: 'f' description: 'd' parameters_json: '{"type": "object", "x": 1.50}' strict: true } }
    tools { function { name: 'bare' } provider_options_json: '{"defer_loading": true}' }
    tools { provider { type: 'web_search' config_json: '{"search_context_size": "low"}' } }
    tools { provider { family: 'openai' type: 'custom' name: 'sql' } }
    tools { mcp_server { name: 's' url: 'https://a.example' authorization_token: 't' allowed_tools: 'x'
                         config_json: '{"require_approval": "never"}' } }
"""


def test_tools_of_every_kind_are_defined() -> None:
    """Functions, tools of the provider, custom tools and MCP servers have their definitions, schemas as written."""
    parsed = text_format.Parse(TOOLS + HELLO, chat_pb2.ChatRequest())
    wire = build_responses(Call(parsed, NEW), DIALECT)
    assert b'{"type": "object", "x": 1.50}' in wire.body
    assert json.loads(wire.body)["tools"] == [
        {
            "type": "function",
            "name": "f",
            "parameters": {"type": "object", "x": 1.5},
            "description": "d",
            "strict": True,
        },
        {
            "type": "function",
            "name": "bare",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
            "defer_loading": True,
        },
        {"type": "web_search", "search_context_size": "low"},
        {"type": "custom", "name": "sql"},
        {
            "type": "mcp",
            "server_label": "s",
            "server_url": "https://a.example",
            "authorization": "t",
            "allowed_tools": ["x"],
            "require_approval": "never",
        },
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("mode: TOOL_CHOICE_MODE_AUTO", "auto"),
        ("mode: TOOL_CHOICE_MODE_REQUIRED", "required"),
        ("mode: TOOL_CHOICE_MODE_NAMED name: 'f'", {"type": "function", "name": "f"}),
        ("mode: TOOL_CHOICE_MODE_NAMED name: 'sql'", {"type": "custom", "name": "sql"}),
        ("mode: TOOL_CHOICE_MODE_NAMED name: 's'", {"type": "mcp", "server_label": "s"}),
        ("mode: TOOL_CHOICE_MODE_NAMED name: 'web_search'", {"type": "web_search"}),
        (
            "mode: TOOL_CHOICE_MODE_REQUIRED allowed_names: 'f' allowed_names: 'web_search'",
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
            },
        ),
    ],
)
def test_a_choice_names_a_tool_in_its_own_way(choice: str, expected: Any) -> None:
    """Functions and custom tools are named, MCP servers labelled, tools of the provider called by type."""
    assert said(f"{TOOLS} tool_choice {{ {choice} }}")["tool_choice"] == expected


def test_a_server_that_cannot_restrict_sees_only_what_is_allowed() -> None:
    """Where a choice among some tools cannot be said, the others are left out: none of them can be chosen."""
    other = Dialect(provider="xai", family="openai", api="responses")
    request = "tools { function { name: 'f' } } tools { function { name: 'g' } } tool_choice { allowed_names: 'g' }"
    body, notices = built(request, dialect=other)
    assert [tool["name"] for tool in body["tools"]] == ["g"]
    assert "tool_choice" not in body
    assert notices == []


def test_provider_options_come_last_and_stay_as_written() -> None:
    """Options of the provider are merged into the body, replace, remove, and keep their digits."""
    options = '{"reasoning": {"context": "all_turns"}, "include": ["x"], "temperature": 1.50, "store": null}'
    parsed = text_format.Parse("reasoning { effort: 'low' }" + HELLO, chat_pb2.ChatRequest())
    parsed.provider_options.add(provider="openai", options_json=options)
    wire = build_responses(Call(parsed, NEW, unary=True), DIALECT)
    assert b'"temperature":1.50' in wire.body
    body = json.loads(wire.body)
    assert body["reasoning"] == {"effort": "low", "context": "all_turns"}
    assert body["include"] == ["x"]
    assert "store" not in body


@pytest.mark.parametrize("options", ['{"background": true}', '{"conversation": {"id": "c"}}', '{"store": true}'])
def test_a_server_that_shall_keep_the_answer_is_left_its_defaults(options: str) -> None:
    """With options about keeping, neither store: false nor encrypted reasoning is ours to ask."""
    body, _ = built(f"provider_options {{ provider: 'openai' options_json: '{options}' }}")
    assert body.get("store") is not False
    assert "include" not in body


@pytest.mark.parametrize(
    ("request_text", "field"),
    [
        ("tools { function { name: 'f' parameters_json: '[]' } }", "tools[0].function.parameters_json"),
        ("output_format { json_schema { schema_json: '{' } }", "output_format.json_schema.schema_json"),
        ("provider_options { provider: 'openai' options_json: '7' }", "provider_options[0].options_json"),
        ("messages { role: ROLE_USER content { opaque { json: '[' } } }", "messages[0].content[0].opaque.json"),
    ],
)
def test_json_that_is_none_is_refused_by_field(request_text: str, field: str) -> None:
    """JSON of the caller's that cannot be read refuses the request and names the field."""
    with pytest.raises(InvalidRequestError) as refused:
        built(request_text)
    assert refused.value.field == field


def test_a_count_asks_only_for_what_is_counted() -> None:
    """The counter gets the prompt and the tools, and no notice about sampling."""
    parsed = text_format.Parse(TOOLS + HELLO + "sampling { seed: 1 max_output_tokens: 4 }", chat_pb2.ChatRequest())
    wire = build_count(Call(parsed, NEW), DIALECT)
    assert wire.path == "/responses/input_tokens"
    assert set(json.loads(wire.body)) == {"model", "input", "tools"}
    assert wire.notices == ()


def test_the_request_is_not_changed() -> None:
    """Building a body leaves the caller's request as it is."""
    parsed = text_format.Parse(TOOLS + HELLO, chat_pb2.ChatRequest())
    before = parsed.SerializeToString(deterministic=True)
    build_responses(Call(parsed, NEW), DIALECT)
    assert parsed.SerializeToString(deterministic=True) == before
    assert parsed.messages[0].role == content_pb2.ROLE_USER
