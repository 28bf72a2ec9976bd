"""A ChatRequest as a request of the Messages API. Pure.

Sources: `types/message_create_params.py`, `types/beta/message_create_params.py`, `types/anthropic_beta_param.py` of
the anthropic SDK 2.11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from google.protobuf import duration_pb2

from execution_platform.adapters.anthropic.models import ModelFacts, facts_of
from execution_platform.adapters.anthropic.options import (
    write_max_tokens,
    write_output_config,
    write_sampling,
    write_thinking,
)
from execution_platform.adapters.anthropic.prompt_blocks import PromptBlocks, cache_control
from execution_platform.adapters.anthropic.stream import FAMILY
from execution_platform.adapters.anthropic.tools import write_tool_choice, write_tools
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.fields import value_of
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import patches_for
from execution_platform.adapters.spi import Call
from execution_platform.adapters.wire import decode_json, encode_json, merge_patch
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["WireRequest", "build_count", "build_request"]

_Body = dict[str, Any]

#: What the API wants named in `anthropic-beta`, by member of the body.
_BETA_OF_MEMBER = {
    "billing_policy": "user-profiles-billing-2026-10-01",
    "compaction": "compact-2026-09-04",
    "context_management": "context-management-2025-06-27",
    "fallback_credit_token": "fallback-credit-2026-07-01",
    "fallbacks": "server-side-fallback-2026-07-01",
    "mcp_servers": "mcp-client-2025-11-20",
    "thread": "message-threads-2026-08-12",
}
#: The same by type of tool.
_BETA_OF_TOOL = {
    "advisor_20260301": "advisor-tool-2026-03-01",
    "bash_20241022": "computer-use-2024-10-22",
    "code_execution_20250522": "code-execution-2025-05-22",
    "computer_20241022": "computer-use-2024-10-22",
    "computer_20250124": "computer-use-2025-01-24",
    "computer_20251124": "computer-use-2025-11-24",
    "text_editor_20241022": "computer-use-2024-10-22",
}
#: Members of the body whose content names betas too.
_TELL_BETAS = ("context_management", "container", "speed", "output_config")
_BETA_OF_FILES = "files-api-2025-04-14"
_BETA_OF_COMPACTION_EDIT = "compact-2026-01-12"
_BETA_OF_SKILLS = "skills-2025-10-02"
_BETA_OF_SPEED = "fast-mode-2026-02-01"
_BETA_OF_TASK_BUDGET = "task-budgets-2026-03-13"

#: What the token counter takes: `types/beta/message_count_tokens_params.py`.
_COUNTED = frozenset(
    {
        "cache_control",
        "compaction",
        "context_management",
        "mcp_servers",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "thread",
        "tool_choice",
        "tools",
    }
)


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it goes out.

    Attributes:
        body: JSON.
        betas: names for the header `anthropic-beta`.
        notices: what could not be honoured, or was filled in.
    """

    body: bytes
    betas: tuple[str, ...]
    notices: tuple[chat_pb2.Notice, ...]


def build_request(call: Call, provider: str) -> WireRequest:
    """Return the request for an answer.

    Args:
        call: what is asked.
        provider: name of the provider that is asked; its options apply besides those of the family.

    Raises:
        InvalidRequestError: something in the request is not valid; the error names the field.
        UnsupportedOptionError: the model cannot honour an option, and the request wants that refused.
    """
    notices = Notices(call.request)
    body, betas = _build(call, provider, notices)
    return WireRequest(encode_json(body), betas, tuple(notices.items))


def build_count(call: Call, provider: str) -> WireRequest:
    """Return the request for a count of the input's tokens. Raises like build_request."""
    notices = Notices(call.request)
    body, betas = _build(call, provider, notices)
    counted = {key: value for key, value in body.items() if key in _COUNTED}
    about_the_prompt = [notice for notice in notices.items if not notice.field.startswith("sampling.")]
    return WireRequest(encode_json(counted), betas, tuple(about_the_prompt))


def _build(call: Call, provider: str, notices: Notices) -> tuple[_Body, tuple[str, ...]]:
    request = call.request
    facts = facts_of(call.model)
    policy_ttl = request.cache.ttl if request.cache.HasField("ttl") else None
    blocks = PromptBlocks(FAMILY, notices, policy_ttl)
    body: _Body = {"model": call.model, "max_tokens": write_max_tokens(request.sampling, facts, notices)}
    _write_prompt(body, request, blocks, facts, notices)
    _write_tools(body, request, blocks, facts, notices)
    _write_options(body, request, facts, notices)
    _write_cache(body, request.cache, policy_ttl, notices)
    if not call.unary:
        body["stream"] = True
    body, named = _merge_options(body, request, {provider, FAMILY})
    return body, tuple(dict.fromkeys([*_betas(body, blocks.uses_files), *named]))


def _write_prompt(
    body: _Body, request: chat_pb2.ChatRequest, blocks: PromptBlocks, facts: ModelFacts, notices: Notices
) -> None:
    system = blocks.write(request.system, "system")
    if system:
        body["system"] = system
    messages = []
    for position, message in enumerate(request.messages):
        path = f"messages[{position}]"
        if message.name:
            notices.param_dropped(f"{path}.name", "the provider does not name participants")
        content = blocks.write(message.content, f"{path}.content")
        if content:
            messages.append({"role": _role(message.role, path, facts, notices), "content": content})
        else:
            notices.add(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, path, "the provider takes no empty message")
    body["messages"] = messages


def _role(role: content_pb2.Role.ValueType, path: str, facts: ModelFacts, notices: Notices) -> str:
    if role == content_pb2.ROLE_ASSISTANT:
        return "assistant"
    if role == content_pb2.ROLE_SYSTEM:
        if facts.system_messages:
            return "system"
        notices.param_adjusted(
            f"{path}.role", "sent as user: the model takes instructions only before the conversation"
        )
    return "user"


def _write_tools(
    body: _Body, request: chat_pb2.ChatRequest, blocks: PromptBlocks, facts: ModelFacts, notices: Notices
) -> None:
    wire = write_tools(request, FAMILY, blocks, notices)
    if wire.mcp_servers:
        body["mcp_servers"] = wire.mcp_servers
    if not wire.tools:
        if request.tool_choice.mode in {chat_pb2.TOOL_CHOICE_MODE_REQUIRED, chat_pb2.TOOL_CHOICE_MODE_NAMED}:
            notices.param_dropped("tool_choice.mode", "there is no tool that the provider could be made to call")
        return
    body["tools"] = wire.tools
    choice = write_tool_choice(request, facts, notices)
    if choice is not None:
        body["tool_choice"] = choice


def _write_options(body: _Body, request: chat_pb2.ChatRequest, facts: ModelFacts, notices: Notices) -> None:
    thinking = write_thinking(request.reasoning, body["max_tokens"], facts, notices)
    if thinking is not None:
        body["thinking"] = thinking
    output_config = write_output_config(request, facts, notices)
    if output_config:
        body["output_config"] = output_config
    body.update(write_sampling(request.sampling, thinking, facts, notices))
    if request.service_tier:
        body["service_tier"] = request.service_tier
    if request.context.end_user_id:
        body["metadata"] = {"user_id": request.context.end_user_id}


def _write_cache(body: _Body, cache: chat_pb2.CachePolicy, ttl: duration_pb2.Duration | None, notices: Notices) -> None:
    if cache.automatic:
        body["cache_control"] = cache_control(ttl, "cache.ttl", notices)
    if cache.key:
        notices.param_dropped("cache.key", "the provider does not group requests")
    if cache.cached_content:
        notices.param_dropped("cache.cached_content", "the provider has no content that was cached before")


def _merge_options(body: _Body, request: chat_pb2.ChatRequest, names: set[str]) -> tuple[_Body, tuple[str, ...]]:
    """Merge the options for these names into the body; `betas` among them belongs into a header."""
    named: list[str] = []
    for path, patch in patches_for(request, names):
        betas = _decoded(patch.pop("betas", None)) or []
        if not isinstance(betas, list) or not all(isinstance(beta, str) for beta in betas):
            raise InvalidRequestError(f"{path}: betas must be a list of names", field=path)
        named += betas
        body = merge_patch(body, patch)
    return body, tuple(named)


def _betas(body: _Body, uses_files: bool) -> list[str]:
    betas = [beta for member, beta in _BETA_OF_MEMBER.items() if member in body]
    kinds = [str(_decoded(tool.get("type"))) for tool in _objects(_decoded(body.get("tools")))]
    betas += [_BETA_OF_TOOL[kind] for kind in kinds if kind in _BETA_OF_TOOL]
    if uses_files:
        betas.append(_BETA_OF_FILES)
    told = decode_json(encode_json({key: body[key] for key in _TELL_BETAS if key in body}))
    edits = _objects(_members(told.get("context_management")).get("edits"))
    if any(edit.get("type") == "compact_20260112" for edit in edits):
        betas.append(_BETA_OF_COMPACTION_EDIT)
    if _members(told.get("container")).get("skills"):
        betas.append(_BETA_OF_SKILLS)
    if told.get("speed") == "fast":
        betas.append(_BETA_OF_SPEED)
    if _members(told.get("output_config")).get("task_budget"):
        betas.append(_BETA_OF_TASK_BUDGET)
    return betas


def _decoded(value: Any) -> Any:
    """Return a value that may be held as raw JSON."""
    return value_of(value) if isinstance(value, msgspec.Raw) else value


def _members(value: Any) -> dict[str, Any]:
    """Return an object's members; anything else has none."""
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects in an array; anything else has none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
