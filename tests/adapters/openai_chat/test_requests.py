"""What a ChatRequest asks for is in the Chat Completions body, or a notice says why it is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.protobuf import json_format
from tests.adapters.openai_chat.answers import DIALECTS, PLAIN, chunk, sse, streamed

from execution_platform.adapters.errors import InvalidRequestError, UnsupportedOptionError
from execution_platform.adapters.openai.models import DIALECT as OPENAI
from execution_platform.adapters.openai_api.chat.request import build_chat
from execution_platform.adapters.openai_api.dialect import Dialect, WireRequest
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2

Json = dict[str, Any]

PNG = base64.b64encode(b"png").decode()


def user(*content: Json) -> Json:
    return {"role": "ROLE_USER", "content": list(content)}


def assistant(*content: Json) -> Json:
    return {"role": "ROLE_ASSISTANT", "content": list(content)}


def text(words: str, **more: Any) -> Json:
    return {"text": {"text": words}, **more}


def request(**fields: Any) -> chat_pb2.ChatRequest:
    """A ChatRequest from JSON; without messages it asks "hi"."""
    fields.setdefault("messages", [user(text("hi"))])
    return json_format.ParseDict(fields, chat_pb2.ChatRequest())


def wire(dialect: Dialect = OPENAI, model: str = "gpt-5.9", *, unary: bool = True, **fields: Any) -> WireRequest:
    return build_chat(Call(request=request(**fields), model=model, unary=unary), dialect)


def body(dialect: Dialect = OPENAI, model: str = "gpt-5.9", *, unary: bool = True, **fields: Any) -> Json:
    parsed: Json = json.loads(wire(dialect, model, unary=unary, **fields).body)
    return parsed


def notices(dialect: Dialect = OPENAI, **fields: Any) -> list[tuple[str, str]]:
    return [
        (chat_pb2.NoticeCode.Name(notice.code).removeprefix("NOTICE_CODE_"), notice.field)
        for notice in wire(dialect, **fields).notices
    ]


def test_the_smallest_request() -> None:
    """Model, messages, and for a stream the request for usage."""
    assert body() == {"model": "gpt-5.9", "messages": [{"role": "user", "content": "hi"}]}
    assert body(unary=False)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body(DIALECTS["mistral"], unary=False)
    assert wire().path == "/chat/completions"


def test_every_sampling_option_has_its_place() -> None:
    """Sampling options stand under OpenAI's names, whole biases as whole numbers."""
    sampling = {
        "maxOutputTokens": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "frequencyPenalty": 0.1,
        "presencePenalty": -0.1,
        "seed": 7,
        "stopSequences": ["a", "b"],
        "topLogprobs": 2,
        "logitBias": {"42": -100, "43": 0.5},
    }
    sent = body(sampling=sampling)
    assert {key: sent[key] for key in sent if key not in {"model", "messages"}} == {
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "seed": 7,
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"42": -100, "43": 0.5},
    }


def test_what_differs_by_server_is_data() -> None:
    """One request reads differently at each server."""
    fields: Json = {
        "sampling": {"maxOutputTokens": 9, "seed": 7, "topK": 3},
        "reasoning": {"effort": "low", "budgetTokens": 5},
        "context": {"endUserId": "u"},
    }
    openrouter = body(DIALECTS["openrouter"], **fields)
    assert openrouter["reasoning"] == {"effort": "low", "max_tokens": 5}
    assert (openrouter["max_tokens"], openrouter["top_k"], openrouter["user"]) == (9, 3, "u")
    assert body(DIALECTS["mistral"], **fields)["random_seed"] == 7
    assert body(DIALECTS["groq"], **fields)["max_completion_tokens"] == 9
    assert body(DIALECTS["llamacpp"], **fields)["thinking_budget_tokens"] == 5
    assert body(DIALECTS["zai"], **fields)["user_id"] == "u"


def test_an_option_without_a_place_is_told() -> None:
    """Left out with a notice, or refused where the request wants that."""
    assert notices(sampling={"topK": 3}) == [("PARAM_DROPPED", "sampling.top_k")]
    assert notices(cache={"cachedContent": "x"}) == [("PARAM_DROPPED", "cache.cached_content")]
    with pytest.raises(UnsupportedOptionError) as raised:
        wire(sampling={"topK": 3}, unsupportedOptions="UNSUPPORTED_OPTION_POLICY_REJECT")
    assert raised.value.field == "sampling.top_k"


def test_rules_for_a_model_take_options_away() -> None:
    """Reasoning models of xAI take no stop sequences, its others do."""
    xai = DIALECTS["xai"]
    assert "stop" in body(xai, "grok-3", sampling={"stopSequences": ["x"]})
    assert "stop" not in body(xai, "grok-4", sampling={"stopSequences": ["x"]})


def test_reasoning_can_be_switched_and_hidden() -> None:
    """On, off and hidden are each server's own words; a server without them is told of."""
    assert body(DIALECTS["deepseek"], reasoning={"enabled": True})["thinking"] == {"type": "enabled"}
    off = {"enabled": False, "effort": "high"}
    assert body(DIALECTS["openrouter"], reasoning=off)["reasoning"] == {"enabled": False}
    assert body(DIALECTS["vllm"], reasoning=off)["chat_template_kwargs"] == {"enable_thinking": False}
    hidden = {"display": "REASONING_DISPLAY_OMITTED"}
    assert body(DIALECTS["groq"], reasoning=hidden)["include_reasoning"] is False
    assert notices(DIALECTS["together"], reasoning=hidden) == [("PARAM_DROPPED", "reasoning.display")]
    assert notices(DIALECTS["together"], reasoning={"display": "REASONING_DISPLAY_SUMMARY"}) == []


def test_the_form_of_the_answer() -> None:
    """JSON, a schema as it was written, or less where the server has less."""
    schema = {"jsonSchema": {"schemaJson": '{"b":1,"a":1.50}', "name": "n", "strict": True}}
    sent = wire(outputFormat={**schema, "verbosity": "low"}).body
    assert b'"json_schema":{"name":"n","schema":{"b":1,"a":1.50},"strict":true}' in sent
    assert json.loads(sent)["verbosity"] == "low"
    assert body(outputFormat={"json": {}})["response_format"] == {"type": "json_object"}
    deepseek = DIALECTS["deepseek"]
    assert body(deepseek, outputFormat=schema)["response_format"] == {"type": "json_object"}
    assert notices(deepseek, outputFormat=schema) == [("PARAM_ADJUSTED", "output_format.json_schema")]
    assert notices(DIALECTS["perplexity"], outputFormat={"json": {}}) == [("PARAM_DROPPED", "output_format.json")]


def test_audio_answers() -> None:
    """Voice and format are sent; a stream is pcm16, and a voice that is not named is filled in."""
    fields: Json = {"outputModalities": ["MODALITY_TEXT", "MODALITY_AUDIO"], "audioOutput": {"format": "mp3"}}
    assert body(**fields)["audio"] == {"voice": "alloy", "format": "mp3"}
    assert body(**fields)["modalities"] == ["text", "audio"]
    assert body(unary=False, **fields)["audio"]["format"] == "pcm16"
    told = [notice.field for notice in wire(unary=False, **fields).notices]
    assert told == ["audio_output.format", "audio_output.voice"]
    assert "modalities" not in body(outputModalities=["MODALITY_TEXT"])


def test_caching() -> None:
    """Keys, lifetimes and breakpoints go where the server has them, rounded with a notice."""
    hinted = text("long", cacheHint={"ttl": "600s"})
    sent = body(system=[hinted], cache={"key": "k", "automatic": False, "ttl": "1800s"})
    assert sent["prompt_cache_key"] == "k"
    assert sent["prompt_cache_options"] == {"mode": "explicit", "ttl": "30m"}
    (part,) = sent["messages"][0]["content"]
    assert part["prompt_cache_breakpoint"] == {"mode": "explicit", "ttl": "30m"}
    assert notices(system=[hinted]) == [("PARAM_ADJUSTED", "system[0].cache_hint.ttl")]
    (part,) = body(DIALECTS["openrouter"], system=[text("long", cacheHint={})])["messages"][0]["content"]
    assert part["cache_control"] == {"type": "ephemeral"}
    assert notices(DIALECTS["groq"], system=[hinted]) == [("PARAM_DROPPED", "system[0].cache_hint")]


def test_roles_and_names() -> None:
    """Instructions have the server's role; names go where there are some."""
    messages = [{"role": "ROLE_SYSTEM", "content": [text("now")]}, {**user(text("hi")), "name": "ann"}]
    sent = body(system=[text("be")], messages=messages)["messages"]
    assert [message["role"] for message in sent] == ["developer", "developer", "user"]
    assert sent[2]["name"] == "ann"
    assert body(PLAIN, system=[text("be")])["messages"][0] == {"role": "system", "content": "be"}
    assert notices(DIALECTS["groq"], messages=messages) == [("PARAM_DROPPED", "messages[1].name")]


def test_texts_are_joined_where_arrays_are_not_taken() -> None:
    """Several texts are parts, or one text for servers that take only that."""
    two = [user(text("a"), text("b"))]
    assert [part["text"] for part in body(messages=two)["messages"][0]["content"]] == ["a", "b"]
    assert body(DIALECTS["deepseek"], messages=two)["messages"][0]["content"] == "a\n\nb"


def media(**source: Any) -> list[Json]:
    return [user({"media": source})]


@pytest.mark.parametrize(
    ("provider", "source", "part"),
    [
        (
            "openai",
            {"mimeType": "image/png", "data": PNG, "detail": "low"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        ),
        (
            "openai",
            {"uri": "https://example.com/a"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a"}},
        ),
        ("openai", {"fileId": "file-1"}, {"type": "file", "file": {"file_id": "file-1"}}),
        (
            "openai",
            {"mimeType": "audio/mpeg", "data": PNG},
            {"type": "input_audio", "input_audio": {"data": PNG, "format": "mp3"}},
        ),
        (
            "openai",
            {"mimeType": "application/pdf", "data": PNG},
            {"type": "file", "file": {"filename": "document.pdf", "file_data": f"data:application/pdf;base64,{PNG}"}},
        ),
        (
            "openrouter",
            {"uri": "https://example.com/a.pdf"},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://example.com/a.pdf"}},
        ),
        (
            "openrouter",
            {"uri": "https://example.com/a.mp4"},
            {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        ),
        (
            "mistral",
            {"uri": "https://example.com/a.pdf", "filename": "A"},
            {"type": "document_url", "document_url": "https://example.com/a.pdf", "document_name": "A"},
        ),
        ("mistral", {"mimeType": "audio/wav", "data": PNG}, {"type": "input_audio", "input_audio": PNG}),
        ("groq", {"mimeType": "text/plain", "data": base64.b64encode(b"words").decode()}, "words"),
    ],
)
def test_media_are_parts(provider: str, source: Json, part: Any) -> None:
    """Images, audio, video and documents, as bytes, addresses and file ids, in the server's own form."""
    dialect = OPENAI if provider == "openai" else DIALECTS[provider]
    content = body(dialect, messages=media(**source))["messages"][0]["content"]
    assert content == (part if isinstance(part, str) else [part])


@pytest.mark.parametrize(
    ("provider", "source"),
    [
        ("deepseek", {"mimeType": "image/png", "data": PNG}),
        ("groq", {"fileId": "f"}),
        ("groq", {"mimeType": "audio/wav", "data": PNG}),
        ("groq", {"mimeType": "application/pdf", "data": PNG}),
        ("azure", {"mimeType": "audio/wav", "uri": "https://example.com/a.wav"}),
    ],
)
def test_media_that_a_server_does_not_take_are_told(provider: str, source: Json) -> None:
    """The block is left out with a notice that names it."""
    told = notices(DIALECTS[provider], messages=[user(text("see"), {"media": source})])
    assert told == [("BLOCK_DROPPED", "messages[0].content[1].media")]


CALL = {"toolCall": {"callId": "call_1", "name": "f", "argumentsJson": '{"x":1.50}'}}


def result(*content: Json, **more: Any) -> Json:
    return {"toolResult": {"callId": "call_1", "content": list(content), **more}}


def test_calls_and_their_results() -> None:
    """Arguments stand as they were; results follow their calls, before other content of their message."""
    sent = body(messages=[assistant(text("so"), CALL), user(text("and"), result(text("ok")))])["messages"]
    assert sent[0]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1.50}'}}
    ]
    assert sent[1:] == [
        {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
        {"role": "user", "content": "and"},
    ]


def test_a_result_may_be_json_or_empty_or_an_error() -> None:
    """Structured content stands in for missing content; the mark of an error has no place, which is told."""
    sent = body(messages=[assistant(CALL), user(result(structuredContentJson='{"a": 1}'))])["messages"]
    assert sent[1]["content"] == '{"a": 1}'
    assert body(messages=[assistant(CALL), user(result())])["messages"][1]["content"] == ""
    told = notices(messages=[assistant(CALL), user(result(text("no"), isError=True))])
    assert told == [("PARAM_DROPPED", "messages[1].content[0].tool_result.is_error")]


def test_both_forms_of_a_result_send_the_content() -> None:
    """Where a result has content and JSON the content goes, with a notice that never refuses."""
    messages = [assistant(CALL), user(result(text("one"), structuredContentJson="1"))]
    policy = "UNSUPPORTED_OPTION_POLICY_REJECT"
    assert body(messages=messages, unsupportedOptions=policy)["messages"][1]["content"] == "one"
    told = notices(messages=messages, unsupportedOptions=policy)
    assert told == [("PARAM_DROPPED", "messages[1].content[0].tool_result.structured_content_json")]


@pytest.mark.parametrize("form", [{"content": [{"text": {"text": "ok"}}]}, {"structuredContentJson": "ok"}])
def test_a_result_may_be_a_place_to_cache(form: Json) -> None:
    """A hint on a result marks its last part, in either server's way; an empty result takes none, which is told."""
    hinted = user({"toolResult": {"callId": "call_1", **form}, "cacheHint": {}})
    sent = body(messages=[assistant(CALL), hinted])["messages"][1]["content"]
    assert sent == [{"type": "text", "text": "ok", "prompt_cache_breakpoint": {"mode": "explicit"}}]
    sent = body(DIALECTS["openrouter"], messages=[assistant(CALL), hinted])["messages"][1]["content"]
    assert sent == [{"type": "text", "text": "ok", "cache_control": {"type": "ephemeral"}}]
    empty = [assistant(CALL), user({**result(), "cacheHint": {}})]
    assert notices(messages=empty) == [("PARAM_DROPPED", "messages[1].content[0].cache_hint")]


@pytest.mark.parametrize(
    "block", [CALL, {"refusal": {"text": "no"}}, {"opaque": {"json": '{"type":"text"}'}, "family": "openai"}]
)
def test_hints_where_no_breakpoint_can_be_are_told(block: Json) -> None:
    """Calls, refusals and opaque parts of an answer take no breakpoint, and a notice says so."""
    told = notices(messages=[assistant({**block, "cacheHint": {}})])
    assert told == [("PARAM_DROPPED", "messages[0].content[0].cache_hint")]


def test_documents_are_no_answer() -> None:
    """The format has no documents in answers, which is told."""
    asked = ["MODALITY_TEXT", "MODALITY_DOCUMENT"]
    assert "modalities" not in body(outputModalities=asked)
    assert notices(outputModalities=asked) == [("PARAM_DROPPED", "output_modalities")]


def test_an_uploaded_picture_is_looked_at_as_the_server_likes() -> None:
    """A picture by its file id has no place for how closely to look, which is told."""
    told = notices(messages=[user({"media": {"mimeType": "image/png", "fileId": "f", "detail": "low"}})])
    assert told == [("PARAM_DROPPED", "messages[0].content[0].media.detail")]


def test_media_in_a_result_move_to_the_user() -> None:
    """Where tool messages hold only text, media follow in a user message, and a notice says so."""
    image = {"media": {"mimeType": "image/png", "data": PNG}}
    messages = [assistant(CALL), user(result(text("see"), image))]
    sent = body(messages=messages)["messages"]
    assert [message["role"] for message in sent] == ["assistant", "tool", "user"]
    assert sent[2]["content"][0]["type"] == "image_url"
    assert notices(messages=messages) == [("PARAM_ADJUSTED", "messages[1].content[0].tool_result.content[1]")]
    kept = body(DIALECTS["openrouter"], messages=messages)["messages"]
    assert [part["type"] for part in kept[1]["content"]] == ["text", "image_url"]


def test_ids_that_a_server_refuses_are_replaced_alike() -> None:
    """Mistral's nine letters: call and result get the same stand-in, a fitting id stays."""
    sent = body(DIALECTS["mistral"], messages=[assistant(CALL), user(result(text("ok")))])["messages"]
    call_id = sent[0]["tool_calls"][0]["id"]
    assert len(call_id) == 9
    assert sent[1]["tool_call_id"] == call_id
    fitting = {"toolCall": {"callId": "wxYZ12345", "name": "f"}}
    assert body(DIALECTS["mistral"], messages=[assistant(fitting)])["messages"][0]["tool_calls"][0]["id"] == "wxYZ12345"


def test_a_last_word_of_the_model_is_a_prefix() -> None:
    """Where a server wants the beginning of an answer marked, it is."""
    messages = [user(text("hi")), assistant(text("Well"))]
    assert body(DIALECTS["mistral"], messages=messages)["messages"][1]["prefix"] is True
    assert "prefix" not in body(messages=messages)["messages"][1]


def test_an_empty_answer_is_an_empty_text() -> None:
    """An assistant message may be empty; one with calls has null content."""
    assert body(messages=[assistant()])["messages"][0]["content"] == ""
    assert body(messages=[assistant(CALL)])["messages"][0]["content"] is None
    refusal = body(messages=[assistant({"refusal": {"text": "no"}})])["messages"][0]
    assert (refusal["refusal"], refusal["content"]) == ("no", None)


FUNCTION = {
    "function": {"name": "f", "description": "d", "parametersJson": '{"type":"object","b":1.0}', "strict": True}
}


def test_tools() -> None:
    """Functions with their schema as written, free-text tools, a server's own tools, and what is merged into them."""
    shell = {"provider": {"family": "openai", "type": "custom", "name": "sh", "configJson": '{"description":"d"}'}}
    sent = wire(tools=[FUNCTION, shell, {"function": {"name": "g"}, "providerOptionsJson": '{"x":{"y":1e2}}'}]).body
    assert b'"parameters":{"type":"object","b":1.0}' in sent
    assert b'"x":{"y":1e2}' in sent
    first, custom, bare = json.loads(sent)["tools"]
    assert first["function"]["strict"] is True
    assert custom == {"type": "custom", "custom": {"name": "sh", "description": "d"}}
    assert bare["function"]["parameters"] == {"type": "object", "properties": {}}
    search = {"provider": {"family": "groq", "type": "browser_search"}}
    assert body(DIALECTS["groq"], tools=[search])["tools"] == [{"type": "browser_search"}]


def test_tools_that_a_server_does_not_have_are_told() -> None:
    """Tools of others, of MCP servers and with hints are left out with a notice."""
    tools = [
        {"provider": {"family": "anthropic", "type": "web_search_20250305"}},
        {"mcpServer": {"name": "m", "url": "https://example.com"}},
        {**FUNCTION, "cacheHint": {}},
    ]
    told = notices(tools=tools)
    assert told == [
        ("PARAM_DROPPED", "tools[0]"),
        ("PARAM_DROPPED", "tools[1]"),
        ("PARAM_DROPPED", "tools[2].cache_hint"),
    ]
    assert notices(DIALECTS["perplexity"], tools=[FUNCTION]) == [("PARAM_DROPPED", "tools")]


G = {"function": {"name": "g"}}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({"mode": "TOOL_CHOICE_MODE_AUTO"}, "auto"),
        ({"mode": "TOOL_CHOICE_MODE_NONE"}, "none"),
        ({"mode": "TOOL_CHOICE_MODE_REQUIRED"}, "required"),
        ({"mode": "TOOL_CHOICE_MODE_NAMED", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (
            {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedNames": ["g"]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]},
            },
        ),
    ],
)
def test_the_choice_of_a_tool(choice: Json, sent: Any) -> None:
    """Each rule has OpenAI's form."""
    assert body(tools=[FUNCTION, G], toolChoice=choice, parallelToolCalls=False)["tool_choice"] == sent


def test_a_choice_that_a_server_has_no_word_for_is_made_by_leaving_tools_out() -> None:
    """Naming one tool or allowing a few: the model sees only those."""
    named = {"mode": "TOOL_CHOICE_MODE_NAMED", "name": "g"}
    sent = body(DIALECTS["llamacpp"], tools=[FUNCTION, G], toolChoice=named)
    assert ([tool["function"]["name"] for tool in sent["tools"]], sent["tool_choice"]) == (["g"], "required")
    allowed = {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedNames": ["g"]}
    sent = body(DIALECTS["mistral"], tools=[FUNCTION, G], toolChoice=allowed)
    assert ([tool["function"]["name"] for tool in sent["tools"]], sent["tool_choice"]) == (["g"], "any")
    assert notices(DIALECTS["ollama"], tools=[G], toolChoice=named) == [("PARAM_DROPPED", "tool_choice")]


def test_provider_options_are_merged_last_and_verbatim() -> None:
    """Those of the provider or its family replace, add and remove, to the last digit; others are ignored."""
    options = [
        {"provider": "openai", "optionsJson": '{"store":true,"metadata":{"a":"b"},"temperature":null,"x":1.50e3}'},
        {"provider": "anthropic", "optionsJson": '{"nope":1}'},
    ]
    sent = wire(sampling={"temperature": 1}, providerOptions=options).body
    assert b'"x":1.50e3' in sent
    parsed = json.loads(sent)
    assert (parsed["store"], parsed["metadata"]) == (True, {"a": "b"})
    assert not {"nope", "temperature"} & parsed.keys()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"providerOptions": [{"provider": "openai", "optionsJson": "[]"}]}, "provider_options[0].options_json"),
        ({"tools": [{"function": {"name": "f", "parametersJson": "{"}}]}, "tools[0].function.parameters_json"),
        ({"outputFormat": {"jsonSchema": {"schemaJson": "7"}}}, "output_format.json_schema.schema_json"),
    ],
)
def test_json_that_is_none_names_its_field(fields: Json, field: str) -> None:
    """Broken JSON of the caller's is refused before anything is sent."""
    with pytest.raises(InvalidRequestError) as raised:
        wire(**fields)
    assert raised.value.field == field


# --- two turns --------------------------------------------------------------------------------------------------------


def replayed(dialect: Dialect, *deltas: Json) -> tuple[Json, list[str]]:
    """The assistant message that is sent after an answer of these deltas, and the notices' fields."""
    answer = streamed([sse(*(chunk(delta) for delta in deltas), chunk({}, "tool_calls"))], dialect).message
    turn = request()
    turn.messages.append(answer)
    turn.messages.add(role="ROLE_USER").content.add().tool_result.call_id = "call_1"
    built = build_chat(Call(request=turn, model="m", unary=True), dialect)
    return json.loads(built.body)["messages"][1], [notice.field for notice in built.notices]


TOOL_CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


@pytest.mark.parametrize("provider", ["deepseek", "xai", "zai", "moonshot", "vllm", "groq", "ollama"])
def test_reasoning_in_words_goes_back_where_it_came_from(provider: str) -> None:
    """The second turn holds the reasoning under the server's name for it, beside the calls."""
    dialect = DIALECTS[provider]
    field = dialect.reasoning_replay
    sent, told = replayed(dialect, {field: "Let me "}, {field: "see."}, {"tool_calls": [TOOL_CALL]})
    assert sent[field] == "Let me see."
    assert sent["tool_calls"][0]["function"] == TOOL_CALL["function"]
    assert told == []


def test_openrouters_reasoning_goes_back_piece_by_piece() -> None:
    """Text with its signature, summaries and encrypted pieces come back byte for byte, in order."""
    signature = "EvAB+/=="
    details = [
        {
            "type": "reasoning.text",
            "text": "Let me see.",
            "signature": signature,
            "format": "anthropic-claude-v1",
            "index": 0,
        },
        {"type": "reasoning.summary", "summary": "Seen.", "format": "openai-responses-v1", "index": 1},
        {"type": "reasoning.encrypted", "data": "gAAA+/==", "id": "rs_1", "format": "openai-responses-v1", "index": 1},
        {"type": "reasoning.future", "x": 1.5},
    ]
    unsigned = {key: value for key, value in details[0].items() if key != "signature"}
    signed = {key: value for key, value in details[0].items() if key != "text"}
    deltas = [{"reasoning_details": [piece]} for piece in (unsigned, signed, *details[1:])]
    sent, told = replayed(DIALECTS["openrouter"], *deltas, {"tool_calls": [TOOL_CALL]})
    assert sent["reasoning_details"] == details
    assert told == []


def test_mistrals_thinking_goes_back_as_parts() -> None:
    """Thinking parts stand before the text."""
    part = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    call = {**TOOL_CALL, "id": "wxYZ12345"}
    sent, _ = replayed(DIALECTS["mistral"], {"content": [part]}, {"content": "So"}, {"tool_calls": [call]})
    assert sent["content"] == [part, {"type": "text", "text": "So"}]


def test_databricks_reasoning_goes_back_signed() -> None:
    """The signed summary is the part that it was."""
    part = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm", "signature": "c2ln+/="}]}
    sent, _ = replayed(DIALECTS["databricks"], {"content": [part]}, {"tool_calls": [TOOL_CALL]})
    assert sent["content"] == [part]


def test_what_a_server_added_to_a_call_goes_back() -> None:
    """A signature within a tool call is in the call again."""
    extra = {"extra_content": {"google": {"thought_signature": "c2ln+/=="}}}
    sent, _ = replayed(PLAIN, {"tool_calls": [TOOL_CALL | extra]})
    assert sent["tool_calls"][0]["extra_content"] == extra["extra_content"]


def test_annotations_go_back_to_openrouter() -> None:
    """A parsed file does not have to be parsed again."""
    file = {"type": "file", "file": {"hash": "h", "name": "a.pdf", "content": []}}
    sent, _ = replayed(DIALECTS["openrouter"], {"content": "x", "annotations": [file]}, {"tool_calls": [TOOL_CALL]})
    assert sent["annotations"] == [file]


def test_legacy_calls_go_back_in_their_old_form() -> None:
    """function_call, and a message of role function for its result."""
    answer = streamed([sse(chunk({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"))]).message
    turn = request()
    turn.messages.append(answer)
    outcome = turn.messages.add(role="ROLE_USER").content.add().tool_result
    outcome.call_id = answer.content[0].tool_call.call_id
    outcome.content.add().text.text = "ok"
    sent = json.loads(build_chat(Call(request=turn, model="m", unary=True), PLAIN).body)["messages"]
    assert sent[1]["function_call"] == {"name": "f", "arguments": "{}"}
    assert sent[2] == {"role": "function", "name": "f", "content": "ok"}


def test_reasoning_of_another_family_is_never_sent() -> None:
    """Neither as reasoning nor as text; a notice says so for each block."""
    thinking = {"thinking": {"text": "secret"}, "family": "anthropic", "states": [{"kind": "signature", "data": PNG}]}
    redacted = {"redactedThinking": {"data": PNG}, "family": "anthropic"}
    signed = text("x", family="gemini", states=[{"kind": "thought_signature", "data": PNG}])
    messages = [user(text("hi")), assistant(thinking, redacted, signed), user(text("go on"))]
    for dialect in (OPENAI, DIALECTS["openrouter"], DIALECTS["deepseek"]):
        built = wire(dialect, messages=messages)
        assert b"secret" not in built.body
        assert [notice.code for notice in built.notices] == [chat_pb2.NOTICE_CODE_STATE_DROPPED] * 3


def test_opaque_blocks_are_for_their_family() -> None:
    """A part that the contract does not know is sent as it stands to its family, and to nobody else."""
    part = {"opaque": {"type": "hologram", "json": '{"type":"hologram","x":1.50}'}}
    assert b'[{"type":"hologram","x":1.50}]' in wire(messages=[user(part)]).body
    assert notices(messages=[user({**part, "family": "gemini"})]) == [("BLOCK_DROPPED", "messages[0].content[0]")]


def test_what_a_provider_ran_has_no_place() -> None:
    """Calls and results of a provider's own tools are left out with a notice."""
    ran = {"toolCall": {"callId": "a", "name": "web", "executedBy": "TOOL_EXECUTOR_PROVIDER"}}
    got = {"toolResult": {"callId": "a", "executedBy": "TOOL_EXECUTOR_PROVIDER"}}
    told = notices(messages=[assistant(ran, got), user(text("x"))])
    assert told == [("BLOCK_DROPPED", "messages[0].content[0]"), ("BLOCK_DROPPED", "messages[0].content[1]")]
