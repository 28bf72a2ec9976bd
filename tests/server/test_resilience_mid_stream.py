"""Resuming: an answer that broke off begins anew or goes on, where the caller wants that; no tool is called twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from tests.server.attempts import (
    Event,
    Fake,
    Step,
    begin,
    finish,
    notice,
    started,
    stop,
    text,
    told_by,
    told_until_failure,
)

from execution_platform.adapters.errors import (
    AdapterError,
    CredentialsError,
    InvalidRequestError,
    OverloadedError,
    StreamBrokenError,
)
from execution_platform.adapters.spi import Call, Events
from execution_platform.adapters.testing import check_stream
from execution_platform.client.fold import Fold
from execution_platform.server.config.personas import MidStream
from execution_platform.server.errors import CircuitOpenError
from execution_platform.server.resilience.fallback import Fallback, Route, Steps
from execution_platform.server.resilience.held import Held
from execution_platform.server.resilience.journal import Journal
from execution_platform.server.resilience.mid_stream import Resuming
from execution_platform.server.routing.plan import Leg
from execution_platform.v1 import chat_pb2, content_pb2

CUT = StreamBrokenError("the script breaks")
RESTART, CONTINUE = MidStream.RESTART, MidStream.CONTINUE

HELLO: Sequence[Step] = [[started("m-1"), begin(), text("Hello ")], [text("wor")], CUT]
AGAIN: Sequence[Step] = [[started("m-2"), begin(), text("Hello world"), stop()], [finish()]]
BEHIND: Sequence[Step] = [[begin(), text("ld"), stop(), finish()]]

ASKED = chat_pb2.ChatRequest(messages=[content_pb2.Message(role=content_pb2.ROLE_USER)])
CALL = Call(ASKED, "m", "id")


class Attempt:
    """Asks a fake as a leg of a route does, with its entry in the journal."""

    def __init__(self, leg: Leg, fake: Fake, journal: Journal, cause: chat_pb2.AttemptCause.ValueType) -> None:
        self._leg, self._fake, self._journal, self._cause = leg, fake, journal, cause

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make the attempt."""
        entry = self._journal.begin(self._leg, self._cause)
        call = Call(self._leg.request or call.request, self._leg.model)
        try:
            async with aclosing(Held(self._fake, entry).stream(call)) as stream:
                async for events in stream:
                    self._journal.answering = entry
                    yield events
        except AdapterError as error:
            outcome = chat_pb2.ATTEMPT_OUTCOME_FAILED if error.asked else chat_pb2.ATTEMPT_OUTCOME_SKIPPED
            entry.end(outcome, error)
            raise


@dataclass
class Chat:
    """A chat that may ask some fakes in turn, each a leg; a fake's name is its place in the alphabet."""

    policy: MidStream
    fakes: Sequence[Fake]
    notices: Sequence[str] = ()
    journal: Journal = field(default_factory=Journal)
    afters: list[AdapterError | None] = field(default_factory=list)

    def resuming(self) -> Resuming:
        """What is tried."""
        return Resuming(self.policy, self.legs(), self._route, self.journal)

    def legs(self) -> list[Leg]:
        """Who may be asked."""
        told = tuple(chat_pb2.Notice(message=message) for message in self.notices)
        return [Leg("abc"[at], "m", "r", notices=told) for at in range(len(self.fakes))]

    async def told(self) -> Events:
        """All events of an answer that ends well."""
        return [event for events in await told_by(self.resuming(), CALL) for event in events]

    async def failed(self) -> tuple[Events, AdapterError]:
        """All events of one that does not, and its failure."""
        lists, error = await told_until_failure(self.resuming(), CALL)
        return [event for events in lists for event in events], error

    def _route(self, legs: Sequence[Leg], cause: chat_pb2.AttemptCause.ValueType, after: AdapterError | None) -> Route:
        self.afters.append(after)
        causes = [cause, *(chat_pb2.ATTEMPT_CAUSE_FALLBACK for _ in legs)]
        fakes = {leg.name: fake for leg, fake in zip(self.legs(), self.fakes, strict=True)}
        routes: list[tuple[Leg, Route]] = [
            (leg, Attempt(leg, fakes[leg.name], self.journal, why)) for leg, why in zip(legs, causes, strict=False)
        ]
        return Fallback(routes, Steps(lambda *_: None))


def chat(policy: MidStream, *attempts: Sequence[Step], notices: Sequence[str] = ()) -> Chat:
    """A chat of as many legs as there are lists of steps, each doing the same every time."""
    return Chat(policy, [Fake(steps) for steps in attempts], notices)


def folded(events: Events) -> chat_pb2.CompleteChatResponse:
    """What a client makes of it."""
    fold = Fold()
    fold.add_all(events)
    return fold.response


def changes(events: Events) -> list[chat_pb2.RouteChanged]:
    """The changes of route."""
    return [event.route_changed for event in events if event.HasField("route_changed")]


def texts(response: chat_pb2.CompleteChatResponse) -> list[str]:
    """The text of each block of a message."""
    return [block.text.text for block in response.message.content]


async def test_restart_names_who_goes_on_and_what_is_void() -> None:
    """The open block is stopped, the change names the next leg and the void blocks, and the client keeps the rest."""
    told = await chat(RESTART, HELLO, AGAIN).told()
    kinds = [event.WhichOneof("event") for event in told]
    assert kinds == [
        "started", "block_started", "block_delta", "block_delta",
        "block_stopped", "route_changed",
        "block_started", "block_delta", "block_stopped", "finished",
    ]  # fmt: skip
    [change] = changes(told)
    assert change.kind == chat_pb2.ROUTE_CHANGE_KIND_RESTART
    assert change.origin == chat_pb2.ROUTE_CHANGE_ORIGIN_GATEWAY
    assert list(change.void_blocks) == [0]
    assert (change.route.provider, change.route.served_model, change.route.region) == ("b", "m-2", "r")
    assert change.reason == "the script breaks"
    assert texts(folded(told)) == ["Hello world"]
    check_stream([told])


async def test_continue_shows_the_text_so_far_and_asks_to_go_on() -> None:
    """The next one gets the conversation, the text as the model's words, and the wish; nothing of it is void."""
    talk = chat(CONTINUE, HELLO, BEHIND)
    told = await talk.told()
    [change] = changes(told)
    assert (change.kind, list(change.void_blocks)) == (chat_pb2.ROUTE_CHANGE_KIND_CONTINUE, [])
    assert texts(folded(told)) == ["Hello wor", "ld"]
    asked = talk.fakes[1].calls[0].request
    assert asked.messages[0] == ASKED.messages[0]
    assert [message.role for message in asked.messages[1:]] == [content_pb2.ROLE_ASSISTANT, content_pb2.ROLE_USER]
    assert [block.text.text for block in asked.messages[1].content] == ["Hello wor"]
    assert "Continue exactly where you stopped" in asked.messages[2].content[0].text.text
    assert len(ASKED.messages) == 1
    check_stream([told])


async def test_a_text_that_went_on_is_shown_as_one() -> None:
    """After two breaks the third one sees one text, not the pieces in which it came; other blocks stay apart."""
    thought: Sequence[Step] = [
        [begin(0, "thinking"), stop(0), begin(1), text("One. ", 1), stop(1), begin(2), text("Two", 2)],
        CUT,
    ]
    more: Sequence[Step] = [[begin(), text(", and")], CUT]
    talk = chat(CONTINUE, thought, more, [[begin(), text(" three."), stop(), finish()]])
    told = await talk.told()
    assert [block.text.text for block in talk.fakes[2].calls[0].request.messages[1].content] == ["One. ", "Two, and"]
    assert texts(folded(told)) == ["", "One. ", "Two", ", and", " three."]
    assert [block.index for block in folded(told).message.content] == [0, 1, 2, 3, 4]


async def test_without_a_word_so_far_nothing_is_put_into_the_models_mouth() -> None:
    """Where only thoughts or blanks came, the next one gets the conversation as it was."""
    talk = chat(CONTINUE, [[begin(0, "thinking"), stop(), begin(1), text(" \n", 1)], CUT], AGAIN)
    await talk.told()
    assert talk.fakes[1].calls[0].request == ASKED


async def test_indexes_rise_over_several_restarts() -> None:
    """Each restart voids what came since the one before, and blocks are never numbered twice."""
    two: Sequence[Step] = [[started(), begin(0), text("x"), stop(0), begin(1), text("y", 1)], CUT]
    told = await chat(RESTART, two, two, AGAIN).told()
    assert [list(change.void_blocks) for change in changes(told)] == [[0, 1], [2, 3]]
    begun = [event.block_started.block.index for event in told if event.HasField("block_started")]
    assert begun == [0, 1, 2, 3, 4]
    assert texts(folded(told)) == ["Hello world"]
    check_stream([told])


async def test_only_who_really_goes_on_is_named() -> None:
    """A leg that fails before its output is fallen back from; the change names the one behind it, and comes once."""
    talk = chat(RESTART, HELLO, [OverloadedError("full")], AGAIN)
    told = await talk.told()
    assert [change.route.provider for change in changes(told)] == ["c"]
    causes = [entry.cause for entry in talk.journal.entries]
    assert causes == [
        chat_pb2.ATTEMPT_CAUSE_FIRST,
        chat_pb2.ATTEMPT_CAUSE_MID_STREAM,
        chat_pb2.ATTEMPT_CAUSE_FALLBACK,
    ]


async def test_nobody_goes_on_and_nothing_is_said_of_it() -> None:
    """Where all others fail, what the caller has stays as it is, and the last failure is told."""
    full = OverloadedError("full")
    told, error = await chat(RESTART, HELLO, [full]).failed()
    assert error is full
    assert changes(told) == []
    told, error = await chat(RESTART, HELLO, [CircuitOpenError("open", retry_after=1)]).failed()
    assert error is CUT
    assert changes(told) == []


async def test_the_last_one_is_asked_again_as_a_retry() -> None:
    """Behind the last leg comes that leg itself, which has to be waited and paid for as any retry."""
    talk = Chat(RESTART, [Fake(HELLO, AGAIN)])
    told = await talk.told()
    assert talk.afters == [None, CUT]
    assert texts(folded(told)) == ["Hello world"]
    talk = Chat(RESTART, [Fake([OverloadedError("m")]), Fake(HELLO, AGAIN)])
    assert texts(folded(await talk.told())) == ["Hello world"]
    assert [leg.provider for leg in (entry.leg for entry in talk.journal.entries)] == ["a", "b", "b"]


@pytest.mark.parametrize("legs", [1, 2, 3])
async def test_there_is_an_end(legs: int) -> None:
    """A chat whose every attempt breaks off ends with that, after as many resumes as there are legs."""
    talk = chat(RESTART, *[HELLO] * legs)
    told, error = await talk.failed()
    assert error is CUT
    assert sum(len(fake.calls) for fake in talk.fakes) == legs + 1
    assert len(changes(told)) == legs


@pytest.mark.parametrize("policy", [RESTART, CONTINUE])
@pytest.mark.parametrize("kind", ["tool_call", "tool_result", "opaque"])
async def test_no_tool_is_called_twice(policy: MidStream, kind: str) -> None:
    """Once a call has begun, also of a tool that the provider runs, the answer is not gone on with."""
    talk = chat(policy, [[begin(), text("a"), stop(), begin(1, kind)], CUT], AGAIN)
    told, error = await talk.failed()
    assert error is CUT
    assert changes(told) == []
    assert not talk.fakes[1].calls


@pytest.mark.parametrize(("policy", "resumes"), [(RESTART, True), (CONTINUE, False)])
@pytest.mark.parametrize("kind", ["media", "refusal"])
async def test_what_is_no_text_cannot_be_gone_on_with(policy: MidStream, resumes: bool, kind: str) -> None:
    """Media and refusals can be made anew, but nobody can go on behind them."""
    talk = chat(policy, [[begin(0, kind)], CUT], AGAIN)
    if resumes:
        assert len(changes(await talk.told())) == 1
    else:
        assert (await talk.failed())[1] is CUT


@pytest.mark.parametrize("error", [InvalidRequestError("m"), CredentialsError("m")])
async def test_what_is_not_taken_elsewhere_before_output_is_not_after(error: AdapterError) -> None:
    """The kind of the failure decides here as it does before the first output."""
    talk = chat(RESTART, [[begin()], error], AGAIN)
    if error.decision.fall_back:
        await talk.told()
    else:
        assert (await talk.failed())[1] is error


async def test_output_without_blocks_can_be_begun_anew() -> None:
    """An answer that broke off before its first block is begun anew like any other; nothing is void."""
    piece = Event(metadata_delta=chat_pb2.MetadataDelta(provider_metadata_json='{"a":'))
    told = await chat(RESTART, [[piece], CUT], AGAIN).told()
    assert [list(change.void_blocks) for change in changes(told)] == [[]]
    assert texts(folded(told)) == ["Hello world"]
    assert folded(told).finished.provider_metadata_json == ""


async def test_half_of_a_blocks_metadata_is_taken_back() -> None:
    """A block whose metadata came in part is stopped without any: half of a JSON object is none."""
    piece = Event(metadata_delta=chat_pb2.MetadataDelta(index=0, provider_metadata_json='{"a":'))
    told = await chat(CONTINUE, [[begin(), text("Hello wor"), piece], CUT], BEHIND).told()
    assert folded(told).message.content[0].provider_metadata_json == ""


async def test_notices_of_the_next_leg_are_told() -> None:
    """What the next leg had to leave out is told when it goes on, and what it says itself as well."""
    talk = chat(RESTART, HELLO, [[notice("mine"), begin()], [finish()]], notices=["left out"])
    told = await talk.told()
    assert [event.notice.message for event in told if event.HasField("notice")] == ["left out", "mine"]


async def test_an_unbroken_answer_is_as_it_was() -> None:
    """Nothing is changed or added while nothing breaks."""
    for policy in (RESTART, CONTINUE):
        told = await chat(policy, AGAIN, HELLO).told()
        assert told == [event for events in AGAIN if isinstance(events, list) for event in events]
