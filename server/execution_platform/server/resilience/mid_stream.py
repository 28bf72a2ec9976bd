"""Goes on elsewhere with an answer that broke off after output, where the caller has asked for that."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.config.personas import MidStream
from execution_platform.server.resilience.fallback import Route
from execution_platform.server.resilience.journal import Journal
from execution_platform.server.routing.plan import Leg
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["Resuming"]

Event = chat_pb2.ChatEvent

_GO_ON = "Continue exactly where you stopped. Do not repeat anything and do not comment on the interruption."


class Resuming:
    """Begins an answer anew, or behind its text so far, when it breaks off.

    Never once a tool call has begun: the caller might call the tool twice. A chat resumes once for each leg at most.

    Args:
        policy: RESTART or CONTINUE.
        legs: of the plan.
        route: makes the attempts at some legs.
        journal: of the chat; tells which leg broke off.
    """

    def __init__(
        self,
        policy: MidStream,
        legs: Sequence[Leg],
        route: Callable[[Sequence[Leg], chat_pb2.AttemptCause.ValueType], Route],
        journal: Journal,
    ) -> None:
        self._policy = policy
        self._legs = list(legs)
        self._route = route
        self._journal = journal

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make attempts. Raises AdapterError."""
        legs: Sequence[Leg] = self._legs
        asked = call
        cause = chat_pb2.ATTEMPT_CAUSE_FALLBACK
        sent = _Sent()
        for left in range(len(self._legs), -1, -1):
            try:
                async with aclosing(self._route(legs, cause).stream(asked)) as stream:
                    async for events in stream:
                        yield sent.take(events)
                return  # noqa: TRY300 - the answer is complete; an else block would say so further away
            except AdapterError as error:
                broken = self._journal.current
                if not left or broken is None or not sent.blocks or sent.tool_called or not error.decision.fall_back:
                    raise
                legs = self._after(broken.leg)
                cause = chat_pb2.ATTEMPT_CAUSE_MID_STREAM
                reason = error.message
            yield sent.interrupt(self._policy, legs[0], reason)
            if self._policy is MidStream.CONTINUE:
                asked = replace(call, request=sent.continued(call.request))
                legs = [replace(leg, request=sent.continued(leg.request or call.request)) for leg in legs]
            else:
                sent.forget()

    async def aclose(self) -> None:
        """Do nothing: the providers' adapters are shared."""

    def _after(self, broken: Leg) -> list[Leg]:
        """Return the legs behind the one that broke off, then that one: it may be back."""
        names = [leg.name for leg in self._legs]
        at = names.index(broken.name) if broken.name in names else 0
        return [*self._legs[at + 1 :], self._legs[at]]


class _Sent:
    """What the caller has seen of the answer: its blocks, and their text."""

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.tool_called = False
        self._open: list[int] = []
        self._text: dict[int, str] = {}
        self._offset = 0
        self._resumed = False

    def take(self, events: Events) -> Events:
        """Return events as the caller shall see them: indexes go on behind the blocks that were sent before."""
        return [event for event in events if self._keep(event)]

    def _keep(self, event: Event) -> bool:
        match event.WhichOneof("event"):
            case "block_started":
                block = event.block_started.block
                block.index += self._offset
                self.blocks.append(block.index)
                self._open.append(block.index)
                if block.WhichOneof("content") == "tool_call":
                    self.tool_called = True
                elif block.WhichOneof("content") == "text":
                    self._text[block.index] = block.text.text
            case "block_delta":
                delta = event.block_delta
                delta.index += self._offset
                if delta.WhichOneof("delta") == "text":
                    self._text[delta.index] = self._text.get(delta.index, "") + delta.text
            case "block_stopped":
                event.block_stopped.index += self._offset
                self._open.remove(event.block_stopped.index)
            case "metadata_delta" if event.metadata_delta.HasField("index"):
                event.metadata_delta.index += self._offset
            case "started":
                return not self._resumed
            case _:
                pass
        return True

    def interrupt(self, policy: MidStream, leg: Leg, reason: str) -> Events:
        """Return what tells the caller that another attempt goes on."""
        events = [Event(block_stopped=chat_pb2.BlockStopped(index=index)) for index in self._open]
        changed = chat_pb2.RouteChanged(
            route=chat_pb2.Route(provider=leg.provider, model=leg.model, region=leg.region),
            origin=chat_pb2.ROUTE_CHANGE_ORIGIN_GATEWAY,
            reason=reason,
            kind=chat_pb2.ROUTE_CHANGE_KIND_RESTART,
        )
        if policy is MidStream.CONTINUE:
            changed.kind = chat_pb2.ROUTE_CHANGE_KIND_CONTINUE
        else:
            changed.void_blocks.extend(self.blocks)
        self._open = []
        self._offset = max(self.blocks) + 1
        self._resumed = True
        return [*events, Event(route_changed=changed)]

    def forget(self) -> None:
        """Take what was sent for void."""
        self.blocks, self._text = [], {}

    def continued(self, request: chat_pb2.ChatRequest) -> chat_pb2.ChatRequest:
        """Return the request with the text so far behind it, and the wish to go on."""
        text = "".join(self._text[index] for index in sorted(self._text))
        copy = chat_pb2.ChatRequest()
        copy.CopyFrom(request)
        if text:
            for role, said in ((content_pb2.ROLE_ASSISTANT, text), (content_pb2.ROLE_USER, _GO_ON)):
                block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=said))
                copy.messages.append(content_pb2.Message(role=role, content=[block]))
        return copy
