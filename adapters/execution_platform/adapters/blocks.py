"""Writes one answer as contract events: numbers blocks, joins split surrogates, keeps events below 1 MiB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["AnswerWriter"]

Event = chat_pb2.ChatEvent
Delta = chat_pb2.BlockDelta

#: Largest piece of text (characters) or bytes in one event: 4 bytes a character stay below 1 MiB.
_PIECE = 240_000
#: Most log probabilities in one event; each may name twenty further tokens.
_LOGPROBS = 64
#: A block that is larger than this, in bytes, is cut.
_LARGE = 900_000

#: Half of a UTF-16 surrogate pair.
_HALF = re.compile("[\ud800-\udfff]")


class AnswerWriter:
    """Collects the events of one answer until they are taken.

    The caller says what the provider said, in order; the writer keeps the promises about blocks. Joining a
    block's deltas gives the block, so empty pieces are left out.
    """

    def __init__(self, family: str) -> None:
        self._family = family
        self._events: list[Event] = []
        self._next_index = 0
        self._open: set[int] = set()
        self._halves: dict[tuple[int, str], str] = {}
        self._begun = False
        self._early: list[Event] = []
        self._large_metadata: dict[int, str] = {}

    def take(self) -> list[Event]:
        """Return the events since the last call, and forget them."""
        events, self._events = self._events, []
        return events

    def begin(self, started: chat_pb2.Started, notices: Iterable[chat_pb2.Notice] = ()) -> None:
        """Begin the answer: started, then the notices about its request, then what was told verbatim before."""
        self._events.append(Event(started=started))
        self._events.extend(Event(notice=notice) for notice in notices)
        self._events.extend(self._early)
        self._early = []
        self._begun = True

    def verbatim(self, provider: str, data: bytes, kind: str = "") -> None:
        """Tell an event of the provider as it stood, in pieces where it is too large for one.

        Nothing comes before `started`: until the answer begins the event is held back.

        Args:
            provider: the provider's name.
            data: JSON of the event.
            kind: the provider's word for it.
        """
        events = self._events if self._begun else self._early
        pieces = list(_text_pieces(data.decode("utf-8", "replace"))) or [""]
        for number, piece in enumerate(pieces, 1):
            told = chat_pb2.ProviderEvent(provider=provider, type=kind, raw_json=piece, continues=number < len(pieces))
            events.append(Event(provider_event=told))

    def emit(self, event: Event) -> None:
        """Add an event that is not about a block."""
        if event.HasField("finished") and len(event.finished.provider_metadata_json) > _PIECE:
            self._metadata(event.finished.provider_metadata_json)
            event.finished.provider_metadata_json = ""
        self._events.append(event)

    def emit_all(self, events: Iterable[Event]) -> None:
        """Add events that are not about blocks."""
        for event in events:
            self.emit(event)

    def open(self, block: content_pb2.ContentBlock) -> int:
        """Start a block; what it already holds stays whole. Returns its index.

        Content too large for one event follows as deltas.
        """
        index = self._next_index
        self._next_index += 1
        self._open.add(index)
        rest = list(_cut_large(block))
        if len(block.provider_metadata_json) > _PIECE:
            self._large_metadata[index] = block.provider_metadata_json
            block.provider_metadata_json = ""
        block.index = index
        block.family = self._family
        self._events.append(Event(block_started=chat_pb2.BlockStarted(block=block)))
        for delta in rest:
            delta.index = index
            self._events.append(Event(block_delta=delta))
        return index

    def whole(self, block: content_pb2.ContentBlock) -> int:
        """Start and stop a block that the provider gave whole. Returns its index."""
        index = self.open(block)
        self.stop(index)
        return index

    def text(self, index: int, text: str, logprobs: Sequence[content_pb2.TokenLogprob] = ()) -> None:
        """Append to a text block."""
        self._append(index, "text", text, lambda piece: Delta(index=index, text=piece), logprobs)

    def thinking(self, index: int, text: str, logprobs: Sequence[content_pb2.TokenLogprob] = ()) -> None:
        """Append to a thinking block."""
        self._append(index, "thinking", text, lambda piece: Delta(index=index, thinking=piece), logprobs)

    def refusal(self, index: int, text: str, logprobs: Sequence[content_pb2.TokenLogprob] = ()) -> None:
        """Append to a refusal block."""
        self._append(index, "refusal", text, lambda piece: Delta(index=index, refusal=piece), logprobs)

    def arguments(self, index: int, json: str, logprobs: Sequence[content_pb2.TokenLogprob] = ()) -> None:
        """Append to the JSON arguments of a tool call."""
        self._append(index, "arguments_json", json, lambda piece: Delta(index=index, arguments_json=piece), logprobs)

    def arguments_text(self, index: int, text: str) -> None:
        """Append to the free-text argument of a tool call."""
        self._append(index, "arguments_text", text, lambda piece: Delta(index=index, arguments_text=piece))

    def structured_content(self, index: int, json: str) -> None:
        """Append to the JSON of a tool result."""
        self._append(
            index,
            "structured_content_json",
            json,
            lambda piece: Delta(index=index, structured_content_json=piece),
        )

    def opaque(self, index: int, json: str) -> None:
        """Append to the JSON of an opaque block."""
        self._append(index, "opaque_json", json, lambda piece: Delta(index=index, opaque_json=piece))

    def media(self, index: int, data: bytes = b"", transcript: str = "") -> None:
        """Append to a media block."""
        for piece in _bytes_pieces(data):
            self._delta(Delta(index=index, media=chat_pb2.MediaDelta(data=piece)))
        self._append(
            index,
            "transcript",
            transcript,
            lambda piece: Delta(index=index, media=chat_pb2.MediaDelta(transcript=piece)),
        )

    def citation(self, index: int, citation: content_pb2.Citation) -> None:
        """Add a source to a block."""
        self._delta(Delta(index=index, citation=citation))

    def state(self, index: int, kind: str, data: bytes) -> None:
        """Add opaque state to a block."""
        state = content_pb2.OpaqueState(kind=kind, data=data[:_PIECE])
        self._delta(Delta(index=index, state=state))
        for piece in _bytes_pieces(data[_PIECE:]):
            self._delta(Delta(index=index, state_data=piece))

    def stop(self, index: int, provider_metadata_json: str | None = None) -> None:
        """Complete a block. Half a character that never got its other half becomes U+FFFD, with a Notice."""
        self._flush_halves(index)
        self._open.remove(index)
        stopped = chat_pb2.BlockStopped(index=index)
        large = self._large_metadata.pop(index, None)
        if provider_metadata_json is None:
            provider_metadata_json = large
        if provider_metadata_json is not None and len(provider_metadata_json) > _PIECE:
            self._metadata(provider_metadata_json, index)
        elif provider_metadata_json is not None:
            stopped.provider_metadata_json = provider_metadata_json
        self._events.append(Event(block_stopped=stopped))

    def stop_all(self) -> None:
        """Complete the blocks that are still open, lowest index first."""
        for index in sorted(self._open):
            self.stop(index)

    def is_open(self, index: int) -> bool:
        """Return whether a block has been started and not stopped."""
        return index in self._open

    @property
    def block_count(self) -> int:
        """How many blocks have been started."""
        return self._next_index

    def _metadata(self, json: str, index: int | None = None) -> None:
        for piece in _text_pieces(json):
            delta = chat_pb2.MetadataDelta(provider_metadata_json=piece)
            if index is not None:
                delta.index = index
            self._events.append(Event(metadata_delta=delta))

    def _delta(self, delta: Delta) -> None:
        self._events.append(Event(block_delta=delta))

    def _append(
        self,
        index: int,
        field: str,
        text: str,
        make: Callable[[str], Delta],
        logprobs: Sequence[content_pb2.TokenLogprob] = (),
    ) -> None:
        if self._halves or _ends_in_half(text) or len(text) > _PIECE:
            text = self._join_halves(index, field, text)
        if not text and not logprobs:
            return
        if len(text) <= _PIECE and len(logprobs) <= _LOGPROBS:
            delta = self._make(text, make)
            if logprobs:
                delta.logprobs.extend(logprobs)
            self._events.append(Event(block_delta=delta))
            return
        for at in range(0, len(text), _PIECE):
            self._events.append(Event(block_delta=self._make(text[at : at + _PIECE], make)))
        for at in range(0, len(logprobs), _LOGPROBS):
            delta = make("")
            delta.logprobs.extend(logprobs[at : at + _LOGPROBS])
            self._events.append(Event(block_delta=delta))

    def _make(self, text: str, make: Callable[[str], Delta]) -> Delta:
        try:
            return make(text)
        except UnicodeEncodeError:
            # Halves inside one JSON string: an unpaired one cannot be carried by proto.
            self._warn_half()
            return make(_HALF.sub("\ufffd", text))

    def _join_halves(self, index: int, field: str, text: str) -> str:
        text = self._halves.pop((index, field), "") + text
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # joins pairs
        if _ends_in_half(text):
            self._halves[index, field] = text[-1]
            text = text[:-1]
        return text

    def _flush_halves(self, index: int) -> None:
        for key in [key for key in self._halves if key[0] == index]:
            del self._halves[key]
            self._delta(_delta_of(key[1], index, "\ufffd"))
            self._warn_half()

    def _warn_half(self) -> None:
        self._events.append(
            Event(
                notice=chat_pb2.Notice(
                    code=chat_pb2.NOTICE_CODE_PROVIDER_WARNING,
                    message="the provider sent half of a UTF-16 surrogate pair; it is shown as U+FFFD",
                )
            )
        )


def _ends_in_half(text: str) -> bool:
    return bool(text) and "\ud800" <= text[-1] <= "\udbff"


def _delta_of(field: str, index: int, text: str) -> Delta:
    if field == "transcript":
        return Delta(index=index, media=chat_pb2.MediaDelta(transcript=text))
    delta = Delta(index=index)
    setattr(delta, field, text)
    return delta


def _bytes_pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), _PIECE):
        yield data[at : at + _PIECE]


def _text_pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), _PIECE):
        yield text[at : at + _PIECE]


def _cut_large(block: content_pb2.ContentBlock) -> Iterator[Delta]:
    """Take out of a block that is too large for one event what can come as deltas that bring it back."""
    if block.ByteSize() <= _LARGE:
        return
    yield from _cut_content(block)
    for citation in block.citations:
        yield Delta(citation=citation)
    del block.citations[:]
    for state in block.states:
        yield Delta(state=content_pb2.OpaqueState(kind=state.kind, data=state.data[:_PIECE]))
        yield from (Delta(state_data=piece) for piece in _bytes_pieces(state.data[_PIECE:]))
    del block.states[:]


def _cut_content(block: content_pb2.ContentBlock) -> Iterator[Delta]:
    match block.WhichOneof("content"):
        case "text":
            yield from (Delta(text=piece) for piece in _take_text(block.text, "text"))
        case "thinking":
            yield from (Delta(thinking=piece) for piece in _take_text(block.thinking, "text"))
        case "refusal":
            yield from (Delta(refusal=piece) for piece in _take_text(block.refusal, "text"))
        case "opaque":
            yield from (Delta(opaque_json=piece) for piece in _take_text(block.opaque, "json"))
        case "tool_call":
            call = block.tool_call
            yield from (Delta(arguments_json=piece) for piece in _take_text(call, "arguments_json"))
            if call.HasField("arguments_text"):
                yield from (Delta(arguments_text=piece) for piece in _take_text(call, "arguments_text"))
                call.arguments_text = ""
        case "tool_result":
            pieces = _take_text(block.tool_result, "structured_content_json")
            yield from (Delta(structured_content_json=piece) for piece in pieces)
        case "media":
            yield from _cut_media(block.media)
        case "redacted_thinking":
            data = block.redacted_thinking.data
            block.redacted_thinking.data = b""
            yield from (Delta(redacted_thinking=piece) for piece in _bytes_pieces(data))
        case None:
            pass


def _cut_media(media: content_pb2.MediaBlock) -> Iterator[Delta]:
    if media.HasField("data"):
        data = media.data
        media.data = b""
        yield from (Delta(media=chat_pb2.MediaDelta(data=piece)) for piece in _bytes_pieces(data))
    pieces = _take_text(media, "transcript")
    yield from (Delta(media=chat_pb2.MediaDelta(transcript=piece)) for piece in pieces)


_Texted = (
    content_pb2.TextBlock
    | content_pb2.ThinkingBlock
    | content_pb2.RefusalBlock
    | content_pb2.OpaqueBlock
    | content_pb2.ToolCallBlock
    | content_pb2.ToolResultBlock
    | content_pb2.MediaBlock
)


def _take_text(part: _Texted, field: str) -> Iterator[str]:
    text: str = getattr(part, field)
    part.ClearField(field)  # type: ignore[arg-type]  # the field names differ by message; each call names one of its own
    part.SetInParent()
    yield from _text_pieces(text)
