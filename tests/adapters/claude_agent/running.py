"""Runs of scripts: what their tests share. Needs claude-agent-sdk."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from tests.adapters.claude_agent.capture_samples import asked

from execution_platform.adapters.claude_agent.runs import Running, Runs
from execution_platform.adapters.claude_agent.sandbox import Cage

KEY = "sk-made-up-0123456789"

#: Children that want to stay: deaf to SIGTERM, in a session of their own, without a pipe that we hold.
CLINGING = """
begin
(trap '' TERM; sleep 600) &
setsid sh -c 'sleep 600 & sleep 600' </dev/null >/dev/null 2>&1 &
trap '' TERM
say '{"type":"stream_event","n":1}'
while :; do sleep 600; done
"""


async def everything(running: Running) -> bytes:
    """Return all that a run says."""
    async with aclosing(running.output()) as output:
        return b"".join([piece async for piece in output])


async def answer(runs: Runs, where: Cage, **more: Any) -> bytes:
    """Return all that a new run says."""
    async with runs.begin(asked("go"), where, **more) as running:
        return await everything(running)


async def first(running: Running) -> bytes:
    """Take one piece and leave the rest."""
    async with aclosing(running.output()) as output:
        return await anext(output)
