"""Answers of Responses, streamed or whole, as events.

What reaches no field: ``sequence_number`` (events come in order), ``obfuscation`` (padding), and events that only
announce what the finished item tells (``*.in_progress``, ``*.searching``, ``keepalive``, a patch's or shell command's
pieces). They are to be had verbatim through ``stream_options.provider_events``.

Sources: openai 3.52, types/responses; recorded streams of OpenAI, Azure, OpenRouter, xAI, DeepSeek and LM Studio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import AdapterError, ProtocolError, StreamBrokenError
from execution_platform.adapters.fields import Fields, clean_text, elements_if_any, fields_if_any, value_of
from execution_platform.adapters.openai_api.answer import provider_request_id
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.errors import error_in_stream, finished_in_stream
from execution_platform.adapters.openai_api.responses.events import DELTAS, HANDLERS, decode_event, words
from execution_platform.adapters.openai_api.responses.finish import finished, usage_of
from execution_platform.adapters.openai_api.responses.items import OutputItems
from execution_platform.adapters.spi import Call, Events
from execution_platform.adapters.wire import ServerSentEvent, SseDecoder, json_text
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["ResponsesTranslation"]

#: Codes of failures that are a filter's decision, not a failure.
_POLICIES = frozenset(
    {"bio_policy", "cyber_policy", "misalignment_policy_violation", "image_content_policy_violation", "content_filter"}
)

#: Statuses of failures that a stream tells only by their code. The others are the server's own failures.
_STATUS_OF_CODE: Mapping[str, int] = {
    "data_residency_mismatch": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
    "image_file_not_found": 404,
    "image_file_too_large": 413,
    "image_parse_error": 400,
    "image_too_large": 413,
    "image_too_small": 400,
    "invalid_base64_image": 400,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_image_mode": 400,
    "invalid_image_url": 400,
    "invalid_prompt": 400,
    "unsupported_image_media_type": 400,
    "vector_store_timeout": 504,
}

_OPENING = frozenset({"response.created", "response.queued", "response.in_progress"})
_CLOSING = frozenset({"response.completed", "response.incomplete", "response.cancelled"})
_FAILING = frozenset({"error", "response.failed", "response.error"})


class ResponsesTranslation:
    """Reads one answer. See spi.Translation.

    Args:
        dialect: whose answer it is, as spoken to the model.
        call: what was asked.
        headers: of the HTTP answer.
        notices: what the request's builder has to tell.
    """

    def __init__(
        self,
        dialect: Dialect,
        call: Call,
        headers: Mapping[str, str] | None = None,
        notices: Sequence[chat_pb2.Notice] = (),
    ) -> None:
        self._dialect: Final = dialect
        self._call: Final = call
        self._headers: Final = headers or {}
        self._notices: Final = notices
        self._tell_events: Final = call.request.stream_options.provider_events
        self._sse = SseDecoder()
        self._writer = AnswerWriter(dialect.family)
        self._items = OutputItems(self._writer, call.request.audio_output.format)
        self._started = False
        self._ended = False

    def feed(self, data: bytes) -> Events:
        """Take the next bytes of the stream."""
        return self._read(self._sse.feed(data))

    def end(self) -> Events:
        """Tell that the bytes are over."""
        try:
            events = self._read(self._sse.end())
        except ProtocolError as error:  # half an event: the connection broke in the middle of it
            raise self._broken(error.events) from error
        if not self._ended:
            raise self._broken(events)
        return events

    def _broken(self, events: Events) -> StreamBrokenError:
        error = StreamBrokenError(
            "the stream ended before the answer was complete",
            provider_status=200,
            provider_request_id=provider_request_id(self._headers),
        )
        error.events = events
        return error

    def whole(self, body: bytes) -> Events:
        """Take the body of an answer that was not streamed."""
        response = fields_if_any(body)
        self._tell("response", body)
        if value_of(response.get("error")) is not None:
            self._fail(response, response["error"])
        elif "output" in response:
            self._start(response)
            self._finish(response)
        else:
            raise ProtocolError("the provider's answer is not a response", provider_status=200)
        return self._writer.take()

    def _read(self, events: list[ServerSentEvent]) -> Events:
        try:
            for event in events:
                if self._ended:
                    break
                if event.data != b"[DONE]":
                    self._take(event)
        except AdapterError as error:
            error.events = self._writer.take()
            raise
        return self._writer.take()

    def _take(self, sent: ServerSentEvent) -> None:
        event = decode_event(sent.data)
        kind = event.type or sent.event
        self._tell(kind, sent.data)
        if event.output_index < 0 and (event.item or event.item_id or kind in DELTAS):  # llama.cpp tells none
            event.output_index = self._items.place_of(event.item_id, event.item)
        part = DELTAS.get(kind)
        if part is not None:
            if not self._started:
                self._start({})
            words(self._items, event, part)
        elif kind in _OPENING:
            self._start(fields_if_any(event.response))
        elif kind in _CLOSING:
            response = fields_if_any(event.response)
            self._start(response)
            self._finish(response)
        elif kind in _FAILING or (not kind and event.error):
            self._fail(fields_if_any(event.response), event.error, sent.data)
        elif kind in HANDLERS:
            self._start({})
            HANDLERS[kind](self._items, event, sent.data)

    def _tell(self, kind: str, data: bytes) -> None:
        """Hand on what the server said verbatim, if asked for."""
        if self._tell_events:
            self._writer.verbatim(self._dialect.provider, data, kind)

    def _start(self, response: Fields) -> None:
        if self._started:
            return
        self._started = True
        route = chat_pb2.Route(
            provider=self._dialect.provider, model=self._call.model, served_model=clean_text(response.get("model"))
        )
        started = chat_pb2.Started(
            request_id=self._call.request_id,
            route=route,
            provider_response_id=clean_text(response.get("id")),
            provider_request_id=provider_request_id(self._headers),
        )
        self._writer.begin(started, self._notices)
        tools = value_of(response.get("tools"))
        if isinstance(tools, list) and tools:
            kinds = {tool.get("type") for tool in tools if isinstance(tool, dict)}
            self._items.custom_tools = bool(kinds & {"custom", "namespace", "tool_search"})

    def _finish(self, response: Fields) -> None:
        self._items.end(elements_if_any(response.get("output")))
        self._writer.stop_all()
        said = finished(
            response,
            self._headers,
            cached_outside=self._dialect.cached_outside,
            client_calls=self._items.client_calls,
            refused=self._items.refused,
        )
        self._emit_usage(said.usage)
        self._writer.emit(chat_pb2.ChatEvent(finished=said))
        self._ended = True

    def _fail(self, response: Fields, error: msgspec.Raw | None, data: bytes = b"") -> None:
        """Take a failure: nested in ``error``, in the failed response's ``error``, or flat in the event itself."""
        said = value_of(error) or value_of(response.get("error")) or value_of(msgspec.Raw(data)) or {}
        usage = usage_of(response, self._headers, cached_outside=self._dialect.cached_outside)
        code = str(said.get("code")) if isinstance(said, dict) else ""
        ended = finished_in_stream(said) or (_stopped_by_policy(said) if code in _POLICIES else None)
        if ended is not None:
            self._start(response)
            self._writer.stop_all()
            ended.usage.CopyFrom(usage)
            self._writer.emit(chat_pb2.ChatEvent(finished=ended))
            self._ended = True
            return
        if self._started:
            self._emit_usage(usage)
        if isinstance(said, dict) and code in _STATUS_OF_CODE:
            said = {**said, "status": _STATUS_OF_CODE[code]}
        raise error_in_stream(said, self._headers)

    def _emit_usage(self, usage: usage_pb2.Usage) -> None:
        if usage.provider_usage_json:
            self._writer.emit(chat_pb2.ChatEvent(usage_updated=chat_pb2.UsageUpdated(usage=usage)))


def _stopped_by_policy(error: dict[str, Any]) -> chat_pb2.Finished:
    message = error.get("message")
    words = message.encode("utf-8", "replace").decode() if isinstance(message, str) else ""
    return chat_pb2.Finished(
        reason=chat_pb2.FINISH_REASON_CONTENT_FILTER,
        provider_finish_reason=str(error["code"]),
        refusal=chat_pb2.RefusalDetail(
            category=str(error["code"]),
            explanation=words,
            raw_json=json_text(error),
        ),
    )
