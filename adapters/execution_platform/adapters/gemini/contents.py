"""The conversation as Gemini's contents."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from execution_platform.adapters.fields import fields_if_any
from execution_platform.adapters.gemini.models import Facts
from execution_platform.adapters.gemini.parts import CONTINUATION, FAMILY, NAMELESS, SIGNATURE
from execution_platform.adapters.gemini.results import ResultWriter
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import config_fields
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["Contents"]

#: A part; one that is kept as it stood is raw.
_Part = dict[str, Any] | msgspec.Raw

#: A block with the path of its field.
_Placed = tuple[str, content_pb2.ContentBlock]

#: What the API takes for a signature that another model's call cannot have. Source: thought signatures page.
_NO_SIGNATURE = "skip_thought_signature_validator"

_RESOLUTIONS = {
    "low": "MEDIA_RESOLUTION_LOW",
    "medium": "MEDIA_RESOLUTION_MEDIUM",
    "high": "MEDIA_RESOLUTION_HIGH",
    "ultra_high": "MEDIA_RESOLUTION_ULTRA_HIGH",
}

#: Media whose names no provider shows to a model.
_NAMELESS_MEDIA = ("image/", "audio/", "video/")


class Contents:
    """Turns messages into contents.

    Args:
        request: the chat.
        facts: of the model that is asked.
        notices: takes what is left out.
        files_url: what a file's bare name is relative to.

    Attributes:
        continuation_token: lets a paused answer go on; known after turns().
    """

    def __init__(self, request: chat_pb2.ChatRequest, facts: Facts, notices: Notices, files_url: str) -> None:
        self._request = request
        self._facts = facts
        self._notices = notices
        self._files_url = files_url
        self._results = ResultWriter(request, facts, notices, self._media)
        self.continuation_token = ""

    def system(self) -> dict[str, Any]:
        """Return the systemInstruction; empty if there is none."""
        parts: list[_Part] = []
        for position, block in enumerate(self._request.system):
            parts += self._parts(block, f"system[{position}]")
        return {"parts": parts} if parts else {}

    def turns(self) -> list[dict[str, Any]]:
        """Return the contents, oldest first. Messages that hold nothing but tool results are joined.

        Raises:
            InvalidRequestError: a block is not what its field wants.
            UnsupportedOptionError: a block has no place, and the request wants that refused.
        """
        turns: list[dict[str, Any]] = []
        for role, blocks in self._grouped():
            parts: list[_Part] = []
            for field, block in blocks:
                parts += self._parts(block, field)
            if role == "model" and self._facts.signed_calls and _sign_first_call(parts):
                field = blocks[0][0].rpartition(".")[0]
                self._notices.param_defaulted(field, "a placeholder stands for the signature that a call has not")
            if parts:
                turns.append({"role": role, "parts": parts})
        return turns

    def _grouped(self) -> list[tuple[str, list[_Placed]]]:
        groups: list[tuple[str, list[_Placed]]] = []
        results: list[_Placed] | None = None
        last = len(self._request.messages) - 1
        for position, message in enumerate(self._request.messages):
            if position == last and self._paused(message):
                break
            field = f"messages[{position}]"
            blocks = [(f"{field}.content[{number}]", block) for number, block in enumerate(message.content)]
            if not blocks:
                continue
            role = self._role(message, field)
            only_results = role == "user" and all(_is_result(block) for _, block in blocks)
            if only_results and results is not None:
                results += blocks
                continue
            groups.append((role, blocks))
            results = blocks if only_results else None
        for _, blocks in groups:
            if all(_is_result(block) for _, block in blocks):
                blocks.sort(key=lambda placed: self._results.order_of(placed[1].tool_result))
        return groups

    def _paused(self, message: content_pb2.Message) -> bool:
        """Return whether the message is a paused answer: its token stands for it, so its parts are not sent."""
        if message.role != content_pb2.ROLE_ASSISTANT:
            return False
        for block in message.content:
            for state in block.states:
                if block.family == FAMILY and state.kind == CONTINUATION:
                    self.continuation_token = state.data.decode("utf-8", "replace")
        return bool(self.continuation_token)

    def _role(self, message: content_pb2.Message, field: str) -> str:
        if message.name:
            self._notices.param_dropped(f"{field}.name", "Gemini does not distinguish participants")
        if message.role == content_pb2.ROLE_SYSTEM:
            self._notices.param_adjusted(
                f"{field}.role", "Gemini takes instructions only at the start; sent as the user's"
            )
        return "model" if message.role == content_pb2.ROLE_ASSISTANT else "user"

    def _parts(self, block: content_pb2.ContentBlock, field: str) -> list[_Part]:
        parts: list[_Part]
        ours = block.family in {"", FAMILY}
        if not ours and block.states:
            self._notices.state_dropped(f"{field}.states", f"the state belongs to {block.family}")
        kind = block.WhichOneof("content")
        match kind:
            case "text":
                parts = [{"text": block.text.text}]
            case "refusal":
                parts = [{"text": block.refusal.text}]
            case "media":
                parts = [self._media(block.media, field)]
            case "thinking" if ours:
                parts = [{"text": block.thinking.text, "thought": True}]
            case "thinking":
                self._notices.state_dropped(field, f"the reasoning belongs to {block.family}")
                return []
            case "tool_call":
                parts = self._call(block, field)
            case "tool_result":
                parts = self._result(block, field)
            case "opaque" if block.family == FAMILY:
                return [raw_json(block.opaque.json, f"{field}.opaque.json", must_be_object=True)]
            case _:
                self._notices.block_dropped(
                    field, f"Gemini takes no {kind or 'empty'} block of {block.family or 'a caller'}"
                )
                return []
        if parts and ours:
            parts[0] = _complete(parts[0], block, field)
        return parts

    # --- tools --------------------------------------------------------------------------------------------------------

    def _call(self, block: content_pb2.ContentBlock, field: str) -> list[_Part]:
        call = block.tool_call
        if call.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER:
            return self._provider_call(block, field)
        function: dict[str, Any] = {"name": call.name}
        if block.family == FAMILY and not call.call_id_minted:
            function = {"id": call.call_id, **function}
        if call.arguments_json:
            function["args"] = raw_json(call.arguments_json, f"{field}.tool_call.arguments_json", must_be_object=True)
        elif call.HasField("arguments_text"):
            self._notices.param_adjusted(f"{field}.tool_call.arguments_text", "sent as a JSON object with one member")
            function["args"] = {"input": call.arguments_text}
        return [{"functionCall": function}]

    def _provider_call(self, block: content_pb2.ContentBlock, field: str) -> list[_Part]:
        call = block.tool_call
        if block.family != FAMILY:
            self._notices.block_dropped(field, f"the call was run by {block.family or 'another provider'}")
            return []
        arguments: Any = None
        if call.arguments_json:
            arguments = raw_json(call.arguments_json, f"{field}.tool_call.arguments_json", must_be_object=True)
        if call.provider_type == "executableCode":
            return [{"executableCode": arguments or {}}]
        said: dict[str, Any] = {} if call.name == NAMELESS else {"toolType": call.name}
        if arguments is not None:
            said["args"] = arguments
        if not call.call_id_minted:
            said["id"] = call.call_id
        return [{"toolCall": said}]

    def _result(self, block: content_pb2.ContentBlock, field: str) -> list[_Part]:
        result = block.tool_result
        if result.executed_by != content_pb2.TOOL_EXECUTOR_PROVIDER:
            return [*self._results.parts(result, field)]
        if block.family != FAMILY:
            self._notices.block_dropped(field, f"the result was made by {block.family or 'another provider'}")
            return []
        structured: Any = None
        if result.structured_content_json:
            structured = raw_json(result.structured_content_json, f"{field}.tool_result.structured_content_json")
        if result.provider_type == "codeExecutionResult":
            return [{"codeExecutionResult": structured or {}}]
        said: dict[str, Any] = {} if result.name == NAMELESS else {"toolType": result.name}
        if result.call_id:
            said["id"] = result.call_id
        if structured is not None:
            said["response"] = structured
        return [{"toolResponse": said}]

    # --- media --------------------------------------------------------------------------------------------------------

    def _media(self, media: content_pb2.MediaBlock, field: str) -> dict[str, Any]:
        part: dict[str, Any] = {}
        if media.WhichOneof("source") == "data":
            encoded = base64.b64encode(media.data).decode()
            part["inlineData"] = {"mimeType": media.mime_type, "data": encoded}
        else:
            file = {"fileUri": media.uri or self._file_uri(media.file_id)}
            part["fileData"] = {"mimeType": media.mime_type, **file} if media.mime_type else file
        detail = media.detail.lower()
        if detail in _RESOLUTIONS:
            part["mediaResolution"] = {"level": _RESOLUTIONS[detail]}
        elif detail.startswith("media_resolution_"):
            part["mediaResolution"] = {"level": media.detail}
        elif detail not in {"", "auto"}:
            self._notices.param_dropped(f"{field}.media.detail", "Gemini knows low, medium, high and ultra_high")
        if media.citations:
            self._notices.param_dropped(f"{field}.media.citations", "Gemini cites what its own tools find")
        if media.filename and not media.mime_type.lower().startswith(_NAMELESS_MEDIA):
            # Never refused: the file itself goes through.
            why = "Gemini shows the model no names of files"
            self._notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, f"{field}.media.filename", why)
        return part

    def _file_uri(self, file_id: str) -> str:
        return file_id if "://" in file_id else self._files_url + file_id


def _is_result(block: content_pb2.ContentBlock) -> bool:
    return block.WhichOneof("content") == "tool_result"


def _complete(part: _Part, block: content_pb2.ContentBlock, field: str) -> _Part:
    """Give a part back what the answer's part had besides its content: metadata and signature."""
    if isinstance(part, msgspec.Raw):
        return part
    if block.family == FAMILY:
        metadata = config_fields(block.provider_metadata_json, f"{field}.provider_metadata_json")
        part = part | {key: _extended(part.get(key), raw) for key, raw in metadata.items()}
    for state in block.states:
        if state.kind == SIGNATURE:
            part["thoughtSignature"] = state.data.decode("utf-8", "replace")
    return part


def _extended(content: Any, rest: msgspec.Raw) -> Any:
    """Return a part's content with what its metadata adds to it."""
    return content | fields_if_any(rest) if isinstance(content, dict) else rest


def _sign_first_call(parts: list[_Part]) -> bool:
    """Let the first of a turn's calls pass where no model of this family signed it. Returns whether it did so."""
    for part in parts:
        if isinstance(part, dict) and "functionCall" in part:
            return bool(part.setdefault("thoughtSignature", _NO_SIGNATURE) == _NO_SIGNATURE)
    return False
