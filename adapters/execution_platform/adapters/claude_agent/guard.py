"""Closes the program's memory, which holds its key, to the commands that it runs as the same user."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["GUARD_VARIABLES", "guard_files"]

_PATH = "/run/agent/guard.js"

#: Read by the program's runtime before the program itself; a test holds that it still is at the pinned version.
GUARD_VARIABLES: Mapping[str, str] = {"BUN_OPTIONS": f"--preload {_PATH}"}

#: A process that is not dumpable can be read and traced by no other one of its user, and leaves no core.
#: Source: prctl(2), PR_SET_DUMPABLE. What the program starts is dumpable again.
_GUARD = b"""\
const { dlopen } = require("bun:ffi");
const PR_SET_DUMPABLE = 4;
const { prctl } = dlopen("libc.so.6", { prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" } }).symbols;
if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) !== 0) throw new Error("the memory cannot be closed");
delete process.env.BUN_OPTIONS;
"""


def guard_files() -> Mapping[str, bytes]:
    """Return the files that the variables name, by path in the cage."""
    return {_PATH: _GUARD}
