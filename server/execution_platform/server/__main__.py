"""The one command line, ``execution-platform`` (short: ``ep``): the client's commands, and ``serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from execution_platform.client.cli import build_app
from execution_platform.client.cli_routes import personas_group
from execution_platform.server.database_command import database_group
from execution_platform.server.personas_command import add_commands

__all__ = ["main"]


def serve_command(
    listen: Annotated[str, typer.Option(help="Address: host:port (port 0: any free one) or unix:/path.")] = "",
    workers: Annotated[
        int | None, typer.Option(help="Server processes that share the port.", min=1, max=256, show_default="1")
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(help="File of settings, one NAME=value a line.", show_default=".env, if it is there"),
    ] = None,
    log_format: Annotated[str, typer.Option(help="json, text, or auto: text on a terminal.")] = "",
    hello: Annotated[str, typer.Option(help="Stream a first chat with this message, then go on serving.")] = "",
    *,
    once: Annotated[bool, typer.Option("--once", help="With --hello: end after that chat.")] = False,
) -> None:
    """Serve chats until told to stop.

    Settings come from EP_* variables and .env; see docs/reference/configuration.md. Options win over both.

    Ends with 0 after SIGTERM or SIGINT, once running chats are done; with 1 if it cannot serve or the first
    chat fails; with 2 if the configuration is wrong.
    """
    if once and not hello:
        raise typer.BadParameter("needs --hello", param_hint="--once")
    if env_file is not None and not env_file.exists():
        raise typer.BadParameter(f"there is no file {env_file}", param_hint="--env-file")
    # Imported late: whoever chats needs no server.
    from execution_platform.server.serve import ServeOptions, serve  # noqa: PLC0415 - see above

    given = {"EP_LISTEN": listen, "EP_WORKERS": str(workers or ""), "EP_LOG_FORMAT": log_format}
    first_chat = None
    if hello:
        # Imported late: a server without a first chat needs no client.
        from execution_platform.server.hello import FirstChat  # noqa: PLC0415 - see above

        first_chat = FirstChat(hello)
    options = ServeOptions(
        {name: value for name, value in given.items() if value}, env_file or Path(".env"), first_chat, once
    )
    raise typer.Exit(serve(options, lambda line: print(f"ep serve: {line}", file=sys.stderr)))  # noqa: T201 - a command


def main() -> None:
    """Run the command line."""
    personas = personas_group()
    add_commands(personas)
    app = build_app(personas)
    app.command("serve")(serve_command)
    app.add_typer(database_group())
    app()


if __name__ == "__main__":
    main()
