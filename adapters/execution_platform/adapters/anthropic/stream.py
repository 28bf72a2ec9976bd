"""The Messages API's answers as contract events: streamed, and whole.

Sources: `types/beta/beta_raw_*_event.py`, `beta_message.py` of the anthropic SDK 2.11;
https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from execution_platform.adapters.anthropic.block_stream import KNOWN_OF_EVENT, BlockStream
from execution_platform.adapters.anthropic.errors import blocked_by_filter, error_from_body
from execution_platform.adapters.anthropic.models import facts_of
from execution_platform.adapters.anthropic.tally import Tally
from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import AdapterError, ProtocolError, StreamBrokenError
from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    fields_of,
    inner_fields,
    is_told,
    json_of,
    object_json,
    rest_of,
    text_of,
)
from execution_platform.adapters.spi import Events
from execution_platform.adapters.transport import with_request_id
from execution_platform.adapters.wire import SseDecoder
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["FAMILY", "AnswerContext", "MessagesTranslation"]

FAMILY = "anthropic"

_REASONS: dict[str, chat_pb2.FinishReason.ValueType] = {
    "end_turn": chat_pb2.FINISH_REASON_STOP,
    "max_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "stop_sequence": chat_pb2.FINISH_REASON_STOP_SEQUENCE,
    "tool_use": chat_pb2.FINISH_REASON_TOOL_CALLS,
    "refusal": chat_pb2.FINISH_REASON_REFUSAL,
    "pause_turn": chat_pb2.FINISH_REASON_PAUSED,
    # The conversation was summed up and nothing answered; the summary goes back to go on.
    "compaction": chat_pb2.FINISH_REASON_PAUSED,
    "model_context_window_exceeded": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
}

_KNOWN_OF_MESSAGE = frozenset(
    {"id", "type", "role", "model", "content", "usage", "stop_reason", "stop_sequence", "stop_details"}
)
#: What is kept of events that nobody knows yet, in characters.
_MOST_UNKNOWN = 100_000


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """What is known of an answer before it begins.

    Attributes:
        provider: name of the provider that was asked.
        model: the model that was asked for.
        request_id: the chat's id.
        provider_request_id: the provider's id of the request, from the headers.
        notices: about the request, told right after `started`.
        rate_limits: from the headers.
        provider_events: tell each event verbatim too.
    """

    provider: str
    model: str
    request_id: str = ""
    provider_request_id: str = ""
    notices: Iterable[chat_pb2.Notice] = ()
    rate_limits: Iterable[usage_pb2.RateLimitSnapshot] = ()
    provider_events: bool = False


class MessagesTranslation:
    """Translates one answer. Used once."""

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._sse = SseDecoder()
        self._writer = AnswerWriter(FAMILY)
        self._tally = Tally()
        self._blocks = BlockStream(self._writer, self._tell_fallback)
        self._served_model = ""
        self._end: Fields = {}
        self._metadata: Fields = {}
        self._unknown: list[str] = []
        self._told_of_more = False
        self._started = False
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the answer's end has been told."""
        return self._finished

    def feed(self, data: bytes) -> Events:
        """Take the next bytes of a stream.

        Raises:
            AdapterError: the stream tells an error; its `events` are what these bytes said before it.
        """
        try:
            for event, payload in self._sse.feed(data):
                self._take(event, payload)
        except AdapterError as error:
            raise self._with_events(error) from error.__cause__
        return self._writer.take()

    def end(self) -> Events:
        """Tell that the stream is over.

        Raises:
            StreamBrokenError: the answer is not complete.
        """
        try:
            for event, payload in self._sse.end():
                self._take(event, payload)
            if not self._finished:
                self._end_early()
        except AdapterError as error:
            raise self._with_events(error) from error.__cause__
        return self._writer.take()

    def whole(self, body: bytes) -> Events:
        """Take the body of an unstreamed answer. Raises AdapterError."""
        fields = fields_of(body)
        if is_told(fields.get("error")) and "content" not in fields:
            if self._finish_if_blocked(body):
                return self._writer.take()
            raise with_request_id(error_from_body(200, {}, body), self._context.provider_request_id)
        if "content" not in fields:
            raise ProtocolError("the provider's answer is no message: it has no content")
        if self._context.provider_events:
            self._writer.verbatim(self._context.provider, body, "message")
        self._begin(fields)
        if "usage" in fields:
            self._tell_usage(fields["usage"])
        self._finish()
        return self._writer.take()

    def blocked(self, body: bytes) -> Events:
        """Take an error body; if a filter stopped the answer that is its end, else there are no events."""
        self._finish_if_blocked(body)
        return self._writer.take()

    def _with_events(self, error: AdapterError) -> AdapterError:
        error.events = self._writer.take()
        return with_request_id(error, self._context.provider_request_id)

    def _take(self, name: str, data: bytes) -> None:
        if self._finished:
            return  # the answer is complete; what follows belongs to no answer
        if self._context.provider_events:
            self._writer.verbatim(self._context.provider, data, name)
        if name in {"content_block_delta", ""} and self._blocks.frequent(data):
            return
        if data == b"[DONE]" or (name == "ping" and not data.startswith(b"{")):
            return
        fields = fields_of(data)
        kind = text_of(fields.get("type")) or name
        if kind == "content_block_delta":
            self._blocks.delta(fields)
        elif kind == "content_block_start":
            self._blocks.start(fields)
        elif kind == "content_block_stop":
            self._blocks.stop(fields)
        elif kind == "message_start":
            self._start_message(fields)
        elif kind == "message_delta":
            self._message_delta(fields)
        elif kind == "message_stop":
            self._metadata.update(rest_of(fields, KNOWN_OF_EVENT))
            self._finish()
        elif kind == "error" or is_told(fields.get("error")):
            if not self._finish_if_blocked(data):
                raise error_from_body(200, {}, data)
        elif kind != "ping" or fields.keys() - {"type"}:
            self._keep_unknown(object_json(fields))

    def _keep_unknown(self, event: str) -> None:
        """Keep an event that says what has no place. Where they are too many a notice says so, once."""
        if sum(map(len, self._unknown)) + len(event) <= _MOST_UNKNOWN:
            self._unknown.append(event)
        elif self._started and not self._told_of_more:
            self._told_of_more = True
            self._writer.emit(
                chat_pb2.ChatEvent(
                    notice=chat_pb2.Notice(
                        code=chat_pb2.NOTICE_CODE_PROVIDER_WARNING,
                        message="the provider sent more events of unknown kinds than are kept",
                    )
                )
            )

    # -- the message

    def _start_message(self, event: Fields) -> None:
        message = inner_fields(event, "message")
        if self._started:
            self._start_again(message)
            return
        self._metadata.update(rest_of(event, KNOWN_OF_EVENT))
        self._begin(message)
        if "usage" in message:
            self._tell_usage(message["usage"])

    def _start_again(self, message: Fields) -> None:
        """Pass over a start that is told twice. Raises ProtocolError for another answer amid the first."""
        if self._blocks.begun:
            raise ProtocolError("the provider began another answer in the middle of this one")
        self._metadata.update(rest_of(message, _KNOWN_OF_MESSAGE))
        if "usage" in message:
            self._tally.tell(message["usage"])

    def _begin(self, message: Fields) -> None:
        self._blocks.message_id = clean_text(message.get("id"))
        self._served_model = clean_text(message.get("model"))
        self._blocks.summarized = facts_of(self._served_model or self._context.model).summarizes
        self._metadata.update(rest_of(message, _KNOWN_OF_MESSAGE))
        # A continued answer without new output tells its end at its start already.
        self._end.update((key, raw) for key, raw in message.items() if is_told(raw))
        self._tell_started()
        for element in elements_if_any(message.get("content")):
            self._blocks.whole(element)

    def _tell_started(self) -> None:
        self._started = True
        context = self._context
        started = chat_pb2.Started(
            request_id=context.request_id,
            route=self._route(self._served_model),
            provider_response_id=self._blocks.message_id,
            provider_request_id=context.provider_request_id,
        )
        self._writer.begin(started, context.notices)

    def _route(self, served_model: str) -> chat_pb2.Route:
        context = self._context
        return chat_pb2.Route(provider=context.provider, model=context.model, served_model=served_model)

    def _message_delta(self, event: Fields) -> None:
        delta = inner_fields(event, "delta") if is_told(event.get("delta")) else {}
        self._end.update((key, raw) for key, raw in delta.items() if is_told(raw))
        self._metadata.update(rest_of(delta, _KNOWN_OF_MESSAGE))
        self._metadata.update(rest_of(event, KNOWN_OF_EVENT))
        if "usage" in event:
            self._tell_usage(event["usage"])

    def _tell_usage(self, raw: msgspec.Raw) -> None:
        self._tally.tell(raw)
        usage = chat_pb2.UsageUpdated(usage=self._tally.usage(self._served_model))
        self._writer.emit(chat_pb2.ChatEvent(usage_updated=usage))

    def _tell_fallback(self, members: Fields) -> None:
        goes_on = clean_text(inner_fields(members, "to").get("model")) if is_told(members.get("to")) else ""
        trigger = inner_fields(members, "trigger") if is_told(members.get("trigger")) else {}
        reason = clean_text(trigger.get("category")) or clean_text(trigger.get("type"))
        self._served_model = goes_on or self._served_model
        changed = chat_pb2.RouteChanged(
            route=self._route(goes_on),
            origin=chat_pb2.ROUTE_CHANGE_ORIGIN_PROVIDER,
            reason=reason,
            raw_json=object_json(members),
        )
        self._writer.emit(chat_pb2.ChatEvent(route_changed=changed))

    # -- the end

    def _end_early(self) -> None:
        if not is_told(self._end.get("stop_reason")):
            raise StreamBrokenError("the provider's stream ended before the answer did", provider_status=200)
        # All was told but the closing word.
        self._finish()

    def _finish(self) -> None:
        if self._finished:
            return
        if not self._started:
            raise ProtocolError("the provider's answer ended before it began")
        self._blocks.stop_all()
        word = clean_text(self._end.get("stop_reason"))
        finished = self._bare_finish(_REASONS.get(word, chat_pb2.FINISH_REASON_OTHER))
        finished.provider_finish_reason = word
        if is_told(self._end.get("stop_sequence")):
            finished.matched_stop_sequence = clean_text(self._end["stop_sequence"])
        self._tell_stop_details(finished)
        self._emit_finish(finished)

    def _tell_stop_details(self, finished: chat_pb2.Finished) -> None:
        refused = finished.reason == chat_pb2.FINISH_REASON_REFUSAL
        details = self._end.get("stop_details")
        if is_told(details):
            fields = fields_of(self._end["stop_details"])
            finished.refusal.category = clean_text(fields.get("category"))
            finished.refusal.explanation = clean_text(fields.get("explanation"))
            finished.refusal.raw_json = json_of(self._end["stop_details"])
        if refused:
            finished.refusal.prompt_blocked = self._writer.block_count == 0

    def _finish_if_blocked(self, body: bytes) -> bool:
        """End the answer where an error says that a filter stopped it. Returns whether it does."""
        explanation = blocked_by_filter(body)
        if not explanation or self._finished:
            return False
        prompt_blocked = not self._writer.block_count
        if not self._started:
            self._tell_started()
        self._blocks.stop_all()
        kind = fields_if_any(fields_of(body).get("error")).get("type")
        finished = self._bare_finish(chat_pb2.FINISH_REASON_CONTENT_FILTER)
        finished.provider_finish_reason = clean_text(kind)
        finished.refusal.explanation = explanation
        finished.refusal.prompt_blocked = prompt_blocked
        finished.refusal.raw_json = body.decode("utf-8", "replace")
        self._emit_finish(finished)
        return True

    def _bare_finish(self, reason: chat_pb2.FinishReason.ValueType) -> chat_pb2.Finished:
        finished = chat_pb2.Finished(
            reason=reason,
            usage=self._tally.usage(self._served_model),
            route=self._route(self._served_model),
            rate_limits=self._context.rate_limits,
            provider_metadata_json=self._metadata_json(),
        )
        cost = self._tally.cost()
        if cost is not None:
            finished.cost.CopyFrom(cost)
        return finished

    def _metadata_json(self) -> str:
        metadata = dict(self._metadata)
        unplaced = self._tally.unplaced_json()
        if unplaced:
            metadata["usage_before"] = msgspec.Raw(unplaced.encode())
        if self._unknown:
            metadata["events"] = msgspec.Raw(f"[{','.join(self._unknown)}]".encode())
        return object_json(metadata)

    def _emit_finish(self, finished: chat_pb2.Finished) -> None:
        self._finished = True
        self._writer.emit(chat_pb2.ChatEvent(finished=finished))
