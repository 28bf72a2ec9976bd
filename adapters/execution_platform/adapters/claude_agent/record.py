"""What a run says beside its answer: kept for the metadata of its end, and told in notices while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    int_of,
    object_json,
    rest_of,
)
from execution_platform.v1 import chat_pb2

__all__ = ["RunRecord"]

#: What is kept of messages that have no other place, in characters.
_MOST_KEPT = 100_000

#: Messages that only say that something goes on; who asks for the provider's events gets them.
_PASSING = frozenset(
    {
        "background_tasks_changed",
        "session_state_changed",
        "status",
        "task_progress",
        "thinking_tokens",
    }
)

#: States of an MCP server whose tools are there, or may come.
_CONNECTED = frozenset({"connected", "pending"})

#: Members of every message that say nothing of the run.
_ENVELOPE = frozenset({"type", "session_id", "uuid", "user_message_uuid", "user_message_uuids"})


class RunRecord:
    """Keeps what one run says beside its answer.

    Args:
        tell: called with each notice.
    """

    def __init__(self, tell: Callable[[chat_pb2.Notice], None]) -> None:
        self._tell = tell
        self._kept = 0
        self._events: list[msgspec.Raw] = []
        self._calls: dict[tuple[str, str], Fields] = {}
        self._init: Fields = {}
        self._denied: set[str] = set()
        self._left_out = False

    def system(self, message: Fields, line: bytes) -> None:
        """Take a `system` message."""
        kind = clean_text(message.get("subtype"))
        if kind in _PASSING:
            return
        if kind == "init" and not self._init:
            self._init = rest_of(message, _ENVELOPE | {"subtype"})
            for words in _servers_missing(message):
                self._warn(words)
        elif kind == "api_retry":
            self._warn(_retry_words(message))
            self.keep(line)
        elif kind == "permission_denied":
            # What it says in words repeats what the tool was to do; the call's result says it to the model.
            self.denied(clean_text(message.get("tool_use_id")), clean_text(message.get("tool_name")))
        else:
            if kind == "informational":
                self._warn(clean_text(message.get("content")))
            self.keep(line)

    def denied(self, call_id: str, tool: str) -> None:
        """Tell that a tool was not permitted to run, once for each call."""
        if call_id in self._denied:
            return
        self._denied.add(call_id)
        message = f"the tool {tool} was not permitted to run"
        self._tell(chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_TOOL_DENIED, message=message))

    def call(self, parent: str, message_id: str, members: Fields) -> None:
        """Take what is said of a model call: its model, how it ended, what it used."""
        key = (parent, message_id)
        if key not in self._calls and not self._has_room(len(object_json(members))):
            return
        told = self._calls.setdefault(key, {})
        usage = fields_if_any(told.get("usage")) | rest_of(fields_if_any(members.get("usage")))
        told.update(rest_of(members, {"type", "role", "content", "usage"}))
        if usage:
            told["usage"] = msgspec.Raw(object_json(usage).encode())

    def keep(self, line: bytes) -> None:
        """Keep a message as it stands."""
        if self._has_room(len(line)):
            self._events.append(msgspec.Raw(line))

    def keep_fields(self, members: Fields) -> None:
        """Keep members of a message."""
        self.keep(object_json(members).encode())

    def members(self) -> Fields:
        """Return what was kept, by name."""
        kept: Fields = {}
        if self._init:
            kept["init"] = msgspec.Raw(object_json(self._init).encode())
        if self._calls:
            calls = [_with_parent(parent, told) for (parent, _), told in self._calls.items()]
            kept["calls"] = _list(calls)
        if self._events:
            kept["events"] = _list(self._events)
        return kept

    def _has_room(self, size: int) -> bool:
        """Return whether so much more can be kept. Where it is too much a notice says so, once."""
        self._kept += size
        if self._kept <= _MOST_KEPT:
            return True
        if not self._left_out:
            self._left_out = True
            self._warn("the run said more beside its answer than is kept")
        return False

    def _warn(self, message: str) -> None:
        self._tell(chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PROVIDER_WARNING, message=message))


def _retry_words(message: Fields) -> str:
    attempt, most = int_of(message.get("attempt")), int_of(message.get("max_retries"))
    why = clean_text(message.get("error")) or "a failure"
    status = int_of(message.get("error_status"))
    return f"the CLI asks its model again ({attempt} of {most}) after {why}{f' ({status})' if status else ''}"


def _servers_missing(init: Fields) -> Iterator[str]:
    """Yield what is to be said of MCP servers whose tools the run does without."""
    for element in elements_if_any(init.get("mcp_servers")):
        server = fields_if_any(element)
        status = clean_text(server.get("status"))
        if status not in _CONNECTED:
            name = clean_text(server.get("name"))
            yield f"the run has no tools of the MCP server {name}: {status or 'its state is not known'}"


def _with_parent(parent: str, told: Fields) -> msgspec.Raw:
    members = {**told, "parent_tool_use_id": msgspec.Raw(msgspec.json.encode(parent))} if parent else told
    return msgspec.Raw(object_json(members).encode() or b"{}")


def _list(elements: list[msgspec.Raw]) -> msgspec.Raw:
    return msgspec.Raw(b"[" + b",".join(map(bytes, elements)) + b"]")
