"""The commands `personas` and `route`: who may ask for what, and where a chat would go."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import typer
from google.protobuf.descriptor import EnumDescriptor

from execution_platform.client.cli_connection import (
    EXIT_FAILED,
    CaOption,
    CertOption,
    JsonOption,
    KeyOption,
    Server,
    TargetOption,
    TimeoutOption,
    TlsOption,
    described,
    reporting_errors,
)
from execution_platform.client.cli_interrupts import interruptible
from execution_platform.client.cli_terminal import Terminal, amount
from execution_platform.client.enums import number_of, short_name
from execution_platform.client.options import DEFAULT_TARGET
from execution_platform.client.requests import ChatFields
from execution_platform.v1 import capability_pb2, catalog_pb2, chat_pb2, error_pb2

__all__ = ["personas_group", "route_group"]

_LIST_EXAMPLES = ("ep personas list", "ep personas list --json | jq -r .name")
_SHOW_EXAMPLES = ("ep personas show reviewer", "ep personas show reviewer --json | jq -r .definitionJson | jq .")
_EXPLAIN_EXAMPLES = (
    "ep route explain --persona reviewer",
    "ep route explain -m openai/gpt-5-mini --fallback anthropic --requires tools",
    "ep route explain --persona reviewer --session task-7 --json",
)


def personas_group() -> typer.Typer:
    """Return the group of commands about personas."""
    group = typer.Typer(
        name="personas",
        help="Personas of the server's configuration: who asks, and what that means for a chat.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    group.command("list", help=described(list_personas, _LIST_EXAMPLES))(list_personas)
    group.command("show", help=described(show_persona, _SHOW_EXAMPLES))(show_persona)
    return group


def route_group() -> typer.Typer:
    """Return the group of commands about routes."""
    group = typer.Typer(
        name="route",
        help="Routes: whom a chat asks, in which order.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    group.callback()(_route)  # with one command alone the group would be that command
    group.command("explain", help=described(explain, _EXPLAIN_EXAMPLES))(explain)
    return group


def _route() -> None:
    pass


def list_personas(
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """List the personas of the server.

    Not on a terminal: name, models in order, strategy and description, with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(client.list_personas)
        if as_json:
            terminal.json(found)
            return
        rows = ((each.name, ", ".join(each.models), _strategy(each.strategy), each.description) for each in found)
        terminal.table(("persona", "models", "strategy", "description"), rows)
        if not found:
            terminal.remark("the server's configuration has no personas")


def show_persona(
    name: Annotated[str, typer.Argument(help="Name of the persona.")],
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Show one persona, with what it extends and the defaults merged in."""
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    with server.connect(timeout) as client, reporting_errors(server):
        persona = interruptible(lambda: client.get_persona(name))
        if as_json:
            terminal.json([persona])
        else:
            terminal.table((persona.name, ""), _persona_rows(persona))


def explain(  # noqa: PLR0913 - one argument for each option
    message: Annotated[list[str] | None, typer.Argument(help="What would be said; may be left out.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="provider/model, alias or provider.")] = "",
    persona: Annotated[str, typer.Option(help="Who asks.")] = "",
    fallback: Annotated[list[str] | None, typer.Option(help="Model to ask next; may be given again.")] = None,
    session: Annotated[str, typer.Option(help="Session that the chat belongs to.")] = "",
    requires: Annotated[
        list[str] | None, typer.Option(help="Capability that is required, such as tools; may be given again.")
    ] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Allow only this provider; may be given again.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="Allow only this region; may be given again.")] = None,
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Explain where a chat would go now, and why not elsewhere. Asks no provider.

    Not on a terminal: place in the order, provider/model, region, verdict and reasons, with tabs between.
    Ends with 1 if no route is left.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    fields: ChatFields = {
        "model": model,
        "persona": persona,
        "session_id": session,
        "fallback_models": fallback or [],
        "allowed_providers": provider or [],
        "allowed_regions": region or [],
        "requires": _capabilities(requires or []),
    }
    with server.connect(timeout) as client, reporting_errors(server):
        route = interruptible(lambda: client.explain_route(" ".join(message or []) or (), **fields))
    if as_json:
        terminal.json([route])
    else:
        terminal.remark(_headline(route))
        terminal.table(("", "route", "region", "verdict", "why"), map(_candidate_row, route.candidates))
    if route.HasField("error"):
        reason = short_name(error_pb2.ErrorReason.DESCRIPTOR, route.error.reason)
        terminal.remark(f"ep: {reason}: {route.error.message}", "red")
        raise typer.Exit(EXIT_FAILED)


def _capabilities(names: Iterable[str]) -> list[capability_pb2.Capability.ValueType]:
    """Return the capabilities of these names. Raises typer.BadParameter."""
    enum = capability_pb2.Capability
    try:
        return [enum.ValueType(number_of(enum.DESCRIPTOR, name)) for name in names]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--requires") from error


def _word(enum: EnumDescriptor, number: int) -> str:
    return short_name(enum, number).lower().replace("_", " ")


def _strategy(strategy: catalog_pb2.RouteStrategy.ValueType) -> str:
    return _word(catalog_pb2.RouteStrategy.DESCRIPTOR, strategy)


def _persona_rows(persona: catalog_pb2.Persona) -> list[tuple[str, str]]:
    capabilities = capability_pb2.Capability.DESCRIPTOR
    rows = [
        ("description", persona.description),
        ("models", ", ".join(persona.models)),
        ("strategy", _strategy(persona.strategy)),
        ("requires", ", ".join(_word(capabilities, each) for each in persona.required_capabilities)),
        ("tools", ", ".join(persona.tools)),
        ("allowed providers", ", ".join(persona.allowed_providers)),
        ("allowed regions", ", ".join(persona.allowed_regions)),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(persona.labels.items()))),
        ("limits", ", ".join(_limits(persona.limits))),
        ("mid-stream", _word(chat_pb2.MidStreamPolicy.DESCRIPTOR, persona.mid_stream)),
        ("defined in", persona.source),
    ]
    return [(name, value) for name, value in rows if value]


def _limits(limits: catalog_pb2.Limits) -> list[str]:
    said = [
        f"{limits.requests_per_min} requests/min" if limits.HasField("requests_per_min") else "",
        f"{limits.tokens_per_min} tokens/min" if limits.HasField("tokens_per_min") else "",
        f"{limits.concurrent} at once" if limits.HasField("concurrent") else "",
    ]
    if limits.HasField("cost_per_min"):
        said.append(f"{limits.cost_per_min.currency_code} {amount(limits.cost_per_min.nanos)}/min")
    return [each for each in said if each]


def _headline(route: catalog_pb2.ExplainRouteResponse) -> str:
    parts = [f"decided by {route.decided_by}" if route.decided_by else "", f"strategy {_strategy(route.strategy)}"]
    if route.HasField("first_token_timeout"):
        parts.append(f"next after {route.first_token_timeout.ToTimedelta().total_seconds():g} s without output")
    if route.HasField("idle_timeout"):
        parts.append(f"at most {route.idle_timeout.ToTimedelta().total_seconds():g} s of silence")
    return " · ".join(part for part in parts if part)


def _candidate_row(candidate: catalog_pb2.RouteCandidate) -> tuple[str, ...]:
    route = candidate.route
    return (
        str(candidate.position or "-"),
        f"{route.provider}/{route.model}" if route.model else route.provider,
        route.region,
        _word(catalog_pb2.RouteVerdict.DESCRIPTOR, candidate.verdict),
        "; ".join(candidate.reasons),
    )
