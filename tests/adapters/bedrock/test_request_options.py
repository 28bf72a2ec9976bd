"""Sampling, reasoning, form, tier and caches are said as each model takes them, or a notice says that it does not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.adapters.bedrock.asking import (
    DEEPSEEK,
    GPT_OSS,
    HIDDEN,
    LLAMA,
    NOVA,
    NOVA_2,
    OPUS_5,
    OPUS_46,
    QWEN,
    SONNET_4,
    SONNET_45,
    Ask,
    Json,
    asked,
    both,
    built,
    choose,
    content_of,
    hello,
    reasons,
    samples,
)

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.v1 import chat_pb2

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
        choose(chat_pb2.TOOL_CHOICE_MODE_REQUIRED),
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
