"""A server with the agent, and a mock of its model, where there is no way out: run by test_claude_agent.

The namespaces of network and processes are this process's own: all that runs here is what it began. Each case's facts
go to the standard output as one line of JSON; what they mean is the test's to say.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.e2e.caller import Caller, Heard, calling, heard, until, user
from tests.e2e.conftest import fetch
from tests.e2e.processes import Server, eventually, serving

from execution_platform.v1 import chat_pb2, content_pb2

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-made-up-0123456789"
MOST_RUNS = 4
MANY = 20


@dataclass(frozen=True)
class Stage:
    """What a case plays on."""

    server: Server
    caller: Caller
    api: str
    folder: Path

    def workspace(self, name: str) -> Path:
        path = self.folder / "workspaces" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def asked(self) -> list[dict[str, Any]]:
        """Return the requests that the model got."""
        return list(fetch(f"{self.api}/requests"))


def processes() -> dict[int, str]:
    """Return the command lines of all processes in this namespace of the network, by number."""
    here = Path("/proc/self/ns/net").readlink()
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "ns/net").readlink() == here:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
    return found


def programs() -> list[int]:
    """Return the agent's programs that run: those that were begun by their cage, not by themselves."""
    lines = {pid: line for pid, line in processes().items() if line.startswith("/opt/claude\0")}
    found = []
    for pid in lines:
        with contextlib.suppress(OSError, IndexError):
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) not in lines:
                found.append(pid)
    return found


def left(stage: Stage) -> dict[str, Any]:
    """Return what is left of a run, once the server says that it runs no chat."""
    eventually(lambda: stage.caller.running() == 0, "no chat to run")
    eventually(lambda: fetch(f"{stage.api}/open") == 0, "the model to be asked nothing")
    with contextlib.suppress(AssertionError):
        eventually(lambda: not strangers(), "no process")
    return {"left": strangers()}


def strangers() -> list[str]:
    """Return the processes that are no Python: this one, the server, and the mock are."""
    return [line.replace("\0", " ")[:90] for line in processes().values() if line and not _is_ours(line)]


def _is_ours(line: str) -> bool:
    return line.startswith(sys.executable) or "agent_stage" in line


def request(text: str, *earlier: content_pb2.Message, tools: tuple[chat_pb2.Tool, ...] = (), **options: Any) -> Any:
    given = {"system_prompt": "Be short.", "tools": ["Bash"], **options}
    written = chat_pb2.ProviderOptions(provider="claude_agent", options_json=json.dumps(given))
    return chat_pb2.ChatRequest(
        model="claude_agent/claude-sonnet-5-5",
        messages=[*earlier, user(text)],
        tools=tools,
        provider_options=[written],
        routing=chat_pb2.Routing(),
    )


def executors(message: content_pb2.Message) -> set[content_pb2.ToolExecutor.ValueType]:
    """Return who ran the tools of an answer."""
    calls = {block.tool_call.executed_by for block in message.content if block.HasField("tool_call")}
    return calls | {block.tool_result.executed_by for block in message.content if block.HasField("tool_result")}


def told(answer: Heard) -> dict[str, Any]:
    """Return what a test may want to know of an answer."""
    facts: dict[str, Any] = {"code": answer.code.name, "message": answer.message, "kinds": answer.kinds}
    if answer.code.name == "OK":
        fold = answer.fold
        facts |= {
            "text": answer.text,
            "blocks": [block.WhichOneof("content") for block in fold.message.content],
            "executed_by": sorted({content_pb2.ToolExecutor.Name(by) for by in executors(fold.message)}),
            "startup": fold.finished.timing.startup.ToMicroseconds(),
            "states": [state.kind for block in fold.message.content for state in block.states],
            "notices": [notice.message for notice in fold.notices],
        }
    else:
        facts["reason"] = answer.reason
    return facts


# -- the cases


def streaming(stage: Stage) -> dict[str, Any]:
    answer = stage.caller.stream(request("@text One two three four."))
    headers = stage.asked()[-1]["headers"]
    return told(answer) | {"key": headers.get("x-api-key"), "target": stage.asked()[-1]["target"]}


def built_in_tool(stage: Stage) -> dict[str, Any]:
    work = stage.workspace("tool")
    text = '@tool Bash {"command": "echo made by a run >made; cat made"}\n@text It said: {result}'
    answer = stage.caller.stream(request(text, workspace=str(work), allowed_tools=["Bash"]))
    return told(answer) | {"made": (work / "made").read_text()}


def mcp_tool(stage: Stage) -> dict[str, Any]:
    with mcp_server() as (url, calls):
        server = chat_pb2.McpServerTool(name="calc", url=url, authorization_token="made-up-token")
        text = '@tool mcp__calc__add {"a": 2, "b": 3}\n@text The sum: {result}'
        answer = stage.caller.stream(request(text, tools=(chat_pb2.Tool(mcp_server=server),)))
    return told(answer) | {"calls": calls}


def two_turns(stage: Stage) -> dict[str, Any]:
    first = stage.caller.stream(request("@text The first answer."))
    question = user("@text The first answer.")
    second = stage.caller.stream(request("@text Asked: {asked}", question, first.fold.message))
    asked = stage.asked()[-1]["body"]["messages"]
    return told(second) | {"roles": [message["role"] for message in asked], "asked": json.dumps(asked)}


def cancel(stage: Stage) -> dict[str, Any]:
    call = stage.caller.begin(request("@forever"))
    until(call, "block_delta", 5)
    before = len(programs())
    call.cancel()
    return {"before": before, **left(stage)}


def deadline(stage: Stage) -> dict[str, Any]:
    answer = stage.caller.stream(request("@hang"), timeout=2.0)
    return {"code": answer.code.name, **left(stage)}


def crash(stage: Stage) -> dict[str, Any]:
    call = stage.caller.begin(request("@forever"))
    events = until(call, "block_delta", 5)
    (program,) = programs()
    os.kill(program, signal.SIGKILL)
    return told(heard(call, events)) | left(stage)


def refused_key(stage: Stage) -> dict[str, Any]:
    return told(stage.caller.stream(request("@error 401"))) | left(stage)


def refused_schema(stage: Stage) -> dict[str, Any]:
    wrong = request("@text x")
    wrong.output_format.json_schema.schema_json = '{"type": 5}'
    answers = [stage.caller.stream(wrong) for _ in range(5)]
    after = stage.caller.stream(request("@text x"))
    refused = [[answer.code.name, answer.reason] for answer in answers]
    return {"refused": refused, "message": answers[0].message, "next": after.code.name}


def many(stage: Stage) -> dict[str, Any]:
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            # Looking takes its time: those seen twice all ran at the moment between both looks.
            most = max(most, len(set(programs()).intersection(programs())))
            time.sleep(0.05)

    def ask(number: int) -> Heard:
        return stage.caller.stream(request(f"@text This is number {number}."), timeout=None)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(MANY) as pool:
        answers = list(pool.map(ask, range(MANY)))
    done.set()
    watcher.join()
    texts = [answer.text if answer.code.name == "OK" else answer.message for answer in answers]
    return {"most": most, "texts": texts, **left(stage)}


#: Succeeds where the program's memory can be opened, and where the program is not found.
_OPENS_MEMORY = """
for process in /proc/[0-9]*; do
  [ "$(tr '\\0' '\\n' <$process/cmdline | head -n 1)" = /opt/claude ] || continue
  found=1
  (: <$process/mem) && exit 0
done
[ -z "$found" ]
"""


def the_cage_refuses(stage: Stage) -> dict[str, Any]:
    work = stage.workspace("refusing")
    outside = stage.folder / "outside"
    outside.write_text("a secret of the machine")
    tries = {
        "write_usr": "echo x >/usr/x",
        "write_etc": "echo x >/etc/x",
        "write_root": "echo x >/x",
        "read_shadow": "cat /etc/shadow",
        "read_ssh": "cat ~/.ssh/* /root/.ssh/*",
        "read_project": f"cat {ROOT}/pyproject.toml",
        "read_outside": f"cat {outside}",
        "read_sessions": f"ls {stage.folder}/config",
        "key_in_environment": f"env | grep {KEY}",
        "key_of_the_program": f"cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep {KEY}",
        "key_in_memory": _OPENS_MEMORY,
        "key_in_configuration": f"grep -rF -e {KEY[:8]}'{KEY[8:]}' /config --include=*.json",
        "write_workspace": "echo ok >/workspace/x",
    }
    script = "\n".join(f"( {command} ) >/dev/null 2>&1; echo {name} $?" for name, command in tries.items())
    text = f"@tool Bash {json.dumps({'command': script})}\n@text {{result}}"
    answer = stage.caller.stream(request(text, workspace=str(work), allowed_tools=["Bash"]))
    return told(answer) | {"tries": list(tries)}


def wrong_workspace(stage: Stage) -> dict[str, Any]:
    link = stage.workspace("linking") / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    return {named: told(stage.caller.stream(request("@text x", workspace=named))) for named in ("/etc", str(link))}


def stopping(stage: Stage) -> dict[str, Any]:
    """Stop the server in the middle of a run; it is the last case."""
    call = stage.caller.begin(request("@forever"))
    until(call, "block_delta", 5)
    stage.server.signal(signal.SIGTERM)
    answer = heard(call)
    return {"code": answer.code.name, "status": stage.server.wait(), "left": strangers()}


CASES: tuple[Callable[[Stage], dict[str, Any]], ...] = (
    streaming,
    built_in_tool,
    mcp_tool,
    two_turns,
    cancel,
    deadline,
    crash,
    refused_key,
    refused_schema,
    the_cage_refuses,
    wrong_workspace,
    many,
    stopping,
)


@contextlib.contextmanager
def mcp_server() -> Iterator[tuple[str, list[Any]]]:
    """Run an MCP server that adds numbers; yields its address and the calls that it gets."""
    calls: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._tell(405, None)

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            method, number = message.get("method"), message.get("id")
            if number is None:
                return self._tell(202, None)
            result: dict[str, Any] = {}
            if method == "initialize":
                version = message["params"]["protocolVersion"]
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": _NAMED}
            elif method == "tools/list":
                result = {"tools": [{"name": "add", "description": "adds", "inputSchema": {"type": "object"}}]}
            elif method == "tools/call":
                given = message["params"]["arguments"]
                calls.append({"given": given, "authorization": self.headers["authorization"]})
                result = {"content": [{"type": "text", "text": str(given["a"] + given["b"])}]}
            return self._tell(200, {"jsonrpc": "2.0", "id": number, "result": result})

        def _tell(self, status: int, value: Any) -> None:
            data = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/mcp", calls
        finally:
            server.shutdown()
            thread.join()


_NAMED = {"name": "calc", "version": "1"}


def traced(folder: Path, api: str) -> dict[str, Any]:
    """Trace the system calls of one run that uses a tool; returns where they are."""
    strace = shutil.which("strace")
    if strace is None:
        return {"skipped": "strace is not installed"}
    out = folder / "trace"
    command = [sys.executable, "-m", "tests.e2e.agent_traced", strace, str(out), api, str(folder / "traced")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    sent = fetch(f"{api}/requests")[-1]["headers"].get("authorization", "")
    return {
        "trace": str(out),
        "authorization": sent,
        "status": done.returncode,
        "said": done.stderr[-2000:],
        "told": done.stdout,
    }


def main(folder: Path, names: list[str]) -> None:
    """Play the cases, and print each one's facts."""
    command = [sys.executable, str(ROOT / "tests/adapters/claude_agent/messages_api.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as mock:
        assert mock.stdout is not None
        api = mock.stdout.readline().strip()
        settings = {
            "EP_CLAUDE_AGENT_API_KEY": KEY,
            "EP_CLAUDE_AGENT_BASE_URL": api,
            "EP_CLAUDE_AGENT_CONFIG_DIR": str(folder / "config"),
            "EP_CLAUDE_AGENT_WORKSPACES": str(folder / "workspaces"),
            "EP_CLAUDE_AGENT_MOST_RUNS": str(MOST_RUNS),
            "EP_DRAIN_SECONDS": "0.5",
        }
        (folder / "workspaces").mkdir()
        with serving(folder / "server", settings) as server, calling(server.address()) as caller:
            stage = Stage(server, caller, api, folder)
            for case in CASES:
                if not names or case.__name__ in names:
                    play(case.__name__, lambda case=case: case(stage))  # type: ignore[misc] # bound now
        if not names or "traced" in names:
            play("traced", lambda: traced(folder, api))
        print(json.dumps({"case": "log", "facts": {"log": server.err[-20000:]}}), flush=True)


def play(name: str, case: Callable[[], dict[str, Any]]) -> None:
    """Print the facts of a case, or how it failed; the others are played all the same."""
    began = time.monotonic()
    try:
        eventually(lambda: not programs(), "the programs of the cases before to end")
        facts = case()
    except Exception as error:  # noqa: BLE001 - told to the test, which fails with it
        facts = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps({"case": name, "facts": facts, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
