"""The agent behind the real server, and the mock of its model, in a network without a way out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.claude_agent.cages import require_cages

from execution_platform.adapters.claude_agent.sandbox import find_programs

ROOT = Path(__file__).resolve().parents[2]
Facts = dict[str, dict[str, Any]]

#: What a run may read, and what it may write: the latter is its workspace, its configuration, and memory.
WRITABLE = ("/workspace", "/config", "/tmp/", "/home/agent", "/dev/", "/proc/")  # noqa: S108 - the cage's own
READABLE = (*WRITABLE, "/usr", "/opt/claude", "/etc", "/run", "/home", "/tmp", "pipe:")  # noqa: S108 - the cage's own


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """What the cases of agent_stage tell; they are played once, in a network of their own."""
    require_cages()
    bwrap = find_programs().bwrap
    alone = [str(bwrap), "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", "--"]
    tried = subprocess.run([*alone, str(bwrap), *alone[1:], "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no namespace in a namespace here: {tried.stderr.strip()}")
    folder = tmp_path_factory.mktemp("agent")
    command = [*alone, sys.executable, "-m", "tests.e2e.agent_stage", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["case"]: line["facts"] for line in told}


def of(facts: Facts, case: str) -> dict[str, Any]:
    """Return a case's facts; fail if it failed."""
    told = facts[case]
    assert "failed" not in told, f"{told}\n{facts.get('log', {}).get('log', '')[-3000:]}"
    return told


def test_an_answer_streams(facts: Facts) -> None:
    """Text comes in pieces as the model says it, and the time that the program took to start is told."""
    told = of(facts, "streaming")
    assert (told["code"], told["text"]) == ("OK", "One two three four.")
    assert told["kinds"].count("block_delta") >= 4
    assert told["kinds"][0] == "started"
    assert told["kinds"][-1] == "finished"
    assert told["startup"] > 0
    assert told["states"] == ["session"]
    assert told["key"] == "sk-made-up-0123456789"
    assert told["target"].startswith("/v1/messages")


def test_a_tool_of_the_agent_s_own_runs_in_the_workspace(facts: Facts) -> None:
    """Bash writes into the workspace that the request names; call and result are blocks executed by the provider."""
    told = of(facts, "built_in_tool")
    assert (told["code"], told["text"]) == ("OK", "It said: made by a run")
    assert told["made"] == "made by a run\n"
    assert told["blocks"] == ["tool_call", "tool_result", "text"]
    assert told["executed_by"] == ["TOOL_EXECUTOR_PROVIDER"]


def test_a_tool_of_an_mcp_server_is_called(facts: Facts) -> None:
    """The agent calls the tool of a server that the request names, with the request's token."""
    told = of(facts, "mcp_tool")
    assert (told["code"], told["text"]) == ("OK", "The sum: 5")
    assert told["calls"] == [{"given": {"a": 2, "b": 3}, "authorization": "Bearer made-up-token"}]
    assert told["executed_by"] == ["TOOL_EXECUTOR_PROVIDER"]


def test_a_second_turn_resumes_the_session(facts: Facts) -> None:
    """The model gets the first turn as it was, out of the session, and the second question once."""
    told = of(facts, "two_turns")
    assert told["code"] == "OK"
    assert told["text"] == "Asked: @text The first answer. | @text Asked: {asked}"
    assert [role for role in told["roles"] if role != "system"] == ["user", "assistant", "user"]
    assert told["notices"] == []


def test_cancelling_ends_the_process(facts: Facts) -> None:
    """When a caller goes away in mid-run, no process is left and the model is asked nothing any more."""
    assert of(facts, "cancel") == {"before": 1, "left": []}


def test_a_deadline_ends_the_process(facts: Facts) -> None:
    """When the caller's time is over, the run is ended."""
    assert of(facts, "deadline") == {"code": "DEADLINE_EXCEEDED", "left": []}


def test_a_crash_is_unavailable(facts: Facts) -> None:
    """When the program is killed in mid-run, what it said is kept, and the error says what became of it."""
    told = of(facts, "crash")
    assert (told["code"], told["reason"], told["left"]) == ("UNAVAILABLE", "STREAM_BROKEN", [])
    assert "ended by signal 9" in told["message"]
    assert told["kinds"].count("block_delta") >= 5


def test_a_refused_key_is_told(facts: Facts) -> None:
    """A key that the model's API refuses is the platform's fault, and no secret is in the error."""
    told = of(facts, "refused_key")
    assert (told["code"], told["reason"], told["left"]) == ("FAILED_PRECONDITION", "PROVIDER_AUTHENTICATION", [])
    assert "sk-made-up" not in json.dumps(told)


def test_what_a_caller_does_wrong_stays_the_caller_s(facts: Facts) -> None:
    """Schemas that the CLI refuses are the caller's fault, told with the field, and the next chat is answered."""
    told = of(facts, "refused_schema")
    assert told["refused"] == [["INVALID_ARGUMENT", "INVALID_REQUEST"]] * 5
    assert "output_format.json_schema.schema_json" in told["message"]
    assert told["next"] == "OK"


def test_of_many_runs_four_have_processes(facts: Facts) -> None:
    """Twenty runs at once with a limit of four: never more than four programs, each run gets its own answer."""
    told = of(facts, "many")
    assert told["texts"] == [f"This is number {number}." for number in range(20)]
    assert told["most"] <= 4
    assert told["most"] > 1
    assert told["left"] == []


def test_the_cage_refuses_all_but_the_workspace(facts: Facts) -> None:
    """A command of the agent's reads no secret of the machine, no project, no other session, and no key."""
    told = of(facts, "the_cage_refuses")
    statuses = dict(line.split() for line in told["text"].splitlines())
    assert set(statuses) == set(told["tries"])
    assert statuses.pop("write_workspace") == "0"
    assert [name for name, status in statuses.items() if status == "0"] == []


def test_a_workspace_elsewhere_is_refused(facts: Facts) -> None:
    """A folder outside of the roots, also behind a link, is an invalid request."""
    told = of(facts, "wrong_workspace")
    assert [(each["code"], each["reason"]) for each in told.values()] == [("INVALID_ARGUMENT", "INVALID_REQUEST")] * 2


def test_a_server_that_stops_leaves_no_process(facts: Facts) -> None:
    """After SIGTERM the server ends by itself, and no run outlives it."""
    assert of(facts, "stopping") == {"code": "UNAVAILABLE", "status": 0, "left": []}


def test_no_log_tells_the_key(facts: Facts) -> None:
    """The server's log has no key and no line that is not its own."""
    log = facts["log"]["log"]
    assert "sk-made-up" not in log
    assert [line for line in log.splitlines()[1:] if not line.startswith("{")] == []


def test_a_login_s_token_is_sent_as_one(facts: Facts) -> None:
    """A token of a login goes to the model as a bearer token, not as an API key."""
    told = of(facts, "traced")
    if "skipped" in told:
        pytest.skip(told["skipped"])
    assert told["authorization"] == "Bearer sk-ant-oat01-made-up"


# -- what a run does, call by call


@pytest.fixture(scope="module")
def calls(facts: Facts) -> list[str]:
    """The system calls of one run and of all that it began, from its program's first on."""
    told = of(facts, "traced")
    if "skipped" in told:
        pytest.skip(told["skipped"])
    assert told["status"] == 0, told
    assert '"is_error":false' in told["told"]
    return list(calls_of_program(Path(told["trace"]).read_text(errors="replace").splitlines()))


def calls_of_program(lines: list[str]) -> Iterator[str]:
    """Yield the calls of the caged program and of its children, with halves of calls put together."""
    before: set[str] = set()
    program = ""
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, call = line.partition(" ")
        call = call.strip()
        if not program and 'execve("/opt/claude' in call and "= -1" not in call:
            program = pid
        if not program:
            before.add(pid)
        elif pid == program or pid not in before:
            if call.endswith("<unfinished ...>"):
                begun[pid] = call.removesuffix("<unfinished ...>")
            else:
                yield begun.pop(pid, "") + re.sub(r"^<\.\.\. \w+ resumed>", "", call)


def test_a_run_opens_nothing_but_its_own_and_the_system_s_programs(calls: list[str]) -> None:
    """Every file that a run opened lies in its workspace, its configuration, its memory, or is a part of the system."""
    opened = [match for call in calls if (match := re.match(r"(open|openat|openat2|creat)\(.*\) += \d+<(.*)>$", call))]
    assert len(opened) > 50
    outside = {match[2] for match in opened if match[2] != "/" and not match[2].startswith(READABLE)}
    assert outside == set()


def test_a_run_writes_only_its_workspace_and_its_configuration(calls: list[str]) -> None:
    """Every file that a run opened to write, made, renamed or removed lies in its workspace or configuration."""
    writing = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|^(creat|mkdir|rename|unlink|rmdir|link|symlink|chmod|truncate)")
    written = [call for call in calls if writing.search(call) and not re.search(r"= -1 E", call)]
    paths = {path for call in written for path in re.findall(r'"(/[^"]*)"', call)}
    assert "/config/.claude.json" in paths
    assert {path for path in paths if not path.startswith(WRITABLE)} == set()
    assert any("</workspace/made>" in call for call in written)


def test_a_run_connects_to_its_model_only(calls: list[str], facts: Facts) -> None:
    """Every connection of a run goes to the model's address on loopback; it asks no name server."""
    connected = [call for call in calls if call.startswith(("connect(", "sendto(")) and "sa_family" in call]
    assert connected
    assert all('inet_addr("127.0.0.1")' in call for call in connected), connected
    assert not any("htons(53)" in call for call in connected)
    assert of(facts, "traced")["status"] == 0
