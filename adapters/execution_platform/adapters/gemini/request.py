"""Builds the bodies of generateContent and countTokens. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from execution_platform.adapters.gemini.contents import Contents
from execution_platform.adapters.gemini.generation import generation_config
from execution_platform.adapters.gemini.models import facts_of
from execution_platform.adapters.gemini.parts import FAMILY
from execution_platform.adapters.gemini.tools import tool_config, tools
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import apply_provider_options
from execution_platform.adapters.spi import Call
from execution_platform.adapters.wire import encode_json
from execution_platform.v1 import chat_pb2

__all__ = ["DEFAULT_FILES_URL", "WireRequest", "build_count", "build_request"]

#: What a file's bare name is relative to.
DEFAULT_FILES_URL = "https://generativelanguage.googleapis.com/v1beta/"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it goes out.

    Attributes:
        method: what of the model is called: ``streamGenerateContent``, ``generateContent`` or ``countTokens``.
        query: of the URL, without the question mark.
        body: JSON.
        notices: what is to be told about it.
    """

    method: str
    query: str
    body: bytes
    notices: Notices


def build_request(call: Call, *, files_url: str = DEFAULT_FILES_URL) -> WireRequest:
    """Build the request of a chat.

    Args:
        call: the chat; `unary` asks for a whole answer.
        files_url: what a file's bare name, such as ``files/abc``, is relative to.

    Raises:
        InvalidRequestError: something in the request is not what its field wants.
        UnsupportedOptionError: Gemini cannot honour an option, and the request wants that refused.
    """
    notices = Notices(call.request)
    body = encode_json(_body(call, notices, files_url))
    if call.unary:
        return WireRequest("generateContent", "", body, notices)
    return WireRequest("streamGenerateContent", "alt=sse", body, notices)


def build_count(call: Call, *, files_url: str = DEFAULT_FILES_URL) -> WireRequest:
    """Build the request that counts a chat's tokens, system and tools included. Raises like build_request."""
    notices = Notices(call.request)
    name = call.model if "/" in call.model else f"models/{call.model}"
    inner = {"model": name, **_body(call, notices, files_url)}
    return WireRequest("countTokens", "", encode_json({"generateContentRequest": inner}), notices)


def _body(call: Call, notices: Notices, files_url: str) -> dict[str, Any]:
    request = call.request
    facts = facts_of(call.model)
    contents = Contents(request, facts, notices, files_url)
    body: dict[str, Any] = {"contents": contents.turns()}
    _put(body, "systemInstruction", contents.system())
    _put(body, "tools", tools(request, notices))
    _put(body, "toolConfig", tool_config(request, notices))
    _put(body, "generationConfig", generation_config(request, facts, notices))
    _put(body, "cachedContent", request.cache.cached_content)
    _put(body, "serviceTier", request.service_tier)
    _put(body, "continuationToken", contents.continuation_token)
    _tell_what_has_no_place(request, notices)
    return apply_provider_options(body, request, {FAMILY})


def _put(body: dict[str, Any], key: str, value: Any) -> None:
    if value:
        body[key] = value


def _tell_what_has_no_place(request: chat_pb2.ChatRequest, notices: Notices) -> None:
    cache = request.cache
    if cache.HasField("automatic") and not cache.automatic:
        notices.param_dropped("cache.automatic", "Gemini caches prefixes by itself; it cannot be told not to")
    if cache.HasField("ttl"):
        notices.param_dropped("cache.ttl", "Gemini's own caching has no time to live")
    if cache.key:
        notices.param_dropped("cache.key", "Gemini routes by no cache key")
    if request.output_format.verbosity:
        notices.param_dropped("output_format.verbosity", "Gemini has no such option")
    if _has_cache_hints(request):
        notices.param_dropped("cache_hint", "Gemini caches prefixes by itself; breakpoints have no place")


def _has_cache_hints(request: chat_pb2.ChatRequest) -> bool:
    blocks = [*request.system, *(block for message in request.messages for block in message.content)]
    return any(block.HasField("cache_hint") for block in blocks) or any(
        tool.HasField("cache_hint") for tool in request.tools
    )
