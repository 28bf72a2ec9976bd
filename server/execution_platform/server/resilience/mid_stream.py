"""Goes on with an answer that broke off after output, where the caller has asked for that."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.config.personas import MidStream
from execution_platform.server.resilience.fallback import Route
from execution_platform.server.resilience.journal import Entry, Journal
from execution_platform.server.routing.plan import Leg
from execution_platform.server.status import error_detail
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["Resuming"]

Event = chat_pb2.ChatEvent

_GO_ON = "Continue exactly where you stopped. Do not repeat anything and do not comment on the interruption."

#: Blocks that may have been sent of an answer that is gone on with. Others are tool calls, results of tools that a
#: provider has run, or may be: the next attempt might run them again.
_RESUMABLE = {
    MidStream.NEVER: frozenset[str](),
    MidStream.RESTART: frozenset({"text", "thinking", "redacted_thinking", "refusal", "media"}),
    MidStream.CONTINUE: frozenset({"text", "thinking", "redacted_thinking"}),
}


class Resuming:
    """Begins an answer anew, or behind its text so far, when it breaks off.

    Asks whoever comes behind the one that broke off; where nobody does, that one again, as far as it is retried at
    all. Resumes as often as there are legs, at most.

    Args:
        policy: RESTART or CONTINUE.
        legs: of the plan.
        route: makes the attempts at some legs, the first of which has failed already with an error, or not.
        journal: of the chat; tells which leg broke off.
    """

    def __init__(
        self,
        policy: MidStream,
        legs: Sequence[Leg],
        route: Callable[[Sequence[Leg], chat_pb2.AttemptCause.ValueType, AdapterError | None], Route],
        journal: Journal,
    ) -> None:
        self._policy = policy
        self._legs = list(legs)
        self._route = route
        self._journal = journal

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make attempts. Raises the AdapterError of the one that broke off, unless others were asked in vain."""
        sent = _Sent(self._policy)
        route = self._route(self._legs, chat_pb2.ATTEMPT_CAUSE_FALLBACK, None)
        broken: AdapterError | None = None
        for left in range(len(self._legs), -1, -1):
            output = False
            try:
                async with aclosing(route.stream(call)) as stream:
                    async for events in stream:
                        entry = self._journal.answering
                        if broken is not None and not output and entry is not None:
                            yield sent.resume(entry, broken)
                        output = True
                        yield sent.take(events)
                return  # noqa: TRY300 - the answer is complete; an else block would say so further away
            except AdapterError as error:
                if not output:
                    raise (error if broken is None or error.asked else broken) from None
                if not left or not sent.resumable or not error.decision.fall_back:
                    raise
                broken = error
            route = self._next(call, sent, broken)

    async def aclose(self) -> None:
        """Do nothing: the providers' adapters are shared."""

    def _next(self, call: Call, sent: _Sent, broken: AdapterError) -> Route:
        """Return the route to ask once an answer has broken off."""
        entry = self._journal.answering
        names = [leg.name for leg in self._legs]
        at = 0 if entry is None else names.index(entry.leg.name)
        sent.heard_of.add(names[at])
        legs = self._legs[at + 1 :]
        after = None if legs else broken
        legs = legs or [self._legs[at]]
        if self._policy is MidStream.CONTINUE:
            legs = [replace(leg, request=sent.continued(leg.request or call.request)) for leg in legs]
        return self._route(legs, chat_pb2.ATTEMPT_CAUSE_MID_STREAM, after)


class _Sent:
    """What the caller has seen of the answer.

    Attributes:
        resumable: nothing was sent after which the answer must not be gone on with.
        heard_of: names of the legs whose notices the caller has.
    """

    def __init__(self, policy: MidStream) -> None:
        self.resumable = True
        self.heard_of: set[str] = set()
        self._policy = policy
        self._resumed = False
        self._offset = 0
        self._next_index = 0
        #: Blocks of the answer since it began, the last time.
        self._blocks: list[int] = []
        #: Open blocks, and whether pieces of their metadata were sent.
        self._open: dict[int, bool] = {}
        #: Pieces of the answer's texts, and which block continues which text.
        self._texts: list[list[str]] = []
        self._text_of: dict[int, list[str]] = {}
        self._joins = False

    def take(self, events: Events) -> Events:
        """Return events as the caller shall see them: indexes go on behind the blocks that were sent before."""
        if self._resumed:
            events = [event for event in events if not event.HasField("started")]
        for event in events:
            match event.WhichOneof("event"):
                case "block_delta":
                    self._delta(event.block_delta)
                case "block_started":
                    self._start(event.block_started.block)
                case "block_stopped":
                    event.block_stopped.index += self._offset
                    self._open.pop(event.block_stopped.index, None)
                case "metadata_delta" if event.metadata_delta.HasField("index"):
                    event.metadata_delta.index += self._offset
                    self._open[event.metadata_delta.index] = True
                case _:
                    pass
        return events

    def resume(self, entry: Entry, broken: AdapterError) -> Events:
        """Return what tells the caller that an attempt goes on, before its first events.

        Args:
            entry: of the attempt.
            broken: what the one before it broke off with.
        """
        events = [self._stopped(index, cut) for index, cut in self._open.items()]
        kind = chat_pb2.ROUTE_CHANGE_KIND_CONTINUE
        void: list[int] = []
        if self._policy is MidStream.RESTART:
            kind = chat_pb2.ROUTE_CHANGE_KIND_RESTART
            void, self._blocks = self._blocks, []
        changed = chat_pb2.RouteChanged(
            route=entry.route(),
            origin=chat_pb2.ROUTE_CHANGE_ORIGIN_GATEWAY,
            reason=error_detail(broken).message,
            kind=kind,
            void_blocks=void,
        )
        events.append(Event(route_changed=changed))
        if entry.leg.name not in self.heard_of:
            events.extend(Event(notice=notice) for notice in entry.leg.notices)
        self._open, self._text_of = {}, {}
        self._offset = self._next_index
        self._resumed = self._joins = True
        return events

    def continued(self, request: chat_pb2.ChatRequest) -> chat_pb2.ChatRequest:
        """Return the request with the text so far behind it, and the wish to go on."""
        copy = chat_pb2.ChatRequest()
        copy.CopyFrom(request)
        # Providers refuse blocks without a word.
        texts = [text for text in map("".join, self._texts) if text.strip()]
        if texts:
            copy.messages.add(role=content_pb2.ROLE_ASSISTANT, content=map(_text_block, texts))
            copy.messages.add(role=content_pb2.ROLE_USER, content=[_text_block(_GO_ON)])
        return copy

    def _start(self, block: content_pb2.ContentBlock) -> None:
        block.index += self._offset
        self._next_index = max(self._next_index, block.index + 1)
        self._blocks.append(block.index)
        self._open[block.index] = False
        kind = block.WhichOneof("content")
        if kind not in _RESUMABLE[self._policy]:
            self.resumable = False
        if kind == "text" and self._policy is MidStream.CONTINUE:
            # What comes first after a break goes on with the text that it broke off in.
            if not (self._joins and self._texts):
                self._texts.append([])
            self._joins = False
            self._text_of[block.index] = self._texts[-1]
            self._texts[-1].append(block.text.text)

    def _delta(self, delta: chat_pb2.BlockDelta) -> None:
        if self._offset:
            delta.index += self._offset
        text = self._text_of.get(delta.index)
        if text is not None:
            text.append(delta.text)

    @staticmethod
    def _stopped(index: int, cut: bool) -> Event:
        stopped = chat_pb2.BlockStopped(index=index)
        if cut:
            # Instead of metadata of which only a part was sent.
            stopped.provider_metadata_json = ""
        return Event(block_stopped=stopped)


def _text_block(text: str) -> content_pb2.ContentBlock:
    return content_pb2.ContentBlock(text=content_pb2.TextBlock(text=text))
