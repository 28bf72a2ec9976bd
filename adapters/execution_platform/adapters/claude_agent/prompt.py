"""The conversation of a request as the one message that starts a run.

A run that goes on with a session is given what came after the answer that the session ends with. Any other run is given
the earlier turns as text in front of the last one, for the CLI takes no answers of a model's from outside.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from execution_platform.adapters.claude_agent.sessions import Place, place_of
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.notices import Notices
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["Turn", "last_place", "user_message", "write_system"]

_GO_ON = "Continue from where you left off."
_BEFORE = "What follows is the conversation so far. After it comes the message to answer.\n\n<conversation>\n"
_AFTER = "</conversation>\n\n"

_SPEAKERS = {
    content_pb2.ROLE_USER: "user",
    content_pb2.ROLE_ASSISTANT: "assistant",
    content_pb2.ROLE_SYSTEM: "instructions",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the request, and its place in it."""

    message: content_pb2.Message
    path: str


def last_place(request: chat_pb2.ChatRequest, family: str) -> tuple[Place, int] | None:
    """Return where the last answer of a session ends, and how many messages that session holds; None: there is none."""
    for position in range(len(request.messages) - 1, -1, -1):
        message = request.messages[position]
        place = place_of(message.content, family) if message.role == content_pb2.ROLE_ASSISTANT else None
        if place is not None:
            return place, position + 1
    return None


def user_message(turns: Sequence[Turn], family: str, notices: Notices, *, resumed: bool) -> dict[str, Any]:
    """Return the message that starts the run, as the SDK's streaming input takes it.

    Args:
        turns: what the run is told, oldest first; nothing only where it is resumed.
        family: whose opaque state this provider made.
        notices: where to tell what is left out.
        resumed: what came before is in a session.

    Raises:
        InvalidRequestError: there is nothing to answer.
        UnsupportedOptionError: a block must be left out and the request wants that refused.
    """
    writer = _PromptWriter(family, notices)
    earlier, last = _divided(turns)
    content: list[dict[str, Any]] = []
    if earlier:
        content = [_text(_BEFORE), *(part for turn in earlier for part in writer.quoted(turn)), _text(_AFTER)]
        why = "the agent takes no answers from outside: the turns before the last are sent as text"
        notices.add(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, "messages", why)
    for turn in last:
        content += writer.plain(turn)
    if not content and resumed:
        notices.param_defaulted("messages", "nothing follows the answer: the agent is asked to go on")
        content = [_text(_GO_ON)]
    if not content:
        raise InvalidRequestError("messages: there is nothing that the agent could answer", field="messages")
    return {
        "type": "user",
        "message": {"role": "user", "content": _joined(content)},
        "parent_tool_use_id": None,
        "session_id": "",
    }


def write_system(blocks: Sequence[content_pb2.ContentBlock], notices: Notices) -> str:
    """Return the request's instructions as one text. Raises like user_message."""
    texts = []
    for position, block in enumerate(blocks):
        if block.HasField("text"):
            texts.append(block.text.text)
        else:
            notices.block_dropped(f"system[{position}]", "the agent takes instructions as text only")
    return "\n\n".join(filter(None, texts))


def _divided(turns: Sequence[Turn]) -> tuple[Sequence[Turn], Sequence[Turn]]:
    """Return the earlier turns, and the messages behind the last answer that the agent is to answer."""
    answers = [at for at, turn in enumerate(turns) if turn.message.role == content_pb2.ROLE_ASSISTANT]
    first = answers[-1] + 1 if answers else 0
    return turns[:first], turns[first:]


class _PromptWriter:
    """Writes messages as blocks of one user message."""

    def __init__(self, family: str, notices: Notices) -> None:
        self._family = family
        self._notices = notices

    def plain(self, turn: Turn) -> list[dict[str, Any]]:
        """Return what the user says."""
        if turn.message.name:
            self._notices.param_dropped(f"{turn.path}.name", "the provider does not name participants")
        if turn.message.role == content_pb2.ROLE_SYSTEM:
            why = "sent as a part of the message: the agent takes instructions only before the conversation"
            self._notices.param_adjusted(f"{turn.path}.role", why)
            return self.quoted(turn)
        return [part for part in self._blocks(turn.message.content, f"{turn.path}.content") if part]

    def quoted(self, turn: Turn) -> list[dict[str, Any]]:
        """Return a turn between marks that say who spoke."""
        speaker = _SPEAKERS.get(turn.message.role, "user")
        parts = [part for part in self._blocks(turn.message.content, f"{turn.path}.content") if part]
        return [_text(f"<{speaker}>\n"), *parts, _text(f"\n</{speaker}>\n")]

    def _blocks(self, blocks: Sequence[content_pb2.ContentBlock], path: str) -> Iterable[dict[str, Any] | None]:
        for position, block in enumerate(blocks):
            yield self._block(block, f"{path}[{position}]")

    def _block(self, block: content_pb2.ContentBlock, path: str) -> dict[str, Any] | None:
        if block.HasField("cache_hint"):
            # It is honoured in effect: the CLI caches its prompts by itself. Never a reason to refuse.
            why = "the agent decides itself what is cached"
            self._notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, f"{path}.cache_hint", why)
        match block.WhichOneof("content"):
            case "text":
                return _text(block.text.text) if block.text.text else None
            case "media":
                return self._media(block.media, path)
            case "refusal":
                return _text(block.refusal.text) if block.refusal.text else None
            case "thinking" | "redacted_thinking":
                self._notices.state_dropped(path, "reasoning is kept in the session only")
                return None
            case "tool_call":
                call = block.tool_call
                arguments = call.arguments_text if call.HasField("arguments_text") else call.arguments_json
                return _text(f"[call of the tool {call.name}: {arguments or '{}'}]\n")
            case "tool_result":
                return self._result(block.tool_result, path)
            case "opaque":
                self._notices.block_dropped(path, "the agent takes no blocks of this kind from outside")
                return None
            case _:
                return None

    def _result(self, result: content_pb2.ToolResultBlock, path: str) -> dict[str, Any]:
        said = result.structured_content_json
        if result.content:
            said = "".join(block.text.text for block in result.content)
            for position, block in enumerate(result.content):
                if not block.HasField("text"):
                    where = f"{path}.tool_result.content[{position}]"
                    self._notices.block_dropped(where, "of a tool's result before the session only text is sent")
        what = "failure" if result.is_error else "result"
        return _text(f"[{what} of the tool {result.name or result.call_id}: {said}]\n")

    def _media(self, media: content_pb2.MediaBlock, path: str) -> dict[str, Any] | None:
        mime = media.mime_type.partition(";")[0].strip().lower()
        source = _source(media, mime)
        kind = _kind(media, mime)
        if source is None or not kind:
            what = mime or str(media.WhichOneof("source") or "nothing")
            self._notices.block_dropped(path, f"the provider takes images, PDF and plain text, not {what}")
            return None
        if media.detail:
            self._notices.param_dropped(f"{path}.media.detail", "the provider has no such choice")
        if media.HasField("citations"):
            self._notices.param_dropped(f"{path}.media.citations", "the agent does not ask for citations")
        part: dict[str, Any] = {"type": kind, "source": source}
        if kind == "document" and media.filename:
            part["title"] = media.filename
        return part


def _kind(media: content_pb2.MediaBlock, mime: str) -> str:
    if mime.startswith("image/"):
        return "image"
    if mime == "application/pdf" or mime.startswith("text/"):
        return "document"
    if not mime and media.HasField("uri"):
        return "document" if media.uri.partition("?")[0].lower().endswith(".pdf") else "image"
    return ""


def _source(media: content_pb2.MediaBlock, mime: str) -> dict[str, Any] | None:
    if media.HasField("uri"):
        return {"type": "url", "url": media.uri} if media.uri.startswith(("https://", "http://")) else None
    if not media.HasField("data"):
        return None
    if mime.startswith("text/"):
        try:
            return {"type": "text", "media_type": "text/plain", "data": media.data.decode()}
        except UnicodeDecodeError:
            return None
    return {"type": "base64", "media_type": mime, "data": base64.b64encode(media.data).decode()}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _joined(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join texts that follow each other only to frame a quotation."""
    joined: list[dict[str, Any]] = []
    framed = False
    for part in parts:
        framed = framed or part.get("text") == _BEFORE
        if framed and joined and part["type"] == joined[-1]["type"] == "text":
            joined[-1] = _text(joined[-1]["text"] + part["text"])
        else:
            joined.append(part)
        framed = framed and part.get("text") != _AFTER
    return joined
