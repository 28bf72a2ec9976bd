"""A ChatRequest as a request of Converse or ConverseStream. Pure.

Source: ``botocore/data/bedrock-runtime/2023-09-30/service-2.json`` of botocore 1.44.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from execution_platform.adapters.bedrock.families import Maker, ModelFacts, Thinks
from execution_platform.adapters.bedrock.models import FAMILY, facts_of
from execution_platform.adapters.bedrock.options import write_further, write_inference, write_output, write_tier
from execution_platform.adapters.bedrock.prompt_blocks import PromptBlocks, WireBlock
from execution_platform.adapters.bedrock.regions import asked_region, model_name, model_path
from execution_platform.adapters.bedrock.tools import parallel_choice, write_tool_config, write_tools
from execution_platform.adapters.errors import NotConfiguredError
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import apply_provider_options
from execution_platform.adapters.spi import Call
from execution_platform.adapters.wire import encode_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["WireRequest", "build_request"]

_Body = dict[str, Any]

_JSON = "application/json"
_EVENT_STREAM = "application/vnd.amazon.eventstream"
_MOST_CACHE_POINTS = 4
#: Where a Claude tells which stop sequence came, in a whole answer and in a stream. Paths to nothing are passed over.
_MATCHED_STOP = ("/stop_sequence", "/delta/stop_sequence")
_FIRST_WORDS = "(The conversation begins with an answer.)"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it goes out, to be signed.

    Attributes:
        body: JSON.
        path: the URL's path, encoded.
        region: the region whose endpoint is asked.
        headers: besides those of the signature; `accept` says whether a stream or a whole answer is asked for.
        notices: what could not be honoured, or was filled in.
    """

    body: bytes
    path: str
    region: str
    headers: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[chat_pb2.Notice, ...] = ()


def build_request(call: Call, provider: str, region: str) -> WireRequest:
    """Return the request for an answer.

    Args:
        call: what is asked.
        provider: name of the provider that is asked; its options apply besides those of the family.
        region: the configured region, asked where the model's name tells none.

    Raises:
        InvalidRequestError: something in the request is not valid; the error names the field.
        UnsupportedOptionError: the model cannot honour an option, and the request wants that refused.
        NotConfiguredError: neither the model's name nor the configuration tells a region.
    """
    notices = Notices(call.request)
    facts = facts_of(call.model)
    body = apply_provider_options(_build(call.request, facts, notices), call.request, {provider, FAMILY})
    # Some models refuse to stream calls of tools; their whole answer gives the same events.
    streams = not call.unary and (facts.streams_tools or "toolConfig" not in body)
    return WireRequest(
        encode_json(body),
        model_path(call.model, "converse-stream" if streams else "converse"),
        _region(call.model, region),
        {"content-type": _JSON, "accept": _EVENT_STREAM if streams else _JSON},
        tuple(notices.items),
    )


def _region(model: str, configured: str) -> str:
    region = asked_region(model_name(model), configured)
    if not region:
        raise NotConfiguredError("the model's name tells no region: set EP_BEDROCK_REGION (or AWS_REGION)")
    return region


def _build(request: chat_pb2.ChatRequest, facts: ModelFacts, notices: Notices) -> _Body:
    blocks = PromptBlocks(FAMILY, facts, notices, request.cache.ttl if request.cache.HasField("ttl") else None)
    body: _Body = {}
    tools = write_tools(request, FAMILY, facts, blocks, notices)
    _write_prompt(body, request, blocks, facts, notices)
    config = write_tool_config(request, tools, blocks.tools_used, facts, notices)
    if config is not None:
        body["toolConfig"] = config
    _write_options(body, request, config, facts, notices)
    _write_cache(body, request.cache, blocks, facts, notices)
    return body


def _write_prompt(
    body: _Body, request: chat_pb2.ChatRequest, blocks: PromptBlocks, facts: ModelFacts, notices: Notices
) -> None:
    system = blocks.write_system(request.system)
    messages: list[_Body] = []
    for position, message in enumerate(request.messages):
        path = f"messages[{position}]"
        if message.name:
            notices.param_dropped(f"{path}.name", "the provider does not name participants")
        role = _role(message.role, path, facts.system_messages and bool(messages), notices)
        content = blocks.write_message(message.content, f"{path}.content", by_model=role == "assistant")
        if content:
            _append(messages, role, content)
        else:
            notices.add(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, path, "the provider takes no empty message")
    if system and not facts.system:
        notices.param_adjusted("system", "sent as the user's: the model takes no instructions before the conversation")
        _put_first(messages, system)
    elif system:
        body["system"] = system
    if messages and messages[0]["role"] != "user":
        notices.param_defaulted("messages[0]", "words of a user are put before: the provider takes no other beginning")
        _put_first(messages, [{"text": _FIRST_WORDS}])
    body["messages"] = messages


def _append(messages: list[_Body], role: str, content: list[WireBlock]) -> None:
    """Add a message, or its content to the one before: the provider wants the roles to alternate."""
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += content
    else:
        messages.append({"role": role, "content": content})


def _put_first(messages: list[_Body], content: list[WireBlock]) -> None:
    """Put content of the user's before all other."""
    if messages and messages[0]["role"] == "user":
        messages[0]["content"][:0] = content
    else:
        messages.insert(0, {"role": "user", "content": content})


def _role(role: content_pb2.Role.ValueType, path: str, takes_system: bool, notices: Notices) -> str:
    if role == content_pb2.ROLE_ASSISTANT:
        return "assistant"
    if role == content_pb2.ROLE_SYSTEM:
        if takes_system:
            return "system"
        why = "sent as user: the model takes instructions only before the conversation"
        notices.param_adjusted(f"{path}.role", why)
    return "user"


def _write_options(
    body: _Body,
    request: chat_pb2.ChatRequest,
    tool_config: _Body | None,
    facts: ModelFacts,
    notices: Notices,
) -> None:
    inference = write_inference(request.sampling, facts, notices)
    further = write_further(request, inference, facts, notices)
    output = write_output(request, facts, notices)
    if tool_config is not None:
        _unforce(tool_config, further, facts, notices)
        parallel = parallel_choice(request, tool_config.get("toolChoice"), facts, notices)
        if parallel is not None:
            further["tool_choice"] = parallel
    tier = write_tier(request, notices)
    if inference:
        body["inferenceConfig"] = inference
    if further:
        body["additionalModelRequestFields"] = further
    if output:
        body["outputConfig"] = output
    if tier is not None:
        body["serviceTier"] = tier
    if request.sampling.stop_sequences and facts.maker is Maker.CLAUDE:
        body["additionalModelResponseFieldPaths"] = list(_MATCHED_STOP)


def _unforce(tool_config: _Body, further: _Body, facts: ModelFacts, notices: Notices) -> None:
    """Leave the choice of a tool to a model that thinks: Claude refuses both at once."""
    thinks = further.get("thinking", {}).get("type") in {"enabled", "adaptive"}
    forced = not tool_config.get("toolChoice", {"auto": {}}).keys() <= {"auto"}
    if forced and thinks and facts.thinks is not Thinks.ALWAYS_FREELY:
        notices.param_adjusted("tool_choice.mode", "the model takes no forced calls while it thinks; it decides itself")
        del tool_config["toolChoice"]


def _write_cache(
    body: _Body, cache: chat_pb2.CachePolicy, blocks: PromptBlocks, facts: ModelFacts, notices: Notices
) -> None:
    if cache.automatic and facts.caches is False:
        notices.param_dropped("cache.automatic", "the model caches no prompts")
    elif cache.automatic:
        # The first point outlives a change of the conversation, the last one covers all of it.
        for content in (body.get("system"), body["messages"][-1]["content"] if body["messages"] else None):
            ends_open = content and not (isinstance(content[-1], dict) and "cachePoint" in content[-1])
            if content and ends_open and blocks.cache_points < _MOST_CACHE_POINTS:
                content.append(blocks.cache_point(content_pb2.CacheHint(), "cache"))
    if cache.key:
        notices.param_dropped("cache.key", "the provider does not group requests")
    if cache.cached_content:
        notices.param_dropped("cache.cached_content", "the provider has no content that was cached before")
