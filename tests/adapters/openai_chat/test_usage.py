"""Usage of Chat Completions is disjoint, whatever is inside what, and costs are exact."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.adapters.openai_chat.answers import DIALECTS, PLAIN, chunk, counted, fold, sse, streamed, translation, whole

from execution_platform.adapters.openai_api.chat.usage import cost_of, usage_of
from execution_platform.v1 import usage_pb2


def usage(told: dict[str, Any], provider: str = "", model: str = "m") -> dict[tuple[str, str], int]:
    dialect = DIALECTS[provider].for_model(model) if provider else PLAIN
    return counted(usage_of(msgspec.Raw(json.dumps(told).encode()), dialect))


def sums(prompt: int, completion: int, total: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


INPUT, READ, WRITE = ("INPUT", "UNSPECIFIED"), ("CACHE_READ", "UNSPECIFIED"), ("CACHE_WRITE", "UNSPECIFIED")
OUTPUT, REASONING = ("OUTPUT", "UNSPECIFIED"), ("REASONING", "UNSPECIFIED")


def test_parts_are_taken_out_of_their_whole() -> None:
    """Cached, written, audio, image, reasoning and predicted tokens are counted once each."""
    told = sums(
        100,
        50,
        150,
        prompt_tokens_details={"cached_tokens": 20, "cache_write_tokens": 30, "audio_tokens": 5, "image_tokens": 7},
        completion_tokens_details={
            "reasoning_tokens": 11,
            "audio_tokens": 3,
            "accepted_prediction_tokens": 4,
            "rejected_prediction_tokens": 2,
        },
    )
    assert usage(told) == {
        ("INPUT", "AUDIO"): 5,
        ("INPUT", "IMAGE"): 7,
        INPUT: 38,
        READ: 20,
        WRITE: 30,
        ("OUTPUT", "AUDIO"): 3,
        ("PREDICTION_ACCEPTED", "UNSPECIFIED"): 4,
        ("PREDICTION_REJECTED", "UNSPECIFIED"): 2,
        OUTPUT: 30,
        REASONING: 11,
    }


def test_the_total_shows_reasoning_outside() -> None:
    """Reasoning counts apart from the answer at xAI, within it at OpenAI."""
    details = {"reasoning_tokens": 38}
    assert usage(sums(506, 12, 556, completion_tokens_details=details)) == {INPUT: 506, OUTPUT: 12, REASONING: 38}
    assert usage(sums(506, 50, 556, completion_tokens_details=details)) == {INPUT: 506, OUTPUT: 12, REASONING: 38}


def test_more_reasoning_than_answer_is_outside() -> None:
    """Without a total, reasoning that exceeds the answer cannot be within it."""
    told = {"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 9}}
    assert usage(told) == {INPUT: 1, OUTPUT: 2, REASONING: 9}


def test_cached_tokens_may_be_outside() -> None:
    """They are where they exceed the prompt, where the total shows it, and where the dialect knows it."""
    details = {"cached_tokens": 161}
    assert usage(sums(7, 8, 15, prompt_tokens_details=details)) == {INPUT: 7, READ: 161, OUTPUT: 8}
    assert usage(sums(200, 8, 369, prompt_tokens_details=details)) == {INPUT: 200, READ: 161, OUTPUT: 8}
    grok = usage(sums(219, 45, 264, prompt_tokens_details=details), "azure", "grok-4-fast")
    assert grok == {("INPUT", "UNSPECIFIED"): 219, READ: 161, OUTPUT: 45}
    assert usage(sums(219, 45, 264, prompt_tokens_details=details), "azure", "gpt-5")[INPUT] == 58


def test_a_prefix_that_is_read_and_written_is_taken_out_once() -> None:
    """Where read and written overlap, both are told and the rest of the prompt stays input."""
    details = {"cached_tokens": 2161, "cache_write_tokens": 2161}
    assert usage(sums(2168, 100, 2268, prompt_tokens_details=details)) == {
        INPUT: 7,
        READ: 2161,
        WRITE: 2161,
        OUTPUT: 100,
    }


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6},
        {"cache_read_input_tokens": 4, "cache_creation_input_tokens": 0},
        {"cached_tokens": 4},
        {"num_cached_tokens": 4},
    ],
)
def test_every_name_for_cached_tokens_is_known(told: dict[str, int]) -> None:
    """DeepSeek, Databricks, Moonshot and Mistral name them at other places."""
    assert usage(sums(10, 1, 11, **told)) == {INPUT: 6, READ: 4, OUTPUT: 1}


def test_written_tokens_are_told_by_lifetime() -> None:
    """Where a server passes Anthropic's lifetimes on, each has its item."""
    told = sums(10, 0, 10, cache_creation_input_tokens=9, cache_creation={"ephemeral_5m_input_tokens": 6})
    items = usage_of(msgspec.Raw(json.dumps(told).encode()), PLAIN).items
    written = {item.cache_ttl.seconds: item.quantity for item in items if item.kind == usage_pb2.USAGE_KIND_CACHE_WRITE}
    assert written == {300: 6, 0: 3}


def test_calls_of_the_providers_tools_are_counted() -> None:
    """Searches of Perplexity, OpenRouter and xAI are calls, not tokens."""
    told = sums(1, 1, 2, num_search_queries=3, server_tool_use={"web_search_requests": 2}, num_sources_used=0)
    items = usage_of(msgspec.Raw(json.dumps(told).encode()), PLAIN).items
    calls = {item.tool: item.quantity for item in items if item.unit == usage_pb2.USAGE_UNIT_CALL}
    assert calls == {"search": 3, "web_search": 2}


@pytest.mark.parametrize(
    ("told", "nanos"),
    [
        ('{"cost": 0.0004970133333333333}', 497_013),
        ('{"cost": 1e-9}', 1),
        ('{"cost": 2.5e-9}', 2),
        ('{"cost": 0}', 0),
        ('{"cost_in_usd_ticks": 955600}', 95_560),
        ('{"cost_in_usd_ticks": 25}', 2),
        ('{"cost": {"total_cost": 0.00501, "request_cost": 0.005}}', 5_010_000),
    ],
)
def test_a_stated_cost_is_exact(told: str, nanos: int) -> None:
    """Costs are read digit by digit and rounded once, half to even."""
    cost = cost_of(msgspec.Raw(told.encode()))
    assert cost is not None
    assert [(line.amount.nanos, line.amount.currency_code) for line in cost.lines] == [(nanos, "USD")]


@pytest.mark.parametrize("told", ['{"cost": null}', '{"cost_in_usd_ticks": 0}', '{"cost": "much"}', "{}", "[]", "7"])
def test_no_stated_cost_is_none(told: str) -> None:
    """What is not stated is not read as free."""
    assert cost_of(msgspec.Raw(told.encode())) is None


def test_the_callers_own_key_pays_the_upstream() -> None:
    """With a key of the caller's own, OpenRouter's fee and the upstream's price are two lines."""
    told = b'{"cost": 0.001, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.02}}'
    cost = cost_of(msgspec.Raw(told))
    assert cost is not None
    assert {line.description: line.amount.nanos for line in cost.lines} == {
        "cost": 1_000_000,
        "upstream_inference_cost": 20_000_000,
    }


def test_usage_is_found_wherever_it_stands() -> None:
    """An extra chunk, the last chunk, every chunk (the last one counts), Groq's old place: all are read."""
    told = sums(3, 2, 5)
    extra = {"id": "c1", "model": "m", "choices": [], "usage": told}
    for stream in (
        sse(chunk({"content": "x"}, usage=None), chunk({}, "stop", usage=None), extra),
        sse(chunk({"content": "x"}), chunk({}, "stop", usage=told)),
        sse(chunk({"content": "x"}, usage=sums(3, 1, 4)), chunk({}, "stop", usage=told)),
        sse(chunk({"content": "x"}), chunk({}, "stop", x_groq={"usage": told})),
    ):
        finished = streamed([stream]).finished
        assert counted(finished.usage) == {INPUT: 3, OUTPUT: 2}
        assert json.loads(finished.usage.provider_usage_json) == told


def test_usage_is_told_when_it_comes_and_kept_verbatim() -> None:
    """usage_updated follows each change; the JSON is the server's to the last blank."""
    raw = '{"prompt_tokens": 3,  "completion_tokens":2, "total_tokens":5,"cost":1.50}'
    stream = sse(chunk({"content": "x"}, "stop", usage="HERE"), chunk({}, "stop", usage="HERE"))
    events = translation().feed(stream.replace(b'"HERE"', raw.encode()))
    updates = [event.usage_updated.usage for event in events if event.HasField("usage_updated")]
    assert [update.provider_usage_json for update in updates] == [raw]


def test_the_tier_that_served_is_told() -> None:
    """service_tier stands in the answer, or in its usage (Mistral)."""
    body = whole({"content": "x"}, service_tier="flex", usage=sums(1, 1, 2))
    assert fold(translation().whole(body)).finished.usage.service_tier == "flex"
    body = whole({"content": "x"}, usage=sums(1, 1, 2, service_tier="standard"))
    assert fold(translation().whole(body)).finished.usage.service_tier == "standard"


def test_nonsense_counts_as_nothing() -> None:
    """Null, negative and textual counts do not break an answer."""
    assert usage({"prompt_tokens": None, "completion_tokens": -3, "total_tokens": "many"}) == {}
