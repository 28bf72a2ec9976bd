from __future__ import annotations

import json
import shlex
import subprocess
import sys
import uuid
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adapters.claude_agent.cages import cage, program, require_cages

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")

from tests.adapters.claude_agent.capture_samples import asked

from execution_platform.adapters.claude_agent.runs import Runs
from execution_platform.adapters.claude_agent.sandbox import Cage, find_programs

_TELLS = r"""begin
tell() {
  text=$(eval "$2" 2>&1 | tr '\n\t"\\' '  __')
  say "{\"type\":\"system\",\"name\":\"$1\",\"told\":\"$text\"}"
}
"""


async def seen(tmp_path: Path, commands: dict[str, str], where: Cage) -> dict[str, str]:
    """Return what shell commands print in a cage, by name."""
    lines = [f"tell {name} {shlex.quote(command)}" for name, command in commands.items()]
    found = program(tmp_path, _TELLS + "\n".join([*lines, "result"]))
    runs = Runs(1, 1, programs=lambda: found)
    async with runs.begin(asked("go"), where) as running, aclosing(running.output()) as output:
        told = b"".join([piece async for piece in output])
    await runs.aclose()
    messages = [json.loads(line) for line in told.splitlines()]
    return {message["name"]: message["told"].strip() for message in messages if message["type"] == "system"}


async def test_a_cage_shows_its_workspace_and_little_else(tmp_path: Path) -> None:
    """A run writes its workspace and its configuration, reads the system's programs, and is nobody of the machine."""
    require_cages()
    work, extra = tmp_path / "work", tmp_path / "extra"
    for folder in (work, extra):
        folder.mkdir()
    (extra / "note").write_text("shown")
    base = cage(tmp_path, str(uuid.uuid4()), workspace=work)
    where = Cage(work, base.config_dir, (extra,), base.environment)
    told = await seen(
        tmp_path,
        {
            "root": "ls /",
            "here": "pwd",
            "user": "id -u; id -un",
            "capabilities": "grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status | cut -f2 | sort -u",
            "new_privileges": "grep NoNewPrivs /proc/self/status | cut -f2",
            "command_lines": "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
            "processes": "ls -d /proc/[0-9]* | wc -l",
            "workspace": "echo made >/workspace/made && cat /workspace/made",
            "config": "echo made >/config/made && cat /config/made",
            "memory": "echo made >/tmp/made && cat /tmp/made",
            "home": "ls -A /home",
            "usr": "echo x >/usr/x",
            "slash": "echo x >/x",
            "etc": "echo x >/etc/x",
            "program": "echo x >/opt/claude",
            "shadow": "cat /etc/shadow",
            "project": f"ls {Path(__file__).parent}",
            "extra": f"cat {extra}/note",
            "extra_write": f"echo x >{extra}/x",
            "mount": "mount -t tmpfs none /workspace",
            "namespace": "unshare --user --map-root-user true",
            "host_name": "cat /proc/sys/kernel/hostname",
        },
        where,
    )
    assert set(told["root"].split()) <= {
        *("bin", "config", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32"),
        *("opt", "proc", "run", "sbin", "tmp", "usr", "workspace", extra.parts[1]),
    }
    assert told["here"] == "/workspace"
    assert told["user"].split() == ["1000", "agent"]
    assert told["capabilities"].split() == ["0000000000000000"]
    assert told["new_privileges"] == "1"
    assert int(told["processes"]) < 8
    assert "/opt/claude" in told["command_lines"]
    assert str(tmp_path) not in told["command_lines"]
    assert told["workspace"] == told["config"] == told["memory"] == "made"
    assert told["home"] == "agent"
    for name in ("usr", "slash", "etc", "program", "extra_write"):
        assert "Read-only" in told[name] or "Permission denied" in told[name], (name, told[name])
    for name in ("shadow", "project"):
        assert "No such file" in told[name], (name, told[name])
    assert told["extra"] == "shown"
    assert told["mount"]
    assert told["namespace"]
    assert told["host_name"] == "agent"
    assert (work / "made").read_text() == "made\n"
    assert not (extra / "x").exists()


async def test_without_a_workspace_a_run_has_an_empty_folder_that_goes_with_it(tmp_path: Path) -> None:
    """What a run writes into a workspace that nobody named is gone with it."""
    require_cages()
    commands = {"before": "ls -A /workspace", "made": "echo x >/workspace/x; ls /workspace"}
    for _ in range(2):
        told = await seen(tmp_path, commands, cage(tmp_path, str(uuid.uuid4())))
        assert told == {"before": "", "made": "x"}


@pytest.mark.parametrize("login", [False, True])
async def test_a_run_leaves_no_settings_to_the_runs_after_it(tmp_path: Path, login: bool) -> None:
    """Of what a run writes into its configuration only its sessions' records stay; where a login lies, all does."""
    require_cages()
    where = replace(cage(tmp_path, str(uuid.uuid4())), login=login)
    write = "echo planted >/config/.claude.json; echo kept >/config/projects/record; cat /config/.claude.json"
    assert await seen(tmp_path, {"written": write}, where) == {"written": "planted"}
    told = await seen(tmp_path, {"there": "ls -A /config | sort", "record": "cat /config/projects/record"}, where)
    assert told == {"there": ".claude.json projects" if login else "projects", "record": "kept"}


_FIND = """
import sys
from execution_platform.adapters.claude_agent.sandbox import find_programs
from execution_platform.adapters.errors import NotConfiguredError
try:
    found = find_programs()
    print(found.cli.name, found.bwrap.name, "claude_agent_sdk" in sys.modules)
except NotConfiguredError as error:
    print(error.message)
"""


def found_in(*machine: str, before: str = ":") -> str:
    """Return what is said of the programs on a machine that bubblewrap's options and a shell's command make."""
    root = ["--dev-bind", "/", "/", "--unshare-user", "--uid", "0", "--cap-add", "ALL"]
    look = ["/bin/sh", "-c", f'{before}; exec "$0" -c "$1"', sys.executable, _FIND]
    command = [str(find_programs().bwrap), *root, *machine, *look]
    # No bubblewrap of the system's own is found.
    return subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/nowhere"}).stdout.strip()


def test_both_programs_are_found_without_the_sdk() -> None:
    """Looking for the programs imports nothing of the SDK, which a server without runs shall not pay for."""
    require_cages()
    assert found_in() == "claude bwrap False"


def test_a_machine_without_bubblewrap_is_told_what_to_install() -> None:
    """Where there is no bubblewrap, runs are not configured; they are never run without a cage."""
    require_cages()
    told = found_in("--tmpfs", str(find_programs().bwrap.parent))
    assert "bubblewrap is not installed" in told
    assert "execution-platform[claude-agent]" in told


def test_a_machine_without_user_namespaces_is_told_what_to_allow() -> None:
    """Where the kernel allows no user namespaces, runs are not configured."""
    require_cages()
    told = found_in(before="echo 0 >/proc/sys/user/max_user_namespaces")
    assert "user.max_user_namespaces" in told
