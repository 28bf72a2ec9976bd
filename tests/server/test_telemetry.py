"""Logs are JSON lines or text, and tell of a chat names, ids, counts and times only."""

from __future__ import annotations

import contextlib
import io
import json
import os

import pytest
from tests.server.conftest import Served, chat_request, error_info, events_of, failed_stream

from execution_platform.server.telemetry import HoldingLogger, make_logger


def test_json_is_one_object_a_line() -> None:
    """Each event is a JSON object with its level and an aware UTC time."""
    out = io.StringIO()
    make_logger("info", "json", out).info("serving", address="127.0.0.1:1")
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["address"]) == ("serving", "info", "127.0.0.1:1")
    assert line["timestamp"].endswith("Z")


def test_a_log_that_nobody_reads_costs_nothing_else() -> None:
    """Logging into a pipe whose reader is gone raises nothing, so that chats and signals are handled all the same."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with io.TextIOWrapper(io.FileIO(write_end, "w"), write_through=True) as log:
        with pytest.raises(BrokenPipeError):
            log.write("a line")
        make_logger("info", "json", log).info("stopping")


def test_a_log_that_is_not_read_stops_nobody_and_tells_what_it_lost() -> None:
    """With a reader that stalls, lines are lost and counted rather than waited for; read again, each line is whole."""
    read_end, write_end = os.pipe()
    with open(write_end, "w") as log:  # noqa: PTH123 - a descriptor
        logger = make_logger("info", "json", log)
        for number in range(2_000):
            logger.info("chat", number=number, filler="x" * (9_000 if number == 100 else 200))
        text = ""
        os.set_blocking(read_end, False)
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(read_end, 1 << 16):
                text += piece.decode()
        logger.info("read again")
        text += os.read(read_end, 1 << 16).decode()
        logger.info("and again")
        text += os.read(read_end, 1 << 16).decode()
    os.close(read_end)
    *before, after, last = [json.loads(line) for line in text.splitlines()]
    assert [line["number"] for line in before] == list(range(len(before)))
    assert (after["event"], after["lines_lost_before"]) == ("read again", 2_000 - len(before))
    assert "lines_lost_before" not in last


def test_a_line_that_stalls_in_its_middle_spoils_no_other() -> None:
    """A long line that was half written when its reader stalled is followed by whole ones, on lines of their own."""
    read_end, write_end = os.pipe()
    with open(write_end, "w") as log:  # noqa: PTH123 - a descriptor
        logger = make_logger("info", "json", log)
        logger.info("long", filler="x" * (1 << 20))
        logger.info("lost")
        os.read(read_end, 1 << 21)
        logger.info("whole")
    with open(read_end) as read:  # noqa: PTH123 - a descriptor
        rest, line = read.read().splitlines()
    assert rest == ""
    assert (json.loads(line)["event"], json.loads(line)["lines_lost_before"]) == ("whole", 2)


def test_text_is_for_people_and_auto_follows_the_terminal() -> None:
    """Text is not JSON; auto writes JSON where there is no terminal."""
    text, auto = io.StringIO(), io.StringIO()
    make_logger("info", "text", text).info("serving")
    make_logger("info", "auto", auto).info("serving")
    assert not text.getvalue().startswith("{")
    assert json.loads(auto.getvalue())["event"] == "serving"


def test_held_lines_come_afterwards_in_order() -> None:
    """What is logged while lines are held is written at the end of that, in order; everything else at once."""
    out = io.StringIO()
    logger = HoldingLogger(make_logger("debug", "json", out))
    logger.info("before")
    with logger.held():
        logger.debug("one")
        logger.warning("two")
        logger.error("three")
        assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["before"]
    logger.info("after")
    events = [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    assert events == ["before", "one", "two", "three", "after"]


def test_lower_levels_are_not_written() -> None:
    """What is below the level leaves no line."""
    out = io.StringIO()
    logger = make_logger("warning", "json", out)
    logger.info("quiet")
    logger.debug("quieter")
    assert out.getvalue() == ""


async def test_chat_line_tells_ids_and_counts_but_no_words(served: Served) -> None:
    """The line of a chat has request id, persona, session, labels, route and tokens, and nothing that was said."""
    request = chat_request(
        [{"text": "an answer nobody may log"}, {"usage": {"input": 3, "output": 4}}],
        text="a question nobody may log",
        persona="backend_dev",
    )
    request.context.session_id = "s-1"
    request.context.labels["team"] = "core"
    trace = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)
    events = await events_of(served.chat.Chat(request, metadata=trace))
    [line] = served.log_lines("chat")
    assert line["request_id"] == events[0].started.request_id
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (line["persona"], line["session_id"], line["labels"]) == ("backend_dev", "s-1", {"team": "core"})
    assert (line["provider"], line["input_tokens"], line["output_tokens"]) == ("scripted", 3, 4)
    assert (line["ending"], line["finish_reason"]) == ("finished", "FINISH_REASON_STOP")
    assert "nobody may log" not in served.log.getvalue()


async def test_a_callers_words_take_little_room_in_the_log(served: Served) -> None:
    """However long ids, sessions and labels are, and even if they are refused for it, the chat's line stays short."""
    request = chat_request(request_id="i" * 1_000_000)
    request.context.session_id = "s" * 1_000_000
    request.context.labels.update({f"{number}" + "k" * 10_000: "v" * 10_000 for number in range(100)})
    await failed_stream(served.chat.Chat(request))
    [line] = served.log_lines("chat")
    assert len(json.dumps(line)) < 16_384


async def test_an_id_that_no_header_can_carry_is_refused_as_any_other(served: Served) -> None:
    """An id with control characters gives INVALID_ARGUMENT with the field, and reaches the metadata without them."""
    call = served.chat.Chat(chat_request(request_id="a\nb\x00\x7f\u00e9"))
    _, error = await failed_stream(call)
    assert error_info(error).reason == "INVALID_REQUEST"
    assert dict(await call.initial_metadata())["x-request-id"] == "a?b???"


@pytest.mark.parametrize("value", ["", "garbage", "00-" + "0" * 32 + "-00f067aa0ba902b7-01"])
async def test_trace_that_is_not_valid_is_passed_over(served: Served, value: str) -> None:
    """A broken traceparent neither fails the chat nor reaches the log."""
    await events_of(served.chat.Chat(chat_request(), metadata=(("traceparent", value),)))
    assert "trace_id" not in served.log_lines("chat")[0]
