"""The client's command line, run in process and on a real terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.clients.platform_server import (
    SECONDS,
    Platform,
    abort,
    endless,
    failed,
    finished,
    opened,
    spoken,
    started,
    texts,
)
from tests.ports import nobody
from typer.testing import CliRunner, Result

from execution_platform.client.cli import build_app, complete_model
from execution_platform.client.cli_chat import spoken as said
from execution_platform.client.cli_connection import error_line
from execution_platform.client.cli_terminal import Terminal, amount, usage_line
from execution_platform.client.errors import ErrorFacts, TransportError
from execution_platform.v1 import chat_pb2, common_pb2, content_pb2, error_pb2, usage_pb2

COMMANDS = ["chat", "models", "providers", "health", "version"]


def ep(*arguments: str, stdin: str = "", **environment: str) -> Result:
    """Run the command line with nothing of the caller's environment."""
    clean = dict.fromkeys(("EP_TARGET", "EP_TOKEN", "EP_TLS", "EP_CA", "EP_CERT", "EP_KEY"))
    return CliRunner().invoke(build_app(), list(arguments), input=stdin, env={**clean, **environment}, prog_name="ep")


def thoughtful() -> list[chat_pb2.ChatEvent]:
    """Return an answer with reasoning, a notice, text, a tool call and a refusal."""
    thinking = opened(content_pb2.ContentBlock(thinking=content_pb2.ThinkingBlock()))
    thought = chat_pb2.ChatEvent(block_delta=chat_pb2.BlockDelta(index=0, thinking="hm hm"))
    notice = chat_pb2.ChatEvent(notice=chat_pb2.Notice(message="top_k was left out"))
    change = chat_pb2.ChatEvent(
        route_changed=chat_pb2.RouteChanged(route=chat_pb2.Route(provider="p", model="m"), reason="why")
    )
    call = opened(content_pb2.ContentBlock(tool_call=content_pb2.ToolCallBlock(name="look_up")))
    arguments = chat_pb2.ChatEvent(block_delta=chat_pb2.BlockDelta(index=2, arguments_json='{"a":1}'))
    media = opened(content_pb2.ContentBlock(media=content_pb2.MediaBlock(mime_type="image/png")))
    refusal = opened(content_pb2.ContentBlock(refusal=content_pb2.RefusalBlock(text="I ")))
    refused = chat_pb2.ChatEvent(block_delta=chat_pb2.BlockDelta(index=4, refusal="will not"))
    text = opened(content_pb2.ContentBlock(text=content_pb2.TextBlock()))
    stops = [chat_pb2.ChatEvent(block_stopped=chat_pb2.BlockStopped(index=index)) for index in range(5)]
    return [
        started(), notice, change, thinking, thought, stops[0], text, *texts("Hello", " you", index=1), stops[1],
        call, arguments, stops[2], media, stops[3], refusal, refused, stops[4], finished(),
    ]  # fmt: skip


def test_an_answer_goes_to_standard_output_and_the_rest_beside_it(platform: Platform, target: str) -> None:
    """Only the answer's own words are on standard output; notes, calls and usage are on standard error."""
    platform.answering = lambda *_: [thoughtful()]
    ran = ep("chat", "--target", target, "Hello")
    assert ran.exit_code == 0
    assert ran.stdout.split("\n") == ["Hello you", "I will not", ""]
    assert ran.stderr.split("\n") == [
        "note: top_k was left out",
        "note: p/m goes on: why",
        'calls look_up {"a":1}',
        "image/png (see --json)",
        "scripted/model-0000 · 0 in · 3 out · cost not known · stop",
        "",
    ]


def anew() -> list[chat_pb2.ChatEvent]:
    """Return an answer that breaks off and begins anew."""
    change = chat_pb2.RouteChanged(
        route=chat_pb2.Route(provider="p", model="m"), kind=chat_pb2.ROUTE_CHANGE_KIND_RESTART, void_blocks=[0]
    )
    stops = [chat_pb2.ChatEvent(block_stopped=chat_pb2.BlockStopped(index=index)) for index in range(2)]
    first = [started(), opened(content_pb2.ContentBlock(text=content_pb2.TextBlock())), *texts("Half"), stops[0]]
    again = opened(content_pb2.ContentBlock(index=1, text=content_pb2.TextBlock()))
    return [
        *first, chat_pb2.ChatEvent(route_changed=change), again, *texts("Whole", index=1), stops[1], finished(),
    ]  # fmt: skip


def test_an_answer_that_begins_anew_says_what_is_void(platform: Platform, target: str) -> None:
    """When another route begins the answer again that is told, and the void words are not on standard output."""
    platform.answering = lambda *_: [anew()]
    ran = ep("chat", "--target", target, "Hello")
    assert ran.stdout == "Whole\n"
    assert ran.stderr.split("\n")[0] == "note: p/m begins the answer anew, what came before is void"
    lines = [json.loads(line) for line in ep("chat", "--target", target, "--json", "Hello").stdout.splitlines()]
    [change] = [line["routeChanged"] for line in lines if "routeChanged" in line]
    assert (change["kind"], change["voidBlocks"]) == ("ROUTE_CHANGE_KIND_RESTART", [0])


def test_on_a_terminal_void_words_stay_above_the_note(platform: Platform, target: str) -> None:
    """Who reads along sees the words as they come, then that they are void, then the answer, each on its line."""
    platform.answering = lambda *_: [anew()]
    with terminal("chat", "--target", target, "Hello") as typed:
        typed.wait_for("Half\r\n")
        typed.wait_for("begins the answer anew, what came before is void")
        typed.wait_for("Whole\r\n")
        assert typed.process.wait(SECONDS) == 0


def test_reasoning_is_shown_when_asked_for(platform: Platform, target: str) -> None:
    """Away from a terminal reasoning is left out unless --thinking asks for it, and then on standard error."""
    platform.answering = lambda *_: [thoughtful()]
    assert "hm hm" in ep("chat", "-t", target, "--thinking", "Hello").stderr
    assert ep("chat", "-t", target, "--quiet", "Hello").stderr.split("\n")[0] == 'calls look_up {"a":1}'


def test_options_reach_the_request(platform: Platform, target: str, tmp_path: Path) -> None:
    """Each option of `chat` is in the request, and a file is a block before the text."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"png")
    ran = ep(
        "chat", "--model", "p/m", "--persona", "dev", "--system", "short", "--max-tokens", "9", "--temperature", "0",
        "--reasoning", "low", "--file", str(picture), "--timeout", "30", "--fallback", "q", "--fallback", "r/n",
        "What", "is this?",
        EP_TARGET=target, EP_TOKEN="made-up",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    sent = platform.requests[-1]
    assert isinstance(sent, chat_pb2.ChatRequest)
    assert (sent.model, sent.persona, sent.system[0].text.text) == ("p/m", "dev", "short")
    assert (sent.sampling.max_output_tokens, sent.sampling.temperature, sent.reasoning.effort) == (9, 0.0, "low")
    assert list(sent.routing.fallback_models) == ["q", "r/n"]
    assert sent.sampling.HasField("temperature")
    blocks = sent.messages[0].content
    assert (blocks[0].media.data, blocks[1].text.text) == (b"png", "What is this?")
    assert platform.metadata[-1]["authorization"] == "Bearer made-up"


def test_standard_input_is_the_message(target: str) -> None:
    """Without a message standard input is said, and with a - it stands in its place."""
    assert ep("chat", "-q", "-t", target, stdin="from a pipe\n").stdout == "from a pipe\n"
    assert ep("chat", "-q", "-t", target, "Sum up:", "-", stdin="text\n").stdout == "Sum up:\n\ntext\n"
    assert [block.text.text for block in said(["a", "-", "b", "c"], [], StringIO("in"))] == ["a\n\nin\n\nb c"]


def test_json_is_one_event_a_line(platform: Platform, target: str) -> None:
    """With --json every event is a line in the JSON form of protobuf, and nothing else is written."""
    platform.answering = lambda *_: [thoughtful()]
    ran = ep("chat", "--json", "-t", target, "Hello")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["sequence"] for line in lines] == [str(number) for number in range(1, len(thoughtful()) + 1)]
    assert lines[-1]["finished"]["reason"] == "FINISH_REASON_STOP"
    assert "".join(line.get("blockDelta", {}).get("text", "") for line in lines) == "Hello you"
    assert ran.stderr == ""


def test_a_conversation_remembers(platform: Platform, target: str) -> None:
    """Each line is a turn with everything before it, /new forgets, /exit ends."""
    script = "one\n\ntwo\n/help\n/new\nthree\n/exit\nnever\n"
    ran = ep("chat", "--conversation", "-q", "-t", target, stdin=script)
    assert ran.exit_code == 0
    assert ran.stdout == "one\ntwo\nthree\n"
    assert "Ctrl-D" in ran.stderr
    sent = [request for request in platform.requests if isinstance(request, chat_pb2.ChatRequest)]
    assert [[block.text.text for message in each.messages for block in message.content] for each in sent] == [
        ["one"],
        ["one", "one", "two"],
        ["three"],
    ]


def test_a_failed_turn_does_not_end_the_conversation(platform: Platform, target: str) -> None:
    """A turn that fails is reported and forgotten, and the next one is asked."""

    def answering(request: chat_pb2.ChatRequest, context: Any) -> Iterator[list[chat_pb2.ChatEvent]]:
        if request.messages[-1].content[0].text.text == "bad":
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "not so")
        yield spoken(str(len(request.messages)))

    platform.answering = answering
    ran = ep("chat", "-c", "-q", "-t", target, "first", stdin="bad\ngood\n")
    assert (ran.exit_code, ran.stdout) == (0, "1\n3\n")
    assert ran.stderr == "ep: INVALID_REQUEST: not so\n"


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", 1),
        (grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_NOT_CONFIGURED", 1),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED", 3),
        (grpc.StatusCode.UNAVAILABLE, "DRAINING", 3),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 4),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    platform: Platform, target: str, code: grpc.StatusCode, reason: str, exit_code: int
) -> None:
    """Each kind of failure ends with its documented exit code and one line on standard error."""
    platform.failing = lambda context: abort(context, code, reason, "because\nof this")
    for command in (["chat", "Hello"], ["models"], ["providers"]):
        ran = ep(*command, "--target", target)
        assert (ran.exit_code, ran.stdout) == (exit_code, "")
        assert ran.stderr == f"ep: {reason}: because of this\n"


def test_a_failure_in_the_middle_starts_a_line_of_its_own(platform: Platform, target: str) -> None:
    """What came before a failure stays, and the error stands on the next line with when to try again."""

    def breaking(_: chat_pb2.ChatRequest, context: Any) -> Iterator[list[chat_pb2.ChatEvent]]:
        detail = error_pb2.ErrorDetail(reason=error_pb2.ERROR_REASON_PROVIDER_OVERLOADED, retryable=True)
        detail.retry_after.FromSeconds(7)
        yield [started(), opened(content_pb2.ContentBlock(text=content_pb2.TextBlock())), *texts("half")]
        yield [failed(detail)]
        abort(context, grpc.StatusCode.UNAVAILABLE, "PROVIDER_OVERLOADED", "busy", retryable="true")

    platform.answering = breaking
    ran = ep("chat", "-t", target, "Hello")
    assert (ran.exit_code, ran.stdout) == (3, "half\n")
    assert ran.stderr == "ep: PROVIDER_OVERLOADED: busy (try again in 7 s)\n"


def test_the_frequent_mistakes_say_what_to_do(platform: Platform, target: str) -> None:
    """A server that is not there, a wrong model and a wrong target each give one clear line."""
    with nobody() as closed:
        away = ep("chat", "--target", closed, "Hello")
    assert away.exit_code == 3
    assert re.fullmatch(rf"ep: no server answers at {closed} \(.+\); `ep serve` starts one, .+\n", away.stderr)
    platform.failing = lambda context: abort(context, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "no model x")
    wrong = ep("chat", "--target", target, "-m", "x", "Hello")
    assert (wrong.exit_code, wrong.stderr) == (1, "ep: MODEL_NOT_FOUND: no model x; see `ep models`\n")
    for command in COMMANDS:
        bad = ep(command, "--target", "http://somewhere:1", *(["Hello"] if command == "chat" else []))
        assert bad.exit_code == 2
        assert "leave out http:// and write somewhere:1" in " ".join(bad.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat", "--file", "/no/such/file.png", "x"], "No such file"),
        (["chat", "   "], "nothing to say"),
        (["chat", "caf\udce9"], "not UTF-8"),
        (["chat", "-c", "-"], "standard input is the conversation"),
        (["models", "--ca", "/no/such/file"], "No such file"),
        (["chat", "--max-tokens", "0", "x"], "--max-tokens"),
    ],
)
def test_wrong_usage_is_told(target: str, arguments: list[str], message: str) -> None:
    """An argument without a meaning gives exit code 2 and says which."""
    ran = ep(*arguments, "--target", target)
    assert ran.exit_code == 2
    assert message in " ".join(ran.stderr.split())


def test_a_token_needs_encryption_or_this_machine() -> None:
    """A token in the environment is not sent to another machine in the open."""
    ran = ep("models", "--target", "host.example:1", EP_TOKEN="made-up")
    assert ran.exit_code == 2
    assert "made-up" not in ran.output


@pytest.mark.parametrize("token", ["made-up\n", "made\u00fcp", " "])
def test_a_token_that_cannot_travel_is_told_without_itself(token: str) -> None:
    """A token with a character that no header can carry is wrong usage, told in one line without the token."""
    ran = ep("models", "--target", "127.0.0.1:1", EP_TOKEN=token)
    assert ran.exit_code == 2
    assert "no header can carry" in ran.output
    assert "made" not in ran.output


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            (
                "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake "
                "failed (TSI_PROTOCOL_FAILURE): "
                "SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER: "
                "Invalid certificate verification context: OK"
            ),
            "TLS: wrong version number",
        ),
        (
            (
                "errors resolving no.invalid:5: [field:hostname lookup error:address lookup failed for no.invalid:5: "
                "Domain name not found]"
            ),
            "Domain name not found",
        ),
        ("failed to connect to all addresses; last error: UNKNOWN: unix:/none: No such file", "No such file"),
    ],
)
def test_a_connection_that_fails_is_told_by_its_cause(message: str, cause: str) -> None:
    """Of gRPC's words about a connection the line has those that say why."""
    error = TransportError(message, ErrorFacts(retryable=True))
    assert f"({cause});" in error_line(error, "127.0.0.1:1")


def test_lists_are_tabs_for_programs(target: str) -> None:
    """Away from a terminal lists are lines with tabs, and JSON when asked for."""
    ran = ep("models", "--target", target)
    assert ran.stdout == "".join(f"scripted/model-000{number}\t4096\t\t\n" for number in range(3))
    assert ran.stderr == "note: broken did not answer: it did not answer\n"
    lines = ep("models", "scripted", "--json", "--target", target).stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == [f"scripted/model-000{number}" for number in range(3)]
    assert ep("providers", "-t", target).stdout == "scripted\tyes\tmodel-0000\t\nother\tno\t\tEP_OTHER_API_KEY\n"
    assert json.loads(ep("providers", "--json", "-t", target).stdout.splitlines()[0])["configured"] is True
    status = ep("providers", "scripted", "-t", target).stdout
    assert "state\thealthy\n" in status
    assert "last success\t1970-01-01T00:00:01Z\n" in status
    assert "circuit of m1\topen, failures in a row: 5, next probe: 1970-01-01T00:00:02Z\n" in status
    assert "circuit of m2\tclosed, failures in a row: 1\n" in status
    assert json.loads(ep("providers", "scripted", "--json", "-t", target).stdout)["finishedChats"] == "7"


def test_health_is_an_exit_code(platform: Platform, target: str) -> None:
    """A server that serves gives 0, one that drains 3, and an unknown service is an error."""
    healthy = ep("health", "--wait", "20", "-t", target)
    assert (healthy.exit_code, healthy.stdout) == (0, "serving\n")
    platform.health.set("", 2)
    draining = ep("health", "-t", target)
    assert (draining.exit_code, draining.stdout) == (3, "not serving\n")
    assert ep("health", "no.Such", "-t", target).exit_code == 1


def test_versions_are_told_with_and_without_a_server(target: str) -> None:
    """The client's version is told always, the server's and the contract's where one answers."""
    assert re.fullmatch(rf"client \S+\nserver 9\.8\.7 at {target}\ncontract 1\.0\n", ep("version", "-t", target).stdout)
    with nobody() as closed:
        alone = ep("version", "-t", closed)
    assert (alone.exit_code, alone.stderr) == (0, f"no server answers at {closed}\n")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_explains(command: list[str]) -> None:
    """Every command explains itself, and the whole names the exit codes."""
    ran = ep(*command, "--help")
    assert ran.exit_code == 0
    assert ("130 interrupted" if not command else "--target") in " ".join(ran.stdout.split())
    assert not command or command == ["version"] or f"\n    ep {command[0]}" in ran.stdout


def test_models_complete_in_the_shell(target: str) -> None:
    """The shell is offered the server's models that begin so, and nothing when no server answers."""

    class Context:
        """As much of typer's context as is asked for."""

        params = {"target": target}  # noqa: RUF012 - typer's is a plain dict too

    context: Any = Context()
    assert complete_model(context, "scripted/model-0001") == ["scripted/model-0001"]
    context.params = {"target": "nonsense"}
    assert complete_model(context, "") == []


def test_amounts_of_money_are_exact() -> None:
    """Money is written to the last digit and never rounded, and an unknown price is never free."""
    assert [amount(nanos) for nanos in (1, 1_500_000_000, 123_456_789_000_000_001)] == [
        "0.000000001",
        "1.5",
        "123456789.000000001",
    ]
    item = usage_pb2.UsageItem
    usage = usage_pb2.Usage(
        items=[
            item(kind=usage_pb2.USAGE_KIND_INPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=10),
            item(kind=usage_pb2.USAGE_KIND_CACHE_READ, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=5),
            item(kind=usage_pb2.USAGE_KIND_OUTPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=3),
            item(kind=usage_pb2.USAGE_KIND_REASONING, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=4),
            item(kind=usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, unit=usage_pb2.USAGE_UNIT_CALL, tool="search", quantity=2),
        ]
    )
    lines = [
        usage_pb2.CostLine(amount=common_pb2.Money(currency_code="USD", nanos=nanos))
        for nanos in (1_000_000, 2_000_000)
    ]
    done = chat_pb2.Finished(
        reason=chat_pb2.FINISH_REASON_MAX_TOKENS,
        usage=usage,
        cost=usage_pb2.Cost(status=usage_pb2.COST_STATUS_ESTIMATED, lines=lines),
        route=chat_pb2.Route(provider="p", model="m", served_model="m-1"),
    )
    done.timing.total.FromMilliseconds(1250)
    said = "p/m-1 · 15 in (5 cached) · 7 out (4 reasoning) · 2 search · about USD 0.003 · 1.2 s · max tokens"
    assert usage_line(done) == said
    done.timing.startup.FromMilliseconds(420)
    assert usage_line(done) == said.replace("1.2 s", "1.2 s (0.4 s to start)")
    assert usage_line(chat_pb2.Finished()) == "cost not known · unspecified"


class Screen(StringIO):
    """A terminal that keeps what was written."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@pytest.mark.parametrize(
    ("environment", "dimmed"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_only_a_terminal_that_wants_it_gets_colours(environment: dict[str, str], dimmed: bool) -> None:
    """Asides are dimmed on a terminal, and plain with NO_COLOR or on a dumb one."""
    out, err = Screen(), Screen()
    Terminal(out, err, environment).aside("hm")
    assert (err.getvalue() == "\x1b[2mhm\x1b[0m") is dimmed
    assert "hm" in err.getvalue()


def test_a_model_cannot_steer_the_terminal() -> None:
    """Control characters of an answer are made visible on a terminal, and pass unchanged into a file."""
    evil = "a\x1b]52;c;ZXZpbA==\x07b\rc\x9bd\n"
    screen, into_file = Screen(), StringIO()
    Terminal(screen, StringIO(), {"TERM": "dumb"}).write(evil)
    assert screen.getvalue() == "a\ufffd]52;c;ZXZpbA==\ufffdb\ufffdc\ufffdd\n"
    Terminal(into_file, StringIO(), {}).write(evil)
    assert into_file.getvalue() == evil


def test_tables_have_a_head_on_a_terminal() -> None:
    """On a terminal a list has a head, and cells keep their brackets."""
    screen = Screen()
    Terminal(screen, StringIO(), {"TERM": "dumb"}).table(("name", "note"), [("a", "[b]")])
    assert screen.getvalue().split() == ["name", "note", "a", "[b]"]


class Typed:
    """A process on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self.shown = ""
        self._seen = 0

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until the text is shown, after what was waited for before."""
        give_up = time.monotonic() + SECONDS
        while (at := self.shown.find(text, self._seen)) < 0:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, give_up - time.monotonic()))
            assert ready, f"{text!r} did not come; shown: {self.shown!r}"
            self.shown += os.read(self._terminal, 4096).decode()
        self._seen = at + len(text)


# Makes its standard input the terminal that Ctrl-C comes from, and becomes the command line. Whoever runs the tests in
# the background ignores SIGINT, and so would it.
ON_TERMINAL = """
import fcntl, runpy, signal, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("execution_platform.client", run_name="__main__", alter_sys=True)
"""


@contextmanager
def terminal(*arguments: str) -> Iterator[Typed]:
    """Run the command line on a new terminal."""
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", ON_TERMINAL, *arguments]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield Typed(process, ours)
        finally:
            process.kill()
            os.close(ours)


def test_ctrl_c_stops_an_answer_on_a_terminal(platform: Platform, target: str) -> None:
    """What is there is shown at once with reasoning dimmed; Ctrl-C cancels the chat and ends with 130."""

    def thinking(_: object, context: Any) -> Iterator[list[chat_pb2.ChatEvent]]:
        first = thoughtful()[:6]
        yield first
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(SECONDS)

    platform.answering = thinking
    with terminal("chat", "--target", target, "Hello") as typed:
        typed.wait_for("\x1b[2mhm hm\x1b[0m")
        typed.type("\x03")
        assert typed.process.wait(SECONDS) == 128 + signal.SIGINT
    assert platform.ended.wait(SECONDS)
    assert "Traceback" not in typed.shown


def test_a_terminal_without_a_message_converses(platform: Platform, target: str) -> None:
    """A conversation is typed at a prompt; Ctrl-C stops one answer only, and Ctrl-D ends with 0."""
    with terminal("chat", "--target", target) as typed:
        typed.wait_for("> ")
        typed.type("Guten Tag\n")
        typed.wait_for("cost not known")
        typed.wait_for("> ")
        assert platform.ended.wait(SECONDS)
        platform.ended.clear()
        platform.answering = lambda _, context: endless(context)
        typed.type("again\n")
        typed.wait_for("first")
        typed.type("\x03")
        typed.wait_for("stopped; this turn is forgotten")
        typed.wait_for("> ")
        assert platform.ended.wait(SECONDS)
        platform.answering = lambda request, _: [spoken(f"{len(request.messages)} messages")]
        typed.type("how many\n")
        typed.wait_for("3 messages")
        typed.wait_for("> ")
        typed.type("\x04")
        assert typed.process.wait(SECONDS) == 0
    assert "Traceback" not in typed.shown


def test_a_reader_that_has_enough_ends_it_quietly(platform: Platform, target: str) -> None:
    """A command whose output is no longer read ends without a traceback."""
    platform.models = ["scripted/" + "model" * 200] * 300
    command = [sys.executable, "-m", "execution_platform.client", "models", "--target", target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        complaints = process.stderr.read()
    assert process.returncode != 0
    assert b"Traceback" not in complaints
