"""Checks of one answer's events, and of two answers that must be the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Events
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

__all__ = ["Answer", "ConformanceError", "check_stream", "require", "same_answer"]

_MIB = 1 << 20
_SERVERS_OWN = frozenset({"heartbeat", "failed"})
#: Which kind of block takes which delta; the others fit every block.
_DELTA_OF = {
    "text": "text",
    "thinking": "thinking",
    "arguments_json": "tool_call",
    "arguments_text": "tool_call",
    "media": "media",
    "refusal": "refusal",
    "redacted_thinking": "redacted_thinking",
    "structured_content_json": "tool_result",
    "opaque_json": "opaque",
}


class ConformanceError(AssertionError):
    """A promise of the seam is broken; the message says which."""


def require(holds: object, message: str) -> None:
    """Raise ConformanceError with the message unless something holds."""
    if not holds:
        raise ConformanceError(message)


@dataclass
class Answer:
    """What the events of one answer say, put together.

    Attributes:
        blocks: the content, each block's deltas joined.
        started: how it began; None: it did not.
        finished: how it ended; None: it did not.
        usage: the last usage that was told.
        notices: the notices, in order.
        provider_events: the provider's own events, if they were asked for.
        logprobs: log probabilities by block.
        error: what ended it instead of `finished`.
    """

    blocks: list[content_pb2.ContentBlock] = field(default_factory=list)
    started: chat_pb2.Started | None = None
    finished: chat_pb2.Finished | None = None
    usage: usage_pb2.Usage | None = None
    notices: list[chat_pb2.Notice] = field(default_factory=list)
    provider_events: list[chat_pb2.ProviderEvent] = field(default_factory=list)
    logprobs: dict[int, list[content_pb2.TokenLogprob]] = field(default_factory=dict)
    error: AdapterError | None = None

    def text(self) -> str:
        """Return the text of all text blocks."""
        return "".join(block.text.text for block in self.blocks)


def check_stream(
    lists: Iterable[Events], *, complete: bool = True, family: str = "", exact_usage: bool = True
) -> Answer:
    """Check the lists of events of one answer, and return what they say.

    Args:
        lists: as :meth:`Adapter.stream` yields them.
        complete: the answer is over; False: it was broken off, so only its end may be missing.
        family: the family that every block must name; default: any.
        exact_usage: usage stays within the total that the provider states. False only for a server that leaves
            something out of its total.

    Raises:
        ConformanceError: a promise is broken.
    """
    checker = _StreamChecker(family, exact_usage=exact_usage)
    for events in lists:
        require(bool(events) and type(events) is list, "an adapter yields non-empty lists of events")
        for event in events:
            checker.take(event)
    if complete:
        checker.end()
    return checker.answer


class _StreamChecker:
    """Follows one answer event by event."""

    def __init__(self, family: str, *, exact_usage: bool) -> None:
        self.answer = Answer()
        self._exact_usage = exact_usage
        self._family = family
        self._open: set[int] = set()
        self._metadata: dict[int | None, list[str]] = {}

    def take(self, event: chat_pb2.ChatEvent) -> None:
        kind = event.WhichOneof("event")
        size = event.ByteSize()
        require(kind, "an event says what happened")
        require(kind not in _SERVERS_OWN, f"{kind}: is the server's to send")
        require(event.sequence == 0, f"{kind}: sequence is the server's to set, but is {event.sequence}")
        require(size <= _MIB, f"{kind}: {size} bytes; no event is larger than 1 MiB")
        require(self.answer.finished is None, f"{kind} after finished: finished is the last event")
        if kind == "started":
            require(self.answer.started is None, "started comes exactly once")
            self.answer.started = event.started
            return
        require(self.answer.started is not None, f"{kind} before started: started is the first event")
        match kind:
            case "block_started":
                self._block_started(event.block_started.block)
            case "block_delta":
                self._block_delta(event.block_delta)
            case "block_stopped":
                self._block_stopped(event.block_stopped)
            case "usage_updated":
                self._usage(event.usage_updated.usage, "usage_updated")
            case "finished":
                self._finished(event.finished)
            case "notice":
                require(event.notice.code, "a notice has a code")
                self.answer.notices.append(event.notice)
            case "metadata_delta":
                self._metadata_delta(event.metadata_delta)
            case "provider_event":
                require(event.provider_event.provider, "a provider event names its provider")
                self.answer.provider_events.append(event.provider_event)
            case _:
                pass

    def end(self) -> None:
        require(self.answer.started is not None, "started comes first; nothing came")
        require(self.answer.finished is not None, "an answer that raises nothing ends with exactly one finished")

    def _block_started(self, block: content_pb2.ContentBlock) -> None:
        expected = len(self.answer.blocks)
        kind = block.WhichOneof("content")
        require(block.index == expected, f"block {block.index} starts; indexes rise from 0, so {expected} is next")
        require(kind, f"block {expected} starts without content; its kind is known from the start")
        require(block.family, f"block {expected} names no family; a replay could not tell whose its states are")
        require(
            not self._family or block.family == self._family,
            f"block {expected} is of family {block.family!r}, not {self._family!r}",
        )
        if kind == "tool_call":
            require(block.tool_call.name, f"block {expected}: a tool call has a name from the start")
            require(block.tool_call.call_id, f"block {expected}: a tool call has a call_id; mint one where none is")
        _require_json(block.provider_metadata_json, f"block {expected}: provider_metadata_json", of=dict)
        self._open.add(expected)
        kept = content_pb2.ContentBlock()
        kept.CopyFrom(block)
        self.answer.blocks.append(kept)

    def _block_delta(self, delta: chat_pb2.BlockDelta) -> None:
        kind = delta.WhichOneof("delta")
        at = f"delta of block {delta.index}"
        require(delta.index in self._open, f"{at}: the block is not open")
        require(kind or delta.logprobs, f"{at}: brings nothing")
        block = self.answer.blocks[delta.index]
        for logprob in delta.logprobs:
            require(logprob.logprob <= 0, f"{at}: a log probability of {logprob.logprob} is above 0")
        self.answer.logprobs.setdefault(delta.index, []).extend(delta.logprobs)
        if kind is None:
            return
        wanted = _DELTA_OF.get(kind)
        content = block.WhichOneof("content")
        require(wanted in {None, content}, f"{at}: {kind} does not belong to a block of {content}")
        require(kind != "state_data" or block.states, f"{at}: state_data without a state before it")
        if kind == "citation":
            _require_json(delta.citation.raw_json, f"{at}: citation.raw_json")
        _append(block, kind, delta)

    def _block_stopped(self, stopped: chat_pb2.BlockStopped) -> None:
        require(stopped.index in self._open, f"block {stopped.index} stops but is not open")
        self._open.remove(stopped.index)
        at = f"block {stopped.index}: provider_metadata_json"
        pieces = self._metadata.pop(stopped.index, None)
        if stopped.HasField("provider_metadata_json"):
            require(pieces is None, f"{at} comes in pieces and whole")
            pieces = [stopped.provider_metadata_json]
        if pieces is not None:
            metadata = "".join(pieces)
            _require_json(metadata, at, of=dict)
            self.answer.blocks[stopped.index].provider_metadata_json = metadata

    def _metadata_delta(self, delta: chat_pb2.MetadataDelta) -> None:
        index = delta.index if delta.HasField("index") else None
        require(index is None or index in self._open, f"metadata of block {index}, which is not open")
        self._metadata.setdefault(index, []).append(delta.provider_metadata_json)

    def _usage(self, usage: usage_pb2.Usage, where: str) -> None:
        seen: set[bytes] = set()
        for item in usage.items:
            name = usage_pb2.UsageKind.Name(item.kind)
            require(item.kind and item.unit, f"{where}: an item has a kind and a unit ({item})")
            require(item.quantity > 0, f"{where}: {name} of {item.quantity}; what is not used has no item")
            key = usage_pb2.UsageItem()
            key.CopyFrom(item)
            key.ClearField("quantity")
            serialized = key.SerializeToString(deterministic=True)
            require(serialized not in seen, f"{where}: two items of {name} that differ in nothing; merge them")
            seen.add(serialized)
        _require_json(usage.provider_usage_json, f"{where}: provider_usage_json")
        if self._exact_usage:
            _require_within_total(usage, where)
        self.answer.usage = usage

    def _finished(self, finished: chat_pb2.Finished) -> None:
        require(not self._open, f"finished while blocks {sorted(self._open)} are open")
        require(finished.reason, "finished has a reason; OTHER where the provider's word is not known")
        for name in ("attempts", "timing"):
            require(not _has(finished, name), f"finished.{name} is the server's to fill")
        pieces = self._metadata.pop(None, None)
        require(not (pieces and finished.provider_metadata_json), "finished's metadata comes in pieces and whole")
        if pieces:
            finished.provider_metadata_json = "".join(pieces)
        _require_json(finished.provider_metadata_json, "finished.provider_metadata_json", of=dict)
        for line in finished.cost.lines:
            stated = line.source == usage_pb2.COST_SOURCE_PROVIDER
            require(stated, "finished.cost holds only what the provider states")
        told = self.answer.usage
        require(finished.HasField("usage") or told is None, "finished.usage is missing, though usage was told before")
        if finished.HasField("usage"):
            self._usage(finished.usage, "finished.usage")
        self.answer.finished = finished


def _has(message: chat_pb2.Finished, name: str) -> bool:
    return any(descriptor.name == name for descriptor, _ in message.ListFields())


def _require_json(text: str, where: str, of: type = object) -> None:
    if text:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ConformanceError(f"{where}: not JSON ({error}): {text[:80]!r}") from error
        require(isinstance(value, of), f"{where}: must be a JSON object, not {text[:80]!r}")


def _require_within_total(usage: usage_pb2.Usage, where: str) -> None:
    """Where a provider states a total of tokens, disjoint items cannot add up to more.

    Tokens of another model (one that draws, or advises) are counted apart by those who use one.
    """
    told = msgspec.json.decode(usage.provider_usage_json) if usage.provider_usage_json else None
    if not isinstance(told, dict):
        return
    total = told.get("total_tokens", told.get("totalTokenCount"))
    own = (item for item in usage.items if item.unit == usage_pb2.USAGE_UNIT_TOKEN and not item.model)
    counted = sum(item.quantity for item in own)
    if isinstance(total, int):
        require(counted <= total, f"{where}: items of {counted} tokens in a stated total of {total}: not disjoint")


def _append(block: content_pb2.ContentBlock, kind: str, delta: chat_pb2.BlockDelta) -> None:
    match kind:
        case "text":
            block.text.text += delta.text
        case "thinking":
            block.thinking.text += delta.thinking
        case "refusal":
            block.refusal.text += delta.refusal
        case "arguments_json":
            block.tool_call.arguments_json += delta.arguments_json
        case "arguments_text":
            block.tool_call.arguments_text += delta.arguments_text
        case "media":
            if delta.media.data:
                block.media.data += delta.media.data
            block.media.transcript += delta.media.transcript
        case "redacted_thinking":
            block.redacted_thinking.data += delta.redacted_thinking
        case "structured_content_json":
            block.tool_result.structured_content_json += delta.structured_content_json
        case "opaque_json":
            block.opaque.json += delta.opaque_json
        case "citation":
            block.citations.append(delta.citation)
        case "state":
            block.states.append(delta.state)
        case "state_data":
            block.states[-1].data += delta.state_data
        case _:
            raise ConformanceError(f"delta of block {delta.index}: {kind} is not known")


def same_answer(one: Answer, other: Answer, what: str = "the two answers") -> None:
    """Require that two answers have the same blocks, end, usage and error.

    Call ids that the platform minted may differ.

    Raises:
        ConformanceError: they differ.
    """
    kinds = [[str(block.WhichOneof("content")) for block in answer.blocks] for answer in (one, other)]
    require(kinds[0] == kinds[1], f"{what} differ in their blocks: {kinds[0]} and {kinds[1]}")
    for left, right in zip(_named_alike(one.blocks), _named_alike(other.blocks), strict=True):
        require(left == right, f"{what} differ in block {left.index}:\n{left}\nand\n{right}")
    ends = [answer.finished or chat_pb2.Finished() for answer in (one, other)]
    reasons = [chat_pb2.FinishReason.Name(end.reason) for end in ends]
    require(reasons[0] == reasons[1], f"{what} end differently: {reasons[0]} and {reasons[1]}")
    usages = [
        sorted(item.SerializeToString(deterministic=True) for item in (answer.usage or usage_pb2.Usage()).items)
        for answer in (one, other)
    ]
    require(usages[0] == usages[1], f"{what} differ in usage:\n{one.usage}\nand\n{other.usage}")
    errors = [type(answer.error).__name__ if answer.error else "none" for answer in (one, other)]
    require(errors[0] == errors[1], f"{what} fail differently: {errors[0]} and {errors[1]}")


def _named_alike(blocks: Iterable[content_pb2.ContentBlock]) -> Iterator[content_pb2.ContentBlock]:
    for block in blocks:
        copy = content_pb2.ContentBlock()
        copy.CopyFrom(block)
        if copy.tool_call.call_id_minted:
            copy.tool_call.call_id = "minted"
        yield copy
