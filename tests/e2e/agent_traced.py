"""One run of the agent whose every system call on files and sockets is written down: run by agent_stage."""

from __future__ import annotations

import asyncio
import shlex
import sys
from contextlib import aclosing
from pathlib import Path

from pydantic import SecretStr
from tests.adapters.claude_agent.capture_samples import asked

from execution_platform.adapters.claude_agent.environment import agent_environment
from execution_platform.adapters.claude_agent.runs import Runs
from execution_platform.adapters.claude_agent.sandbox import RECORDS, Cage, Programs, find_programs

TOKEN = "sk-ant-oat01-made-up"
COMMAND = "echo x >made; cat made /etc/hosts; ls / ~; cat /etc/shadow; echo x >/usr/x; true"
PROMPT = f'@tool Bash {{"command": "{COMMAND}"}}\n@text It said {{result}}'


async def main(strace: str, out: str, api: str, folder: Path) -> None:
    """Run it, with strace in front of bubblewrap."""
    for name in ("work", f"config/{RECORDS}"):
        (folder / name).mkdir(parents=True)
    found = find_programs()
    wrapped = folder / "bwrap"
    options = f"-f -y -o {shlex.quote(out)} -e trace=%file,%network --seccomp-bpf"
    wrapped.write_text(f'#!/bin/sh\nexec {shlex.quote(strace)} {options} {shlex.quote(str(found.bwrap))} "$@"\n')
    wrapped.chmod(0o755)
    runs = Runs(1, 1, programs=lambda: Programs(wrapped, found.cli))
    cage = Cage(folder / "work", folder / "config", environment=agent_environment(SecretStr(TOKEN), api))
    async with runs.begin(asked(PROMPT), cage) as running, aclosing(running.output()) as output:
        async for piece in output:
            sys.stdout.buffer.write(piece)
    await runs.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])))
