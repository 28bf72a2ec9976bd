"""The message of a Chat Completions answer, whole or in pieces, as blocks."""

from __future__ import annotations

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.fields import Fields, elements_if_any, fields_of, is_told, object_json, rest_of
from execution_platform.adapters.openai_api.chat.calls import ToolCalls
from execution_platform.adapters.openai_api.chat.citations import annotation, reference, sources
from execution_platform.adapters.openai_api.chat.leftovers import Leftovers
from execution_platform.adapters.openai_api.chat.media import AudioBlock, image_block
from execution_platform.adapters.openai_api.chat.pieces import plain, token_logprobs, words_of
from execution_platform.adapters.openai_api.chat.reasoning import ReasoningBlocks
from execution_platform.v1 import content_pb2

__all__ = ["MessageBlocks"]

#: Largest JSON (characters) of a source that travels as a citation: a citation is never cut.
_LARGEST_CITATION = 200_000

_EMPTY = frozenset({b"null", b'""', b"[]"})

Logprobs = list[content_pb2.TokenLogprob]


class MessageBlocks:
    """Writes the blocks of one message.

    The format has one text, one refusal and one audio to a message, whatever stands between their pieces; so each
    is one block, which stays open to the end, since its sources come last.

    Args:
        writer: where the blocks go.
        mint: beginning of the ids that are made up for tool calls without one.
        audio_mime_type: media type of audio, which the answer does not tell.
    """

    def __init__(self, writer: AnswerWriter, mint: str, audio_mime_type: str) -> None:
        self._writer = writer
        self._reasoning = ReasoningBlocks(writer)
        self._calls = ToolCalls(writer, mint)
        self._audio = AudioBlock(writer, audio_mime_type)
        self._text: int | None = None
        self._length = 0
        self._refusal: int | None = None
        self.rest = Leftovers(keep_all=True)

    @property
    def has_calls(self) -> bool:
        """Whether there are calls for the caller to run."""
        return bool(self._calls)

    @property
    def refused(self) -> bool:
        """Whether the model refused in words."""
        return self._refusal is not None

    def text(self, text: str, logprobs: Logprobs | tuple[()] = ()) -> None:
        """Append to the text."""
        if self._text is None:
            self._reasoning.close_text()
            self._text = self._writer.open(content_pb2.ContentBlock(text=content_pb2.TextBlock()))
        self._length += len(text)
        self._writer.text(self._text, text, logprobs)

    def thinking(self, text: str) -> None:
        """Append to the reasoning."""
        self._reasoning.text(text, [])

    def more_arguments(self, index: int, arguments: str) -> bool:
        """Append to the arguments of a call. Returns False, having done nothing, unless that call has begun."""
        return self._calls.more(index, arguments)

    def add(self, told: Fields, logprobs: msgspec.Raw | None = None, *, whole: bool = False) -> None:
        """Take a message or a delta of one.

        Args:
            told: its members; they are used up.
            logprobs: those of the choice.
            whole: it is the message, not a delta.
        """
        told.pop("role", None)
        content, refusals = token_logprobs(logprobs) if logprobs is not None else ([], [])
        if self._add_reasoning(told, content):
            content = []
        content = self._add_content(told.pop("content", None), content)
        self._add_refusal(words_of(told.pop("refusal", None)), refusals)
        self._add_calls(told, content, whole=whole)
        self._add_media(told)
        for raw in elements_if_any(told.pop("annotations", None)):
            self._add_annotation(raw)
        for key, value in told.items():
            if bytes(value) not in _EMPTY:
                self.rest.add(key, value)

    def add_sources(self, urls: msgspec.Raw | None, results: msgspec.Raw | None) -> None:
        """Take the sources that the answer names as a whole."""
        for citation in sources(urls, results):
            self._cite(citation)

    def close(self) -> None:
        """Complete all blocks."""
        self._reasoning.close()
        for index in (self._text, self._refusal):
            if index is not None:
                self._writer.stop(index)
        self._calls.close()
        self._audio.close()

    def _add_reasoning(self, told: Fields, logprobs: Logprobs) -> bool:
        """Take reasoning in any field. Returns whether the log probabilities belong to it."""
        detailed = False
        for raw in elements_if_any(told.pop("reasoning_details", None)):
            detailed = self._reasoning.detail(raw) or detailed
        # Servers repeat the same words in up to three fields.
        words = words_of(told.pop("reasoning_content", None))
        words = words_of(told.pop("reasoning", None)) or words
        if detailed or not words:
            return False
        alone = bytes(told.get("content", b"null")) in _EMPTY
        self._reasoning.text(words, logprobs if alone else [])
        return alone

    def _add_content(self, raw: msgspec.Raw | None, logprobs: Logprobs) -> Logprobs:
        """Take ``content``. Returns the log probabilities that are not its own."""
        if raw is not None and bytes(raw).startswith(b"["):
            for part in elements_if_any(raw):
                self._add_part(part)
        else:
            text = words_of(raw)
            if text:
                self.text(text, logprobs)
                return []
        return logprobs

    def _add_part(self, raw: msgspec.Raw) -> None:
        part = fields_of(raw)
        kind = plain(part.get("type"))
        if kind in {"text", "output_text"}:
            self.text(words_of(part.get("text")))
            for source in elements_if_any(part.get("annotations")):
                self._add_annotation(source)
            rest = rest_of(part, {"type", "text", "annotations"})
            if rest:
                self.rest.add("content", msgspec.Raw(object_json(rest).encode()))
        elif kind in {"thinking", "reasoning"}:
            self._reasoning.part(raw)
        elif kind == "refusal":
            self._add_refusal(words_of(part.get("refusal")), [])
        elif kind == "reference":
            for citation in reference(raw, self._length):
                self._cite(citation)
        elif kind == "image_url":
            self._writer.whole(image_block(raw))
        else:
            self._opaque(kind, raw)

    def _add_refusal(self, text: str, logprobs: Logprobs) -> None:
        if not text and not logprobs:
            return
        if self._refusal is None:
            self._reasoning.close_text()
            self._refusal = self._writer.open(content_pb2.ContentBlock(refusal=content_pb2.RefusalBlock()))
        self._writer.refusal(self._refusal, text, logprobs)

    def _add_calls(self, told: Fields, logprobs: Logprobs, *, whole: bool) -> None:
        calls = elements_if_any(told.pop("tool_calls", None))
        if calls:
            self._reasoning.close_text()
        for raw in calls:
            self._calls.add(raw, whole=whole)
        legacy = told.pop("function_call", None)
        if is_told(legacy):
            self._calls.add_legacy(legacy)
        if logprobs:
            # They are about tokens that show in no block of their own, such as those of a call.
            self.text("", logprobs)

    def _add_media(self, told: Fields) -> None:
        audio = told.pop("audio", None)
        if is_told(audio):
            self._audio.add(audio)
        for raw in elements_if_any(told.pop("images", None)):
            self._writer.whole(image_block(raw))

    def _add_annotation(self, raw: msgspec.Raw) -> None:
        if len(bytes(raw)) > _LARGEST_CITATION:
            self._opaque(plain(fields_of(raw).get("type")), raw)
        else:
            self._cite(annotation(raw))

    def _cite(self, citation: content_pb2.Citation) -> None:
        if self._text is None:
            self.text("")
        if self._text is not None:
            self._writer.citation(self._text, citation)

    def _opaque(self, kind: str, raw: msgspec.Raw) -> None:
        opaque = content_pb2.OpaqueBlock(type=kind, json=bytes(raw).decode("utf-8", "replace"))
        self._writer.whole(content_pb2.ContentBlock(opaque=opaque))
