"""Chat Completions answers, streamed or whole, as contract events. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import AdapterError, ProtocolError, StreamBrokenError
from execution_platform.adapters.fields import (
    Fields,
    elements_if_any,
    fields_if_any,
    fields_of,
    int_of,
    is_told,
    object_json,
    value_of,
)
from execution_platform.adapters.openai_api.answer import provider_request_id, rate_limits
from execution_platform.adapters.openai_api.chat.ending import failure_of_word, finish_reason
from execution_platform.adapters.openai_api.chat.leftovers import Leftovers
from execution_platform.adapters.openai_api.chat.media import audio_format, audio_mime_type
from execution_platform.adapters.openai_api.chat.message import MessageBlocks
from execution_platform.adapters.openai_api.chat.pieces import plain
from execution_platform.adapters.openai_api.chat.plain import Delta, Piece, plain_chunk
from execution_platform.adapters.openai_api.chat.usage import cost_of, usage_of
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.errors import (
    error_in_stream,
    filtered_categories,
    finished_in_stream,
)
from execution_platform.adapters.spi import Call, Events
from execution_platform.adapters.wire import ServerSentEvent, SseDecoder
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["ChatTranslation"]

Event = chat_pb2.ChatEvent

#: Members of a chunk that say nothing of the answer: what kind of JSON it is, and padding against eavesdroppers
#: (OpenAI, Mistral).
_SAY_NOTHING = frozenset({"object", "obfuscation", "p"})

_EMPTY = frozenset({b"null", b'""', b"[]"})

_DONE = b"[DONE]"

#: White space, and the bytes of a byte order mark.
_BEFORE_JSON = b" \t\r\n\xef\xbb\xbf"


class ChatTranslation:
    """Translates one answer. See :class:`~execution_platform.adapters.spi.Translation`.

    A stream is complete when the server has given a finish reason or ``[DONE]``: some give only one of them. The
    usage of all, which comes alone at the very end, says so too (Snowflake gives no reason).

    Args:
        dialect: as spoken to the model.
        call: the attempt.
        headers: of the answer.
        notices: what the request's builder has to tell.
    """

    def __init__(
        self,
        dialect: Dialect,
        call: Call,
        headers: Mapping[str, str] | None = None,
        notices: Sequence[chat_pb2.Notice] = (),
    ) -> None:
        self._dialect = dialect
        self._call = call
        self._headers = headers or {}
        self._notices = notices
        self._writer = AnswerWriter(dialect.family)
        audio = audio_mime_type(audio_format(call, dialect))
        self._message = MessageBlocks(self._writer, call.request_id or call.request.request_id or "0", audio)
        self._sse = SseDecoder()
        self._fresh = True
        self._body: bytearray | None = None
        self._rest = Leftovers()
        self._choice_rest = Leftovers()
        self._others: list[bytes] = []
        self._sources: dict[str, msgspec.Raw] = {}
        self._started = False
        self._created = False
        self._model = ""
        self._word: str | None = None
        self._matched: str | None = None
        self._usage: usage_pb2.Usage | None = None
        self._usage_raw = b""
        self._tallied = False
        self._choice_usage: msgspec.Raw | None = None
        self._cost: usage_pb2.Cost | None = None
        self._tier = ""
        self._ending: chat_pb2.Finished | None = None
        self._failure: AdapterError | None = None
        self._done = False
        self._tells_events = call.request.stream_options.provider_events

    def feed(self, data: bytes) -> Events:
        """Take the next bytes of a streamed answer. Raises AdapterError for a failure that the stream tells."""
        if self._fresh:
            begin = data.lstrip(_BEFORE_JSON)
            self._fresh = not begin
            # Some servers answer whole although they were asked for a stream.
            self._body = bytearray() if begin.startswith(b"{") else None
        if self._body is not None:
            self._body += data
            return []
        try:
            for event in self._sse.feed(data):
                self._take(event)
            if self._failure is not None and (self._done or not self._dialect.usage_after_error):
                raise self._failure
        except AdapterError as error:
            error.events = self._writer.take()
            raise
        return self._writer.take()

    def end(self) -> Events:
        """Tell that the stream's bytes are over.

        Raises:
            StreamBrokenError: there was neither a finish reason nor ``[DONE]``.
            AdapterError: the failure that the stream told.
        """
        if self._body is not None:
            return self.whole(bytes(self._body))
        with contextlib.suppress(ProtocolError):  # an event that was cut off is none
            for event in self._sse.end():
                self._take(event)
        if not (self._done or self._word or self._failure or self._tallied):
            self._failure = StreamBrokenError("the provider's stream ended before the answer did")
        if self._failure is not None:
            self._failure.events = self._writer.take()
            raise self._failure
        self._complete()
        return self._writer.take()

    def whole(self, body: bytes) -> Events:
        """Take the body of an unstreamed answer. Raises AdapterError."""
        answer = fields_of(body)
        answered = "choices" in answer or "error" in answer or _is_error(answer, answered=False)
        self._chunk(answer, body, "chat.completion")
        if self._failure is not None:
            raise self._failure
        if not answered:
            raise ProtocolError("the provider's answer has no choices")
        self._complete()
        return self._writer.take()

    def _take(self, event: ServerSentEvent) -> None:
        if self._done:
            return
        data = event.data
        if self._started and not self._tells_events and self._take_plain(data):
            return
        if data.strip() == _DONE:
            if self._failure is None:
                self._complete()
            self._done = True  # a failure waits no longer for usage
            return
        self._chunk(fields_of(data), data, event.event)

    def _take_plain(self, data: bytes) -> bool:
        """Take a chunk of the ordinary kind, the fast way. Returns whether it was one."""
        chunk = plain_chunk(data)
        if chunk is None or len(chunk.choices) != 1 or chunk.model != self._model or self._failure:
            return False
        choice = chunk.choices[0]
        delta = choice.delta
        if choice.index or (delta.tool_calls and not self._take_arguments(delta.tool_calls, delta)):
            return False
        if delta.reasoning_content:
            self._message.thinking(delta.reasoning_content)
        if delta.content:
            self._message.text(delta.content)
        self._choice_rest.add("content_filter_results", choice.content_filter_results)
        self._tallied = False
        return True

    def _take_arguments(self, pieces: list[Piece], delta: Delta) -> bool:
        """Append a single piece of arguments to a call that has begun. Returns whether it was that simple."""
        if len(pieces) != 1 or delta.content or delta.reasoning_content:
            return False
        return self._message.more_arguments(pieces[0].index, pieces[0].function.arguments)

    def _chunk(self, chunk: Fields, data: bytes, kind: str) -> None:
        """Take a chunk, or a whole body, of any content. Its members are used up."""
        if self._tells_events:
            self._writer.verbatim(self._dialect.provider, data, kind)
        choices = elements_if_any(chunk.pop("choices", None))
        response_id, model = plain(chunk.pop("id", None)), plain(chunk.pop("model", None))
        if choices or response_id:
            self._start(response_id, model)
        usage, error = _usage(chunk), chunk.pop("error", None)
        if error is None and _is_error(chunk, answered=bool(choices or response_id)):
            error = msgspec.Raw(data)
        if not is_told(error):
            for choice in choices:
                self._choice(choice)
            self._keep(chunk)
            self._tell_usage(usage if is_told(usage) else self._choice_usage)
            self._choice_usage = None
            self._tallied = is_told(usage) and not choices and self._writer.block_count > 0
        else:
            self._tell_usage(usage)
            self._fail(error)

    def _start(self, response_id: str, model: str) -> None:
        if self._started:
            if model and model != self._model and self._model:
                route = chat_pb2.Route(provider=self._dialect.provider, model=self._call.model, served_model=model)
                changed = chat_pb2.RouteChanged(route=route, origin=chat_pb2.ROUTE_CHANGE_ORIGIN_PROVIDER)
                self._writer.emit(Event(route_changed=changed))
            self._model = model or self._model
            return
        self._started = True
        self._model = model
        route = chat_pb2.Route(provider=self._dialect.provider, model=self._call.model, served_model=model)
        started = chat_pb2.Started(
            request_id=self._call.request_id,
            route=route,
            provider_response_id=response_id,
            provider_request_id=provider_request_id(self._headers),
        )
        self._writer.begin(started, self._notices)

    def _choice(self, raw: msgspec.Raw) -> None:
        choice = fields_of(raw)
        if int_of(choice.pop("index", None)):
            # The contract has one answer to a request: others are kept as they came.
            self._others.append(bytes(raw))
            return
        error = choice.pop("error", None)
        if is_told(error):
            self._fail(error)
            return
        # Where both are there, the message repeats what the deltas have told.
        delta, message = choice.pop("delta", None), choice.pop("message", None)
        streamed = is_told(delta)
        told = fields_if_any(delta) if streamed or self._writer.block_count else fields_if_any(message)
        repeated = choice.pop("text", None)  # Together, as in the old completions API
        if repeated is not None and bytes(repeated) != bytes(told.get("content", b"")):
            choice["text"] = repeated
        self._message.add(told, choice.pop("logprobs", None), whole=not streamed)
        self._end_choice(choice)

    def _end_choice(self, choice: Fields) -> None:
        word = choice.pop("finish_reason", None)
        if is_told(word):
            # Some repeat it, some send an empty one.
            self._word = plain(word) or self._word or ""
            self._failure = self._failure or failure_of_word(self._word)
        if isinstance(value_of(choice.get("stop_reason")), str):  # vLLM; otherwise it is the number of a token
            self._matched = plain(choice.pop("stop_reason"))
        self._choice_usage = choice.pop("usage", None)  # Moonshot
        for key, value in choice.items():
            self._choice_rest.add(key, value)

    def _keep(self, chunk: Fields) -> None:
        self._tier = plain(chunk.pop("service_tier", None)) or self._tier
        for key, value in chunk.items():
            if key in {"citations", "search_results"}:
                self._sources[key] = msgspec.Raw(bytes(value))
            elif key == "created":
                # Each chunk has its own time on some servers, and none on an empty first one: the first counts.
                if not self._created and bytes(value) != b"0":
                    self._created = True
                    self._rest.add(key, value)
            elif key not in _SAY_NOTHING and bytes(value) not in _EMPTY:
                self._rest.add(key, value)

    def _tell_usage(self, raw: msgspec.Raw | None) -> None:
        if raw is None or bytes(raw) in {b"null", b"{}", self._usage_raw}:
            return
        self._usage_raw = bytes(raw)
        self._usage = usage_of(raw, self._dialect)
        self._usage.service_tier = self._usage.service_tier or self._tier
        self._cost = cost_of(raw) or self._cost
        self._writer.emit(Event(usage_updated=chat_pb2.UsageUpdated(usage=self._usage)))

    def _fail(self, raw: msgspec.Raw) -> None:
        told = value_of(raw)
        if self._word and self._failure is None:
            # The answer is complete: what comes now is a remark (OpenRouter repeats that a limit was reached).
            self._rest.add("error", raw)
            remark = error_in_stream(told).message
            notice = chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PROVIDER_WARNING, message=remark)
            self._writer.emit(Event(notice=notice))
            return
        self._ending = finished_in_stream(told)
        if self._ending is None:
            self._failure = error_in_stream(told, self._headers)
        else:
            self._ending.refusal.prompt_blocked = not self._writer.block_count
            self._complete()

    def _complete(self) -> None:
        if self._done:
            return
        self._done = True
        self._start("", "")
        self._message.add_sources(self._sources.get("citations"), self._sources.get("search_results"))
        self._message.close()
        self._writer.emit(Event(finished=self._finished()))

    def _finished(self) -> chat_pb2.Finished:
        finished = self._ending or self._natural_ending()
        finished.usage.CopyFrom(self._usage or usage_pb2.Usage())
        finished.usage.service_tier = finished.usage.service_tier or self._tier
        if self._cost is not None:
            finished.cost.CopyFrom(self._cost)
        finished.rate_limits.extend(rate_limits(self._headers))
        finished.provider_metadata_json = object_json(self._metadata())
        return finished

    def _natural_ending(self) -> chat_pb2.Finished:
        word = self._word or ""
        reason = finish_reason(
            word,
            tool_calls=self._message.has_calls,
            refused=self._message.refused,
            matched=self._matched is not None,
        )
        finished = chat_pb2.Finished(reason=reason, provider_finish_reason=word, matched_stop_sequence=self._matched)
        if reason == chat_pb2.FINISH_REASON_CONTENT_FILTER:
            filtered = self._choice_rest.values().get("content_filter_results")
            if filtered is not None:
                told = value_of(filtered)
                categories = filtered_categories({"content_filter_results": told})
                finished.refusal.category = ",".join(categories).encode("utf-8", "replace").decode()
                finished.refusal.raw_json = bytes(filtered).decode("utf-8", "replace")
        return finished

    def _metadata(self) -> Fields:
        metadata = self._rest.values()
        for key, rest in (("choice", self._choice_rest), ("message", self._message.rest)):
            values = rest.values()
            if values:
                metadata[key] = msgspec.Raw(msgspec.json.encode(values))
        if self._others:
            metadata["other_choices"] = msgspec.Raw(b"[" + b",".join(self._others) + b"]")
        return metadata


def _usage(chunk: Fields) -> msgspec.Raw | None:
    """Take the usage out of a chunk; Groq's old place is looked at too."""
    usage = chunk.pop("usage", None)
    if not is_told(usage):
        usage = fields_if_any(chunk.get("x_groq")).get("usage")
    return usage


def _is_error(chunk: Fields, *, answered: bool) -> bool:
    """Whether a chunk is itself an error, without a member of that name (vLLM of old, FastAPI, Databricks)."""
    if bytes(chunk.get("object", b"")) == b'"error"':
        return True
    return not answered and not chunk.keys().isdisjoint({"message", "detail", "error_code"})
