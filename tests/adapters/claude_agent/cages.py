"""Runs of small programs in real cages: what a test needs to make them, and to see what is left of them."""

from __future__ import annotations

import functools
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from execution_platform.adapters.claude_agent.sandbox import RECORDS, Cage, Programs, find_programs
from execution_platform.adapters.errors import NotConfiguredError

MARK = "CAGE_MARK"
"""A variable that tells the processes of one test from all others."""

PATIENCE = 60.0
"""Seconds after which something that should happen counts as not happening."""

_SPEAKS = r"""#!/bin/sh
say() { printf '%s\n' "$1"; }
begin() {
  read -r line
  id=$(printf '%s' "$line" | sed 's/.*"request_id": "\([^"]*\)".*/\1/')
  say "{\"type\":\"control_response\",\"response\":{\"subtype\":\"success\",\"request_id\":\"$id\",\"response\":{}}}"
  read -r prompt
}
result() { say '{"type":"result","subtype":"success"}'; }
"""


@functools.cache
def why_no_cages() -> str:
    """Return why no cage can be built here; empty: one was."""
    pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")
    try:
        bwrap = find_programs().bwrap
    except NotConfiguredError as error:
        return error.message
    options = "--unshare-user --unshare-all --disable-userns --uid 1000 --ro-bind / / --proc /proc --dev /dev"
    tried = subprocess.run([str(bwrap), *options.split(), "true"], capture_output=True, text=True, check=False)
    return f"bubblewrap gets no user namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def require_cages() -> None:
    """Skip a test where no cage can be built."""
    reason = why_no_cages()
    if reason:
        pytest.skip(reason)


def program(folder: Path, body: str) -> Programs:
    """Return the programs of a run whose CLI is a shell script: `begin` answers the SDK, `say` prints a line."""
    script = folder / "cli"
    script.write_text(_SPEAKS + body)
    script.chmod(0o755)
    return Programs(find_programs().bwrap, script)


def cage(folder: Path, mark: str, *, workspace: Path | None = None, **variables: str) -> Cage:
    """Return a cage whose processes carry the mark."""
    config = folder / "config"
    (config / RECORDS).mkdir(parents=True, exist_ok=True)
    environment = {"PATH": "/usr/bin:/bin", MARK: mark, **variables}
    return Cage(workspace=workspace, config_dir=config, environment=environment)


def processes(mark: str) -> list[int]:
    """Return the processes of the machine that carry the mark, found by walking /proc."""
    found = []
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def eventually(look: Callable[[], bool], what: str) -> None:
    """Wait until it is so; fail if it never is."""
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
