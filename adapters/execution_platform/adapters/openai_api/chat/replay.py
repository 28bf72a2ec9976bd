"""Gives a server its own reasoning back, in the form in which it wants it."""

from __future__ import annotations

from typing import Any

import msgspec

from execution_platform.adapters.fields import elements_if_any, fields_if_any
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.chat.reasoning import ENCRYPTED_SUMMARY, SIGNATURE
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import content_pb2

__all__ = ["ReasoningReplay"]


class ReasoningReplay:
    """Collects the reasoning of one assistant message after the other.

    Reasoning of another family, or for a server that takes none back, is left out with a notice: it is never sent
    as text.
    """

    def __init__(self, dialect: Dialect, notices: Notices) -> None:
        self._dialect = dialect
        self._notices = notices
        self._words: list[str] = []
        self._details: list[Any] = []

    def takes_opaque(self, block: content_pb2.ContentBlock) -> bool:
        """Return whether an opaque block is a piece of reasoning rather than content."""
        return block.opaque.type.startswith("reasoning.")

    def add(self, block: content_pb2.ContentBlock, field: str) -> None:
        """Take a thinking, redacted thinking or opaque reasoning block."""
        how = self._dialect.reasoning_replay
        if block.family not in {"", self._dialect.family}:
            self._notices.state_dropped(field, "reasoning of another provider is not sent")
        elif not how:
            self._notices.state_dropped(field, f"{self._dialect.provider} takes no reasoning back")
        elif how in {"reasoning_details", "content"}:
            self._details.append(self._detail(block, field))
        elif block.WhichOneof("content") == "thinking":
            self._words.append(block.thinking.text)
            if block.states:
                self._notices.state_dropped(f"{field}.states", f"{self._dialect.provider} has no place for them")
        else:
            self._notices.state_dropped(field, f"{self._dialect.provider} takes back only reasoning in words")

    def write(self, message: dict[str, Any]) -> None:
        """Put what was collected into an assistant message, and start anew."""
        words, self._words = "".join(self._words), []
        details, self._details = self._details, []
        how = self._dialect.reasoning_replay
        if details and how == "content":
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) and content else content
            message["content"] = details + (parts or [])
        elif details:
            message[how] = details
        elif words:
            message[how] = words

    def _detail(self, block: content_pb2.ContentBlock, field: str) -> Any:
        """Return a piece as it came: what it said besides its text is the block's metadata."""
        kind = block.WhichOneof("content")
        if kind == "opaque":
            return raw_json(block.opaque.json, f"{field}.opaque.json", must_be_object=True)
        written: dict[str, Any] = {}
        if block.provider_metadata_json:
            path = f"{field}.provider_metadata_json"
            raw = raw_json(block.provider_metadata_json, path, must_be_object=True)
            written = dict(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]))
        if kind == "redacted_thinking":
            data = block.redacted_thinking.data.decode("utf-8", "replace")
            if self._dialect.reasoning_replay == "content":
                inner = [fields_if_any(each) for each in elements_if_any(written.pop("summary", None))]
                summary = [{"type": ENCRYPTED_SUMMARY} | (inner[0] if inner else {}) | {"data": data}]
                return {"type": "reasoning"} | written | {"summary": summary}
            return {"type": "reasoning.encrypted"} | written | {"data": data}
        signatures = [state.data.decode("utf-8", "replace") for state in block.states if state.kind == SIGNATURE]
        if self._dialect.reasoning_replay == "content":
            return _content_part(block.thinking, written, signatures)
        is_summary = block.thinking.is_summary
        default = {"type": "reasoning.summary" if is_summary else "reasoning.text"}
        # A piece that came as plain text has no metadata, one that only signs has no text.
        words = {"summary" if is_summary else "text": block.thinking.text} if block.thinking.text else {}
        return default | written | words | ({"signature": "".join(signatures)} if signatures else {})


def _content_part(thinking: content_pb2.ThinkingBlock, written: dict[str, Any], signatures: list[str]) -> Any:
    if thinking.is_summary:  # Databricks
        summary: dict[str, Any] = {"type": "summary_text", "text": thinking.text}
        if signatures:
            summary["signature"] = "".join(signatures)
        return {"type": "reasoning"} | written | {"summary": [summary]}
    signed = {"signature": "".join(signatures)} if signatures else {}
    return {"type": "thinking"} | written | {"thinking": [{"type": "text", "text": thinking.text}]} | signed
