"""The commands ``ep personas check`` and ``ep personas schema``, which need no server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from execution_platform.server.config.load import Configuration
    from execution_platform.server.config.personas import PersonaSettings

__all__ = ["add_commands"]

_EXIT_WRONG = 2

FileArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE",
        help="As EP_CONFIG_PATH, and a second one as EP_PERSONA_PROVIDER_MAP_PATH.",
        show_default="the configured ones",
    ),
]
EnvFileOption = Annotated[
    Path | None, typer.Option(help="File of settings, one NAME=value a line.", show_default=".env, if it is there")
]


def add_commands(group: typer.Typer) -> None:
    """Add the commands to the group `personas`."""
    group.command("check")(check)
    group.command("schema")(schema)


def check(file: FileArgument = None, *, env_file: EnvFileOption = None) -> None:
    """Check files of personas and routes as the server reads them.

    Tells every mistake, one a line: file:line: path: what is wrong and what to write. Ends with 2 if there is any;
    else tells whom each persona asks, what to look at, and ends with 0.
    """
    # Imported late, here and below: whoever chats needs no configuration.
    from execution_platform.adapters.registry import Registry  # noqa: PLC0415 - see above
    from execution_platform.server.config.load import ConfigurationError, load  # noqa: PLC0415 - see above

    files = [str(path) for path in file or ()]
    if len(files) > 2:
        raise typer.BadParameter("takes two files at most", param_hint="FILE")
    overrides = {}
    if files:
        overrides = {"EP_CONFIG_PATH": files[0], "EP_PERSONA_PROVIDER_MAP_PATH": "".join(files[1:])}
    try:
        configuration = load(Registry.discover().specs(), os.environ, env_file or Path(".env"), overrides)
    except ConfigurationError as error:
        _say(*error.problems)
        print(f"ep personas check: {_count(len(error.problems), 'problem')}", file=sys.stderr)  # noqa: T201 - a command
        raise typer.Exit(_EXIT_WRONG) from None
    if not configuration.platform.files:
        raise typer.BadParameter("name one, or set EP_CONFIG_PATH or EP_PERSONA_PROVIDER_MAP_PATH", param_hint="FILE")
    _say(*_summary(configuration))


def schema(*, env_file: EnvFileOption = None) -> None:
    """Write the JSON Schema of these files, for editors.

    It knows the providers that are installed here, and the aliases of EP_MODEL_ALIASES.
    """
    from execution_platform.adapters.registry import Registry  # noqa: PLC0415 - see above
    from execution_platform.server.config.known import KnownNames  # noqa: PLC0415 - see above
    from execution_platform.server.config.load import ConfigurationError, load  # noqa: PLC0415 - see above
    from execution_platform.server.config.schema import schema_of  # noqa: PLC0415 - see above

    specs = Registry.discover().specs()
    without_files = {"EP_CONFIG_PATH": "", "EP_PERSONA_PROVIDER_MAP_PATH": ""}
    try:
        settings = load(specs, os.environ, env_file or Path(".env"), without_files).settings
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"ep personas schema: {problem}", file=sys.stderr)  # noqa: T201 - a command
        raise typer.Exit(_EXIT_WRONG) from None
    _say(json.dumps(schema_of(KnownNames.of(specs, settings.model_aliases)), indent=2))


def _summary(configuration: Configuration) -> Iterator[str]:
    platform = configuration.platform
    personas = platform.current.personas
    for name, persona in personas.items():
        yield f"{platform.place_of(name)}: {name}: {_asked(persona)}"
    for warning in platform.warnings:
        yield f"warning: {warning}"
    yield f"{_count(len(personas), 'persona')}, {_count(len(platform.warnings), 'warning')}"


def _asked(persona: PersonaSettings) -> str:
    own = [_name(persona.provider, persona.model)] if persona.provider else ["the first provider that can be used"]
    return ", then ".join([*own, *(_name(target.provider, target.model) for target in persona.fallback)])


def _name(provider: str, model: str) -> str:
    return f"{provider}/{model}" if model else provider


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _say(*lines: str) -> None:
    for line in lines:
        print(line)  # noqa: T201 - a command
