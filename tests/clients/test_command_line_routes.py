"""The commands about personas and routes."""

from __future__ import annotations

import json

import pytest
from tests.clients.platform_server import Platform
from tests.clients.test_command_line import ep

from execution_platform.v1 import capability_pb2, catalog_pb2


def test_personas_are_listed_over_all_pages(target: str) -> None:
    """Each persona of every page is a line: name, models, strategy, description; --json gives the messages."""
    ran = ep("personas", "list", "--target", target)
    assert ran.stdout == "".join(
        f"{name}\tscripted/a, openai/b\tsticky\tReads code.\n" for name in ("reviewer", "writer")
    )
    names = [json.loads(line)["name"] for line in ep("personas", "list", "--json", "-t", target).stdout.splitlines()]
    assert names == ["reviewer", "writer"]


def test_a_persona_is_shown_whole(target: str) -> None:
    """Whatever is set of a persona is a line, in words."""
    ran = ep("personas", "show", "reviewer", "--target", target)
    assert [line.split("\t") for line in ran.stdout.splitlines()] == [
        ["description", "Reads code."],
        ["models", "scripted/a, openai/b"],
        ["strategy", "sticky"],
        ["requires", "parallel tools"],
        ["tools", "read_*"],
        ["allowed providers", "scripted"],
        ["allowed regions", "eu"],
        ["labels", "team=blue"],
        ["limits", "5 requests/min, 6 tokens/min, 7 at once, USD 0.25/min"],
        ["mid-stream", "restart"],
        ["defined in", "personas.yaml:3"],
    ]
    shown = json.loads(ep("personas", "show", "reviewer", "--json", "-t", target).stdout)
    assert json.loads(shown["definitionJson"]) == {"provider": "scripted"}


def test_a_persona_that_is_not_there_names_the_command_that_lists_them(target: str) -> None:
    """A wrong name ends with 1 and one line that says where the right ones are."""
    ran = ep("personas", "show", "nobody", "--target", target)
    assert (ran.exit_code, ran.stderr) == (1, "ep: PERSONA_NOT_FOUND: name: no 'nobody'; see `ep personas list`\n")


def test_a_route_is_explained_with_every_option(platform: Platform, target: str) -> None:
    """Each option reaches the request; who decided is on standard error, the candidates on standard output."""
    ran = ep(
        "route", "explain", "--persona", "dev", "--model", "p/m", "--fallback", "q", "--session", "s", "--requires",
        "tools", "--requires", "IMAGE_INPUT", "--provider", "scripted", "--region", "eu", "What", "else",
        "--target", target,
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert ran.stdout == "1\tscripted/a\teu\tchosen\tit is first\n-\topenai\t\tnot configured\tno key; set it\n"
    assert ran.stderr == "decided by persona dev · strategy lowest latency · next after 1.5 s without output\n"
    sent = platform.requests[-1]
    assert isinstance(sent, catalog_pb2.ExplainRouteRequest)
    chat = sent.chat
    assert (chat.persona, chat.model, chat.context.session_id) == ("dev", "p/m", "s")
    assert chat.messages[0].content[0].text.text == "What else"
    assert list(chat.routing.fallback_models) == ["q"]
    assert list(chat.routing.allowed_providers) == ["scripted"]
    assert list(chat.routing.allowed_regions) == ["eu"]
    assert list(chat.routing.required_capabilities) == [
        capability_pb2.CAPABILITY_TOOLS,
        capability_pb2.CAPABILITY_IMAGE_INPUT,
    ]


@pytest.mark.parametrize("option", ["--no-option", "--json"])
def test_a_route_that_is_not_there_ends_with_one(target: str, option: str) -> None:
    """Where nobody is left the reason is told and the exit code is 1, with --json too."""
    arguments = ["route", "explain", "--persona", "nobody", "--target", target]
    ran = ep(*arguments, *(["--json"] if option == "--json" else []))
    assert ran.exit_code == 1
    assert ran.stderr.endswith("ep: NOT_ALLOWED: no route is allowed\n")
    if option == "--json":
        assert json.loads(ran.stdout)["error"]["reason"] == "ERROR_REASON_NOT_ALLOWED"


def test_a_capability_without_a_meaning_is_wrong_usage(target: str) -> None:
    """A name that is no capability ends with 2 and tells those that there are."""
    ran = ep("route", "explain", "--requires", "magic", "--target", target)
    assert ran.exit_code == 2
    assert "'magic' is not one of streaming, tools" in " ".join(ran.stderr.split())


@pytest.mark.parametrize("group", ["personas", "route"])
def test_a_group_alone_shows_its_commands(group: str) -> None:
    """A group without a command shows its help."""
    assert "Commands:" in ep(group).output
