"""How an answer of Responses ended: reason, usage, cost, and what else the finished answer says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    json_of,
    object_json,
    value_of,
)
from execution_platform.adapters.openai_api.answer import rate_limits
from execution_platform.adapters.openai_api.chat.usage import cost_of
from execution_platform.adapters.usage import UsageItems
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

__all__ = ["finished", "usage_of"]

_INCOMPLETE: Mapping[str, chat_pb2.FinishReason.ValueType] = {
    "max_output_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "max_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "content_filter": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "context_length_exceeded": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
    "model_context_window_exceeded": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
}

#: What of an answer has fields of its own.
_TOLD = frozenset({"id", "model", "output", "usage", "service_tier"})

_IMAGE_PARTS = ((content_pb2.MODALITY_IMAGE, "image_tokens"), (content_pb2.MODALITY_TEXT, "text_tokens"))


def finished(
    response: Fields, headers: Mapping[str, str], *, cached_outside: bool, client_calls: bool, refused: bool
) -> chat_pb2.Finished:
    """Return how the answer ended.

    Args:
        response: the finished answer.
        headers: of the HTTP answer.
        cached_outside: as the dialect says.
        client_calls: the caller has to run tools: the format has no status for that.
        refused: the answer holds a refusal; its status is ``completed`` all the same.
    """
    status = clean_text(response.get("status"))
    why = clean_text(fields_if_any(response.get("incomplete_details")).get("reason"))
    said = chat_pb2.Finished(
        reason=_reason(status, why, client_calls=client_calls, refused=refused),
        provider_finish_reason=why or status,
        usage=usage_of(response, headers, cached_outside=cached_outside),
        rate_limits=rate_limits(headers),
        provider_metadata_json=object_json({key: value for key, value in response.items() if key not in _TOLD}),
    )
    if said.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER:
        said.refusal.category = why
        said.refusal.raw_json = json_of(response.get("content_filters"))
    cost = cost_of(response.get("usage", msgspec.Raw(b"null")))
    if cost is not None:
        said.cost.CopyFrom(cost)
    return said


def _reason(status: str, why: str, *, client_calls: bool, refused: bool) -> chat_pb2.FinishReason.ValueType:
    if status == "incomplete":
        return _INCOMPLETE.get(why, chat_pb2.FINISH_REASON_OTHER)
    if status not in ("completed", ""):
        return chat_pb2.FINISH_REASON_OTHER  # cancelled; queued or in_progress: a background answer still to come
    if client_calls:
        return chat_pb2.FINISH_REASON_TOOL_CALLS
    return chat_pb2.FINISH_REASON_REFUSAL if refused else chat_pb2.FINISH_REASON_STOP


def usage_of(response: Fields, headers: Mapping[str, str], *, cached_outside: bool = False) -> usage_pb2.Usage:
    """Return an answer's usage, made disjoint.

    The format counts cached tokens and written ones inside the input, reasoning inside the output. Servers that
    copy it do not always, which total_tokens gives away.
    """
    items = UsageItems()
    raw = response.get("usage")
    usage = value_of(raw)
    if isinstance(usage, dict):
        _count_tokens(items, usage, cached_outside=cached_outside)
        _count_xai_tools(items, usage)
    tool_usage = value_of(response.get("tool_usage"))
    if isinstance(tool_usage, dict):
        _count_tools(items, tool_usage, _image_model(response))
    if not (isinstance(usage, dict) and isinstance(usage.get("server_side_tool_usage_details"), dict)):
        _count_searches(items, response, tool_usage if isinstance(tool_usage, dict) else {})
    _count_drawings(items, response)
    told = items.usage(json_of(raw) if isinstance(usage, dict) else "")
    told.service_tier = clean_text(response.get("service_tier"))
    told.region = headers.get("x-ms-region", "")
    return told


def _count_tokens(items: UsageItems, usage: dict[str, Any], *, cached_outside: bool) -> None:
    into, out = _number(usage, "input_tokens"), _number(usage, "output_tokens")
    details = usage.get("input_tokens_details")
    read, written = _number(details, "cached_tokens"), _number(details, "cache_write_tokens")
    reasoning = _number(usage.get("output_tokens_details"), "reasoning_tokens")
    cached = read + written
    beyond = _number(usage, "total_tokens") - into - out
    if not (cached_outside or max(read, written) > into or (cached and _is_beyond(beyond, cached, reasoning))):
        # Where one prefix was both read and written, the two overlap; each is billed, so each is told.
        into -= cached if cached <= into else max(read, written)
    if not (reasoning > out or (reasoning and beyond in (reasoning, cached + reasoning))):
        out -= reasoning
    items.add(usage_pb2.USAGE_KIND_INPUT, into)
    items.add(usage_pb2.USAGE_KIND_CACHE_READ, read)
    _count_written(items, written, details)
    items.add(usage_pb2.USAGE_KIND_OUTPUT, out)
    items.add(usage_pb2.USAGE_KIND_REASONING, reasoning)


def _is_beyond(beyond: int, cached: int, reasoning: int) -> bool:
    """Tell whether a total has the cached tokens beyond input and output; what fits both is the reasoning."""
    return beyond == cached + reasoning or (beyond == cached and beyond != reasoning)


def _count_written(items: UsageItems, written: int, details: Any) -> None:
    by_ttl = details.get("cache_write_tokens_details") if isinstance(details, dict) else None
    short, long = _number(by_ttl, "ttl_30m_tokens"), _number(by_ttl, "ttl_12h_tokens")
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, short, cache_ttl_seconds=30 * 60)
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, long, cache_ttl_seconds=12 * 3600)
    items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, written - short - long)


def _count_xai_tools(items: UsageItems, usage: dict[str, Any]) -> None:
    details = usage.get("server_side_tool_usage_details")
    for key in details if isinstance(details, dict) else ():
        _count_calls(items, key.removesuffix("_calls"), _number(details, key))
    _count_calls(items, "search_source", _number(usage, "num_sources_used"))


def _count_calls(items: UsageItems, tool: str, calls: int) -> None:
    items.add(usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, calls, tool=tool, unit=usage_pb2.USAGE_UNIT_CALL)


def _count_tools(items: UsageItems, tool_usage: dict[str, Any], image_model: str) -> None:
    for tool, used in tool_usage.items():
        if tool == "image_gen":
            _count_images(items, used, image_model)
        else:
            _count_calls(items, tool, _number(used, "num_requests"))


def _count_images(items: UsageItems, used: Any, model: str) -> None:
    """Count the tokens of the model that draws, which is another than the one that answers."""
    if not isinstance(used, dict):
        return
    kinds = (
        (usage_pb2.USAGE_KIND_INPUT, "input_tokens", ""),
        (usage_pb2.USAGE_KIND_CACHE_READ, "cached_tokens", "cached_"),
        (usage_pb2.USAGE_KIND_OUTPUT, "output_tokens", ""),
    )
    cached = used.get("cached_tokens_details")
    for kind, total, prefix in kinds:
        rest = _number(used, total)
        if kind == usage_pb2.USAGE_KIND_INPUT:
            rest -= _number(used, "cached_tokens")
        for modality, name in (
            (content_pb2.MODALITY_IMAGE, "image_tokens"),
            (content_pb2.MODALITY_TEXT, "text_tokens"),
        ):
            part = _number(used.get(f"{total}_details"), prefix + name)
            if kind == usage_pb2.USAGE_KIND_INPUT:
                part -= _number(cached, "cached_" + name)
            part = max(0, min(part, rest))
            items.add(kind, part, modality=modality, model=model)
            rest -= part
        items.add(kind, rest, model=model)


def _image_model(response: Fields) -> str:
    tools = value_of(response.get("tools"))
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("type") == "image_generation" and isinstance(tool.get("model"), str):
            return str(tool["model"])
    return "image_generation"


def _count_searches(items: UsageItems, response: Fields, told: dict[str, Any]) -> None:
    """Count the searches that an answer shows and no usage tells: each is charged, but not pages that were opened."""
    tools = value_of(response.get("tools"))
    types = [str(tool.get("type")) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    preview = any(name.startswith("web_search_preview") for name in types)
    for raw in elements_if_any(response.get("output")):
        if b"_search_call" not in bytes(raw):
            continue
        item = fields_if_any(raw)
        kind = clean_text(item.get("type"))
        if kind == "file_search_call" and "file_search" not in told:
            _count_calls(items, "file_search", 1)
        elif kind == "web_search_call" and "web_search" not in told and _is_search(item):
            _count_calls(items, "web_search_preview" if preview else "web_search", 1)


def _is_search(call: Fields) -> bool:
    action = value_of(call.get("action"))
    return not isinstance(action, dict) or action.get("type", "search") == "search"


def _count_drawings(items: UsageItems, response: Fields) -> None:
    """Count the tokens of vector drawings, which the items themselves tell."""
    for raw in elements_if_any(response.get("output")):
        if b'"svg_usage"' not in bytes(raw):
            continue
        used = value_of(fields_if_any(raw).get("svg_usage"))
        if not isinstance(used, dict):
            continue
        model = str(used.get("model") or "image_generation")
        reasoning = _number(used, "reasoning_tokens")
        items.add(usage_pb2.USAGE_KIND_INPUT, _number(used, "input_tokens"), model=model)
        items.add(usage_pb2.USAGE_KIND_OUTPUT, _number(used, "output_tokens") - reasoning, model=model)
        items.add(usage_pb2.USAGE_KIND_REASONING, reasoning, model=model)


def _number(value: Any, key: str) -> int:
    number = value.get(key) if isinstance(value, dict) else None
    return int(number) if isinstance(number, int | float) and 0 <= number < 2**62 else 0
