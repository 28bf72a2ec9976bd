"""The log's line of a chat has the fields that docs/debugging.md says, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from tests.server.conftest import Serve, chat_request, events_of, failed_stream, until
from tests.server.test_startup import STARTING

PAGE = Path(__file__).resolve().parents[2] / "docs/debugging.md"

#: What every line has.
COMMON = {"event", "level", "timestamp", "process"}


def documented() -> set[str]:
    """The fields of the page's table."""
    rows = re.findall(r"^\| (`[a-z_`, .]+`[^|]*) \|", PAGE.read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}


async def test_the_page_tells_the_fields_of_the_line(serve: Serve) -> None:
    """Chats of every sort together log each documented field, and none that is not documented."""
    error = {
        "reason": "PROVIDER_OVERLOADED",
        "provider_status": 529,
        "provider_code": "full",
        "provider_request_id": "r",
    }
    usage = {"usage": {"input": 3, "output": 2, "cache_read": 1}}
    told = chat_request([usage, {"text": "Hello"}], persona="p")
    told.context.session_id = "s"
    told.context.labels["team"] = "a"
    fallback = chat_request([{"error": error}])
    fallback.routing.fallback_models.append("scripted/slow")
    trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    async with serve(specs=[STARTING]) as served:
        await events_of(served.chat.Chat(chat_request(model="starting")))
        await events_of(served.chat.Chat(told, metadata=(trace, ("authorization", "Bearer made-up-token"))))
        await failed_stream(served.chat.Chat(fallback))
        await failed_stream(served.chat.Chat(chat_request(model="nobody")))
        await until(lambda: len(served.log_lines("chat")) == 4)
        lines = served.log_lines("chat")
    assert set().union(*lines) - COMMON == documented()
    assert all(line.keys() >= COMMON for line in lines)
    attempts = next(line["attempts"] for line in lines if "attempts" in line)
    assert {frozenset(attempt) for attempt in attempts} == {
        frozenset({"provider", "model", "cause", "outcome", "reason"})
    }
    assert [attempt["cause"] for attempt in attempts] == ["FIRST", "FALLBACK"]
