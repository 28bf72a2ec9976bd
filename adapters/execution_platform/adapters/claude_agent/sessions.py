"""Sessions: the CLI's own record of a conversation, and where an answer ends in it.

Each block of an answer carries, as opaque state, the session and the entry of its record that the block ends at. The
next turn goes on behind that entry in a session of its own, a copy: so an earlier turn can be gone on with twice, and
an attempt that failed has changed nothing.

The record is a file of the CLI's, `projects/<folder>/<session>.jsonl` in its configuration folder; each line is an
entry with a `uuid`. Source: `_internal/sessions.py` of claude-agent-sdk 0.2.187.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from execution_platform.adapters.claude_agent.sandbox import RECORDS
from execution_platform.v1 import content_pb2

__all__ = ["SESSION_STATE", "Place", "exists", "place_of"]

SESSION_STATE = "session"
"""Kind of the opaque state that holds a place."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a conversation.

    Attributes:
        session_id: the session.
        entry: the last entry of its record that counts; empty: all of it.
    """

    session_id: str
    entry: str = ""

    def encoded(self) -> bytes:
        """Return it as the bytes of a state."""
        return f"{self.session_id}/{self.entry}".encode() if self.entry else self.session_id.encode()


def place_of(blocks: Sequence[content_pb2.ContentBlock], family: str) -> Place | None:
    """Return where an answer ends: the place of its last block that has one of this family; None: none has."""
    for block in reversed(blocks):
        for state in block.states if block.family == family else ():
            if state.kind == SESSION_STATE:
                return _decoded(state.data)
    return None


def _decoded(data: bytes) -> Place | None:
    """Return a place; None: it is none. What comes back from a caller becomes part of a path and of a command."""
    session_id, _, entry = data.decode("ascii", "replace").partition("/")
    if not _UUID.match(session_id) or (entry and not _UUID.match(entry)):
        return None
    return Place(session_id, entry)


def exists(config_dir: Path, place: Place) -> bool:
    """Return whether a place can be gone on from: its session's file is there and has the entry. Blocks on a disk."""
    name = f"{place.session_id}.jsonl"
    try:
        return any(_holds(folder / name, place.entry) for folder in (config_dir / RECORDS).iterdir())
    except (OSError, ValueError):  # ValueError: the file is empty
        return False


def _holds(path: Path, entry: str) -> bool:
    if not path.is_file():
        return False
    if not entry:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as record:
        return record.find(f'"uuid":"{entry}"'.encode()) >= 0
