"""Answers of Converse and ConverseStream as contract events.

An answer is complete when both its `messageStop` and its `metadata` are in; the second comes last and brings usage and
trace. A stream that ends after `messageStop` without `metadata` is a whole answer all the same: all its content was
told, so it finishes, with a Notice that its usage is not known. Without `messageStop` it is broken.

Source: ConverseStreamOutput and ConverseResponse in `bedrock-runtime/2023-09-30/service-2.json` of botocore 1.44.5, and
recorded answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from execution_platform.adapters.bedrock.block_stream import PADDING, BlockStream
from execution_platform.adapters.bedrock.errors import (
    blocked_by_filter,
    error_from_answer,
    error_from_error_frame,
    error_from_exception_frame,
    error_type,
)
from execution_platform.adapters.bedrock.finish import (
    finish_reason,
    invoked_model,
    matched_stop_sequence,
    refusal_detail,
)
from execution_platform.adapters.bedrock.frames import Frame, FrameDecoder
from execution_platform.adapters.bedrock.models import FAMILY
from execution_platform.adapters.bedrock.tally import read_usage
from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import AdapterError, ProtocolError, StreamBrokenError
from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    fields_of,
    is_told,
    json_of,
    object_json,
    rest_of,
)
from execution_platform.adapters.spi import Events
from execution_platform.adapters.transport import with_request_id
from execution_platform.adapters.wire import decode_json, json_text
from execution_platform.v1 import chat_pb2

__all__ = ["AnswerContext", "ConverseTranslation"]

#: Events that are told once, or once a block.
_RARE = frozenset({"messageStart", "contentBlockStart", "contentBlockStop", "messageStop", "metadata"})
#: Members of an answer that reach fields; the rest is metadata.
_KNOWN = frozenset({"output", "stopReason", "usage", "role", PADDING})
#: Members of which one reaches a field: they are metadata only where they say more.
_OF_ONE: dict[str, str] = {"serviceTier": "type", "performanceConfig": "latency"}
_KNOWN_OF_MESSAGE = frozenset({"role", "content"})
#: What is kept of events that nobody knows yet, in characters.
_MOST_UNKNOWN = 100_000


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """What is known of an answer before it begins.

    Attributes:
        provider: name of the provider that was asked.
        model: the model that was asked for.
        request_id: the chat's id.
        provider_request_id: AWS's id of the request, from the headers.
        notices: about the request, told right after `started`.
        provider_events: tell each event verbatim too.
        region: whose endpoint was asked.
    """

    provider: str
    model: str
    request_id: str = ""
    provider_request_id: str = ""
    notices: Iterable[chat_pb2.Notice] = ()
    provider_events: bool = False
    region: str = ""


class ConverseTranslation:
    """Translates one answer. Used once."""

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._frames = FrameDecoder()
        self._writer = AnswerWriter(FAMILY)
        answer_id = context.request_id or context.provider_request_id
        self._blocks = BlockStream(self._writer, answer_id, _summarizes(context.model))
        self._told: Fields = {}
        self._unknown: list[str] = []
        self._stopped = False
        self._measured = False
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
            for frame in self._frames.feed(data):
                if self._finished:
                    break  # the answer is complete; what follows belongs to no answer
                self._take(frame)
        except AdapterError as error:
            raise self._with_events(error) from error.__cause__
        return self._writer.take()

    def end(self) -> Events:
        """Tell that the stream is over.

        Raises:
            StreamBrokenError: the answer is not complete.
        """
        if not self._finished:
            if not self._stopped:
                where = "in the middle of a frame" if self._frames.waiting else "before the answer did"
                error = StreamBrokenError(f"the provider's stream ended {where}", provider_status=200)
                raise self._with_events(error)
            self._finish()
        return self._writer.take()

    def whole(self, body: bytes) -> Events:
        """Take the body of an unstreamed answer. Raises AdapterError."""
        fields = fields_of(body)
        output = fields_if_any(fields.get("output"))
        if not is_told(output.get("message")):
            raise with_request_id(_no_answer(body), self._context.provider_request_id)
        if self._context.provider_events:
            self._writer.verbatim(self._context.provider, body, "message")
        self._tell(fields)
        self._begin()
        message = fields_of(output["message"])
        for element in elements_if_any(message.get("content")):
            self._blocks.whole(element)
        self._told.update(rest_of(message, _KNOWN_OF_MESSAGE))
        self._told.update(rest_of(output, {"message"}))
        if is_told(fields.get("usage")):
            self._tell_usage()
        self._finish()
        return self._writer.take()

    def blocked(self, headers: Mapping[str, str], body: bytes) -> Events:
        """Take an answer with an error status; if a filter stopped it that is its end, else there are no events."""
        self._finish_if_blocked(error_type(headers, body), body)
        return self._writer.take()

    def _with_events(self, error: AdapterError) -> AdapterError:
        error.events = self._writer.take()
        return with_request_id(error, self._context.provider_request_id)

    # -- frames

    def _take(self, frame: Frame) -> None:
        headers, payload = frame
        kind = headers.get(":event-type")
        if self._context.provider_events:
            word = kind or headers.get(":exception-type") or headers.get(":error-code") or ""
            self._writer.verbatim(self._context.provider, payload, str(word))
        if headers.get(":message-type") in {"exception", "error"}:
            self._fail(frame)
        elif kind == "contentBlockDelta":
            if not self._blocks.frequent(payload):
                self._begin()
                self._blocks.delta(fields_of(payload))
        elif kind in _RARE:
            self._take_rare(str(kind), fields_of(payload))
        else:
            self._keep_unknown(str(kind or ""), payload)

    def _take_rare(self, kind: str, event: Fields) -> None:
        if kind == "messageStart":
            self._begin()
            self._tell(event)
        elif kind == "contentBlockStart":
            self._begin()
            self._blocks.start(event)
        elif kind == "contentBlockStop":
            self._blocks.stop(event)
        elif kind == "messageStop":
            self._begin()
            self._blocks.stop_all()
            self._tell(event)
            self._stopped = True
        elif kind == "metadata":
            self._begin()
            self._tell(event)
            self._measured = True
            if is_told(event.get("usage")):
                self._tell_usage()
        if self._stopped and self._measured:
            self._finish()

    def _fail(self, frame: Frame) -> None:
        """Raise what a frame of an error means, unless it says that a filter ended the answer."""
        headers, payload = frame
        if headers.get(":message-type") == "exception":
            name = str(headers.get(":exception-type", ""))
            if not self._finish_if_blocked(name, payload):
                raise error_from_exception_frame(name, payload)
            return
        raise error_from_error_frame(str(headers.get(":error-code", "")), str(headers.get(":error-message", "")))

    def _keep_unknown(self, kind: str, payload: bytes) -> None:
        """Keep an event that says what has no place. Where they are too many a notice says so, once."""
        event = object_json({kind: _json_or_text(payload)}) if payload else ""
        if sum(map(len, self._unknown)) + len(event) <= _MOST_UNKNOWN:
            self._unknown += [event] if event else []
        elif not self._told_of_more:
            self._told_of_more = True
            self._begin()
            self._warn("the provider sent more events of unknown kinds than are kept")

    # -- the answer

    def _begin(self) -> None:
        if self._started:
            return
        self._started = True
        context = self._context
        started = chat_pb2.Started(
            request_id=context.request_id, route=self._route(), provider_request_id=context.provider_request_id
        )
        self._writer.begin(started, context.notices)

    def _route(self) -> chat_pb2.Route:
        context = self._context
        return chat_pb2.Route(
            provider=context.provider,
            model=context.model,
            served_model=invoked_model(self._told.get("trace")),
            region=context.region,
        )

    def _tell(self, event: Fields) -> None:
        self._told.update(rest_of(event))

    def _tell_usage(self) -> None:
        usage = chat_pb2.UsageUpdated(usage=read_usage(self._told))
        self._writer.emit(chat_pb2.ChatEvent(usage_updated=usage))

    def _finish(self) -> None:
        self._blocks.stop_all()
        if not is_told(self._told.get("usage")):
            self._warn("the provider ended its answer without telling what it used")
        word = clean_text(self._told.get("stopReason"))
        finished = self._bare_finish(finish_reason(word), word)
        matched = matched_stop_sequence(self._told.get("additionalModelResponseFields"))
        if matched is not None:
            finished.matched_stop_sequence = matched
        if finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER:
            finished.refusal.CopyFrom(refusal_detail(self._told, self._writer.block_count))
        self._emit_finish(finished)

    def _finish_if_blocked(self, word: str, body: bytes) -> bool:
        """End the answer where an error says that a filter stopped it. Returns whether it does."""
        explanation = blocked_by_filter(body)
        if not explanation:
            return False
        self._begin()
        self._blocks.stop_all()
        finished = self._bare_finish(chat_pb2.FINISH_REASON_CONTENT_FILTER, word)
        finished.refusal.explanation = explanation
        finished.refusal.prompt_blocked = not self._writer.block_count
        finished.refusal.raw_json = json_of(_json_or_text(body))
        self._emit_finish(finished)
        return True

    def _bare_finish(self, reason: chat_pb2.FinishReason.ValueType, word: str) -> chat_pb2.Finished:
        return chat_pb2.Finished(
            reason=reason,
            provider_finish_reason=word,
            usage=read_usage(self._told),
            route=self._route(),
            provider_metadata_json=self._metadata_json(),
        )

    def _metadata_json(self) -> str:
        metadata = rest_of(self._told, _KNOWN | _told_whole(self._told))
        if self._unknown:
            metadata["events"] = msgspec.Raw(f"[{','.join(self._unknown)}]".encode())
        return object_json(metadata)

    def _emit_finish(self, finished: chat_pb2.Finished) -> None:
        self._finished = True
        self._writer.emit(chat_pb2.ChatEvent(finished=finished))

    def _warn(self, message: str) -> None:
        notice = chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PROVIDER_WARNING, message=message)
        self._writer.emit(chat_pb2.ChatEvent(notice=notice))


def _told_whole(told: Fields) -> set[str]:
    """Return the members that have no more to say than what reached its field."""
    return {key for key, placed in _OF_ONE.items() if fields_if_any(told.get(key)).keys() == {placed}}


def _summarizes(model: str) -> bool:
    """Return whether a model shows a summary of its thinking: of Anthropic's those after Claude 3.7 do.

    Source: https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html.
    """
    return "anthropic.claude" in model and "claude-3-7" not in model


def _json_or_text(payload: bytes) -> msgspec.Raw:
    try:
        decode_json(payload)
    except ProtocolError:
        return msgspec.Raw(json_text(payload.decode("utf-8", "replace")).encode())
    return msgspec.Raw(payload)


def _no_answer(body: bytes) -> AdapterError:
    """Return what a body with status 200 means that holds no message."""
    if error_type({}, body):
        return error_from_answer(200, {}, body)
    return ProtocolError("the provider's answer is no message: it has no output", provider_status=200)
