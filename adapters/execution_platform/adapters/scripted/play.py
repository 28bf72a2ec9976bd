"""Plays a script: turns its steps into the events of one answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import zip_longest
from typing import cast

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.scripted.script import Step, ToolCallStep, UsageStep
from execution_platform.adapters.spi import Call, Events
from execution_platform.adapters.usage import UsageItems
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

__all__ = ["FAMILY", "Player", "answer_id", "count_words"]

FAMILY = "scripted"

Block = content_pb2.ContentBlock
Event = chat_pb2.ChatEvent

_PROVIDER = content_pb2.TOOL_EXECUTOR_PROVIDER
_ARGUMENT_PIECES = 4
_MEDIA_PIECES = 3


def count_words(blocks: Iterable[Block]) -> int:
    """Return the number of words in blocks, those of tool calls and results included."""
    total = 0
    for block in blocks:
        match block.WhichOneof("content"):
            case "text":
                total += len(block.text.text.split())
            case "thinking":
                total += len(block.thinking.text.split())
            case "tool_call":
                total += len(f"{block.tool_call.name} {block.tool_call.arguments_json}".split())
            case "tool_result":
                total += count_words(block.tool_result.content)
                total += len(block.tool_result.structured_content_json.split())
            case _:
                pass
    return total


def answer_id(call: Call) -> str:
    """Return an identifier that equal conversations with equal models share."""
    digest = hashlib.sha256(call.model.encode())
    for blocks in (call.request.system, call.request.messages):
        for part in blocks:
            digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]


class Player:
    """Turns steps into events. Pauses, failures and ends are its caller's.

    Args:
        call: the attempt.
        notices: what the request is to be told.
        input_words: tokens of the prompt.
    """

    def __init__(self, call: Call, notices: list[chat_pb2.Notice], input_words: int) -> None:
        self._call = call
        self._id = answer_id(call)
        self._notices = notices
        self._writer = AnswerWriter(FAMILY)
        self._open = ("", -1)
        self._calls = 0
        self._input = input_words
        self._output = 0
        self._reasoning = 0
        self._told: dict[str, int] = {}
        self._last_told: usage_pb2.Usage | None = None
        self.started = False

    def take(self) -> Events:
        """Return the events since the last call."""
        return self._writer.take()

    def start(self) -> None:
        """Begin the answer, once."""
        if self.started:
            return
        self.started = True
        route = chat_pb2.Route(provider="scripted", model=self._call.model, served_model=self._call.model)
        started = chat_pb2.Started(
            provider_response_id=f"scripted-{self._id}",
            provider_request_id=f"request-{self._id}",
            route=route,
        )
        self._writer.begin(started, self._notices)

    def step(self, step: Step) -> None:
        """Play a step that makes events."""
        self.start()
        match step.verb:
            case "text":
                self._text(step.text or "", step.logprob)
            case "thinking":
                self._thinking(step.thinking or "", step.signature)
            case "refusal":
                text = step.refusal or ""
                self._output += len(text.split())
                self._writer.refusal(self._opened("refusal"), text)
            case "tool_call" | "tool_calls":
                self._tool_calls(step.tool_calls or [cast("ToolCallStep", step.tool_call)])
            case "usage":
                self._usage(cast("UsageStep", step.usage))
            case "started":
                pass
            case _:
                self._message(step)

    def finish(self, step: Step | None) -> None:
        """Complete the answer, as a finish step says or as it came."""
        self.start()
        self._writer.stop_all()
        finished = chat_pb2.Finished()
        if step is not None:
            finished.CopyFrom(cast("chat_pb2.Finished", step.message()))
        if finished.reason == chat_pb2.FINISH_REASON_UNSPECIFIED:
            calls = chat_pb2.FINISH_REASON_TOOL_CALLS
            finished.reason = calls if self._calls else chat_pb2.FINISH_REASON_STOP
        if not finished.provider_finish_reason:
            name = chat_pb2.FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_")
            finished.provider_finish_reason = name.lower()
        if not finished.HasField("usage"):
            self.tell_usage()
            finished.usage.CopyFrom(self.usage())
        self._writer.emit(Event(finished=finished))

    def tell_usage(self) -> None:
        """Tell the usage so far, if the answer has begun and it was not told already."""
        usage = self.usage()
        if self.started and usage != self._last_told:
            self._last_told = usage
            self._writer.emit(Event(usage_updated=chat_pb2.UsageUpdated(usage=usage)))

    def usage(self) -> usage_pb2.Usage:
        """Return what the script told, or the words so far where it told nothing."""
        numbers = self._told or {"input": self._input, "output": self._output, "reasoning": self._reasoning}
        items = UsageItems()
        items.add(usage_pb2.USAGE_KIND_INPUT, numbers.get("input", 0))
        items.add(usage_pb2.USAGE_KIND_CACHE_READ, numbers.get("cache_read", 0))
        items.add(usage_pb2.USAGE_KIND_CACHE_WRITE, numbers.get("cache_write", 0))
        items.add(usage_pb2.USAGE_KIND_OUTPUT, numbers.get("output", 0))
        items.add(usage_pb2.USAGE_KIND_REASONING, numbers.get("reasoning", 0))
        return items.usage(json.dumps(numbers, separators=(",", ":")))

    def _opened(self, kind: str) -> int:
        """Return the index of the open block of a kind, opening one if another or none is open."""
        if self._open[0] == kind:
            return self._open[1]
        self._close()
        block = Block()
        getattr(block, kind).SetInParent()
        self._open = (kind, self._writer.open(block))
        return self._open[1]

    def _close(self) -> None:
        if self._open[0]:
            self._writer.stop(self._open[1])
            self._open = ("", -1)

    def _text(self, text: str, logprob: float | None) -> None:
        self._output += len(text.split())
        logprobs = [] if logprob is None else [content_pb2.TokenLogprob(token=text, logprob=logprob)]
        self._writer.text(self._opened("text"), text, logprobs)

    def _thinking(self, text: str, signature: str | None) -> None:
        self._reasoning += len(text.split())
        index = self._opened("thinking")
        self._writer.thinking(index, text)
        if signature is not None:
            self._writer.state(index, "signature", signature.encode())
            self._close()

    def _tool_calls(self, calls: list[ToolCallStep]) -> None:
        self._close()
        indexes = [self._open_call(call) for call in calls]
        pieces = [_pieces(call.arguments_text or call.arguments_json, _ARGUMENT_PIECES) for call in calls]
        for row in zip_longest(*pieces, fillvalue=""):
            for index, call, piece in zip(indexes, calls, row, strict=True):
                if call.arguments_text is not None:
                    self._writer.arguments_text(index, piece)
                else:
                    self._writer.arguments(index, piece)
        for index in indexes:
            self._writer.stop(index)

    def _open_call(self, call: ToolCallStep) -> int:
        self._calls += 1
        self._output += len(f"{call.name} {call.arguments_json}".split())
        block = content_pb2.ToolCallBlock(
            name=call.name,
            call_id=call.call_id or f"call_{self._id[:8]}_{self._calls}",
            executed_by=content_pb2.TOOL_EXECUTOR_CLIENT,
        )
        if call.arguments_text is not None:
            block.arguments_text = ""
        return self._writer.open(Block(tool_call=block))

    def _usage(self, told: UsageStep) -> None:
        # Cumulative: a script whose numbers fall would break a promise of every provider.
        for name in told.__struct_fields__:
            value = max(getattr(told, name), self._told.get(name, 0))
            if value:
                self._told[name] = value
        self.tell_usage()

    def _message(self, step: Step) -> None:
        match step.message():
            case content_pb2.Citation() as citation:
                self._writer.citation(self._open[1] if self._open[0] else self._opened("text"), citation)
            case content_pb2.MediaBlock() as media:
                self._media(media)
            case content_pb2.ContentBlock() as block:
                self._close()
                called = block.HasField("tool_call") and block.tool_call.executed_by != _PROVIDER
                self._calls += int(called)
                self._writer.whole(block)
            case chat_pb2.Notice() as notice:
                if notice.code == chat_pb2.NOTICE_CODE_UNSPECIFIED:
                    notice.code = chat_pb2.NOTICE_CODE_PROVIDER_WARNING
                self._writer.emit(Event(notice=notice))
            case chat_pb2.RouteChanged() as changed:
                self._writer.emit(Event(route_changed=changed))
            case chat_pb2.ProviderEvent() as event:
                if self._call.request.stream_options.provider_events:
                    event.provider = event.provider or "scripted"
                    self._writer.emit(Event(provider_event=event))
            case other:  # pragma: no cover  # script.py knows no further message
                raise TypeError(f"a step cannot hold {type(other).__name__}")

    def _media(self, media: content_pb2.MediaBlock) -> None:
        self._close()
        data, transcript = media.data, media.transcript
        if data:
            media.data = b""
        media.transcript = ""
        index = self._writer.open(Block(media=media))
        for piece in _byte_pieces(data, _MEDIA_PIECES):
            self._writer.media(index, data=piece)
        for text in _pieces(transcript, _MEDIA_PIECES):
            self._writer.media(index, transcript=text)
        self._writer.stop(index)


def _pieces(text: str, count: int) -> list[str]:
    size = max(1, -(-len(text) // count))
    return [text[at : at + size] for at in range(0, len(text), size)]


def _byte_pieces(data: bytes, count: int) -> list[bytes]:
    size = max(1, -(-len(data) // count))
    return [data[at : at + size] for at in range(0, len(data), size)]
