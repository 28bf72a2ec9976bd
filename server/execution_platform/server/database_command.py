"""The commands ``ep database status``, ``upgrade`` and ``downgrade``, which need no server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from execution_platform.server.ledger.store.address import DatabaseAddress
    from execution_platform.server.ledger.store.engines import SqlEngine

__all__ = ["database_group"]

T = TypeVar("T")

_EXIT_OLD = 1
_EXIT_WRONG = 2

#: Seconds to wait for the lock of another process, or for a connection.
_PATIENCE = 8.0

_UPGRADE_HELP = """\
Bring the tables of the ledger's database up to date; make them where there are none.

A server does so by itself when it starts. Whoever wants to see it done first, or to go to a revision other than the
newest, does it here.
"""
_DOWNGRADE_HELP = """\
Bring the tables of the ledger's database back to an older revision, before an older release is run again.

What the older form has no place for is lost, so make a backup first. Servers that run meanwhile fail. `base` stands for
no tables at all.
"""

EnvFileOption = Annotated[
    Path | None, typer.Option(help="File of settings, one NAME=value a line.", show_default=".env, if it is there")
]


def database_group() -> typer.Typer:
    """Return the group of commands about the ledger's database."""
    group = typer.Typer(
        name="database",
        help="Tables of the ledger's database, EP_DATABASE_URL: what they are, forward and back.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    group.command("status")(status)
    group.command("upgrade", help=_UPGRADE_HELP)(upgrade)
    group.command("downgrade", help=_DOWNGRADE_HELP)(downgrade)
    return group


def status(*, env_file: EnvFileOption = None) -> None:
    """Tell where the database is and which revision its tables have.

    Ends with 0 if that is the newest, with 1 if there is something to upgrade, with 2 if the database cannot be asked.
    """
    # Imported late, here and below: whoever chats needs no SQL and no configuration.
    from execution_platform.server.ledger.store.migrate import revision_of, revisions  # noqa: PLC0415 - see above

    def look(address: DatabaseAddress, engine: SqlEngine) -> Awaitable[str]:
        if address.dialect == "sqlite" and not address.path.exists():
            return _nothing()
        return engine.run(revision_of, writes=False)

    address, revision = _with_database(env_file, look)
    known = revisions()
    print(f"database: {address}")  # noqa: T201 - a command
    print(f"revision: {revision or 'none, it has no tables'}")  # noqa: T201 - a command
    print(f"newest:   {known[-1][0]}")  # noqa: T201 - a command
    if revision and revision not in dict(known):
        _fail([f"revision {revision!r} is of a newer release"])
    if revision != known[-1][0]:
        raise typer.Exit(_EXIT_OLD)


def upgrade(
    revision: Annotated[str, typer.Argument(help="A revision.", show_default="the newest")] = "",
    *,
    env_file: EnvFileOption = None,
) -> None:
    """Bring the tables up to date."""
    from execution_platform.server.ledger.store import migrate  # noqa: PLC0415 - see above

    wanted = revision or migrate.HEAD
    _check(wanted, [name for name, _ in migrate.revisions()])
    _, before = _with_database(
        env_file, lambda _, engine: engine.run(lambda c: migrate.upgrade(c, wanted), writes=True, patient=True)
    )
    _tell(before, wanted)


def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision, or base.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    env_file: EnvFileOption = None,
) -> None:
    """Bring the tables back."""
    from execution_platform.server.ledger.store import migrate  # noqa: PLC0415 - see above

    _check(revision, ["base", *(name for name, _ in migrate.revisions())])
    if not yes:
        typer.confirm(f"Bring the tables back to {revision}? What it has no place for is lost.", abort=True, err=True)
    _, before = _with_database(
        env_file, lambda _, engine: engine.run(lambda c: migrate.downgrade(c, revision), writes=True, patient=True)
    )
    _tell(before, revision)


def _check(revision: str, known: list[str]) -> None:
    if revision not in known:
        raise typer.BadParameter(f"there is no {revision!r}; there are {', '.join(known)}", param_hint="REVISION")


def _tell(before: str, after: str) -> None:
    print(f"{before or 'no tables'} -> {after}" if before != after else f"{after}: nothing to do")  # noqa: T201 - a command


def _with_database(
    env_file: Path | None, work: Callable[[DatabaseAddress, SqlEngine], Awaitable[T]]
) -> tuple[DatabaseAddress, T]:
    """Do something with the configured database. Ends the command where that cannot be."""
    from execution_platform.adapters.registry import Registry  # noqa: PLC0415 - see above
    from execution_platform.server.config.load import ConfigurationError, load  # noqa: PLC0415 - see above
    from execution_platform.server.ledger.store.address import DatabaseAddress  # noqa: PLC0415 - see above
    from execution_platform.server.ledger.store.database import reason_of  # noqa: PLC0415 - see above
    from execution_platform.server.ledger.store.engines import Fault, make_engine  # noqa: PLC0415 - see above
    from execution_platform.server.ledger.store.migrate import SchemaTooNewError  # noqa: PLC0415 - see above

    async def run(address: DatabaseAddress) -> T:
        engine = make_engine(address, _PATIENCE)
        try:
            return await work(address, engine)
        except SchemaTooNewError as error:
            raise ConfigurationError([f"EP_DATABASE_URL: {address}: {error}"]) from error
        except Exception as error:
            if engine.fault_of(error) is Fault.NONE:
                raise
            raise ConfigurationError([f"EP_DATABASE_URL: {address}: {reason_of(error)}"]) from error
        finally:
            await engine.aclose()

    try:
        settings = load(Registry.discover().specs(), os.environ, env_file or Path(".env")).settings
        address = DatabaseAddress.parse(settings.database_url.get_secret_value())
        return address, asyncio.run(run(address))
    except ConfigurationError as error:
        _fail(error.problems)


async def _nothing() -> str:
    return ""


def _fail(problems: list[str]) -> NoReturn:
    for problem in problems:
        print(f"ep database: {problem}", file=sys.stderr)  # noqa: T201 - a command
    raise typer.Exit(_EXIT_WRONG)
