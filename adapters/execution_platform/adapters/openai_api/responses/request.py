"""A ChatRequest as a request of Responses. Pure. Source: openai 3.52, types/responses/response_create_params.py.

**Nothing is kept at the provider.** The platform has no conversations of its own: a caller sends the whole of it each
time. So the body says ``store: false`` and asks for ``reasoning.encrypted_content``, without which reasoning could not
be sent back. ``provider_options`` change that: with ``store``, ``background``, ``conversation`` or
``previous_response_id`` in them the provider's own defaults hold, and ``include`` replaces the list.

**What the format has no place for** (``top_k``, ``seed``, stop sequences, penalties, ``logit_bias``, a reasoning
budget, other modalities than text, cached content) is told in Notices.
"""

from __future__ import annotations

from typing import Any

import msgspec

from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.dialect import Dialect, WireRequest
from execution_platform.adapters.openai_api.responses.messages import write_conversation
from execution_platform.adapters.openai_api.responses.parts import cache_ttl
from execution_platform.adapters.openai_api.responses.tools import write_choice, write_tools
from execution_platform.adapters.patches import apply_provider_options
from execution_platform.adapters.spi import Call
from execution_platform.adapters.wire import encode_json, raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["build_count", "build_responses"]

_Body = dict[str, Any]

#: Options of the server's own keeping: with one of them our stateless defaults do not hold.
_KEEPING = frozenset({"background", "conversation", "previous_response_id", "store"})

#: What the token counter takes: openai 3.52, types/responses/input_token_count_params.py.
_COUNTED = frozenset(
    {
        "conversation",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "personality",
        "previous_response_id",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    }
)

_FALSE = msgspec.Raw(b"false")

_NO_PLACE = {
    "top_k": "the provider does not sample by rank",
    "frequency_penalty": "the API takes no penalties",
    "presence_penalty": "the API takes no penalties",
    "seed": "the API takes no seed",
    "stop_sequences": "the API takes no stop sequences",
    "logit_bias": "the API takes no bias",
}

_SUMMARIES = {
    chat_pb2.REASONING_DISPLAY_SUMMARY: "auto",
    chat_pb2.REASONING_DISPLAY_CONCISE_SUMMARY: "concise",
    chat_pb2.REASONING_DISPLAY_DETAILED_SUMMARY: "detailed",
}


def build_responses(call: Call, dialect: Dialect) -> WireRequest:
    """Return the request for an answer.

    Args:
        call: what is asked.
        dialect: as spoken to the model.

    Raises:
        InvalidRequestError: something in the request is not valid; the error names the field.
        UnsupportedOptionError: the model cannot honour an option, and the request wants that refused.
    """
    notices = Notices(call.request)
    body = _build(call, dialect, notices)
    return WireRequest("/responses", encode_json(body), tuple(notices.items))


def build_count(call: Call, dialect: Dialect) -> WireRequest:
    """Return the request for a count of the input's tokens. Raises like build_responses."""
    notices = Notices(call.request)
    body = _build(call, dialect, notices)
    counted = {key: value for key, value in body.items() if key in _COUNTED}
    about_the_prompt = [notice for notice in notices.items if not notice.field.startswith("sampling.")]
    return WireRequest("/responses/input_tokens", encode_json(counted), tuple(about_the_prompt))


def _build(call: Call, dialect: Dialect, notices: Notices) -> _Body:
    request = call.request
    stateless = _is_stateless(request, dialect)
    instructions, items = write_conversation(request, dialect, notices, stateless=stateless)
    body: _Body = {"model": call.model}
    if instructions is not None:
        body["instructions"] = instructions
    body["input"] = items
    _write_tools(body, request, dialect, notices)
    _write_reasoning(body, request.reasoning, dialect, notices)
    _write_sampling(body, request, dialect, notices)
    _write_format(body, request, dialect, notices)
    _write_cache(body, request.cache, dialect, notices)
    _write_rest(body, request, dialect, notices)
    if stateless:
        body["store"] = False
        if "reasoning" not in dialect.unsupported:
            body.setdefault("include", []).append("reasoning.encrypted_content")
    if not call.unary:
        body["stream"] = True
    return apply_provider_options(body, request, {dialect.provider, dialect.family})


def _is_stateless(request: chat_pb2.ChatRequest, dialect: Dialect) -> bool:
    options = apply_provider_options({}, request, {dialect.provider, dialect.family})
    return all(options.get(key, _FALSE) == _FALSE for key in _KEEPING)


def _takes(path: str, dialect: Dialect, notices: Notices) -> bool:
    if path in dialect.unsupported:
        notices.param_dropped(path, "the model does not take it")
        return False
    return True


def _write_tools(body: _Body, request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> None:
    tools = write_tools(request, dialect, notices)
    if tools:
        body["tools"] = tools
    choice = write_choice(request, tools, dialect, notices)
    if choice is not None:
        body["tool_choice"] = choice
    if request.HasField("parallel_tool_calls") and _takes("parallel_tool_calls", dialect, notices):
        body["parallel_tool_calls"] = request.parallel_tool_calls


def _write_reasoning(body: _Body, reasoning: chat_pb2.Reasoning, dialect: Dialect, notices: Notices) -> None:
    written: _Body = {}
    effort = reasoning.effort
    if reasoning.HasField("enabled") and not reasoning.enabled:
        effort = "none"
        if "reasoning.enabled" in dialect.unsupported:
            effort = ""
            notices.param_dropped("reasoning.enabled", "the model always reasons")
    if effort:
        written["effort"] = effort
    if reasoning.HasField("budget_tokens"):
        notices.param_dropped("reasoning.budget_tokens", "the provider takes an effort, not a number of tokens")
    if reasoning.display in _SUMMARIES:
        written["summary"] = _SUMMARIES[reasoning.display]
    asked = bool(written) and written != {"effort": "none"}
    if "reasoning" in dialect.unsupported:
        if asked or reasoning.enabled:
            notices.param_dropped("reasoning", "the model does not reason")
    elif written:
        body["reasoning"] = written


def _write_sampling(body: _Body, request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> None:
    sampling = request.sampling
    if sampling.HasField("max_output_tokens") and _takes("sampling.max_output_tokens", dialect, notices):
        body["max_output_tokens"] = sampling.max_output_tokens
    # Models that reason take these only where they are told not to.
    unsupported = frozenset() if body.get("reasoning", {}).get("effort") == "none" else dialect.unsupported
    told = {field.name: value for field, value in sampling.ListFields()}
    for name in ("temperature", "top_p"):
        if name in told and f"sampling.{name}" in unsupported:
            notices.param_dropped(f"sampling.{name}", "the model does not take it while it reasons")
        elif name in told:
            body[name] = told[name]
    if sampling.logprobs or sampling.HasField("top_logprobs"):
        if "sampling.logprobs" in unsupported:
            notices.param_dropped("sampling.logprobs", "the model does not tell them while it reasons")
        else:
            body["include"] = ["message.output_text.logprobs"]
            if sampling.HasField("top_logprobs"):
                body["top_logprobs"] = sampling.top_logprobs
    for name, why in _NO_PLACE.items():
        if name in told:
            notices.param_dropped(f"sampling.{name}", why)


def _write_format(body: _Body, request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> None:
    wanted = request.output_format
    text: _Body = {}
    match wanted.WhichOneof("format"):
        case "text":
            text["format"] = {"type": "text"}
        case "json":
            text["format"] = {"type": "json_object"}
        case "json_schema" if "output_format.json_schema" in dialect.unsupported:
            notices.param_adjusted("output_format.json_schema", "the model keeps to no schema: any JSON object")
            text["format"] = {"type": "json_object"}
        case "json_schema":
            text["format"] = _schema(wanted.json_schema)
        case _:
            pass
    if wanted.verbosity and _takes("output_format.verbosity", dialect, notices):
        text["verbosity"] = wanted.verbosity
    if text:
        body["text"] = text
    if any(modality != content_pb2.MODALITY_TEXT for modality in request.output_modalities):
        notices.param_dropped(
            "output_modalities", "the API answers in text; images come from the image_generation tool"
        )
    if request.HasField("audio_output"):
        notices.param_dropped("audio_output", "the API gives no audio; audio models speak Chat Completions")


def _schema(wanted: chat_pb2.JsonSchemaFormat) -> _Body:
    schema = raw_json(wanted.schema_json, "output_format.json_schema.schema_json", must_be_object=True)
    written: _Body = {"type": "json_schema", "name": wanted.name or "answer", "schema": schema}
    if wanted.description:
        written["description"] = wanted.description
    if wanted.HasField("strict"):
        written["strict"] = wanted.strict
    return written


def _write_cache(body: _Body, cache: chat_pb2.CachePolicy, dialect: Dialect, notices: Notices) -> None:
    if cache.key and _takes("cache.key", dialect, notices):
        body["prompt_cache_key"] = cache.key
    options: _Body = {}
    older = dialect.cache_breakpoints != "openai" or "cache_hint" in dialect.unsupported
    if cache.HasField("automatic") and not cache.automatic:
        if older:
            notices.param_dropped("cache.automatic", "the model caches by itself")
        else:
            options["mode"] = "explicit"
    if cache.HasField("ttl"):
        if older:
            _write_retention(body, cache, dialect, notices)
        else:
            options["ttl"] = cache_ttl(cache.ttl, "cache.ttl", notices)
    if options:
        body["prompt_cache_options"] = options
    if cache.cached_content:
        notices.param_dropped("cache.cached_content", "the provider has no content that was cached before")


def _write_retention(body: _Body, cache: chat_pb2.CachePolicy, dialect: Dialect, notices: Notices) -> None:
    """Write how long models before gpt-5.6 keep a prompt: in memory (up to an hour) or 24 hours."""
    if dialect.cache_breakpoints != "openai":
        notices.param_dropped("cache.ttl", "the provider keeps prompts as long as it finds right")
        return
    if cache.ttl.seconds != 24 * 3600:
        notices.param_adjusted("cache.ttl", "the model keeps prompts in memory or for 24 hours")
    body["prompt_cache_retention"] = "in_memory" if cache.ttl.seconds <= 3600 else "24h"


def _write_rest(body: _Body, request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> None:
    if request.service_tier and _takes("service_tier", dialect, notices):
        body["service_tier"] = request.service_tier
    place = dialect.places.get("context.end_user_id")
    if request.context.end_user_id and place:  # who does not ask for it is not told, nor is that a loss
        body[place] = request.context.end_user_id
