"""The scripted provider plays what its scripts say, and refuses what is no script by naming the step."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.adapters import errors
from execution_platform.adapters.errors import (
    AdapterError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    RateLimitedError,
    StreamBrokenError,
    UnsupportedOptionError,
)
from execution_platform.adapters.scripted import PROVIDERS, ScriptedAdapter
from execution_platform.adapters.spi import Call, CountsTokens, Events, ListsModels, ProviderConfig
from execution_platform.adapters.testing import Answer, check_adapter, check_stream
from execution_platform.v1 import chat_pb2, content_pb2, error_pb2, usage_pb2

Script = Sequence[dict[str, Any]]


def request_of(text: str = "hello there", script: Any = None, **fields: Any) -> chat_pb2.ChatRequest:
    request = chat_pb2.ChatRequest(**fields)
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = text
    if script is not None:
        request.provider_options.add(provider="scripted", options_json=json.dumps({"script": script}))
    return request


async def lists_of(
    request: chat_pb2.ChatRequest, model: str = "echo", adapter: ScriptedAdapter | None = None, *, unary: bool = False
) -> list[Events]:
    adapter = adapter or ScriptedAdapter()
    async with aclosing(adapter.stream(Call(request, model, unary=unary))) as stream:
        return [events async for events in stream]


async def answer_to(request: chat_pb2.ChatRequest, model: str = "echo", **options: Any) -> Answer:
    return check_stream(await lists_of(request, model, **options), family="scripted")


async def played(*steps: dict[str, Any], **fields: Any) -> Answer:
    return await answer_to(request_of(script=list(steps), **fields))


async def tried(script: Any) -> tuple[list[Events], AdapterError | None]:
    """Play a script that may fail; return what came, and the error."""
    lists: list[Events] = []
    try:
        async with aclosing(ScriptedAdapter().stream(Call(request_of(script=script), "echo"))) as stream:
            async for events in stream:
                lists.append(events)  # noqa: PERF401  # what came before an error is wanted
    except AdapterError as error:
        return lists, error
    return lists, None


async def failure_of(*steps: dict[str, Any]) -> tuple[AdapterError, Answer]:
    """Play a script that fails; return the error and what came before it."""
    lists, error = await tried(list(steps))
    assert error is not None
    return error, check_stream(lists, complete=False)


def quantities(usage: usage_pb2.Usage | None) -> dict[str, int]:
    items = usage.items if usage else []
    return {usage_pb2.UsageKind.Name(item.kind).removeprefix("USAGE_KIND_"): item.quantity for item in items}


def reason_of(answer: Answer) -> str:
    assert answer.finished is not None
    return chat_pb2.FinishReason.Name(answer.finished.reason).removeprefix("FINISH_REASON_")


# --- without a script -------------------------------------------------------------------------------------------------


async def test_echo_says_what_was_said_in_several_deltas() -> None:
    """Without a script the answer repeats the last message a word at a time and counts words as tokens."""
    lists = await lists_of(request_of("hello there"))
    answer = check_stream(lists)
    deltas = [event.block_delta.text for events in lists for event in events if event.HasField("block_delta")]
    assert deltas == ["You", " said:", " hello", " there"]
    assert quantities(answer.usage) == {"INPUT": 2, "OUTPUT": 4}
    assert answer.usage is not None
    assert json.loads(answer.usage.provider_usage_json) == {"input": 2, "output": 4, "reasoning": 0}
    assert reason_of(answer) == "STOP"


async def test_equal_requests_give_equal_events() -> None:
    """The same request gives the same events, identifiers included; another one gives other identifiers."""
    one, same, other = [await lists_of(request_of(text)) for text in ("a b", "a b", "a c")]
    assert one == same
    assert one[0][0].started.provider_response_id != other[0][0].started.provider_response_id


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"sampling": chat_pb2.Sampling(max_output_tokens=3)}, "You said: one", "MAX_TOKENS"),
        ({"sampling": chat_pb2.Sampling(max_output_tokens=99)}, "You said: one two three", "STOP"),
        ({"sampling": chat_pb2.Sampling(stop_sequences=["three", " two"])}, "You said: one", "STOP_SEQUENCE"),
        ({"output_format": chat_pb2.OutputFormat(json=chat_pb2.JsonFormat())}, '{"you_said": "one two three"}', "STOP"),
    ],
)
async def test_echo_honours_limits_and_forms(fields: dict[str, Any], text: str, reason: str) -> None:
    """The echo keeps to the most tokens, the stop sequences and the JSON form that the request asks for."""
    answer = await answer_to(request_of("one two three", **fields))
    assert (answer.text(), reason_of(answer)) == (text, reason)


async def test_the_matched_stop_sequence_is_told() -> None:
    """An answer that a stop sequence ended names it."""
    answer = await answer_to(request_of("a b", sampling=chat_pb2.Sampling(stop_sequences=["b"])))
    assert answer.finished is not None
    assert answer.finished.matched_stop_sequence == "b"


async def test_echo_thinks_if_asked_to() -> None:
    """A request for reasoning brings a signed thinking block first, whose text stays away when it is to be omitted."""
    shown = await answer_to(request_of(reasoning=chat_pb2.Reasoning(effort="low")))
    hidden = await answer_to(
        request_of(reasoning=chat_pb2.Reasoning(enabled=True, display=chat_pb2.REASONING_DISPLAY_OMITTED))
    )
    off = await answer_to(request_of(reasoning=chat_pb2.Reasoning(enabled=False, effort="low")))
    assert shown.blocks[0].thinking.text
    assert not hidden.blocks[0].thinking.text
    assert shown.blocks[0].states[0] == hidden.blocks[0].states[0]
    assert off.blocks[0].HasField("text")
    assert quantities(shown.usage)["REASONING"] > 0


async def test_echo_gives_log_probabilities_if_asked_to() -> None:
    """Each word of the echo is certain, and says so when log probabilities are asked for."""
    answer = await answer_to(request_of("a", sampling=chat_pb2.Sampling(top_logprobs=2)))
    assert [(one.token, one.logprob) for one in answer.logprobs[0]] == [("You", 0), (" said:", 0), (" a", 0)]


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([], "You said nothing in words."),
        ([content_pb2.ContentBlock(media=content_pb2.MediaBlock(uri="u"))], "You said nothing in words."),
        (
            [content_pb2.ContentBlock(tool_result=content_pb2.ToolResultBlock(structured_content_json='{"t":18}'))],
            'The tool answered: {"t":18}',
        ),
    ],
)
async def test_echo_says_something_to_anything(blocks: list[content_pb2.ContentBlock], text: str) -> None:
    """Messages without words, and results of tools, are answered too."""
    request = chat_pb2.ChatRequest(messages=[content_pb2.Message(role=content_pb2.ROLE_USER, content=blocks)])
    assert (await answer_to(request)).text() == text


async def test_a_large_message_comes_back_whole() -> None:
    """A message of several megabytes is repeated whole, in events below 1 MiB and few of them."""
    text = "word " * 300_000 + "ü" * 600_000
    lists = await lists_of(request_of(text))
    assert check_stream(lists).text() == f"You said: {text}"
    assert sum(len(events) for events in lists) < 1100


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"sampling": chat_pb2.Sampling(temperature=0.5)}, "sampling.temperature"),
        ({"sampling": chat_pb2.Sampling(logit_bias={1: 2.0})}, "sampling.logit_bias"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"cache": chat_pb2.CachePolicy(automatic=True)}, "cache"),
        ({"output_modalities": [content_pb2.MODALITY_AUDIO]}, "output_modalities"),
        (
            {"output_format": chat_pb2.OutputFormat(json_schema=chat_pb2.JsonSchemaFormat(schema_json="{}"))},
            "output_format.json_schema",
        ),
    ],
)
async def test_options_without_effect_are_told(fields: dict[str, Any], dropped: str) -> None:
    """An option that changes nothing here brings a notice, or is refused where the request wants that."""
    answer = await answer_to(request_of(**fields))
    assert [notice.field for notice in answer.notices] == [dropped]
    reject = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    with pytest.raises(UnsupportedOptionError) as caught:
        await lists_of(request_of(unsupported_options=reject, **fields))
    assert caught.value.field == dropped


# --- models -----------------------------------------------------------------------------------------------------------

WEATHER = chat_pb2.Tool(
    function=chat_pb2.FunctionTool(
        name="get_weather",
        parameters_json=json.dumps(
            {
                "properties": {
                    "city": {"type": "string"},
                    "unit": {"enum": ["C", "F"]},
                    "days": {"type": "integer"},
                    "odd": {"type": ["string", "null"]},
                    "any": True,
                },
                "required": ["city", "unit", "days", "odd", "any", 3],
            }
        ),
    )
)
TIME = chat_pb2.Tool(function=chat_pb2.FunctionTool(name="now"))


async def test_tools_calls_the_first_tool_then_tells_its_result() -> None:
    """The model `tools` calls a tool with plain values for what is required, and tells the result that comes back."""
    request = request_of("weather?", tools=[WEATHER, TIME])
    answer = await answer_to(request, "tools")
    call = answer.blocks[0].tool_call
    assert call.name == "get_weather"
    assert json.loads(call.arguments_json) == {"city": "text", "unit": "C", "days": 1, "odd": "text", "any": "text"}
    assert reason_of(answer) == "TOOL_CALLS"
    request.messages.add(role=content_pb2.ROLE_ASSISTANT).content.extend(answer.blocks)
    result = content_pb2.ToolResultBlock(call_id=call.call_id)
    result.content.add().text.text = "18 C"
    request.messages.add(role=content_pb2.ROLE_USER).content.add().tool_result.CopyFrom(result)
    assert (await answer_to(request, "tools")).text() == "The tool answered: 18 C"


@pytest.mark.parametrize(
    ("model", "choice", "called"),
    [
        ("tools", chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NONE), None),
        ("tools", chat_pb2.ToolChoice(allowed_names=["now"]), "now"),
        ("echo", chat_pb2.ToolChoice(), None),
        ("echo", chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_REQUIRED), "get_weather"),
        ("echo", chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name="now"), "now"),
    ],
)
async def test_the_choice_of_tools_is_honoured(model: str, choice: chat_pb2.ToolChoice, called: str | None) -> None:
    """Which tool is called, if any, follows the request's choice."""
    answer = await answer_to(request_of(tools=[WEATHER, TIME], tool_choice=choice), model)
    assert (answer.blocks[0].tool_call.name or None) == called


async def test_a_tools_broken_schema_names_its_field() -> None:
    """A schema that is not a JSON object is refused by the path of its field."""
    broken = chat_pb2.Tool(function=chat_pb2.FunctionTool(name="b", parameters_json="[1]"))
    with pytest.raises(InvalidRequestError) as caught:
        await lists_of(request_of(tools=[broken]), "tools")
    assert caught.value.field == "tools[0].function.parameters_json"


async def test_slow_pauses_before_each_word() -> None:
    """The model `slow` says the same as the echo, each word in a list of its own."""
    lists = await lists_of(request_of("a"), "slow")
    assert check_stream(lists).text() == "You said: a"
    assert [sum(event.HasField("block_delta") for event in events) for events in lists] == [1, 1, 1]


async def test_error_always_fails() -> None:
    """The model `error` fails as an overloaded provider does, before anything is said."""
    with pytest.raises(OverloadedError) as caught:
        await lists_of(request_of(), "error")
    assert (caught.value.provider_status, caught.value.retry_after, caught.value.retryable) == (529, 1.0, True)


async def test_an_unknown_model_is_not_found() -> None:
    """A model that is not there is refused, naming those that are."""
    with pytest.raises(ModelNotFoundError, match="echo, slow, tools, error"):
        await lists_of(request_of(), "gpt")
    with pytest.raises(ModelNotFoundError):
        await ScriptedAdapter().count_tokens(Call(request_of(), "gpt"))


async def test_the_provider_is_ready_without_settings() -> None:
    """The provider needs no key, counts the words of a prompt, and lists its models."""
    (spec,) = PROVIDERS
    adapter = spec.create(ProviderConfig(spec.name))
    assert not spec.needs_key
    assert isinstance(adapter, CountsTokens)
    assert isinstance(adapter, ListsModels)
    request = request_of("one two", tools=[TIME])
    request.system.add().text.text = "three"
    assert (await adapter.count_tokens(Call(request, "echo"))).input_tokens == 4
    models = {model.model for model in await adapter.list_models()}
    assert models == {model.name for model in spec.models}
    assert spec.default_model in models
    await adapter.aclose()


# --- scripts ----------------------------------------------------------------------------------------------------------


async def test_a_script_shows_every_kind_of_event() -> None:
    """A script makes every event and delta that an adapter may send."""
    answer = await played(
        {"thinking": "hm", "signature": "sig"},
        {"text": "a", "logprob": -0.5},
        {"citation": {"uri": "https://a.example", "rawJson": "{}"}},
        {"refusal": "no"},
        {"tool_call": {"name": "f", "arguments_json": '{"b": 1.0, "a": 12345678901234567890}', "call_id": "c9"}},
        {"tool_calls": [{"name": "g", "arguments_json": '{"x":1}'}, {"name": "h", "arguments_text": "free text"}]},
        {"media": {"mimeType": "audio/wav", "data": "AAECAwQ=", "transcript": "words"}},
        {"block": {"redactedThinking": {"data": "AAEC"}}},
        {"block": {"toolResult": {"callId": "c1", "executedBy": "TOOL_EXECUTOR_PROVIDER"}}},
        {"notice": "careful"},
        {"notice": {"code": "NOTICE_CODE_PARAM_ADJUSTED", "field": "f"}},
        {"route_changed": {"route": {"model": "other"}, "origin": "ROUTE_CHANGE_ORIGIN_PROVIDER"}},
        {"provider_event": {"type": "ping", "rawJson": "{}"}},
        {"usage": {"input": 5, "cache_read": 2, "output": 3}},
        {"finish": {"reason": "OTHER", "providerFinishReason": "odd", "providerMetadataJson": '{"k":1}'}},
        stream_options=chat_pb2.StreamOptions(provider_events=True),
    )
    kinds = [block.WhichOneof("content") for block in answer.blocks]
    calls = ["tool_call"] * 3
    assert kinds == ["thinking", "text", "refusal", *calls, "media", "redacted_thinking", "tool_result"]
    assert answer.blocks[0].states[0].data == b"sig"
    assert answer.blocks[1].citations[0].uri == "https://a.example"
    assert answer.logprobs[1][0].logprob == -0.5
    assert answer.blocks[3].tool_call.arguments_json == '{"b": 1.0, "a": 12345678901234567890}'
    assert answer.blocks[3].tool_call.call_id == "c9"
    assert answer.blocks[4].tool_call.call_id != answer.blocks[5].tool_call.call_id
    assert answer.blocks[5].tool_call.arguments_text == "free text"
    assert answer.blocks[6].media.data == bytes(range(5))
    assert answer.blocks[6].media.transcript == "words"
    assert [notice.message for notice in answer.notices] == ["careful", ""]
    assert answer.provider_events[0].provider == "scripted"
    assert quantities(answer.usage) == {"INPUT": 5, "CACHE_READ": 2, "OUTPUT": 3}
    assert answer.finished is not None
    assert answer.finished.provider_finish_reason == "odd"


async def test_calls_given_together_come_interleaved() -> None:
    """The arguments of calls that are given together come in turns, while both blocks are open."""
    calls = [{"name": "f", "arguments_json": '{"a":1111}'}, {"name": "g", "arguments_json": '{"b":2222}'}]
    lists = await lists_of(request_of(script=[{"tool_calls": calls}]))
    order = [event.block_delta.index for events in lists for event in events if event.HasField("block_delta")]
    assert order == [0, 1] * 4


async def test_provider_events_come_only_if_asked_for() -> None:
    """A scripted provider event is left out unless the request asks for them."""
    assert (await played({"provider_event": {"type": "ping"}})).provider_events == []


async def test_a_started_step_begins_the_answer_alone() -> None:
    """A started step sends `started` before the first output."""
    lists = await lists_of(request_of(script=[{"started": True}, {"pause_ms": 0}, {"text": "a"}]))
    assert [event.WhichOneof("event") for event in lists[0]] == ["started"]


async def test_an_empty_script_is_an_empty_answer() -> None:
    """A script without steps is an answer without content."""
    answer = await played()
    assert (answer.blocks, reason_of(answer)) == ([], "STOP")


async def test_repeats_are_played_out() -> None:
    """Repeats play their steps that many times, also nested, as one step or several."""
    nested = {"repeat": {"times": 2, "steps": [{"text": "a"}, {"repeat": {"text": "b", "times": 3}}]}}
    assert (await played(nested, {"repeat": {"text": "c", "times": 0}})).text() == "abbbabbb"


async def test_what_is_ready_at_once_comes_together() -> None:
    """Steps without a pause between them come in one list; a pause parts lists; long runs are parted by 64."""
    lists = await lists_of(request_of(script=[{"text": "a"}, {"text": "b"}, {"pause_ms": 0}, {"text": "c"}]))
    assert len(lists) == 2
    many = await lists_of(request_of(script=[{"repeat": {"text": "x", "times": 1000}}]))
    assert max(len(events) for events in many) <= 70
    assert check_stream(many).text() == "x" * 1000


async def test_a_whole_answer_has_the_same_events() -> None:
    """A unary call gives the same events, in one list."""
    request = request_of(script=[{"text": "a"}, {"pause_ms": 1}, {"text": "b"}])
    whole = await lists_of(request, unary=True)
    assert len(whole) == 1
    assert whole[0] == [event for events in await lists_of(request) for event in events]


async def test_usage_that_falls_stays_where_it_was() -> None:
    """Usage steps are cumulative: a number below an earlier one does not lower it."""
    answer = await played({"usage": {"input": 5}}, {"usage": {"input": 3, "output": 2}})
    assert quantities(answer.usage) == {"INPUT": 5, "OUTPUT": 2}


async def test_the_final_usage_may_be_in_the_finish() -> None:
    """A finish step that holds usage decides the final usage."""
    finish = {
        "reason": "STOP",
        "usage": {"items": [{"kind": "USAGE_KIND_MEDIA", "unit": "USAGE_UNIT_IMAGE", "quantity": "2"}]},
    }
    answer = await played({"text": "a"}, {"finish": finish})
    assert quantities(answer.usage) == {"MEDIA": 2}


async def test_a_called_tool_ends_with_tool_calls() -> None:
    """A script that calls a tool of the caller in any way ends with TOOL_CALLS, one of the provider's does not."""
    own = {"block": {"toolCall": {"name": "f", "callId": "c"}}}
    providers = {"block": {"toolCall": {"name": "f", "callId": "c", "executedBy": "TOOL_EXECUTOR_PROVIDER"}}}
    assert reason_of(await played(own)) == "TOOL_CALLS"
    assert reason_of(await played(providers)) == "STOP"


async def test_large_steps_come_in_small_events() -> None:
    """Media, text and states of megabytes come in events below 1 MiB and are whole at the end."""
    answer = await played(
        {"text": "é" * 2_000_000},
        {"thinking": "t", "signature": "s" * 1_500_000},
        {"media": {"mimeType": "image/png", "data": "AAAA" * 700_000}},
    )
    assert len(answer.text()) == 2_000_000
    assert len(answer.blocks[1].states[0].data) == 1_500_000
    assert len(answer.blocks[2].media.data) == 2_100_000


# --- failures ---------------------------------------------------------------------------------------------------------

ERRORS = [
    getattr(errors, name) for name in errors.__all__ if name not in {"AdapterError", "error_for_status"}
]  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: str(kind.__name__))
async def test_every_error_of_adapters_can_be_scripted(kind: type[AdapterError]) -> None:
    """Each class of the error tree is raised by its reason's name."""
    name = error_pb2.ErrorReason.Name(kind.reason).removeprefix("ERROR_REASON_")
    error, answer = await failure_of({"error": {"reason": name}})
    assert type(error) is kind
    assert error.retryable == kind.retryable_by_default
    assert answer.started is None


async def test_an_error_carries_what_its_step_says() -> None:
    """An error step sets every attribute of the error, and the usage so far comes before it."""
    error, answer = await failure_of(
        {"text": "some words"},
        {
            "error": {
                "reason": "PROVIDER_RATE_LIMITED",
                "message": "slow down",
                "retry_after": 3,
                "retryable": False,
                "provider_status": 429,
                "provider_code": "rate",
                "provider_request_id": "r1",
                "field": "model",
            }
        },
    )
    assert isinstance(error, RateLimitedError)
    assert (error.message, error.retry_after, error.retryable) == ("slow down", 3.0, False)
    assert (error.provider_status, error.provider_code, error.provider_request_id) == (429, "rate", "r1")
    assert error.field == "model"
    assert quantities(answer.usage) == {"INPUT": 2, "OUTPUT": 2}


async def test_a_break_is_a_broken_stream() -> None:
    """A break step raises the error of a stream that ended in the middle, after what came before it."""
    error, answer = await failure_of({"text": "a"}, {"break": True})
    assert isinstance(error, StreamBrokenError)
    assert answer.text() == "a"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (3, "script: Expected `array`"),
        ([3], r"script\[0\]: Expected `object`"),
        ([{}], r"script\[0\]: .*it has none"),
        ([{"text": "a"}, {"text": "a", "refusal": "b"}], r"script\[1\]: .*it has text, refusal"),
        ([{"txt": "a"}], r"script\[0\]: .*unknown field `txt`"),
        ([{"pause_ms": -1}], r"script\[0\].pause_ms: Expected `int` >= 0"),
        ([{"pause_ms": 600_001}], r"script\[0\].pause_ms"),
        ([{"pause_ms": True}], r"script\[0\].pause_ms"),
        ([{"text": "a", "signature": "s"}], r"script\[0\].signature: belongs to thinking"),
        ([{"refusal": "a", "logprob": -1}], r"script\[0\].logprob: belongs to a text"),
        ([{"text": "a", "logprob": 1}], r"script\[0\].logprob"),
        ([{"hang": False}], r"script\[0\].hang: must be true"),
        ([{"break": False}], r"script\[0\].break: must be true"),
        ([{"error": {"reason": "INTERNAL"}}], r"script\[0\].error.reason: 'INTERNAL' is none of"),
        ([{"error": {"reason": "PROVIDER_TIMEOUT", "retry_after": -1}}], r"script\[0\].error.retry_after"),
        ([{"tool_call": {"name": ""}}], r"script\[0\].tool_call: needs a name"),
        ([{"tool_calls": []}], r"script\[0\].tool_calls"),
        ([{"tool_call": {"name": "f", "arguments_json": "{}", "arguments_text": ""}}], "but not both"),
        ([{"finish": "STOP"}, {"text": "a"}], r"script\[0\]: finish must be the last"),
        ([{"repeat": {"times": 1, "steps": [{"finish": "STOP"}]}}], "finish must be the last"),
        ([{"finish": "NOPE"}], r"script\[0\].finish: .*FINISH_REASON_NOPE"),
        ([{"block": {"text": {}, "nope": 1}}], r"script\[0\].block: .*nope"),
        ([{"block": {}}], r"script\[0\].block: a block needs content"),
        ([{"citation": {"title": "x" * 1_000_000}}], r"script\[0\].citation: .*one event takes"),
        ([{"media": {"data": 3}}], r"script\[0\].media"),
        ([{"repeat": {"times": 1}}], r"script\[0\].repeat.steps\[0\]: .*it has none"),
        ([{"repeat": {"times": 1, "text": "a", "steps": []}}], "steps or a single step"),
        ([{"repeat": {"text": "a"}}], r"script\[0\].repeat: .*missing required field `times`"),
        ([{"repeat": {"times": 1, "steps": [{"text": "a"}] * 10_001}}], "at most 10000 steps"),
        (
            [{"repeat": {"times": 10_000, "steps": [{"repeat": {"text": "a", "times": 10_000}}]}}],
            "the most is 10000000",
        ),
    ],
)
async def test_what_is_no_script_is_refused_by_its_step(script: Any, message: str) -> None:
    """A script that is not valid is refused with a message that names the option, the step and the key."""
    with pytest.raises(InvalidRequestError, match=message) as caught:
        await lists_of(request_of(script=script))
    assert caught.value.field == "provider_options[0].options_json"
    assert str(caught.value).startswith("provider_options[0].options_json: ")


async def test_repeats_nest_five_deep() -> None:
    """Repeats that are nested more than five deep are refused."""
    step: dict[str, Any] = {"text": "a"}
    for _ in range(5):
        step = {"repeat": {"times": 1, "steps": [step]}}
    assert (await played(step)).text() == "a"
    with pytest.raises(InvalidRequestError, match="nested 5 deep"):
        await played({"repeat": {"times": 1, "steps": [step]}})


@pytest.mark.parametrize("options", ["{", "[]", "[" * 5000, '{"scripts": []}'])
async def test_options_that_are_no_script_are_refused(options: str) -> None:
    """Options that are not a JSON object with a script are refused by the path of their field."""
    request = request_of()
    request.provider_options.add(provider="other", options_json="not even JSON")
    request.provider_options.add(provider="scripted", options_json=options)
    with pytest.raises(InvalidRequestError) as caught:
        await lists_of(request)
    assert caught.value.field == "provider_options[1].options_json"


async def test_later_options_replace_earlier_ones() -> None:
    """Of several scripted options the later ones are merged over the earlier, and empty ones say nothing."""
    request = request_of(script=[{"text": "first"}])
    request.provider_options.add(provider="scripted", options_json='{"script":[{"text":"second"}]}')
    assert (await answer_to(request)).text() == "second"
    empty = request_of("a")
    empty.provider_options.add(provider="scripted", options_json="{}")
    assert (await answer_to(empty)).text() == "You said: a"


# --- in process -------------------------------------------------------------------------------------------------------


async def test_scripts_of_the_adapter_serve_one_call_each() -> None:
    """Scripts given to the adapter serve its calls in order, the last one stays, and a request's own comes first."""
    adapter = ScriptedAdapter([{"error": {"reason": "PROVIDER_OVERLOADED"}}], [{"text": "second"}])
    with pytest.raises(OverloadedError):
        await lists_of(request_of(), adapter=adapter)
    assert (await answer_to(request_of(), adapter=adapter)).text() == "second"
    assert (await answer_to(request_of(script=[{"text": "own"}]), adapter=adapter)).text() == "own"
    assert (await answer_to(request_of(), adapter=adapter)).text() == "second"
    assert (adapter.calls, adapter.open_streams) == (4, 0)
    with pytest.raises(InvalidRequestError, match=r"script\[0\]"):
        ScriptedAdapter([{"nope": 1}])


async def test_half_a_character_is_joined() -> None:
    """Surrogate halves in two steps, as some providers send them, become one character."""
    adapter = ScriptedAdapter([{"text": "\ud83c"}, {"text": "\udf0d"}])
    assert (await answer_to(request_of(), adapter=adapter)).text() == "🌍"


@pytest.mark.parametrize("step", [{"hang": True}, {"pause_ms": 600_000}])
async def test_silence_ends_when_it_is_cancelled(step: dict[str, Any]) -> None:
    """Cancelling a stream in a silence of any length ends it, and it counts as open until then."""
    adapter = ScriptedAdapter([{"text": "a"}, step])
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(adapter.stream(Call(request_of(), "echo"))) as stream:
            async for _ in stream:
                begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    assert adapter.open_streams == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert adapter.open_streams == 0


async def test_a_long_script_does_not_hold_the_loop() -> None:
    """A script of a million steps can be cancelled while it runs."""
    adapter = ScriptedAdapter([{"repeat": {"text": "x", "times": 1_000_000}}])
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(adapter.stream(Call(request_of(), "echo"))) as stream:
            async for _ in stream:
                begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "script",
    [
        [{"text": "a"}, {"pause_ms": 1}, {"thinking": "b", "signature": "s"}, {"pause_ms": 1}, {"text": "c"}],
        [
            {"tool_calls": [{"name": "f", "arguments_json": "{}"}, {"name": "g"}]},
            {"pause_ms": 1},
            {"usage": {"input": 1}},
        ],
    ],
)
async def test_scripts_keep_the_seams_promises(script: Script) -> None:
    """Scripted answers pass the conformance kit."""
    adapters: list[ScriptedAdapter] = []

    def make() -> ScriptedAdapter:
        adapters.append(ScriptedAdapter(script))
        return adapters[-1]

    await check_adapter(make, Call(request_of(), "echo"), is_free=lambda: not adapters[-1].open_streams)


# --- anything ---------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        *(
            "text",
            "logprob",
            "thinking",
            "signature",
            "refusal",
            "tool_call",
            "tool_calls",
            "citation",
            "media",
            "block",
        ),
        *("notice", "route_changed", "provider_event", "usage", "started", "repeat", "break", "error", "finish"),
        *("times", "steps", "name", "reason", "pause_ms", "input", "code", "data", "arguments_json", "script", "x"),
    ]
)
WORDS = (
    st.sampled_from(["", "a b", "STOP", "PROVIDER_OVERLOADED", "NOTICE_CODE_PARAM_DROPPED", "{}", "AA=="]) | st.text()
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=2), max_size=6))
async def test_any_script_is_played_or_refused(script: list[Any]) -> None:
    """Whatever a script holds, it is played as a valid stream or fails with an AdapterError, never otherwise."""
    lists, error = await tried(script)
    assert error is None or error.reason != error_pb2.ERROR_REASON_INTERNAL
    check_stream(lists, complete=error is None)
