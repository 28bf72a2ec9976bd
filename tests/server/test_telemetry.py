"""Logs are JSON lines or text, and tell of a chat names, ids, counts and times only."""

from __future__ import annotations

import io
import json
import os

import pytest
from tests.server.conftest import Served, chat_request, events_of

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


@pytest.mark.parametrize("value", ["", "garbage", "00-" + "0" * 32 + "-00f067aa0ba902b7-01"])
async def test_trace_that_is_not_valid_is_passed_over(served: Served, value: str) -> None:
    """A broken traceparent neither fails the chat nor reaches the log."""
    await events_of(served.chat.Chat(chat_request(), metadata=(("traceparent", value),)))
    assert "trace_id" not in served.log_lines("chat")[0]
