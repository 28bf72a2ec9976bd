"""The conversation of a ChatRequest as Chat Completions messages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from execution_platform.adapters.fields import fields_if_any
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.chat.calls import LEGACY_CALL
from execution_platform.adapters.openai_api.chat.content import Part, Parts, as_content
from execution_platform.adapters.openai_api.chat.replay import ReasoningReplay
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.wire import encode_json, raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["build_messages"]

Placed = tuple[content_pb2.ContentBlock, str]


def build_messages(request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> list[dict[str, Any]]:
    """Return the request's system text and messages.

    Results of tools become messages of their own, before what else their message holds: they have to follow the
    calls. Media in a result that a server does not take there goes into the user's message after it.
    """
    return _Messages(request, dialect, notices).build()


class _Messages:
    def __init__(self, request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> None:
        self._request = request
        self._dialect = dialect
        self._notices = notices
        self._parts = Parts(dialect, notices)
        self._reasoning = ReasoningReplay(dialect, notices)
        self._calls = {
            block.tool_call.call_id: block
            for message in request.messages
            for block in message.content
            if block.WhichOneof("content") == "tool_call"
        }

    def build(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self._request.system:
            placed = [(block, f"system[{number}]") for number, block in enumerate(self._request.system)]
            content = as_content(self._parts.all_of(placed), array=self._dialect.text_parts)
            messages.append({"role": self._dialect.system_role, "content": content})
        for number, message in enumerate(self._request.messages):
            field = f"messages[{number}]"
            if message.role == content_pb2.ROLE_ASSISTANT:
                messages.append(self._assistant(message, field))
            else:
                messages.extend(self._other(message, field))
        if self._dialect.prefix_key and messages and messages[-1]["role"] == "assistant":
            messages[-1][self._dialect.prefix_key] = True
        return messages

    def _other(self, message: content_pb2.Message, field: str) -> Iterator[dict[str, Any]]:
        moved: list[Part] = []
        rest: list[Placed] = []
        for block, path in _placed(message, field):
            if block.WhichOneof("content") != "tool_result":
                rest.append((block, path))
            elif block.tool_result.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER:
                self._notices.block_dropped(path, "this format has no results of tools that a provider ran")
            else:
                yield self._result(block, path, moved)
        parts = moved + self._parts.all_of(rest)
        if parts or not message.content:
            system = message.role == content_pb2.ROLE_SYSTEM
            content = as_content(parts, array=self._dialect.text_parts)
            spoken: dict[str, Any] = {"role": self._dialect.system_role if system else "user", "content": content}
            yield self._named(spoken, message, field)

    def _named(self, spoken: dict[str, Any], message: content_pb2.Message, field: str) -> dict[str, Any]:
        if message.name and self._dialect.named_roles:
            spoken["name"] = message.name
        elif message.name:
            self._notices.param_dropped(f"{field}.name", f"{self._dialect.provider} has no named participants")
        return spoken

    def _result(self, block: content_pb2.ContentBlock, path: str, moved: list[Part]) -> dict[str, Any]:
        result, field = block.tool_result, f"{path}.tool_result"
        # Neither is ever refused: the content says what went wrong, and what the structured form says.
        dropped = chat_pb2.NOTICE_CODE_PARAM_DROPPED
        if result.is_error:
            self._notices.add(dropped, f"{field}.is_error", "this format has no mark for failed tools")
        if result.structured_content_json and result.content:
            why = "this format takes one form of a result; the content is sent"
            self._notices.add(dropped, f"{field}.structured_content_json", why)
        parts = self._result_parts(result, field, moved)
        if block.HasField("cache_hint") and parts:
            self._parts.add_breakpoint(parts[-1], block.cache_hint, f"{path}.cache_hint")
        elif block.HasField("cache_hint"):
            self._notices.param_dropped(f"{path}.cache_hint", "an empty result takes no cache breakpoint")
        return self._answering(result, as_content(parts, array=self._dialect.text_parts))

    def _result_parts(self, result: content_pb2.ToolResultBlock, field: str, moved: list[Part]) -> list[Part]:
        """Return what stays in the tool's message; media that it cannot hold are moved."""
        if result.structured_content_json and not result.content:
            return [{"type": "text", "text": result.structured_content_json}]
        kept: list[Part] = []
        for number, block in enumerate(result.content):
            path = f"{field}.content[{number}]"
            part = self._parts.of(block, path)
            if part is None:
                continue
            if part.get("type", "text") == "text" or self._dialect.tool_media:
                kept.append(part)
            else:
                moved.append(part)
                code = chat_pb2.NOTICE_CODE_PARAM_ADJUSTED
                self._notices.add(code, path, "tool messages hold only text: sent in the user's message after it")
        return kept

    def _answering(self, result: content_pb2.ToolResultBlock, content: Any) -> dict[str, Any]:
        call = self._calls.get(result.call_id)
        if call is not None and self._is_legacy(call):
            return {"role": "function", "name": call.tool_call.name, "content": content}
        return {"role": "tool", "tool_call_id": self._call_id(result.call_id), "content": content}

    def _assistant(self, message: content_pb2.Message, field: str) -> dict[str, Any]:
        spoken: dict[str, Any] = {"role": "assistant", "content": None}
        texts: list[Placed] = []
        calls: list[dict[str, Any]] = []
        for block, path in _placed(message, field):
            kind = block.WhichOneof("content")
            if kind == "text" or (kind == "opaque" and not self._reasoning.takes_opaque(block)):
                texts.append((block, path))
                continue
            if block.HasField("cache_hint"):
                self._notices.param_dropped(f"{path}.cache_hint", f"a {kind} block takes no cache breakpoint here")
            if kind == "refusal":
                spoken["refusal"] = spoken.get("refusal", "") + block.refusal.text
            elif kind == "tool_call":
                self._add_call(spoken, calls, block, path)
            elif kind == "media" and block.media.mime_type.startswith("audio/") and self._is_own(block) and block.id:
                spoken["audio"] = {"id": block.id}
            elif kind in {"thinking", "redacted_thinking", "opaque"}:
                self._reasoning.add(block, path)
            else:
                self._notices.block_dropped(path, f"the model's messages hold no such block ({kind})")
        parts = self._parts.all_of(texts)
        if parts or not (calls or len(spoken) > 2):
            spoken["content"] = _assistant_content(parts, array=self._dialect.text_parts)
        if calls:
            spoken["tool_calls"] = calls
        self._reasoning.write(spoken)
        self._add_annotations(spoken, texts)
        return self._named(spoken, message, field)

    def _add_annotations(self, spoken: dict[str, Any], texts: list[Placed]) -> None:
        if self._dialect.replay_annotations:
            own = [citation for block, _ in texts if self._is_own(block) for citation in block.citations]
            annotations = [msgspec.Raw(citation.raw_json.encode()) for citation in own if citation.raw_json]
            if annotations:
                spoken["annotations"] = annotations

    def _add_call(
        self, spoken: dict[str, Any], calls: list[dict[str, Any]], block: content_pb2.ContentBlock, field: str
    ) -> None:
        call = block.tool_call
        self._parts.drop_states(block, field)
        if call.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER:
            self._notices.block_dropped(field, "this format has no calls of tools that a provider ran")
        elif self._is_legacy(block):
            spoken["function_call"] = {"name": call.name, "arguments": call.arguments_json or "{}"}
        else:
            calls.append(self._call(block, field))

    def _call(self, block: content_pb2.ContentBlock, field: str) -> dict[str, Any]:
        call = block.tool_call
        written: dict[str, Any] = {"id": self._call_id(call.call_id)}
        if block.provider_metadata_json and self._is_own(block):
            # Such as a signature that a server adds to its calls.
            raw = raw_json(block.provider_metadata_json, f"{field}.provider_metadata_json", must_be_object=True)
            written |= msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        extra = written.pop("function", None)
        function: dict[str, Any] = {"name": call.name, "arguments": call.arguments_json or "{}"}
        if call.HasField("arguments_text"):
            if self._dialect.custom_tools:
                return written | {"type": "custom", "custom": {"name": call.name, "input": call.arguments_text}}
            function["arguments"] = encode_json({"input": call.arguments_text}).decode()
            code = chat_pb2.NOTICE_CODE_PARAM_ADJUSTED
            self._notices.add(code, f"{field}.tool_call.arguments_text", "free text is sent as JSON here")
        if extra is not None:
            function |= fields_if_any(extra)
        return written | {"type": "function", "function": function}

    def _call_id(self, call_id: str) -> str:
        """Return an id that the server takes; one that stands in for another is the same wherever it comes."""
        if self._dialect.call_ids is None:
            return call_id
        pattern, length = self._dialect.call_ids
        if re.fullmatch(pattern, call_id):
            return call_id
        return hashlib.sha256(call_id.encode()).hexdigest()[:length]

    def _is_legacy(self, block: content_pb2.ContentBlock) -> bool:
        return block.tool_call.provider_type == LEGACY_CALL and self._is_own(block)

    def _is_own(self, block: content_pb2.ContentBlock) -> bool:
        return block.family == self._dialect.family


def _placed(message: content_pb2.Message, field: str) -> list[Placed]:
    return [(block, f"{field}.content[{number}]") for number, block in enumerate(message.content)]


def _assistant_content(parts: list[Part], *, array: bool) -> Any:
    """Return the model's own text; its pieces belong together, so they are joined by nothing."""
    if not array and all(part.get("type") == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return as_content(parts, array=array)
