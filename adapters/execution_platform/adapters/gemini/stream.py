"""Translates answers of generateContent and streamGenerateContent.

A stream is server-sent events (``alt=sse``) or one JSON array; each chunk is a GenerateContentResponse. There is no
end mark: the stream just ends, and is complete when a finish reason came. Usage is cumulative: the last one counts.
"""

from __future__ import annotations

import re

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import AdapterError, ProtocolError, StreamBrokenError
from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_of,
    is_told,
    object_json,
    text_of,
    value_of,
)
from execution_platform.adapters.gemini.citations import Citations
from execution_platform.adapters.gemini.counts import usage_of
from execution_platform.adapters.gemini.errors import error_of, failure_of
from execution_platform.adapters.gemini.fields import members, word
from execution_platform.adapters.gemini.finish import finish_reason
from execution_platform.adapters.gemini.logprobs import read_logprobs
from execution_platform.adapters.gemini.parts import CONTINUATION, FAMILY, PartsWriter
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.spi import Events
from execution_platform.adapters.wire import JsonArrayDecoder, SseDecoder
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["GeminiTranslation"]

_PROVIDER = "gemini"
_UNSAFE_IN_ID = re.compile(r"[^A-Za-z0-9_-]")


class _PlainPart(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    thought: bool = False
    thoughtSignature: str | None = None  # noqa: N815 - the wire's name


class _PlainContent(msgspec.Struct, forbid_unknown_fields=True):
    parts: list[_PlainPart]
    role: str = "model"


class _PlainCandidate(msgspec.Struct, forbid_unknown_fields=True):
    content: _PlainContent
    index: int = 0


class _PlainChunk(msgspec.Struct, forbid_unknown_fields=True):
    """The frequent chunk: text and usage. Every other one is read member by member."""

    candidates: tuple[_PlainCandidate]
    usageMetadata: msgspec.Raw = msgspec.Raw(b"")  # noqa: N815 - the wire's name
    modelVersion: str = ""  # noqa: N815 - the wire's name
    responseId: str = ""  # noqa: N815 - the wire's name


#: A chunk has at least one of these.
_KNOWN = frozenset({"candidates", "promptFeedback", "usageMetadata"})

_PLAIN = msgspec.json.Decoder(_PlainChunk)


class GeminiTranslation:
    """Translates one answer. Used once; see spi.Translation.

    Args:
        model: the model that was asked.
        notices: what the request builder has to tell.
        request_id: the chat's id, for call ids where the answer has no id of its own.
        provider_request_id: from the answer's headers.
        provider_events: give each chunk verbatim too.
    """

    def __init__(
        self,
        model: str,
        notices: Notices | None = None,
        *,
        request_id: str = "",
        provider_request_id: str = "",
        provider_events: bool = False,
    ) -> None:
        self._model = model
        self._notices = notices.items if notices else []
        self._request_id = request_id
        self._provider_request_id = provider_request_id
        self._provider_events = provider_events
        self._writer = AnswerWriter(FAMILY)
        self._parts = PartsWriter(self._writer)
        self._citations = Citations()
        self._framing: SseDecoder | JsonArrayDecoder | None = None
        self._head = b""
        self._plain_json = False
        self._started = False
        self._recognised = False
        self._answered = False
        self._served_model = ""
        self._response_id = ""
        self._usage_raw = b""
        self._usage_told = b""
        self._usage: usage_pb2.Usage | None = None
        self._finish = ""
        self._feedback: msgspec.Raw | None = None
        self._finish_message = ""
        self._continuation = ""
        self._top: Fields = {}
        self._candidate: Fields = {}
        self._others: list[msgspec.Raw] = []

    # --- spi.Translation ----------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> Events:
        """Take the next bytes of a streamed answer. Raises AdapterError for an error that the stream tells."""
        return self._read(self._cut(data))

    def end(self) -> Events:
        """Tell that the stream's bytes are over. Raises StreamBrokenError if no finish reason came."""
        if self._plain_json:
            return self.whole(self._head)
        rest = [event.data for event in self._framing.end()] if isinstance(self._framing, SseDecoder) else []
        events = self._read(rest)
        if not self._is_complete():
            error = self._broken()
            error.events = events
            raise error
        return events + self._end()

    def whole(self, body: bytes) -> Events:
        """Take the body of an unstreamed answer. Raises AdapterError."""
        is_array = body.lstrip().startswith(b"[")
        chunks = [bytes(chunk) for chunk in elements_of(body)] if is_array else [body]
        events = self._read(chunks)
        if not self._is_complete() and not self._answered:
            raise ProtocolError("the answer has neither candidates nor a word on the prompt", provider_status=200)
        return events + self._end()

    def blocked(self, category: str, explanation: str, body: bytes) -> Events:
        """Return the answer to a prompt that a filter stopped by an error."""
        self._start("", "")
        refusal = chat_pb2.RefusalDetail(
            category=category,
            explanation=explanation,
            prompt_blocked=True,
            raw_json=body.decode("utf-8", "replace"),
        )
        finished = chat_pb2.Finished(
            reason=chat_pb2.FINISH_REASON_CONTENT_FILTER,
            provider_finish_reason=category,
            refusal=refusal,
            route=self._route(),
        )
        self._writer.emit(chat_pb2.ChatEvent(finished=finished))
        return self._writer.take()

    # --- framing ------------------------------------------------------------------------------------------------------

    def _cut(self, data: bytes) -> list[bytes]:
        if self._framing is None:
            data = self._choose_framing(data)
        if isinstance(self._framing, SseDecoder):
            return [event.data for event in self._framing.feed(data)]
        if self._framing is not None:
            return self._framing.feed(data)
        return []

    def _choose_framing(self, data: bytes) -> bytes:
        self._head += data
        begun = self._head.lstrip(b"\xef\xbb\xbf \t\r\n")
        if not begun:
            return b""
        if begun.startswith(b"{"):
            self._plain_json = True  # an error before the stream, or a server that does not stream
            return b""
        self._framing = JsonArrayDecoder() if begun.startswith(b"[") else SseDecoder()
        return begun

    def _read(self, chunks: list[bytes]) -> Events:
        try:
            for chunk in chunks:
                if chunk.strip() != b"[DONE]":
                    self._chunk(chunk)
        except AdapterError as error:
            self._tell_usage()
            error.events = self._writer.take()
            raise
        self._tell_usage()
        return self._writer.take()

    def _broken(self) -> AdapterError:
        if self._started and not self._recognised:
            return ProtocolError("the stream is none of the Gemini API", provider_status=200)
        return StreamBrokenError("the answer ended without a finish reason", provider_status=200)

    # --- chunks -------------------------------------------------------------------------------------------------------

    def _chunk(self, data: bytes) -> None:
        try:
            plain = _PLAIN.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._any_chunk(data)
            return
        candidate = plain.candidates[0]
        if candidate.index or candidate.content.role != "model" or self._is_renamed(plain):
            self._any_chunk(data)
            return
        self._start(plain.modelVersion, plain.responseId)
        self._recognised = self._answered = True
        self._verbatim(data)
        if plain.usageMetadata and is_told(plain.usageMetadata):
            self._usage_raw = bytes(plain.usageMetadata)
        first = True
        for part in candidate.content.parts:
            self._parts.plain(part.text, thought=part.thought, signature=part.thoughtSignature or None, first=first)
            first = False

    def _is_renamed(self, plain: _PlainChunk) -> bool:
        """Return whether a later chunk names another answer or model than the first."""
        return self._started and (
            plain.responseId not in {"", self._response_id} or plain.modelVersion not in {"", self._served_model}
        )

    def _any_chunk(self, data: bytes) -> None:
        fields = members(data)
        if "error" in fields:
            self._verbatim(data)
            raise error_of(failure_of(data), in_stream=True)
        self._recognised |= not _KNOWN.isdisjoint(fields)
        candidates = elements_of(fields.pop("candidates")) if "candidates" in fields else []
        usage = fields.pop("usageMetadata", None)
        self._start(clean_text(fields.get("modelVersion")), clean_text(fields.get("responseId")))
        self._verbatim(data)
        if usage is not None:
            self._usage_raw = bytes(usage)
        if clean_text(fields.get("responseId")) == self._response_id:
            fields.pop("responseId", None)
        self._served_model = clean_text(fields.pop("modelVersion", None)) or self._served_model
        if "promptFeedback" in fields:
            self._feedback = fields.pop("promptFeedback")
        self._top.update(fields)
        for position, raw in enumerate(candidates):
            candidate = members(raw)
            number = value_of(candidate.get("index"))
            if (position if number is None else number) == 0:
                self._read_candidate(candidate)
            else:
                self._others.append(raw)

    def _read_candidate(self, candidate: Fields) -> None:
        self._answered = True
        candidate.pop("index", None)
        content = members(candidate.pop("content")) if "content" in candidate else {}
        if "logprobsResult" in candidate:
            self._take_logprobs(candidate)
        parts = content.pop("parts", None)
        for position, part in enumerate(elements_of(parts) if parts is not None else ()):
            self._parts.part(part, first=position == 0)
        if not self._parts.flush_logprobs():
            self._parts.carrier()
            self._parts.flush_logprobs()
        if text_of(content.get("role")) == "model":
            del content["role"]
        if content:
            candidate["content"] = msgspec.Raw(object_json(content).encode())
        self._finish = word(candidate.pop("finishReason", None)) or self._finish
        self._finish_message = clean_text(candidate.get("finishMessage")) or self._finish_message
        self._continuation = text_of(candidate.pop("continuationToken", None)) or self._continuation
        self._take_sources(candidate)
        self._candidate.update(candidate)

    def _take_logprobs(self, candidate: Fields) -> None:
        tokens, rest = read_logprobs(candidate.pop("logprobsResult"))
        self._parts.logprobs(tokens)
        if rest:
            candidate["logprobsResult"] = msgspec.Raw(object_json(rest).encode())

    def _take_sources(self, candidate: Fields) -> None:
        if "groundingMetadata" in candidate:
            self._citations.grounding(candidate["groundingMetadata"])
            earlier = members(self._candidate["groundingMetadata"]) if "groundingMetadata" in self._candidate else {}
            merged = earlier | members(candidate["groundingMetadata"])
            candidate["groundingMetadata"] = msgspec.Raw((object_json(merged) or "{}").encode())
        if "citationMetadata" in candidate:
            rest = self._citations.recited(candidate.pop("citationMetadata"))
            if rest:
                candidate["citationMetadata"] = msgspec.Raw(object_json(rest).encode())
        if "urlContextMetadata" in candidate:
            self._citations.retrieved(candidate["urlContextMetadata"])

    # --- what is not a block ------------------------------------------------------------------------------------------

    def _start(self, model_version: str, response_id: str) -> None:
        if self._started:
            return
        self._started = True
        self._served_model = model_version
        self._response_id = response_id
        self._parts.id_prefix = _UNSAFE_IN_ID.sub("", response_id or self._request_id) or "0"
        started = chat_pb2.Started(
            route=self._route(),
            provider_response_id=response_id,
            provider_request_id=self._provider_request_id,
        )
        self._writer.begin(started, self._notices)

    def _route(self) -> chat_pb2.Route:
        return chat_pb2.Route(provider=_PROVIDER, model=self._model, served_model=self._served_model)

    def _verbatim(self, data: bytes) -> None:
        if self._provider_events:
            self._writer.verbatim(_PROVIDER, data)

    def _tell_usage(self) -> None:
        """Tell what one read brought, once: it is cumulative, so what came before within the read is void."""
        if self._usage_raw != self._usage_told:
            self._usage_told = self._usage_raw
            self._usage = usage_of(self._usage_raw)
            self._writer.emit(chat_pb2.ChatEvent(usage_updated=chat_pb2.UsageUpdated(usage=self._usage)))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _is_complete(self) -> bool:
        return bool(self._finish) or self._is_blocked()

    def _is_blocked(self) -> bool:
        """Return whether the prompt was stopped: there is a word on it, and no answer."""
        if self._feedback is None or self._finish or self._parts.part_blocks:
            return False
        return not self._answered or "blockReason" in members(self._feedback)

    def _end(self) -> Events:
        self._parts.end()
        if self._citations:
            carrier = self._parts.carrier()
            for index, citation in self._citations.placed(self._parts.text_blocks, self._parts.part_blocks):
                self._writer.citation(index if self._writer.is_open(index) else carrier, citation)
        if self._continuation:
            self._writer.state(self._parts.carrier(), CONTINUATION, self._continuation.encode("utf-8", "replace"))
        self._writer.stop_all()
        finished = chat_pb2.Finished(
            reason=finish_reason(self._finish, calls_tools=self._parts.calls_tools),
            provider_finish_reason=self._finish,
            usage=self._usage,
            route=self._route(),
            provider_metadata_json=self._metadata(),
        )
        self._tell_filter(finished)
        self._writer.emit(chat_pb2.ChatEvent(finished=finished))
        return self._writer.take()

    def _tell_filter(self, finished: chat_pb2.Finished) -> None:
        if self._finish:
            if finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER:
                finished.refusal.category = self._finish
                finished.refusal.explanation = self._finish_message
                if "safetyRatings" in self._candidate:
                    finished.refusal.raw_json = bytes(self._candidate["safetyRatings"]).decode("utf-8", "replace")
        elif self._is_blocked() and self._feedback is not None:
            feedback = members(self._feedback)
            finished.reason = chat_pb2.FINISH_REASON_CONTENT_FILTER
            finished.provider_finish_reason = word(feedback.get("blockReason"))
            finished.refusal.category = finished.provider_finish_reason
            finished.refusal.explanation = clean_text(feedback.get("blockReasonMessage"))
            finished.refusal.prompt_blocked = True
            finished.refusal.raw_json = bytes(self._feedback).decode("utf-8", "replace")

    def _metadata(self) -> str:
        """Return what has no field: of the answer at the top, of the candidate and of further candidates below it."""
        said = dict(self._top)
        if self._feedback is not None:
            said["promptFeedback"] = self._feedback
        if self._candidate:
            said["candidate"] = msgspec.Raw(object_json(self._candidate).encode())
        if self._others:
            joined = b",".join(bytes(raw) for raw in self._others)
            said["otherCandidates"] = msgspec.Raw(b"[" + joined + b"]")
        return object_json(said)
