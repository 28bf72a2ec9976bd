"""A conversation as input items of Responses. Source: openai 3.52, types/responses/response_input_item_param.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from execution_platform.adapters.fields import fields_if_any
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.responses.kinds import OUTPUTS
from execution_platform.adapters.openai_api.responses.parts import InputParts
from execution_platform.adapters.openai_api.responses.replay import assistant_items
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["write_conversation"]

Item = dict[str, Any]

#: Items that answer a call, by the type of the call.
_ANSWERS = {call: output for output, call in OUTPUTS.items()}

#: Items that can say that the tool failed, or that the call was not approved.
_MARK_FAILURES = frozenset({"apply_patch_call_output", "mcp_approval_response", "shell_call_output"})


def write_conversation(
    request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices, *, stateless: bool
) -> tuple[str | None, list[Any]]:
    """Return the instructions, if they are a single text, and the input items.

    Other instructions (several blocks, images, cache hints) stand at the head of the items, so that nothing is
    joined that the caller kept apart.

    Args:
        request: what is asked.
        dialect: as spoken to the model.
        notices: where to tell what is left out.
        stateless: the server does not keep answers, so that only encrypted reasoning can be replayed.
    """
    parts = InputParts(dialect, notices)
    instructions, items = _write_system(request, dialect, parts)
    calls = _calls_by_id(request)
    for position, message in enumerate(request.messages):
        path = f"messages[{position}]"
        if message.name:
            notices.param_dropped(f"{path}.name", "the provider does not name participants")
        if message.role == content_pb2.ROLE_ASSISTANT:
            items += assistant_items(message.content, f"{path}.content", dialect, notices, stateless=stateless)
        else:
            role = "user" if message.role == content_pb2.ROLE_USER else dialect.system_role
            items += _message_items(message, role, path, parts, calls)
    return instructions, items


def _write_system(request: chat_pb2.ChatRequest, dialect: Dialect, parts: InputParts) -> tuple[str | None, list[Any]]:
    blocks = request.system
    if len(blocks) == 1 and blocks[0].HasField("text") and not blocks[0].HasField("cache_hint"):
        return blocks[0].text.text, []
    content = parts.write(blocks, "system")
    return None, [{"role": dialect.system_role, "content": content}] if content else []


def _calls_by_id(request: chat_pb2.ChatRequest) -> dict[str, content_pb2.ToolCallBlock]:
    return {
        block.tool_call.call_id: block.tool_call
        for message in request.messages
        for block in message.content
        if block.HasField("tool_call")
    }


def _message_items(
    message: content_pb2.Message,
    role: str,
    path: str,
    parts: InputParts,
    calls: Mapping[str, content_pb2.ToolCallBlock],
) -> list[Any]:
    """Return a message, cut where a tool's answer or an item of the format itself stands between its parts."""
    items: list[Any] = []
    content: list[Item] = []
    for position, block in enumerate(message.content):
        block_path = f"{path}.content[{position}]"
        if block.HasField("tool_result") or block.HasField("opaque"):
            _flush(items, content, role)
            if block.HasField("opaque"):
                items.append(raw_json(block.opaque.json, f"{block_path}.opaque.json", must_be_object=True))
            else:
                items.append(_answer(block, block_path, parts, calls))
        else:
            part = parts.part(block, block_path)
            if part is not None:
                content.append(part)
    _flush(items, content, role)
    return items


def _flush(items: list[Any], content: list[Item], role: str) -> None:
    if not content:
        return
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        items.append({"role": role, "content": content[0]["text"]})
    else:
        items.append({"role": role, "content": list(content)})
    content.clear()


def _answer(
    block: content_pb2.ContentBlock,
    path: str,
    parts: InputParts,
    calls: Mapping[str, content_pb2.ToolCallBlock],
) -> Any:
    """Return what a tool of the caller's answered.

    The type of the item is that of the call. Types other than functions and custom tools have a form of their own,
    which the caller gives as ``structured_content_json``: the item's other keys. Elsewhere ``content`` is sent, and
    the structured form only where there is no content: it says the same. Notices about either never refuse.
    """
    result = block.tool_result
    kind = result.provider_type if result.provider_type in OUTPUTS else ""
    call = calls.get(result.call_id)
    if not kind and call is not None:
        asked = call.provider_type or ("custom_tool_call" if call.HasField("arguments_text") else "function_call")
        kind = _ANSWERS.get(asked, "")
    kind = kind or "function_call_output"
    if result.is_error and kind not in _MARK_FAILURES:
        # Never refused: the content says what went wrong.
        _tell_dropped(f"{path}.tool_result.is_error", "this format has no mark for failed tools", parts)
    if kind in ("function_call_output", "custom_tool_call_output"):
        return {"type": kind, "call_id": result.call_id, "output": _output(block, path, parts)}
    if block.HasField("cache_hint"):
        parts.notices.param_dropped(f"{path}.cache_hint", f"a {kind} takes no cache breakpoint")
    return _own_form(kind, result, path, parts)


def _output(block: content_pb2.ContentBlock, path: str, parts: InputParts) -> Any:
    result = block.tool_result
    content = parts.write(result.content, f"{path}.tool_result.content")
    if not content:
        content = [{"type": "input_text", "text": result.structured_content_json}]
    elif result.structured_content_json:
        why = "the provider takes one form of a result; the content is sent"
        _tell_dropped(f"{path}.tool_result.structured_content_json", why, parts)
    if block.HasField("cache_hint"):
        parts.add_breakpoint(content[-1], block.cache_hint, path)
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        return content[0]["text"]
    return content


def _own_form(kind: str, result: content_pb2.ToolResultBlock, path: str, parts: InputParts) -> Item:
    item: Item = {"type": kind}
    if kind == "mcp_approval_response":
        item["approval_request_id"] = result.call_id
    else:
        item["call_id"] = result.call_id
    if result.structured_content_json:
        field = f"{path}.tool_result.structured_content_json"
        raw_json(result.structured_content_json, field, must_be_object=True)
        if result.content:
            _tell_dropped(f"{path}.tool_result.content", "its structured form is sent", parts)
        return {**item, **fields_if_any(result.structured_content_json.encode())}
    content = parts.write(result.content, f"{path}.tool_result.content")
    text = "".join(part.get("text", "") for part in content)
    if kind == "computer_call_output":
        shot = next((part for part in content if part["type"] == "input_image"), {})
        item["output"] = {"type": "computer_screenshot", **{k: v for k, v in shot.items() if k in _SCREENSHOT}}
    elif kind == "mcp_approval_response":
        item |= {"approve": not result.is_error, **({"reason": text} if text else {})}
    elif kind == "apply_patch_call_output":
        item |= {"status": "failed" if result.is_error else "completed", "output": text}
    elif kind == "shell_call_output":
        outcome = {"type": "exit", "exit_code": 1 if result.is_error else 0}
        item["output"] = [{"stdout": text, "stderr": "", "outcome": outcome}]
    else:
        item["output"] = text
    return item


def _tell_dropped(field: str, why: str, parts: InputParts) -> None:
    parts.notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, field, why)


_SCREENSHOT = frozenset({"image_url", "file_id"})
