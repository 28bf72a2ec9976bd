"""What a request says, the body says: for every recorded request, and for each option of the contract."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.gemini.answers import APIS
from tests.adapters.gemini.reverse import Json, chat_request, normal
from tests.adapters.recordings import Record, params, records

from execution_platform.adapters.errors import InvalidRequestError, UnsupportedOptionError
from execution_platform.adapters.gemini.request import WireRequest, build_count, build_request
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

NEW, OLD, PRO = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-2.5-pro"
PLACEHOLDER = "skip_thought_signature_validator"


def requests() -> Iterator[Record]:
    for api in APIS:
        yield from (record for record in records("open", "gemini", api) if record["request"]["body_kind"] == "json")


def body_of(record: Record) -> Json:
    body = record["request"]["body"]
    return dict(json.loads(body) if isinstance(body, str) else body)


def without_placeholders(body: Json) -> Json:
    """Take out the one thing that is added: what stands for a signature that a call of a newer model lacks."""
    for content in body["contents"]:
        for part in content["parts"]:
            if part.get("thoughtSignature") == PLACEHOLDER:
                del part["thoughtSignature"]
    return body


@pytest.mark.parametrize("record", params(requests()))
def test_a_recorded_request_is_built_again(record: Record) -> None:
    """A recorded body, as a request and as a body again, says the same; `normal` lists what counts as the same."""
    wanted = normal(body_of(record))
    unary = record["api"] == "generateContent"
    wire = build_request(Call(chat_request(wanted), record["model"], unary=unary))
    assert without_placeholders(normal(json.loads(wire.body))) == wanted
    assert [notice for notice in wire.notices.items if notice.code != chat_pb2.NOTICE_CODE_PARAM_DEFAULTED] == []
    assert record["request"]["path"].endswith(f"/{record['model']}:{wire.method}")


# --- small requests -------------------------------------------------------------------------------------------------


def text(words: str, **fields: Any) -> content_pb2.ContentBlock:
    return content_pb2.ContentBlock(text=content_pb2.TextBlock(text=words), **fields)


def user(*blocks: content_pb2.ContentBlock) -> content_pb2.Message:
    return content_pb2.Message(role=content_pb2.ROLE_USER, content=blocks or [text("hello")])


def assistant(*blocks: content_pb2.ContentBlock) -> content_pb2.Message:
    return content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, content=blocks)


def called(call_id: str, name: str = "f", arguments: str = "{}", **fields: Any) -> content_pb2.ContentBlock:
    minted = fields.pop("minted", False)
    call = content_pb2.ToolCallBlock(call_id=call_id, name=name, arguments_json=arguments, call_id_minted=minted)
    return content_pb2.ContentBlock(tool_call=call, **fields)


def result(call_id: str, *content: content_pb2.ContentBlock, **fields: Any) -> content_pb2.ContentBlock:
    return content_pb2.ContentBlock(tool_result=content_pb2.ToolResultBlock(call_id=call_id, content=content, **fields))


def built(request: chat_pb2.ChatRequest, model: str = NEW) -> tuple[Json, list[tuple[str, str]]]:
    """Return the body and the notices, as code and field."""
    if not request.messages:
        request.messages.append(user())
    wire = build_request(Call(request, model))
    notices = [(chat_pb2.NoticeCode.Name(one.code)[len("NOTICE_CODE_") :], one.field) for one in wire.notices.items]
    return json.loads(wire.body), notices


def config_of(request: chat_pb2.ChatRequest, model: str = NEW) -> tuple[Json, list[tuple[str, str]]]:
    body, notices = built(request, model)
    return body.get("generationConfig", {}), notices


def test_the_smallest_request_says_nothing_more() -> None:
    """One message gives one content and no option; the stream is asked for as events."""
    wire = build_request(Call(chat_pb2.ChatRequest(messages=[user()]), NEW))
    assert json.loads(wire.body) == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
    assert (wire.method, wire.query) == ("streamGenerateContent", "alt=sse")


def test_counting_asks_with_system_and_tools() -> None:
    """The request that is counted is the whole one and names its model."""
    request = chat_pb2.ChatRequest(system=[text("be brief")], messages=[user()])
    wire: WireRequest = build_count(Call(request, NEW))
    inner = json.loads(wire.body)["generateContentRequest"]
    assert wire.method == "countTokens"
    assert inner["model"] == f"models/{NEW}"
    assert inner["systemInstruction"] == {"parts": [{"text": "be brief"}]}


def test_callers_json_stands_as_it_is() -> None:
    """Schemas and arguments are not written anew: order, white space and number forms stay."""
    schema = '{"type": "object",  "properties": {"b": {"maximum": 1e2}, "a": {}}}'
    request = chat_pb2.ChatRequest(
        messages=[user(), assistant(called("c", arguments='{"x": 1.0,  "n": 9007199254740993}')), user(result("c"))],
        tools=[chat_pb2.Tool(function=chat_pb2.FunctionTool(name="f", parameters_json=schema))],
        output_format=chat_pb2.OutputFormat(json_schema=chat_pb2.JsonSchemaFormat(schema_json=schema)),
    )
    body = build_request(Call(request, OLD)).body.decode()
    assert f'"parametersJsonSchema":{schema}' in body
    assert f'"responseJsonSchema":{schema}' in body
    assert '"args":{"x": 1.0,  "n": 9007199254740993}' in body


def test_sampling() -> None:
    """Each option has its place in generationConfig."""
    sampling = chat_pb2.Sampling(
        max_output_tokens=5,
        temperature=0.5,
        top_p=0.25,
        top_k=3,
        frequency_penalty=1,
        presence_penalty=-1,
        seed=7,
        stop_sequences=["x"],
        top_logprobs=2,
    )
    assert config_of(chat_pb2.ChatRequest(sampling=sampling), OLD) == (
        {
            "maxOutputTokens": 5,
            "temperature": 0.5,
            "topP": 0.25,
            "topK": 3,
            "frequencyPenalty": 1.0,
            "presencePenalty": -1.0,
            "seed": 7,
            "stopSequences": ["x"],
            "responseLogprobs": True,
            "logprobs": 2,
        },
        [],
    )


def test_options_without_a_place_are_told() -> None:
    """What Gemini, or the model, cannot honour is left out with a notice that names the field."""
    request = chat_pb2.ChatRequest(
        sampling=chat_pb2.Sampling(temperature=1, seed=2**40, logit_bias={5: 1.0}),
        cache=chat_pb2.CachePolicy(automatic=False, key="k"),
        output_format=chat_pb2.OutputFormat(verbosity="low"),
        audio_output=chat_pb2.AudioOutput(voice="Kore", format="mp3"),
        parallel_tool_calls=False,
    )
    config, notices = config_of(request)
    assert config == {"speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}}}
    assert notices == [
        ("PARAM_DROPPED", "parallel_tool_calls"),
        ("PARAM_DROPPED", "sampling.temperature"),
        ("PARAM_DROPPED", "sampling.seed"),
        ("PARAM_DROPPED", "sampling.logit_bias"),
        ("PARAM_DROPPED", "audio_output.format"),
        ("PARAM_DROPPED", "cache.automatic"),
        ("PARAM_DROPPED", "cache.key"),
        ("PARAM_DROPPED", "output_format.verbosity"),
    ]


def test_a_request_may_want_such_options_refused() -> None:
    """With REJECT the first option that cannot be honoured is an error that names it."""
    request = chat_pb2.ChatRequest(
        messages=[user()],
        sampling=chat_pb2.Sampling(logit_bias={5: 1.0}),
        unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT,
    )
    with pytest.raises(UnsupportedOptionError) as caught:
        build_request(Call(request, OLD))
    assert caught.value.field == "sampling.logit_bias"


ADJUSTED = [("PARAM_ADJUSTED", "reasoning")]
NEAREST = [("PARAM_ADJUSTED", "reasoning.effort")]
REASONING: list[tuple[str, chat_pb2.Reasoning, Json, list[tuple[str, str]]]] = [
    (NEW, chat_pb2.Reasoning(effort="high"), {"thinkingLevel": "high"}, []),
    (NEW, chat_pb2.Reasoning(effort="minimal"), {"thinkingLevel": "low"}, [("PARAM_ADJUSTED", "reasoning.effort")]),
    (NEW, chat_pb2.Reasoning(effort="max"), {"thinkingLevel": "high"}, [("PARAM_ADJUSTED", "reasoning.effort")]),
    (NEW, chat_pb2.Reasoning(effort="newest"), {"thinkingLevel": "newest"}, []),
    (NEW, chat_pb2.Reasoning(enabled=False), {"thinkingLevel": "low"}, ADJUSTED),
    (NEW, chat_pb2.Reasoning(enabled=True), {}, []),
    (NEW, chat_pb2.Reasoning(budget_tokens=99), {"thinkingBudget": 99}, []),
    (
        NEW,
        chat_pb2.Reasoning(effort="low", budget_tokens=99),
        {"thinkingLevel": "low"},
        [("PARAM_DROPPED", "reasoning.budget_tokens")],
    ),
    ("gemini-3-flash-preview", chat_pb2.Reasoning(effort="none"), {"thinkingLevel": "minimal"}, ADJUSTED),
    (
        "gemini-3-pro-preview",
        chat_pb2.Reasoning(effort="medium"),
        {"thinkingLevel": "high"},
        [("PARAM_ADJUSTED", "reasoning.effort")],
    ),
    (OLD, chat_pb2.Reasoning(enabled=False), {"thinkingBudget": 0}, []),
    (OLD, chat_pb2.Reasoning(enabled=True), {"thinkingBudget": -1}, []),
    (OLD, chat_pb2.Reasoning(effort="medium"), {"thinkingBudget": 8192}, []),
    (OLD, chat_pb2.Reasoning(effort="max"), {"thinkingBudget": 24576}, []),
    (OLD, chat_pb2.Reasoning(effort="x"), {}, [("PARAM_DROPPED", "reasoning.effort")]),
    (
        OLD,
        chat_pb2.Reasoning(budget_tokens=99_999),
        {"thinkingBudget": 24576},
        [("PARAM_ADJUSTED", "reasoning.budget_tokens")],
    ),
    (PRO, chat_pb2.Reasoning(enabled=False), {"thinkingBudget": 128}, ADJUSTED),
    ("gemini-2.0-flash", chat_pb2.Reasoning(effort="high"), {}, [("PARAM_DROPPED", "reasoning")]),
    ("gemini-2.0-flash", chat_pb2.Reasoning(enabled=False), {}, []),
    (OLD, chat_pb2.Reasoning(display=chat_pb2.REASONING_DISPLAY_SUMMARY), {"includeThoughts": True}, []),
    (OLD, chat_pb2.Reasoning(display=chat_pb2.REASONING_DISPLAY_OMITTED), {"includeThoughts": False}, []),
]


@pytest.mark.parametrize(("model", "reasoning", "wanted", "told"), REASONING)
def test_reasoning_by_generation(
    model: str, reasoning: chat_pb2.Reasoning, wanted: Json, told: list[tuple[str, str]]
) -> None:
    """Newer models think by level, older ones by budget, the oldest not; what does not fit is adjusted and told."""
    config, notices = config_of(chat_pb2.ChatRequest(reasoning=reasoning), model)
    assert config.get("thinkingConfig", {}) == wanted
    assert notices == told


def test_formats_and_modalities() -> None:
    """JSON is a MIME type, a schema a JSON schema, and modalities are words."""
    request = chat_pb2.ChatRequest(
        output_format=chat_pb2.OutputFormat(json=chat_pb2.JsonFormat()),
        output_modalities=[content_pb2.MODALITY_TEXT, content_pb2.MODALITY_IMAGE],
    )
    assert config_of(request) == (
        {"responseMimeType": "application/json", "responseModalities": ["TEXT", "IMAGE"]},
        [],
    )


@pytest.mark.parametrize(
    ("more", "told", "refused"),
    [
        ({"name": "place"}, [], False),
        ({"description": "d"}, ["description"], False),
        ({"strict": False}, ["strict"], False),
        ({"strict": True}, ["strict"], True),
    ],
)
def test_what_stands_beside_a_schema(more: dict[str, Any], told: list[str], refused: bool) -> None:
    """A name only names the format; the rest is told, and refused only where the answer might not fit."""
    schema = chat_pb2.JsonSchemaFormat(schema_json='{"type":"object"}', **more)
    request = chat_pb2.ChatRequest(output_format=chat_pb2.OutputFormat(json_schema=schema))
    config, notices = config_of(request)
    assert config == {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}
    assert notices == [("PARAM_DROPPED", f"output_format.json_schema.{field}") for field in told]
    request.unsupported_options = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    with pytest.raises(UnsupportedOptionError) if refused else contextlib.nullcontext():
        config_of(request)


def test_the_name_of_a_document_is_told() -> None:
    """Gemini shows no names of files: a document's gives a notice that never refuses, a picture's is a label."""
    media = [
        content_pb2.MediaBlock(mime_type="application/pdf", data=b"%PDF", filename="a.pdf"),
        content_pb2.MediaBlock(mime_type="image/png", data=b"\x89P", filename="a.png"),
    ]
    request = chat_pb2.ChatRequest(
        messages=[user(*(content_pb2.ContentBlock(media=one) for one in media))],
        unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT,
    )
    assert built(request)[1] == [("PARAM_DROPPED", "messages[0].content[0].media.filename")]


def test_tools_of_each_kind() -> None:
    """Neighbouring functions share a list; Google's own tools and MCP servers stand alone; others are left out."""
    request = chat_pb2.ChatRequest(
        tools=[
            chat_pb2.Tool(function=chat_pb2.FunctionTool(name="a", description="A")),
            chat_pb2.Tool(function=chat_pb2.FunctionTool(name="b"), provider_options_json='{"behavior":"BLOCKING"}'),
            chat_pb2.Tool(provider=chat_pb2.ProviderTool(type="googleSearch")),
            chat_pb2.Tool(
                provider=chat_pb2.ProviderTool(family="gemini", type="fileSearch", config_json='{"x":["s"]}')
            ),
            chat_pb2.Tool(provider=chat_pb2.ProviderTool(family="openai", type="web_search")),
            chat_pb2.Tool(
                mcp_server=chat_pb2.McpServerTool(
                    name="m", url="https://m.example", authorization_token="t", allowed_tools=["x"]
                )
            ),
        ]
    )
    body, notices = built(request)
    transport = {"url": "https://m.example", "headers": {"Authorization": "Bearer t"}}
    assert body["tools"] == [
        {"functionDeclarations": [{"name": "a", "description": "A"}, {"name": "b", "behavior": "BLOCKING"}]},
        {"googleSearch": {}},
        {"fileSearch": {"x": ["s"]}},
        {"mcpServers": [{"name": "m", "streamableHttpTransport": transport}]},
    ]
    assert notices == [("PARAM_DROPPED", "tools[4]"), ("PARAM_DROPPED", "tools[5].mcp_server.allowed_tools")]


STRICT = chat_pb2.Tool(function=chat_pb2.FunctionTool(name="f", strict=True))


@pytest.mark.parametrize(
    ("choice", "tool", "wanted"),
    [
        (chat_pb2.ToolChoice(), chat_pb2.Tool(), None),
        (chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_AUTO), chat_pb2.Tool(), {"mode": "AUTO"}),
        (chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NONE), chat_pb2.Tool(), {"mode": "NONE"}),
        (chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_REQUIRED), chat_pb2.Tool(), {"mode": "ANY"}),
        (
            chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name="f"),
            chat_pb2.Tool(),
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
        (
            chat_pb2.ToolChoice(allowed_names=["f"]),
            chat_pb2.Tool(),
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        ),
        (chat_pb2.ToolChoice(), STRICT, {"mode": "VALIDATED"}),
    ],
)
def test_tool_choice(choice: chat_pb2.ToolChoice, tool: chat_pb2.Tool, wanted: Json | None) -> None:
    """Each rule is one of Gemini's modes; strict functions and allowed names want calls to be validated."""
    tools = [tool] if tool.WhichOneof("tool") else []
    body, notices = built(chat_pb2.ChatRequest(tool_choice=choice, tools=tools))
    assert body.get("toolConfig", {}).get("functionCallingConfig") == wanted
    assert notices == []


def test_media_by_source() -> None:
    """Bytes go inline, addresses and files by reference; a bare file name becomes the file's address."""
    media = [
        content_pb2.MediaBlock(mime_type="image/png", data=b"\x89P", detail="high"),
        content_pb2.MediaBlock(mime_type="video/mp4", uri="https://v.example"),
        content_pb2.MediaBlock(file_id="files/abc"),
    ]
    request = chat_pb2.ChatRequest(messages=[user(*(content_pb2.ContentBlock(media=one) for one in media))])
    body, notices = built(request)
    assert body["contents"][0]["parts"] == [
        {
            "inlineData": {"mimeType": "image/png", "data": "iVA="},
            "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"},
        },
        {"fileData": {"mimeType": "video/mp4", "fileUri": "https://v.example"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
    ]
    assert notices == []


def test_results_are_objects() -> None:
    """Text is wrapped as output or error; a JSON object stands as it is, other JSON is wrapped."""
    request = chat_pb2.ChatRequest(
        messages=[
            user(),
            assistant(called("1"), called("2"), called("3"), called("4")),
            user(
                result("1", text("a"), text("b")),
                result("2", text("no"), is_error=True),
                result("3", structured_content_json='{"x":  1.0}'),
                result("4", structured_content_json="[1]"),
            ),
        ]
    )
    body = build_request(Call(request, OLD)).body
    assert b'"response":{"x":  1.0}' in body
    responses = [part["functionResponse"]["response"] for part in json.loads(body)["contents"][2]["parts"]]
    assert responses == [{"output": "ab"}, {"error": "no"}, {"x": 1.0}, {"output": [1]}]


def test_results_find_their_calls() -> None:
    """Results are joined, named and ordered as their calls; only ids that Gemini gave go back."""
    request = chat_pb2.ChatRequest(
        messages=[
            user(),
            assistant(
                called("call_R_0", "a", family="gemini", minted=True),
                called("given", "b", family="gemini"),
                called("foreign", "c", family="anthropic"),
            ),
            user(result("foreign")),
            user(result("given")),
            user(result("call_R_0")),
        ]
    )
    body, _ = built(request, OLD)
    calls = [part["functionCall"] for part in body["contents"][1]["parts"]]
    assert [(call["name"], call.get("id")) for call in calls] == [("a", None), ("b", "given"), ("c", None)]
    assert len(body["contents"]) == 3
    responses = [part["functionResponse"] for part in body["contents"][2]["parts"]]
    assert [(one["name"], one.get("id")) for one in responses] == [("a", None), ("b", "given"), ("c", None)]


def test_media_of_results_go_where_the_model_takes_them() -> None:
    """Newer models take media inside the response, older ones beside it."""
    picture = content_pb2.ContentBlock(media=content_pb2.MediaBlock(mime_type="image/png", data=b"\x89P"))
    request = chat_pb2.ChatRequest(messages=[user(), assistant(called("1")), user(result("1", picture))])
    inline = {"inlineData": {"mimeType": "image/png", "data": "iVA="}}
    newer = built(request, NEW)[0]["contents"][2]["parts"]
    older = built(request, OLD)[0]["contents"][2]["parts"]
    assert newer[0]["functionResponse"]["parts"] == [inline]
    assert older[1] == inline


def test_a_call_that_nobody_signed_passes_on_newer_models() -> None:
    """The first unsigned call of a turn gets Google's placeholder on models that insist, and a notice says so."""
    request = chat_pb2.ChatRequest(
        messages=[user(), assistant(called("1", family="anthropic"), called("2", family="anthropic"))]
    )
    body, notices = built(request, NEW)
    signatures = [part.get("thoughtSignature") for part in body["contents"][1]["parts"]]
    assert signatures == [PLACEHOLDER, None]
    assert notices == [("PARAM_DEFAULTED", "messages[1]")]
    assert "thoughtSignature" not in json.dumps(built(request, OLD)[0])


def test_what_belongs_to_another_family_is_left_out() -> None:
    """Signatures, reasoning, opaque blocks and provider-run tools of others are dropped, each with a notice."""
    theirs: dict[str, Any] = {"family": "anthropic"}
    ran = content_pb2.ToolCallBlock(call_id="s", name="web", executed_by=content_pb2.TOOL_EXECUTOR_PROVIDER)
    request = chat_pb2.ChatRequest(
        messages=[
            user(),
            assistant(
                content_pb2.ContentBlock(thinking=content_pb2.ThinkingBlock(text="t"), **theirs),
                text("a", states=[content_pb2.OpaqueState(kind="signature", data=b"s")], **theirs),
                content_pb2.ContentBlock(opaque=content_pb2.OpaqueBlock(json="{}"), **theirs),
                content_pb2.ContentBlock(redacted_thinking=content_pb2.RedactedThinkingBlock(data=b"r"), **theirs),
                content_pb2.ContentBlock(tool_call=ran, **theirs),
            ),
            user(),
        ]
    )
    body, notices = built(request)
    assert body["contents"][1]["parts"] == [{"text": "a"}]
    assert notices == [
        ("STATE_DROPPED", "messages[1].content[0]"),
        ("STATE_DROPPED", "messages[1].content[1].states"),
        ("BLOCK_DROPPED", "messages[1].content[2]"),
        ("BLOCK_DROPPED", "messages[1].content[3]"),
        ("BLOCK_DROPPED", "messages[1].content[4]"),
    ]


def test_options_of_the_provider_are_merged_last() -> None:
    """A merge patch reaches any key of the body, removes with null, and leaves other providers' options alone."""
    request = chat_pb2.ChatRequest(
        sampling=chat_pb2.Sampling(max_output_tokens=5, stop_sequences=["x"]),
        provider_options=[
            chat_pb2.ProviderOptions(provider="openai", options_json='{"user":"u"}'),
            chat_pb2.ProviderOptions(
                provider="gemini",
                options_json='{"safetySettings":[{"category":"c"}],"generationConfig":{"stopSequences":null,"n":1}}',
            ),
        ],
    )
    body, _ = built(request)
    assert body["safetySettings"] == [{"category": "c"}]
    assert body["generationConfig"] == {"maxOutputTokens": 5, "n": 1}
    assert "user" not in body


def test_instructions_in_the_middle_go_as_the_users() -> None:
    """Gemini takes instructions only at the start, so later ones are sent as the user's, with a notice."""
    late = content_pb2.Message(role=content_pb2.ROLE_SYSTEM, content=[text("now in French")])
    body, notices = built(chat_pb2.ChatRequest(messages=[user(), assistant(text("hi")), late]))
    assert body["contents"][2] == {"role": "user", "parts": [{"text": "now in French"}]}
    assert notices == [("PARAM_ADJUSTED", "messages[2].role")]


def test_a_paused_answer_goes_on_by_its_token() -> None:
    """A last answer that was cut off is not sent again: its token says where to go on."""
    state = content_pb2.OpaqueState(kind="continuation_token", data=b"dG9r")
    request = chat_pb2.ChatRequest(messages=[user(), assistant(text("half", states=[state], family="gemini"))])
    body, _ = built(request)
    assert body["continuationToken"] == "dG9r"
    assert [content["role"] for content in body["contents"]] == ["user"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (
            chat_pb2.ChatRequest(messages=[assistant(called("1", arguments="{"))]),
            "messages[0].content[0].tool_call.arguments_json",
        ),
        (
            chat_pb2.ChatRequest(tools=[chat_pb2.Tool(function=chat_pb2.FunctionTool(name="f", parameters_json="[]"))]),
            "tools[0].function.parameters_json",
        ),
        (
            chat_pb2.ChatRequest(provider_options=[chat_pb2.ProviderOptions(provider="gemini", options_json="1")]),
            "provider_options[0].options_json",
        ),
    ],
)
def test_json_that_is_none_is_refused(request_: chat_pb2.ChatRequest, field: str) -> None:
    """JSON of the caller's that cannot go into a body is an error that names its field."""
    with pytest.raises(InvalidRequestError) as caught:
        build_request(Call(request_, NEW))
    assert caught.value.field == field


def test_the_request_is_not_changed() -> None:
    """Building a body leaves the caller's request as it was."""
    request = chat_pb2.ChatRequest(
        messages=[user(), assistant(called("1"), called("2")), user(result("2")), user(result("1"))]
    )
    before = request.SerializeToString(deterministic=True)
    build_request(Call(request, NEW))
    assert request.SerializeToString(deterministic=True) == before


def test_blocks_of_other_kinds() -> None:
    """A refusal goes as text, Gemini's own opaque part as it stood, and a cache hint has no place."""
    request = chat_pb2.ChatRequest(
        messages=[
            user(text("a", cache_hint=content_pb2.CacheHint())),
            assistant(
                content_pb2.ContentBlock(refusal=content_pb2.RefusalBlock(text="no")),
                content_pb2.ContentBlock(opaque=content_pb2.OpaqueBlock(json='{"new": 1.0}'), family="gemini"),
            ),
            user(),
        ]
    )
    wire = build_request(Call(request, NEW))
    assert json.loads(wire.body)["contents"][1]["parts"] == [{"text": "no"}, {"new": 1.0}]
    assert b'{"new": 1.0}' in wire.body
    assert [notice.field for notice in wire.notices.items] == ["cache_hint"]


def test_free_text_arguments_are_wrapped() -> None:
    """The free text that another provider's tool took becomes a JSON object, with a notice."""
    call = content_pb2.ToolCallBlock(call_id="1", name="f", arguments_text="x")
    body, notices = built(
        chat_pb2.ChatRequest(messages=[user(), assistant(content_pb2.ContentBlock(tool_call=call)), user(result("1"))]),
        OLD,
    )
    assert body["contents"][1]["parts"] == [{"functionCall": {"name": "f", "args": {"input": "x"}}}]
    assert notices == [("PARAM_ADJUSTED", "messages[1].content[0].tool_call.arguments_text")]


def test_text_beside_structured_content_is_told() -> None:
    """Where a result has JSON and text, the JSON is sent and a notice says that the text is not."""
    request = chat_pb2.ChatRequest(
        messages=[user(), assistant(called("1")), user(result("1", text("a"), structured_content_json="{}"))]
    )
    body, notices = built(request, OLD)
    assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == {}
    assert notices == [("BLOCK_DROPPED", "messages[2].content[0].tool_result.content")]


def test_media_options_without_a_place_are_told() -> None:
    """A level of detail that Gemini does not know, and a wish for citations, are left out with notices."""
    media = content_pb2.MediaBlock(mime_type="image/png", data=b"x", detail="original", citations=True)
    _, notices = built(chat_pb2.ChatRequest(messages=[user(content_pb2.ContentBlock(media=media))]))
    assert notices == [
        ("PARAM_DROPPED", "messages[0].content[0].media.detail"),
        ("PARAM_DROPPED", "messages[0].content[0].media.citations"),
    ]


@pytest.mark.parametrize(
    ("model", "sampling"),
    [
        ("gemini-2.5-flash", True),
        ("gemini-3.1-pro-preview", True),
        ("gemini-3.5-flash", True),
        ("gemini-3.5-flash-lite", False),
        ("gemini-3.6-flash", False),
        ("models/gemini-3.8-flash", False),
        ("gemini-flash-latest", False),
        ("gemini-4-anything", False),
        ("tunedModels/mine", True),
    ],
)
def test_which_models_take_a_temperature(model: str, *, sampling: bool) -> None:
    """Newer models ignore or refuse sampling values, so these are left out; unknown names get what was asked."""
    config, notices = config_of(chat_pb2.ChatRequest(sampling=chat_pb2.Sampling(temperature=0)), model)
    assert ("temperature" in config) is sampling
    assert (notices == []) is sampling


def test_metadata_of_a_part_goes_back_as_it_stood() -> None:
    """What a part said besides its content is sent with it again: nulls and forms of numbers stay."""
    metadata = '{"partMetadata":{"a":null,"b":1.50},"functionCall":{"new":1e2}}'
    call = called("c", family="gemini", provider_metadata_json=metadata)
    wire = build_request(Call(chat_pb2.ChatRequest(messages=[user(), assistant(call)]), OLD))
    assert b'"partMetadata":{"a":null,"b":1.50}' in wire.body
    assert b'"new":1e2' in wire.body
    assert json.loads(wire.body)["contents"][1]["parts"][0]["functionCall"] == {
        "id": "c",
        "name": "f",
        "args": {},
        "new": 100.0,
    }


@pytest.mark.parametrize("metadata", ["{", "[1]", "null"])
def test_metadata_that_is_no_object_is_refused(metadata: str) -> None:
    """Metadata that a caller broke is refused by the path of its field."""
    block = text("a", family="gemini", provider_metadata_json=metadata)
    with pytest.raises(InvalidRequestError) as caught:
        build_request(Call(chat_pb2.ChatRequest(messages=[user(block)]), OLD))
    assert caught.value.field == "messages[0].content[0].provider_metadata_json"


def test_a_negative_budget_is_geminis_word_for_as_it_likes() -> None:
    """A budget of -1, which the API knows, is handed on and not raised to the least budget."""
    reasoning = chat_pb2.Reasoning(budget_tokens=-1)
    assert config_of(chat_pb2.ChatRequest(reasoning=reasoning), OLD) == ({"thinkingConfig": {"thinkingBudget": -1}}, [])


def test_a_level_keeps_its_spelling() -> None:
    """A level that the model knows is sent as the caller spells it."""
    reasoning = chat_pb2.Reasoning(effort="HIGH")
    assert config_of(chat_pb2.ChatRequest(reasoning=reasoning)) == ({"thinkingConfig": {"thinkingLevel": "HIGH"}}, [])
