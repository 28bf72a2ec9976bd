"""The several ways in which servers tell reasoning, as thinking blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.fields import (
    Fields,
    elements_if_any,
    fields_of,
    is_told,
    object_json,
    text_of,
    value_of,
)
from execution_platform.adapters.openai_api.chat.citations import reference
from execution_platform.adapters.openai_api.chat.pieces import plain, words_of
from execution_platform.v1 import content_pb2

__all__ = ["ENCRYPTED_SUMMARY", "SIGNATURE", "ReasoningBlocks"]

#: Kind of the state that signs a piece of reasoning.
SIGNATURE = "signature"

#: Type of the words that Databricks encrypts, within a ``reasoning`` part.
ENCRYPTED_SUMMARY = "summary_encrypted_text"

Logprobs = list[content_pb2.TokenLogprob]


@dataclass(slots=True)
class _Open:
    """The thinking block that is being written.

    Attributes:
        index: the block's.
        key: what tells one piece of ``reasoning_details`` from another; empty for reasoning that is plain text.
        metadata: what the pieces said besides their text and signature.
        told: the metadata with which the block was started.
        length: how many characters of its text are out.
    """

    index: int
    key: tuple[str, ...]
    metadata: Fields = field(default_factory=dict)
    told: str = ""
    length: int = 0


class ReasoningBlocks:
    """Writes the thinking blocks of one answer.

    Reasoning that is plain text ends with the first output after it; a piece of ``reasoning_details`` stays open
    until another piece begins, since its signature may come late.
    """

    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer
        self._open: _Open | None = None

    def text(self, text: str, logprobs: Logprobs) -> None:
        """Append reasoning that comes as text."""
        if text:
            self._writer.thinking(self._block((), is_summary=False).index, text, logprobs)

    def detail(self, raw: msgspec.Raw) -> bool:
        """Append one element of ``reasoning_details``. Returns whether it told any text. Source: openrouter.ai/docs."""
        part = fields_of(raw)
        kind = plain(part.get("type"))
        if kind in {"reasoning.text", "reasoning.summary"}:
            return self._piece(kind, part, "text" if kind == "reasoning.text" else "summary")
        self.close()
        if kind == "reasoning.encrypted":
            block = content_pb2.ContentBlock(id=plain(part.get("id")))
            block.redacted_thinking.data = words_of(part.pop("data", None)).encode("utf-8", "replace")
            block.provider_metadata_json = object_json(part)
            self._writer.whole(block)
        else:
            opaque = content_pb2.OpaqueBlock(type=kind, json=bytes(raw).decode("utf-8", "replace"))
            self._writer.whole(content_pb2.ContentBlock(opaque=opaque))
        return False

    def part(self, raw: msgspec.Raw) -> None:
        """Append a content part that holds reasoning: Mistral's ``thinking``, Databricks' ``reasoning``."""
        part = fields_of(raw)
        kind = plain(part.get("type"))
        inner = part.pop("thinking" if kind == "thinking" else "summary", None)
        signature = part.pop("signature", None)
        if isinstance(value_of(inner), str) or is_told(signature):
            self._append((kind,), part, text_of(inner), None, is_summary=kind == "reasoning")
        for element in elements_if_any(inner):
            self._element(kind, part, element)
        if is_told(signature):
            self._append((kind,), {}, "", signature, is_summary=kind == "reasoning")

    def _element(self, kind: str, part: Fields, raw: msgspec.Raw) -> None:
        """Append what such a part holds: words, sources (Mistral), encrypted words (Databricks), or newer things."""
        piece = fields_of(raw)
        inner = plain(piece.get("type"))
        if is_told(piece.get("text")) or inner in {"", "text", "summary_text"}:
            self._append(
                (kind,), part, words_of(piece.get("text")), piece.get("signature"), is_summary=kind == "reasoning"
            )
        elif inner == "reference":
            block = self._block((kind,), is_summary=False, metadata=part)
            for citation in reference(raw, block.length):
                self._writer.citation(block.index, citation)
        elif inner == ENCRYPTED_SUMMARY:
            self.close()
            redacted = content_pb2.RedactedThinkingBlock(
                data=words_of(piece.pop("data", None)).encode("utf-8", "replace")
            )
            metadata = object_json({**part, "summary": [piece]})
            self._writer.whole(content_pb2.ContentBlock(redacted_thinking=redacted, provider_metadata_json=metadata))
        else:
            self.close()
            said = object_json({**part, "thinking" if kind == "thinking" else "summary": [raw]})
            opaque = content_pb2.OpaqueBlock(type=f"reasoning.{inner}", json=said)
            self._writer.whole(content_pb2.ContentBlock(opaque=opaque))

    def close_text(self) -> None:
        """End reasoning that came as text: something else begins."""
        if self._open is not None and (not self._open.key or self._open.key[0] in {"thinking", "reasoning"}):
            self.close()

    def close(self) -> None:
        """End whatever is open."""
        if self._open is None:
            return
        metadata = object_json(self._open.metadata)
        self._writer.stop(self._open.index, metadata if metadata != self._open.told else None)
        self._open = None

    def _piece(self, kind: str, part: Fields, field_name: str) -> bool:
        text, signature = words_of(part.pop(field_name, None)), part.pop("signature", None)
        key = (kind, plain(part.get("index")))
        self._append(key, part, text, signature, is_summary=kind == "reasoning.summary")
        return bool(text)

    def _append(
        self, key: tuple[str, ...], metadata: Fields, text: str, signature: msgspec.Raw | None, *, is_summary: bool
    ) -> None:
        signed = words_of(signature)
        block = self._block(key, is_summary=is_summary, metadata=metadata)
        if text:
            block.length += len(text)
            self._writer.thinking(block.index, text)
        if signed:
            self._writer.state(block.index, SIGNATURE, signed.encode("utf-8", "replace"))

    def _block(self, key: tuple[str, ...], *, is_summary: bool, metadata: Fields | None = None) -> _Open:
        said = {name: msgspec.Raw(bytes(value)) for name, value in (metadata or {}).items() if bytes(value) != b"null"}
        if self._open is None or self._open.key != key:
            self.close()
            told = object_json(said)
            block = content_pb2.ContentBlock(thinking=content_pb2.ThinkingBlock(is_summary=is_summary))
            block.id = plain(said.get("id"))
            block.provider_metadata_json = told
            self._open = _Open(self._writer.open(block), key, said, told)
        else:
            self._open.metadata.update(said)
        return self._open
