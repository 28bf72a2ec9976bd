"""The command line of the client. The server adds its own commands to what `build_app` returns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from execution_platform.client.base import HealthStatus
from execution_platform.client.cli_chat import Chat, spoken
from execution_platform.client.cli_connection import (
    EXIT_CODES,
    EXIT_UNAVAILABLE,
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
from execution_platform.client.cli_costs import costs_group
from execution_platform.client.cli_interrupts import interruptible
from execution_platform.client.cli_routes import personas_group, route_group
from execution_platform.client.cli_terminal import Terminal
from execution_platform.client.enums import short_name
from execution_platform.client.errors import ExecutionPlatformError
from execution_platform.client.options import DEFAULT_TARGET, client_version
from execution_platform.client.requests import ChatFields
from execution_platform.v1 import catalog_pb2

__all__ = ["build_app", "main"]

_SECONDS_TO_COMPLETE = 2.0
_SECONDS_FOR_VERSION = 3.0

_CHAT_EXAMPLES = (
    "ep chat Why is the sky blue?",
    'ep chat -m openai "Name three rivers" --max-tokens 100',
    "ep chat --persona reviewer --fallback anthropic Hello",
    'ep chat "Summarise this:" - < report.txt',
    'ep chat -f photo.png "What is in the picture?"',
    "ep chat --json Hello | jq -r .blockDelta.text",
    'ep chat --conversation --system "Answer in one sentence."',
)
_MODELS_EXAMPLES = (
    "ep models",
    "ep models anthropic",
    "ep models --json | jq -r .name",
)
_PROVIDERS_EXAMPLES = (
    "ep providers",
    "ep providers openai",
)
_HEALTH_EXAMPLES = (
    "ep health",
    "ep health --wait 30 && ep chat Hello",
)


def build_app(personas: typer.Typer | None = None) -> typer.Typer:
    """Return the command line with the client's commands.

    Args:
        personas: the group `personas`, to which the server adds commands of its own; None: as the client has it.
    """
    app = typer.Typer(
        name="ep",
        help=f"Execution Platform: one gRPC service between orchestrators and every LLM provider.\n\n{EXIT_CODES}",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,  # its frames show local variables, and among them credentials
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("chat", help=described(chat, _CHAT_EXAMPLES))(chat)
    app.command("models", help=described(models, _MODELS_EXAMPLES))(models)
    app.command("providers", help=described(providers, _PROVIDERS_EXAMPLES))(providers)
    app.add_typer(personas_group() if personas is None else personas)
    app.add_typer(route_group())
    app.add_typer(costs_group())
    app.command("health", help=described(health, _HEALTH_EXAMPLES))(health)
    app.command("version")(version)
    return app


def main() -> None:
    """Run the client's command line."""
    build_app()(prog_name="ep")


def complete_model(context: typer.Context, incomplete: str) -> list[str]:
    """Return the models of the server that begin so, for the shell; nothing if it does not answer at once."""
    try:
        with Server(context.params.get("target") or DEFAULT_TARGET).connect(_SECONDS_TO_COMPLETE) as client:
            return [model.name for model in interruptible(client.models) if model.name.startswith(incomplete)]
    except (ExecutionPlatformError, typer.BadParameter):
        return []


def chat(  # noqa: PLR0913 - one argument for each option
    message: Annotated[list[str] | None, typer.Argument(help="What to say; - stands for standard input.")] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="provider/model, alias or provider.", autocompletion=complete_model)
    ] = "",
    persona: Annotated[str, typer.Option(help="Who asks.")] = "",
    system: Annotated[str, typer.Option("--system", "-s", help="Instructions before the conversation.")] = "",
    file: Annotated[
        list[Path] | None, typer.Option("--file", "-f", help="Image, document or other file to send.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens to generate.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0 or more.")] = None,
    reasoning: Annotated[str, typer.Option(help="How hard to think, in the provider's word, such as low.")] = "",
    *,
    fallback: Annotated[list[str] | None, typer.Option(help="Model to ask next; may be given again.")] = None,
    thinking: Annotated[
        bool | None, typer.Option("--thinking/--no-thinking", help="Show the reasoning. [default: on a terminal]")
    ] = None,
    conversation: Annotated[
        bool, typer.Option("--conversation", "-c", help="Go on: every line of standard input is a turn.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write each event as a line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no usage line.")] = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Chat: stream an answer to the terminal.

    The answer goes to standard output; reasoning, notes and the usage line go to standard error.
    Without a message on a terminal a conversation begins.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    words, files = message or [], file or []
    conversation = conversation or (not words and not files and sys.stdin.isatty())
    if conversation and "-" in words:
        raise typer.BadParameter(
            "standard input is the conversation, it cannot be the message too", param_hint="MESSAGE"
        )
    with server.connect(timeout) as client, reporting_errors(server):
        running = Chat(
            client,
            server,
            terminal,
            _fields(model, persona, fallback, system, max_tokens, temperature, reasoning),
            as_json=as_json,
            thinking=terminal.is_terminal if thinking is None else thinking,
            quiet=quiet or as_json,
        )
        if conversation:
            running.converse(sys.stdin, spoken(words, files, sys.stdin) if words or files else None)
        else:
            running.once(spoken(words, files, sys.stdin))


def _fields(
    model: str,
    persona: str,
    fallback: list[str] | None,
    system: str,
    max_tokens: int | None,
    temperature: float | None,
    reasoning: str,
) -> ChatFields:
    fields: ChatFields = {}
    if model:
        fields["model"] = model
    if persona:
        fields["persona"] = persona
    if fallback:
        fields["fallback_models"] = fallback
    if system:
        fields["system"] = system
    if max_tokens is not None:
        fields["max_output_tokens"] = max_tokens
    if temperature is not None:
        fields["temperature"] = temperature
    if reasoning:
        fields["reasoning"] = reasoning
    return fields


def models(
    provider: Annotated[str, typer.Argument(help="Only models of this provider.")] = "",
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """List the models that can be asked for.

    Not on a terminal: name, context window, most output tokens and aliases, with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(lambda: client.models(provider))
        if as_json:
            terminal.json(found.models)
        else:
            terminal.table(("model", "context", "output", "aliases"), (_model_row(model) for model in found))
        for error in found.errors:
            terminal.remark(f"note: {error.provider} did not answer: {error.message}")


def _model_row(model: catalog_pb2.Model) -> tuple[str, ...]:
    context = str(model.context_window) if model.HasField("context_window") else ""
    output = str(model.max_output_tokens) if model.HasField("max_output_tokens") else ""
    return model.name, context, output, ", ".join([*model.aliases, *(["(default)"] if model.is_default else [])])


def providers(
    provider: Annotated[str, typer.Argument(help="Tell how this provider has answered lately.")] = "",
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """List the providers, or tell how one of them has answered lately.

    Not on a terminal: name, whether it can be used, default model and what is missing, with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    with server.connect(timeout) as client, reporting_errors(server):
        if provider:
            _show_status(terminal, interruptible(lambda: client.provider_status(provider)), as_json=as_json)
            return
        found = interruptible(client.providers)
        if as_json:
            terminal.json(found)
            return
        rows = ((each.name, "yes" if each.configured else "no", each.default_model, each.missing) for each in found)
        terminal.table(("provider", "usable", "default model", "missing"), rows)


def _show_status(terminal: Terminal, status: catalog_pb2.GetProviderStatusResponse, *, as_json: bool) -> None:
    if as_json:
        terminal.json([status])
        return
    state = short_name(catalog_pb2.ProviderState.DESCRIPTOR, status.state).lower().replace("_", " ")
    rows = [
        ("state", state),
        ("finished chats", str(status.finished_chats)),
        ("failed chats", str(status.failed_chats)),
        ("running chats", str(status.running_chats)),
    ]
    if status.HasField("last_success_time"):
        rows.append(("last success", status.last_success_time.ToJsonString()))
    if status.HasField("last_failure_time"):
        rows.append(("last failure", status.last_failure_time.ToJsonString()))
    if status.HasField("last_error"):
        rows.append(("last error", status.last_error.message))
    rows += [(f"circuit of {circuit.model}", _circuit_words(circuit)) for circuit in status.circuits]
    terminal.table((status.provider, ""), rows)


def _circuit_words(circuit: catalog_pb2.ModelCircuit) -> str:
    state = short_name(catalog_pb2.CircuitState.DESCRIPTOR, circuit.state).lower().replace("_", "-")
    words = f"{state}, failures in a row: {circuit.consecutive_failures}"
    return f"{words}, next probe: {circuit.probe_time.ToJsonString()}" if circuit.HasField("probe_time") else words


def health(
    service: Annotated[
        str, typer.Argument(help="Full name of a service, such as execution_platform.v1.ChatService.")
    ] = "",
    *,
    wait: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for the server to come up.")] = 0.0,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Tell whether the server serves: 0 if it does, 3 if not."""
    server = Server(target, tls, ca, cert, key)
    with server.connect(timeout) as client, reporting_errors(server):
        if wait:
            interruptible(lambda: client.wait_until_ready(wait))
        status = interruptible(lambda: client.health(service))
    Terminal(sys.stdout, sys.stderr).line(status.lower().replace("_", " "))
    if status is not HealthStatus.SERVING:
        raise typer.Exit(EXIT_UNAVAILABLE)


def version(
    *,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Tell the versions of this client, and of the server and its contract if one answers."""
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    terminal.line(f"client {client_version()}")
    with server.connect(_SECONDS_FOR_VERSION) as client:
        try:
            info = interruptible(client.server_info)
        except ExecutionPlatformError:
            terminal.remark(f"no server answers at {target}")
            return
    terminal.line(f"server {info.version} at {target}")
    terminal.line(f"contract {info.contract_version}")
