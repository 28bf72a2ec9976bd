"""Held: nothing goes out before the first output, nothing after the end, and the entry knows what was told."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from tests.server.attempts import (
    CALL,
    Event,
    Fake,
    begin,
    cancelled,
    entry,
    finish,
    hang,
    notice,
    quantity_of,
    started,
    text,
    told_by,
    told_until_failure,
    usage,
    used,
)

from execution_platform.adapters.errors import OverloadedError, ProtocolError, StreamBrokenError
from execution_platform.server.resilience.held import Held
from execution_platform.v1 import chat_pb2

LARGE = chat_pb2.ProviderEvent(raw_json="x" * 100_000)


async def test_what_comes_before_the_output_comes_with_it() -> None:
    """Lists without output are held back and go out together with the first output, in order."""
    attempt = entry()
    route = Event(route_changed=chat_pb2.RouteChanged(reason="the provider's own"))
    inner = Fake([[started("m-2"), notice("n")], [used(1)], [route], [begin()], [text("a")], [finish()]])
    told = await told_by(Held(inner, attempt))
    assert [[event.WhichOneof("event") for event in events] for events in told] == [
        ["started", "notice", "usage_updated", "route_changed", "block_started"],
        ["block_delta"],
        ["finished"],
    ]
    assert attempt.served_model == "m-2"


@pytest.mark.parametrize("output", [begin(), text("a"), finish()], ids=["block", "delta", "end"])
async def test_the_first_output_is_noted(output: Event) -> None:
    """The entry knows when there was output, and only then."""
    attempt = entry()
    async with aclosing(Held(Fake([[started()], [output], [finish()]]), attempt).stream(CALL)) as stream:
        await anext(stream)
    assert attempt.first_output is not None
    assert attempt.first_output >= attempt.began


async def test_a_failure_before_output_leaves_nothing_but_its_usage() -> None:
    """Nothing goes out of an attempt that fails first; what it used is noted all the same."""
    attempt = entry()
    told, error = await told_until_failure(Held(Fake([[started(), used(7)], OverloadedError("full")]), attempt))
    assert told == []
    assert isinstance(error, OverloadedError)
    assert quantity_of(attempt.usage) == 7
    assert attempt.first_output is None


async def test_usage_told_with_the_failure_is_noted() -> None:
    """What an error carries counts, though nobody yielded it, and is no output."""
    attempt = entry()
    error = StreamBrokenError("cut")
    error.events = [begin(), used(3)]
    await told_until_failure(Held(Fake([error]), attempt))
    assert quantity_of(attempt.usage) == 3
    assert attempt.first_output is None


async def test_the_last_usage_is_that_of_the_end() -> None:
    """`finished` has the last word about usage, where it has one."""
    attempt = entry()
    end = Event(finished=chat_pb2.Finished(usage=usage(9), reason=chat_pb2.FINISH_REASON_REFUSAL))
    await told_by(Held(Fake([[begin(), used(3)], [end]]), attempt))
    assert quantity_of(attempt.usage) == 9
    assert attempt.finish_reason == chat_pb2.FINISH_REASON_REFUSAL
    await told_by(Held(Fake([[begin(), used(3)], [finish()]]), attempt))
    assert quantity_of(attempt.usage) == 3


async def test_nothing_follows_the_end() -> None:
    """Events behind `finished`, in its list or later, are an adapter's fault that the caller does not see."""
    inner = Fake([[begin(), finish(), text("late")], [text("later")]])
    told = await told_by(Held(inner, entry()))
    assert [[event.WhichOneof("event") for event in events] for events in told] == [["block_started", "finished"]]


async def test_an_answer_stays_whole_though_its_connection_breaks_behind_it() -> None:
    """A failure behind `finished` is none."""
    told = await told_by(Held(Fake([[begin(), finish()], StreamBrokenError("reset")]), entry()))
    assert told[-1][-1].HasField("finished")


async def test_an_adapter_that_just_stops_breaks_the_protocol() -> None:
    """A stream without `finished` is a failure, with output and without."""
    for steps in ([[started()]], [[begin()], [text("a")]], []):
        _, error = await told_until_failure(Held(Fake(steps), entry()))
        assert isinstance(error, ProtocolError)


async def test_empty_lists_are_passed_over() -> None:
    """A list without events, which no adapter may yield, harms nobody before the output."""
    told = await told_by(Held(Fake([[], [started()], [], [begin(), finish()]]), entry()))
    assert len(told) == 1


async def test_what_is_held_has_an_end() -> None:
    """A provider that tells megabytes before it answers is given up, and its stream closed."""
    inner = Fake([[[Event(provider_event=LARGE)]] * 1_000, [[finish()]]][0])
    _, error = await told_until_failure(Held(inner, entry()))
    assert isinstance(error, ProtocolError)
    assert inner.closed == 1


@pytest.mark.parametrize("before", [True, False])
async def test_closing_and_cancelling_reach_the_adapter(before: bool) -> None:
    """Whoever stops reading, or is cancelled, ends the adapter's stream, before the output and after."""
    inner = Fake([hang] if before else [[begin()], hang])
    assert await cancelled(Held(inner, entry()), lambda: bool(inner.calls))
    assert inner.closed == 1
