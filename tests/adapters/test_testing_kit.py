"""The conformance kit lets a right adapter pass, and catches every fault that an adapter can have."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable

import pytest

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import (
    AdapterError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RateLimitedError,
    StreamBrokenError,
)
from execution_platform.adapters.scripted import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events
from execution_platform.adapters.testing import (
    Answer,
    ConformanceError,
    check_adapter,
    check_stream,
    check_translation,
    same_answer,
)
from execution_platform.adapters.usage import UsageItems
from execution_platform.adapters.wire import SseDecoder, decode_json
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

Event = chat_pb2.ChatEvent
Block = content_pb2.ContentBlock
STOP = chat_pb2.FINISH_REASON_STOP
OTHER = chat_pb2.FINISH_REASON_OTHER


def started() -> Event:
    return Event(started=chat_pb2.Started())


def finished(**fields: object) -> Event:
    return Event(finished=chat_pb2.Finished(**{"reason": STOP, **fields}))  # type: ignore[arg-type]  # checked by proto


def block(index: int = 0, family: str = "demo", **content: object) -> Event:
    content = content or {"text": content_pb2.TextBlock()}
    made = Block(index=index, family=family, **content)  # type: ignore[arg-type]  # checked by proto
    return Event(block_started=chat_pb2.BlockStarted(block=made))


def text(words: str, index: int = 0) -> Event:
    return Event(block_delta=chat_pb2.BlockDelta(index=index, text=words))


def delta(**fields: object) -> Event:
    return Event(block_delta=chat_pb2.BlockDelta(**fields))  # type: ignore[arg-type]  # checked by proto


def stopped(index: int = 0, metadata: str | None = None) -> Event:
    return Event(block_stopped=chat_pb2.BlockStopped(index=index, provider_metadata_json=metadata))


def usage_of(*items: tuple[usage_pb2.UsageKind.ValueType, int], raw: str = "") -> usage_pb2.Usage:
    return usage_pb2.Usage(
        items=[
            usage_pb2.UsageItem(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=quantity)
            for kind, quantity in items
        ],
        provider_usage_json=raw,
    )


def used(*items: tuple[usage_pb2.UsageKind.ValueType, int], raw: str = "") -> Event:
    return Event(usage_updated=chat_pb2.UsageUpdated(usage=usage_of(*items, raw=raw)))


def call_block(name: str = "f", call_id: str = "c") -> Event:
    return block(tool_call=content_pb2.ToolCallBlock(name=name, call_id=call_id))


IN = usage_pb2.USAGE_KIND_INPUT
READ = usage_pb2.USAGE_KIND_CACHE_READ
OUT = usage_pb2.USAGE_KIND_OUTPUT
REASONING = usage_pb2.USAGE_KIND_REASONING

FAULTS: dict[str, tuple[list[Events], str]] = {
    "nothing": ([], "nothing came"),
    "empty list": ([[started()], [], [finished()]], "non-empty lists"),
    "empty event": ([[started(), Event(), finished()]], "says what happened"),
    "numbered": ([[Event(sequence=1, started=chat_pb2.Started())]], "sequence"),
    "late start": ([[block(), started()]], "before started"),
    "two starts": ([[started(), started()]], "exactly once"),
    "no end": ([[started(), block(), text("a"), stopped()]], "exactly one finished"),
    "two ends": ([[started(), finished(), finished()]], "after finished"),
    "end with open block": ([[started(), block(), finished()]], "are open"),
    "end without reason": ([[started(), Event(finished=chat_pb2.Finished())]], "has a reason"),
    "server's heartbeat": ([[started(), Event(heartbeat=chat_pb2.Heartbeat())]], "server's to send"),
    "server's failed": ([[started(), Event(failed=chat_pb2.Failed())]], "server's to send"),
    "server's timing": ([[started(), finished(timing=chat_pb2.Timing())]], "server's to fill"),
    "server's attempts": ([[started(), finished(attempts=[chat_pb2.Attempt()])]], "server's to fill"),
    "skipped index": ([[started(), block(1)]], "indexes rise"),
    "index again": ([[started(), block(0), stopped(0), block(0)]], "indexes rise"),
    "no content": ([[started(), Event(block_started=chat_pb2.BlockStarted(block=Block(family="x")))]], "content"),
    "no family": ([[started(), block(family="")]], "no family"),
    "unnamed call": ([[started(), call_block(name="")]], "has a name"),
    "call without id": ([[started(), call_block(call_id="")]], "call_id"),
    "delta before block": ([[started(), text("a")]], "not open"),
    "delta after block": ([[started(), block(), stopped(), text("a")]], "not open"),
    "stop twice": ([[started(), block(), stopped(), stopped()]], "not open"),
    "foreign delta": ([[started(), block(), delta(thinking="x")]], "does not belong"),
    "empty delta": ([[started(), block(), delta()]], "brings nothing"),
    "headless state": ([[started(), block(), delta(state_data=b"x")]], "without a state"),
    "certain beyond 1": (
        [[started(), block(), delta(text="a", logprobs=[content_pb2.TokenLogprob(logprob=0.5)])]],
        "above 0",
    ),
    "too large": ([[started(), block(), text("x" * (1 << 20))]], "1 MiB"),
    "broken citation": (
        [[started(), block(), delta(citation=content_pb2.Citation(raw_json="{"))]],
        "citation.raw_json: not JSON",
    ),
    "broken metadata": ([[started(), block(), stopped(metadata="{")]], "not JSON"),
    "metadata that is no object": ([[started(), block(), stopped(metadata="[]")]], "JSON object"),
    "broken answer metadata": ([[started(), finished(provider_metadata_json="no")]], "not JSON"),
    "notice without code": ([[started(), Event(notice=chat_pb2.Notice())]], "has a code"),
    "provider event of nobody": ([[started(), Event(provider_event=chat_pb2.ProviderEvent())]], "names its provider"),
    "usage of nothing": ([[started(), used((IN, 0))]], "has no item"),
    "usage without kind": ([[started(), used((usage_pb2.USAGE_KIND_UNSPECIFIED, 1))]], "a kind and a unit"),
    "usage not merged": ([[started(), used((IN, 1), (IN, 2))]], "merge them"),
    "final usage missing": ([[started(), used((OUT, 5)), finished()]], "usage is missing"),
    "counted twice": (
        [[started(), used((IN, 10), (READ, 8), (OUT, 2), raw='{"total_tokens":12}')]],
        "not disjoint",
    ),
    "usage not JSON": ([[started(), used((IN, 1), raw="{")]], "not JSON"),
    "own price": (
        [[started(), finished(cost=usage_pb2.Cost(lines=[usage_pb2.CostLine()]))]],
        "what the provider states",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_stream_is_caught(name: str) -> None:
    """A stream with one broken promise fails with a message that names it."""
    lists, message = FAULTS[name]
    with pytest.raises(ConformanceError, match=message):
        check_stream(lists)


def test_a_right_stream_passes_and_is_put_together() -> None:
    """Interleaved blocks of every kind pass, and the answer holds their joined deltas."""
    call_text = content_pb2.ToolCallBlock(name="g", call_id="d")
    lists = [
        [started(), Event(notice=chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PARAM_DROPPED))],
        [block(0), text("a"), block(1, thinking=content_pb2.ThinkingBlock()), delta(index=1, thinking="t")],
        [text("b"), delta(index=1, state=content_pb2.OpaqueState(kind="s", data=b"1"))],
        [delta(index=1, state_data=b"2"), delta(citation=content_pb2.Citation(uri="u", raw_json="{}"))],
        [stopped(0, metadata='{"k":1}'), stopped(1)],
        [block(2, tool_call=content_pb2.ToolCallBlock(name="f", call_id="c")), delta(index=2, arguments_json="{}")],
        [stopped(2), block(3, media=content_pb2.MediaBlock(data=b"x"))],
        [
            delta(index=3, media=chat_pb2.MediaDelta(data=b"y")),
            delta(index=3, media=chat_pb2.MediaDelta(transcript="h")),
        ],
        [stopped(3), block(4, refusal=content_pb2.RefusalBlock()), delta(index=4, refusal="no"), stopped(4)],
        [block(5, opaque=content_pb2.OpaqueBlock()), delta(index=5, opaque_json="1"), stopped(5)],
        [block(6, redacted_thinking=content_pb2.RedactedThinkingBlock()), delta(index=6, redacted_thinking=b"r")],
        [stopped(6), block(7, tool_result=content_pb2.ToolResultBlock())],
        [delta(index=7, structured_content_json="{}"), stopped(7)],
        [block(8, tool_call=call_text), delta(index=8, arguments_text="x"), stopped(8), block(9)],
        [delta(index=9, logprobs=[content_pb2.TokenLogprob(token="", logprob=-1.0)]), stopped(9)],
        [Event(provider_event=chat_pb2.ProviderEvent(provider="demo")), Event(route_changed=chat_pb2.RouteChanged())],
        [used((IN, 3), (OUT, 4)), used((IN, 3), (OUT, 2), (REASONING, 3))],
        [finished(usage=usage_of((IN, 3), (OUT, 2), (REASONING, 3), raw='{"total_tokens":8}'))],
    ]
    answer = check_stream(lists, family="demo")
    assert answer.text() == "ab"
    assert answer.blocks[0].citations[0].uri == "u"
    assert answer.blocks[0].provider_metadata_json == '{"k":1}'
    assert answer.blocks[1].thinking.text == "t"
    assert answer.blocks[1].states[0].data == b"12"
    assert answer.blocks[2].tool_call.arguments_json == "{}"
    assert (answer.blocks[3].media.data, answer.blocks[3].media.transcript) == (b"xy", "h")
    assert answer.blocks[4].refusal.text == "no"
    assert answer.blocks[5].opaque.json == "1"
    assert answer.blocks[6].redacted_thinking.data == b"r"
    assert answer.blocks[7].tool_result.structured_content_json == "{}"
    assert answer.blocks[8].tool_call.arguments_text == "x"
    assert answer.logprobs[9][0].logprob == -1.0
    assert [len(answer.notices), len(answer.provider_events)] == [1, 1]
    with pytest.raises(ConformanceError, match="family"):
        check_stream(lists, family="other")


def test_a_provider_may_correct_its_counts() -> None:
    """What is told later replaces what was told before, also where it is less."""
    lists = [[started(), used((IN, 5), (OUT, 2)), used((IN, 3))], [finished(usage=usage_of((IN, 2)))]]
    answer = check_stream(lists)
    assert answer.usage is not None
    assert [(item.kind, item.quantity) for item in answer.usage.items] == [(IN, 2)]


def test_a_server_whose_total_leaves_something_out_can_be_allowed() -> None:
    """Usage that exceeds the stated total passes where the server is known to tell it so."""
    lists, _ = FAULTS["counted twice"]
    assert check_stream(lists, complete=False, exact_usage=False).usage is not None
    with pytest.raises(ConformanceError):
        check_stream(lists, complete=False)


def test_a_broken_off_stream_may_lack_its_end() -> None:
    """What came before a failure passes without finished and with open blocks."""
    assert check_stream([[started(), block(), text("a")]], complete=False).text() == "a"
    assert check_stream([], complete=False).started is None


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[started(), block(), text("b"), stopped(), finished()]], "differ in block 0"),
        ([[started(), finished()]], "differ in their blocks"),
        (
            [[started(), block(), text("a"), stopped(), finished(reason=chat_pb2.FINISH_REASON_OTHER)]],
            "end differently",
        ),
        ([[started(), block(), text("a"), stopped(), finished(usage=usage_of((IN, 1)))]], "differ in usage"),
    ],
)
def test_two_answers_that_differ_are_caught(lists: list[Events], message: str) -> None:
    """Comparing two answers names the first thing in which they differ."""
    one = check_stream([[started(), block(), text("a"), stopped(), finished()]])
    same_answer(one, one)
    with pytest.raises(ConformanceError, match=message):
        same_answer(one, check_stream(lists))
    with pytest.raises(ConformanceError, match="fail differently"):
        same_answer(one, Answer(one.blocks, one.started, one.finished, error=ProtocolError("x")))


def test_minted_call_ids_may_differ() -> None:
    """Two answers are the same although the platform minted other call ids, but not if the provider gave other ones."""

    def answer(call_id: str, *, minted: bool) -> Answer:
        call = content_pb2.ToolCallBlock(name="f", call_id=call_id, call_id_minted=minted)
        return check_stream([[started(), block(tool_call=call), stopped(), finished()]])

    same_answer(answer("a", minted=True), answer("b", minted=True))
    with pytest.raises(ConformanceError, match="block 0"):
        same_answer(answer("a", minted=False), answer("b", minted=False))


# --- translations -----------------------------------------------------------------------------------------------------


class Demo:
    """A right translation of a small format: SSE data {"t": text}, {"n": tokens}, {"e": 1}, then {"end": 1}."""

    def __init__(self) -> None:
        self.sse = SseDecoder()
        self.writer = AnswerWriter("demo")
        self.usage = UsageItems()
        self.over = False

    def feed(self, data: bytes) -> Events:
        try:
            for event in self.sse.feed(data):
                self.say(decode_json(event.data))
        except AdapterError as error:
            error.events = self.writer.take()
            raise
        return self.writer.take()

    def end(self) -> Events:
        if not self.over:
            raise StreamBrokenError("no end")
        return []

    def whole(self, body: bytes) -> Events:
        said = decode_json(body)
        if not isinstance(said, list):
            raise ProtocolError("no list")
        for one in said:
            self.say(one)
        self.end()
        return self.writer.take()

    def say(self, said: object) -> None:
        if not isinstance(said, dict):
            raise ProtocolError("no object")
        if not self.writer.block_count:
            self.writer.emit(started())
            self.writer.open(Block(text=content_pb2.TextBlock()))
        if isinstance(said.get("t"), str):
            self.writer.text(0, said["t"])
        if isinstance(said.get("n"), int):
            self.usage.add(OUT, said["n"])
        if "e" in said:
            raise OverloadedError("e")
        if "end" in said and not self.over:
            self.over = True
            self.writer.stop_all()
            self.writer.emit(Event(finished=chat_pb2.Finished(reason=STOP, usage=self.usage.usage())))


def sse(*said: object) -> bytes:
    return b"".join(b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\n\n" for one in said)


SAID = ({"t": "Grüße, "}, {"t": "world 🌍"}, {"n": 7}, {"end": 1})


def test_a_right_translation_passes() -> None:
    """A translation that keeps its promises passes on a stream and a body that say the same."""
    answer = check_translation(Demo, stream=sse(*SAID), whole=json.dumps(SAID).encode(), family="demo")
    assert answer.text() == "Grüße, world 🌍"


def test_a_right_failure_passes() -> None:
    """A translation that raises the error which the answer tells passes."""
    stream = sse({"t": "a"}, {"e": 1})
    assert check_translation(Demo, stream=stream, error=OverloadedError).text() == "a"
    body = json.dumps([{"t": "a"}, {"e": 1}]).encode()
    assert isinstance(check_translation(Demo, whole=body, error=OverloadedError).error, OverloadedError)


class DecodesPieces(Demo):
    """Decodes each piece as text, so that a character cut in two is lost."""

    def feed(self, data: bytes) -> Events:
        return super().feed(data.decode("utf-8", "replace").encode())


class ForgetsPieces(Demo):
    """Starts afresh with each piece, so that an event cut in two is lost."""

    def feed(self, data: bytes) -> Events:
        self.sse = SseDecoder()
        return super().feed(data)


class NeverBroken(Demo):
    """Ends a stream that broke off as if it were complete."""

    def end(self) -> Events:
        if self.writer.block_count and not self.over:
            self.say({"end": 1})
        return self.writer.take()


class Foreign(Demo):
    """Lets errors of its own code escape on bytes that it does not expect."""

    def feed(self, data: bytes) -> Events:
        for event in self.sse.feed(data):
            self.say(json.loads(event.data))
        return self.writer.take()


class ForeignWhole(Demo):
    """Lets errors of its own code escape on bodies that it does not expect."""

    def whole(self, body: bytes) -> Events:
        for one in json.loads(body):
            self.say(one)
        return self.writer.take()


class GuessesWhole(Demo):
    """Takes a body that ends early for a whole one."""

    def whole(self, body: bytes) -> Events:
        try:
            return super().whole(body)
        except AdapterError:
            self.say({"end": 1})
            return self.writer.take()


class ForgetsUsage(Demo):
    """Tells no usage of a whole body."""

    def whole(self, body: bytes) -> Events:
        events = super().whole(body)
        events[-1].finished.ClearField("usage")
        return events


class LosesWhatCameBefore(Demo):
    """Loses what was said before an error if both come in one piece."""

    def feed(self, data: bytes) -> Events:
        try:
            return super().feed(data)
        except AdapterError as error:
            error.events = []
            raise


class ErrorsAreEnds(Demo):
    """Takes the provider's error for an end."""

    def say(self, said: object) -> None:
        super().say({"end": 1} if isinstance(said, dict) and "e" in said else said)


class WrongError(Demo):
    """Maps the provider's error to another class."""

    def say(self, said: object) -> None:
        try:
            super().say(said)
        except OverloadedError as error:
            raise RateLimitedError("e") from error


class ClockedNotice(Demo):
    """Tells how many pieces came, so that cuts change what it says."""

    def feed(self, data: bytes) -> Events:
        events = super().feed(data)
        if self.writer.block_count and not self.over:
            events.append(Event(notice=chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PROVIDER_WARNING)))
        return events


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (DecodesPieces, "differ in block"),
        (ForgetsPieces, "JSON|differ|failed"),
        (NeverBroken, "ended early"),
        (Foreign, "only AdapterError may escape"),
        (ForeignWhole, "only AdapterError may escape"),
        (GuessesWhole, "ends early"),
        (ForgetsUsage, "differ in usage"),
        (ClockedNotice, "differ in notices"),
    ],
)
def test_each_fault_of_a_translation_is_caught(faulty: type[Demo], message: str) -> None:
    """A translation with one fault fails with a message that names it."""
    with pytest.raises(ConformanceError, match=message):
        check_translation(faulty, stream=sse(*SAID), whole=json.dumps(SAID).encode(), seeds=range(20))


def test_damage_may_make_a_translation_say_nonsense() -> None:
    """Damaged bytes that make a translation break its promises are no fault, as long as nothing foreign is raised."""

    class Credulous(Demo):
        def say(self, said: object) -> None:
            super().say(said)
            if isinstance(said, dict) and not {"t", "n", "e", "end"} & set(said):
                self.writer.emit(started())

    check_translation(Credulous, stream=sse(*SAID), seeds=range(60))


@pytest.mark.parametrize("faulty", [ErrorsAreEnds, WrongError])
def test_a_wrong_failure_is_caught(faulty: type[Demo]) -> None:
    """A translation that turns an error into an end or another error fails."""
    with pytest.raises(ConformanceError, match="OverloadedError was to be raised"):
        check_translation(faulty, stream=sse({"t": "a"}, {"e": 1}, {"end": 1}), error=OverloadedError)


def test_what_an_error_must_not_swallow_is_missed() -> None:
    """A translation that drops what came before an error in the same piece fails."""
    with pytest.raises(ConformanceError, match="differ in their blocks"):
        check_translation(LosesWhatCameBefore, stream=sse({"t": "a"}, {"e": 1}), error=OverloadedError)


def test_an_unexpected_failure_is_caught() -> None:
    """An answer that is read as an error although none was expected fails."""
    with pytest.raises(ConformanceError, match="it failed: OverloadedError"):
        check_translation(Demo, stream=sse({"e": 1}))


def test_something_must_be_given() -> None:
    """Checking a translation without bytes is refused."""
    with pytest.raises(ConformanceError, match="give a stream"):
        check_translation(Demo)


# --- adapters ---------------------------------------------------------------------------------------------------------


def call() -> Call:
    request = chat_pb2.ChatRequest()
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = "one two three four five"
    return Call(request, "slow-enough")


class DemoAdapter:
    """A right adapter that yields the demo's events one list at a time."""

    def __init__(self, running: list[object]) -> None:
        self.running = running
        self.closed = 0

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        self.running.append(call)
        try:
            translation = Demo()
            for one in SAID:
                await asyncio.sleep(0)
                yield translation.feed(sse(one)) or [Event(route_changed=chat_pb2.RouteChanged())]
        finally:
            self.running.pop()

    async def aclose(self) -> None:
        self.closed += 1


async def test_a_right_adapter_passes() -> None:
    """An adapter that keeps its promises passes, and its answer is returned."""
    running: list[object] = []
    answer = await check_adapter(lambda: DemoAdapter(running), call(), is_free=lambda: not running, family="demo")
    assert answer.text() == "Grüße, world 🌍"


async def test_whether_the_upstream_is_free_may_be_asked_asynchronously() -> None:
    """The question whether the upstream is free may be a coroutine, asked again until it says so."""
    answers = [False, True]

    async def is_free() -> bool:
        return answers.pop(0) if answers else True

    await check_adapter(lambda: DemoAdapter([]), call(), is_free=is_free)
    assert answers == []


async def test_the_scripted_adapter_passes() -> None:
    """The kit runs against the scripted provider, whose streams pause between their words."""
    made: list[ScriptedAdapter] = []

    def make() -> ScriptedAdapter:
        made.append(ScriptedAdapter([{"text": "a"}, {"pause_ms": 1}, {"text": "b"}]))
        return made[-1]

    request = call().request
    answer = await check_adapter(make, Call(request, "echo"), is_free=lambda: made[-1].open_streams == 0)
    assert answer.text() == "ab"


class Changes(DemoAdapter):
    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        call.request.persona = "mine"
        async for events in super().stream(call):
            yield events


class Raises(DemoAdapter):
    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        yield [started()]
        raise KeyError(call.model)


class SwallowsCancel(DemoAdapter):
    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        try:
            async for events in super().stream(call):
                yield events
        except asyncio.CancelledError as error:
            raise ValueError("cancelled") from error


class FailsToClose(DemoAdapter):
    async def aclose(self) -> None:
        await super().aclose()
        if self.closed > 1:
            raise RuntimeError("closed twice")


class LeavesTask(DemoAdapter):
    """Starts a task that outlives the adapter, which a test must end."""

    tasks: list["asyncio.Task[None]"]

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        self.tasks.append(asyncio.create_task(asyncio.sleep(3600)))
        async for events in super().stream(call):
            yield events


class StreamsOnly(DemoAdapter):
    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        async for events in super().stream(call):
            if not call.unary:
                yield events


class OneAtATime(DemoAdapter):
    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        if self.running:
            yield [started()]
            return
        async for events in super().stream(call):
            yield events


class IgnoresClose(DemoAdapter):
    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        try:
            async for events in super().stream(call):
                yield events
        except GeneratorExit:
            raise RuntimeError("not now") from None


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (Changes, "the request was changed"),
        (Raises, "stream raised KeyError; only AdapterError may escape"),
        (SwallowsCancel, "a cancelled stream raised ConformanceError: stream raised ValueError"),
        (FailsToClose, "second aclose.*raised RuntimeError"),
        (StreamsOnly, "nothing came"),
        (OneAtATime, "exactly one finished"),
        (IgnoresClose, "aclose in the middle of a stream raised RuntimeError"),
    ],
)
async def test_each_fault_of_an_adapter_is_caught(faulty: type[DemoAdapter], message: str) -> None:
    """An adapter with one fault fails with a message that names it."""
    with pytest.raises(ConformanceError, match=message):
        await check_adapter(lambda: faulty([]), call())


async def fails_within(
    patience: float, make: Callable[[], DemoAdapter], is_free: Callable[[], bool] | None = None
) -> str:
    with pytest.raises(ConformanceError) as caught:
        await check_adapter(make, call(), patience=patience, is_free=is_free)
    return str(caught.value)


async def test_a_busy_upstream_is_caught() -> None:
    """An adapter whose upstream stays busy after its stream was closed fails."""
    assert "still busy after aclose" in await fails_within(1.0, lambda: DemoAdapter([]), is_free=lambda: False)


async def test_a_task_left_behind_is_caught() -> None:
    """An adapter that leaves a task running fails."""
    tasks: list[asyncio.Task[None]] = []

    def make() -> LeavesTask:
        adapter = LeavesTask([])
        adapter.tasks = tasks
        return adapter

    assert "tasks are left" in await fails_within(1.0, make)
    for task in tasks:
        task.cancel()


class HangsOnClose(DemoAdapter):
    async def aclose(self) -> None:
        await asyncio.Event().wait()


class GoesOn(DemoAdapter):
    """Goes on when it is cancelled, until a test lets it end."""

    over: asyncio.Event

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        async for events in super().stream(call):
            yield events
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                await self.over.wait()


async def test_what_hangs_is_caught() -> None:
    """An adapter whose aclose never ends, or which goes on when it is cancelled, fails."""
    over = asyncio.Event()

    def make() -> GoesOn:
        adapter = GoesOn([])
        adapter.over = over
        return adapter

    assert "aclose hangs" in await fails_within(1.0, lambda: HangsOnClose([]))
    assert "a cancelled stream goes on" in await fails_within(1.0, make)
    over.set()


async def test_a_failing_call_is_not_the_adapters_fault() -> None:
    """A call that fails is told as its AdapterError, since the kit needs one that succeeds."""
    with pytest.raises(InvalidRequestError):
        await check_adapter(
            lambda: ScriptedAdapter([{"error": {"reason": "INVALID_REQUEST"}}]), Call(call().request, "echo")
        )
