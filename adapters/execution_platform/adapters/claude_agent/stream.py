"""A run of the CLI as contract events: the lines that it prints, in any pieces.

Sources: `types.py` and `_internal/message_parser.py` of claude-agent-sdk 0.2.187, and runs of its CLI 2.1.330.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.claude_agent.errors import error_from_result, words_of
from execution_platform.adapters.claude_agent.limits import read_limits
from execution_platform.adapters.claude_agent.lines import LineDecoder
from execution_platform.adapters.claude_agent.outcome import outcome_of
from execution_platform.adapters.claude_agent.record import RunRecord
from execution_platform.adapters.claude_agent.sessions import Place
from execution_platform.adapters.claude_agent.threads import Origin, Threads
from execution_platform.adapters.claude_agent.usage import SYNTHETIC, RunTally, model_name
from execution_platform.adapters.errors import AdapterError, StreamBrokenError, UnavailableError
from execution_platform.adapters.fields import (
    Fields,
    carried,
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
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["FAMILY", "AnswerContext", "RunTranslation"]

FAMILY = "claude_agent"

#: Members of a result that reach a field, or that repeat what reached one.
_KNOWN_OF_RESULT = frozenset(
    {
        "is_error",
        "modelUsage",
        "model_usage_since_last_result",
        "permission_denials",
        "session_id",
        "stop_reason",
        "structured_output",
        "subtype",
        "total_cost_usd",
        "type",
        "usage",
        "user_message_uuid",
        "user_message_uuids",
        "uuid",
    }
)

#: Members of a sub-agent's message that its blocks carry.
_OF_SUB_AGENTS = ("parent_tool_use_id", "agent_id", "subagent_type", "task_description")


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """What is known of an answer before it begins.

    Attributes:
        provider: name of the provider that was asked.
        model: the model that was asked for.
        request_id: the chat's id.
        notices: about the request, told right after `started`.
        provider_events: tell each of the CLI's messages verbatim too.
        resumed: the run goes on with a session.
        structured: the answer was asked for in a form of the caller's.
    """

    provider: str
    model: str
    request_id: str = ""
    notices: Iterable[chat_pb2.Notice] = ()
    provider_events: bool = False
    resumed: bool = False
    structured: bool = False


class RunTranslation:
    """Translates one run. Used once.

    A run may print several results: a task in the background that ends makes the CLI take another turn. So the
    answer's end is told when the output ends.
    """

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._lines = LineDecoder()
        self._writer = AnswerWriter(FAMILY)
        self._threads = Threads(self._writer, self._begin)
        self._tally = RunTally(resumed=context.resumed)
        self._record = RunRecord(self._tell)
        self._early: list[chat_pb2.Notice] = []
        self._limits: dict[str, usage_pb2.RateLimitSnapshot] = {}
        self._limit_infos: dict[str, msgspec.Raw] = {}
        self._served_model = ""
        self._place = Place("")
        self._stop: Fields = {}
        self._failure: Fields = {}
        self._result: Fields = {}
        self._started = False

    @property
    def rate_limits(self) -> tuple[usage_pb2.RateLimitSnapshot, ...]:
        """The state of the limits, as told so far."""
        return tuple(self._limits.values())

    def feed(self, data: bytes) -> Events:
        """Take the next bytes of a run's output.

        Raises:
            AdapterError: the output cannot be read; its `events` are what these bytes said before it.
        """
        return self._told(self._lines.feed(data))

    def end(self) -> Events:
        """Tell that the output is over.

        Raises:
            StreamBrokenError: the run began to answer, and told no result.
            AdapterError: the run failed.
        """
        return self._told(self._lines.end(), ended=True)

    def whole(self, body: bytes) -> Events:
        """Take all of a run's output. Raises AdapterError."""
        return self.feed(body) + self.end()

    def _told(self, lines: Iterable[bytes], *, ended: bool = False) -> Events:
        try:
            for line in lines:
                self._take(line)
            if ended:
                self._end()
        except AdapterError as error:
            error.events = self._writer.take()
            raise
        return self._writer.take()

    # -- lines

    def _take(self, line: bytes) -> None:
        if not self._context.provider_events:
            if self._threads.frequent(line):
                return
            message = fields_of(line)
        else:
            message = fields_of(line)
            self._writer.verbatim(self._context.provider, line, clean_text(message.get("type")))
        kind = text_of(message.get("type"))
        if kind == "stream_event":
            self._stream_event(message)
        elif kind == "assistant":
            self._assistant(message)
        elif kind == "user":
            self._user(message)
        elif kind == "result":
            self._take_result(message)
        elif kind == "rate_limit_event":
            self._rate_limit(inner_fields(message, "rate_limit_info"), message["rate_limit_info"])
        elif kind == "system":
            self._system(message, line)
        elif kind not in {"command_lifecycle", "keep_alive"}:
            self._record.keep(line)

    def _system(self, message: Fields, line: bytes) -> None:
        kind = text_of(message.get("subtype"))
        if kind == "init":
            self._served_model = self._served_model or model_name(clean_text(message.get("model")))
        self._record.system(message, line)

    def _rate_limit(self, info: Fields, raw: msgspec.Raw) -> None:
        for snapshot in read_limits(info):
            self._limits[snapshot.name] = snapshot
        self._limit_infos[clean_text(info.get("rateLimitType"))] = raw

    def _origin(self, message: Fields) -> Origin:
        parent = clean_text(message.get("parent_tool_use_id"))
        place = Place(clean_text(message.get("session_id")), clean_text(message.get("uuid")))
        metadata = {name: message[name] for name in _OF_SUB_AGENTS if is_told(message.get(name))} if parent else {}
        return Origin(parent, place, metadata)

    # -- model calls

    def _stream_event(self, message: Fields) -> None:
        event = inner_fields(message, "event")
        origin = self._origin(message)
        kind = text_of(event.get("type"))
        if kind == "content_block_delta":
            self._threads.delta(event, origin)
        elif kind == "content_block_start":
            self._threads.start(event, origin)
        elif kind == "content_block_stop":
            self._threads.stop(event, origin)
        elif kind == "message_start":
            self._start_message(inner_fields(event, "message"), origin)
        elif kind == "message_delta":
            self._message_delta(event, clean_text(message.get("api_message_id")), origin)
        elif kind == "message_stop":
            self._threads.stop_message(origin.parent)
            if is_told(message.get("abandoned_blocks")):
                # The call broke off; what the CLI kept of it, it told complete.
                self._record.keep_fields({"abandoned_blocks": message["abandoned_blocks"]})
        elif kind != "ping":
            self._record.keep_fields(event)

    def _start_message(self, message: Fields, origin: Origin) -> None:
        message_id = clean_text(message.get("id"))
        self._serve(message, origin)
        self._begin()
        self._threads.start_message(message_id, origin)
        if not origin.parent:
            self._stop = {}
        self._tell_call(message, message_id, origin)

    def _message_delta(self, event: Fields, message_id: str, origin: Origin) -> None:
        delta = fields_if_any(event.get("delta"))
        message_id = message_id or self._threads.message_id(origin.parent)
        if not origin.parent:
            self._stop = delta
        rest = rest_of(event, {"type", "delta"})
        self._tell_call({**delta, **rest}, message_id, origin)

    def _tell_call(self, members: Fields, message_id: str, origin: Origin) -> None:
        self._record.call(origin.parent, message_id, members)
        model = clean_text(members.get("model"))
        if self._tally.tell(origin.parent, message_id, model, members.get("usage")) and self._started:
            self._tell_usage()

    def _serve(self, message: Fields, origin: Origin) -> None:
        """Note which model answers; where the CLI goes on with another one, tell so."""
        model = model_name(clean_text(message.get("model")))
        if origin.parent or model in {"", SYNTHETIC, self._served_model}:
            return
        self._served_model = model
        if self._started:
            changed = chat_pb2.RouteChanged(route=self._route(), origin=chat_pb2.ROUTE_CHANGE_ORIGIN_PROVIDER)
            self._writer.emit(chat_pb2.ChatEvent(route_changed=changed))

    def _assistant(self, message: Fields) -> None:
        inner = inner_fields(message, "message")
        origin = self._origin(message)
        if bytes(message.get("is_api_error_message", b"")) == b"true":
            if not origin.parent:
                # The result says it again; it is no answer of a model's.
                self._failure = {**message, "stop_details": inner.get("stop_details", msgspec.Raw(b"null"))}
            else:
                self._record.keep_fields(message)
            return
        self._serve(inner, origin)
        if not origin.parent:
            self._place = origin.place
        self._threads.assistant(inner, origin)
        if clean_text(inner.get("model")) != SYNTHETIC:
            self._tell_call(inner, clean_text(inner.get("id")), origin)

    def _user(self, message: Fields) -> None:
        inner = inner_fields(message, "message")
        origin = self._origin(message)
        if not origin.parent:
            self._place = origin.place
        rest = self._threads.tool_results(message, inner, origin)
        if rest:
            # What the CLI says to its model, such as a sub-agent's task, or to go on after a cut.
            told = {**message, "message": msgspec.Raw(object_json(rest).encode())}
            self._record.keep_fields(rest_of(told, {"session_id", "uuid", "timestamp"}))

    # -- what is told

    def _begin(self) -> None:
        if self._started:
            return
        self._started = True
        started = chat_pb2.Started(request_id=self._context.request_id, route=self._route())
        self._writer.begin(started, [*self._context.notices, *self._early])

    def _route(self) -> chat_pb2.Route:
        context = self._context
        return chat_pb2.Route(provider=context.provider, model=context.model, served_model=self._served_model)

    def _tell(self, notice: chat_pb2.Notice) -> None:
        if self._started:
            self._writer.emit(chat_pb2.ChatEvent(notice=notice))
        else:
            self._early.append(notice)

    def _tell_usage(self) -> None:
        usage = chat_pb2.UsageUpdated(usage=self._tally.usage(self._served_model))
        self._writer.emit(chat_pb2.ChatEvent(usage_updated=usage))

    # -- the end

    def _take_result(self, message: Fields) -> None:
        if self._result:
            self._record.keep_fields(self._result_rest())
        self._result = message
        self._tally.settle(message)
        for element in elements_if_any(message.get("permission_denials")):
            denial = fields_if_any(element)
            self._record.denied(clean_text(denial.get("tool_use_id")), clean_text(denial.get("tool_name")))
        session = clean_text(message.get("session_id"))
        if session and session != self._place.session_id:
            self._place = Place(session)

    def _end(self) -> None:
        if not self._result:
            if self._started:
                raise StreamBrokenError("the run ended without a result", provider_status=200)
            raise UnavailableError("the CLI ended before it answered")
        reason, word = outcome_of(self._result, self._failure, self._stop, answered=self._writer.block_count > 0)
        if reason is None:
            self._threads.stop_all()
            if self._started:
                self._tell_usage()
            raise error_from_result(self._result, self._failure)
        self._begin()
        self._threads.stop_all()
        self._tell_structured()
        finished = chat_pb2.Finished(
            reason=reason,
            provider_finish_reason=word,
            usage=self._tally.usage(self._served_model),
            route=self._route(),
            rate_limits=self.rate_limits,
        )
        cost = self._tally.cost()
        if cost is not None:
            finished.cost.CopyFrom(cost)
        if is_told(self._stop.get("stop_sequence")) and reason == chat_pb2.FINISH_REASON_STOP_SEQUENCE:
            finished.matched_stop_sequence = clean_text(self._stop["stop_sequence"])
        self._tell_refusal(finished)
        finished.provider_metadata_json = self._metadata_json()
        self._writer.emit(chat_pb2.ChatEvent(finished=finished))

    def _tell_structured(self) -> None:
        output = self._result.get("structured_output")
        if is_told(output):
            self._threads.structured_output(output, self._place)
        elif self._context.structured:
            message = "the run ended without an answer in the form that was asked for"
            self._tell(chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PROVIDER_WARNING, message=message))

    def _tell_refusal(self, finished: chat_pb2.Finished) -> None:
        if finished.reason not in {chat_pb2.FINISH_REASON_REFUSAL, chat_pb2.FINISH_REASON_CONTENT_FILTER}:
            return
        told = next(filter(is_told, (self._stop.get("stop_details"), self._failure.get("stop_details"))), None)
        details = fields_if_any(told)
        finished.refusal.category = clean_text(details.get("category"))
        finished.refusal.explanation = clean_text(details.get("explanation")) or words_of(self._result)
        finished.refusal.raw_json = json_of(told)
        finished.refusal.prompt_blocked = self._writer.block_count == 0

    def _result_rest(self) -> Fields:
        rest = rest_of(self._result, _KNOWN_OF_RESULT)
        said = clean_text(rest.get("result"))
        if said == carried(self._threads.last_text) or is_told(self._result.get("structured_output")):
            rest.pop("result", None)
        return rest

    def _metadata_json(self) -> str:
        metadata = self._result_rest() | self._record.members()
        if self._failure:
            known = {"message", "type", "session_id", "uuid", "stop_details"}
            metadata["failure"] = msgspec.Raw(object_json(rest_of(self._failure, known)).encode())
        if self._limit_infos:
            infos = b",".join(bytes(info) for info in self._limit_infos.values())
            metadata["rate_limits"] = msgspec.Raw(b"[" + infos + b"]")
        return object_json(metadata)
