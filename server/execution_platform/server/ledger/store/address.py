"""Where the ledger's database is, as EP_DATABASE_URL says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from execution_platform.server.config.load import ConfigurationError

__all__ = ["DatabaseAddress", "state_folder"]

_VARIABLE = "EP_DATABASE_URL"
_FORMS = "write it as sqlite:///path/to/ledger.db or postgresql://user:password@host:5432/name"

#: What may be asked of a PostgreSQL in the address, as libpq calls it.
_OPTIONS = frozenset({"host", "port", "sslmode", "target_session_attrs"})
_TLS_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder for what this server keeps: ``$XDG_STATE_HOME/execution-platform``, else below ``~/.local``."""
    home = (os.environ if environ is None else environ).get("XDG_STATE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".local/state") / "execution-platform"


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where a database is.

    Attributes:
        dialect: what sort of database.
        path: of SQLite: the file.
        host: of PostgreSQL: a name, an address, or the folder of a socket; empty: the system's default.
        port: of PostgreSQL; None: the default.
        user: of PostgreSQL; empty: the system's.
        password: of PostgreSQL.
        name: of PostgreSQL: the database; empty: called as the user.
        options: of PostgreSQL: further words for the driver.
    """

    dialect: Literal["sqlite", "postgresql"]
    path: Path = field(default_factory=Path)
    host: str = ""
    port: int | None = None
    user: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""))
    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> DatabaseAddress:
        """Read an address.

        Args:
            text: as in EP_DATABASE_URL; empty: a SQLite file in the user's folder for state.

        Raises:
            ConfigurationError: it cannot be read. Says what to write, and never the password.
        """
        if not text:
            return cls("sqlite", path=state_folder() / "ledger.db")
        scheme, separator, rest = text.partition("://")
        if separator and scheme == "sqlite":
            return cls("sqlite", path=_file(rest))
        if separator and scheme in {"postgresql", "postgres"}:
            return _server(text)
        said = f"{scheme!r} is no database that the ledger knows" if separator else "it has no scheme"
        raise ConfigurationError([f"{_VARIABLE}: {said}; {_FORMS}"])

    def __str__(self) -> str:
        """Return it for people: without password and options."""
        if self.dialect == "sqlite":
            return f"sqlite:///{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"postgresql://{f'{self.user}@' if self.user else ''}{host}{port}/{self.name}"


def _file(rest: str) -> Path:
    name = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or name in {"", ":memory:"}:
        said = "a ledger needs a file: in memory it would not outlive the process"
        raise ConfigurationError([f"{_VARIABLE}: {said}; write sqlite:///path/to/ledger.db (four slashes: absolute)"])
    if "?" in name:
        raise ConfigurationError([f"{_VARIABLE}: options after ? are not taken for SQLite; leave them out"])
    return Path(name).expanduser()


def _server(text: str) -> DatabaseAddress:
    try:
        parts = urlsplit(text)
        port = parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query), max_num_fields=20))
    except ValueError:
        raise ConfigurationError([f"{_VARIABLE}: cannot be read; {_FORMS}"]) from None
    if unknown := sorted(options.keys() - _OPTIONS):
        raise ConfigurationError(
            [f"{_VARIABLE}: no option is called {unknown[0]!r}; there are {', '.join(sorted(_OPTIONS))}"]
        )
    if options.get("sslmode", "disable") not in _TLS_MODES:
        raise ConfigurationError([f"{_VARIABLE}: sslmode is one of {', '.join(sorted(_TLS_MODES))}"])
    given_port = options.pop("port", "")
    if given_port and not given_port.isdecimal():
        raise ConfigurationError([f"{_VARIABLE}: port is a number"])
    return DatabaseAddress(
        "postgresql",
        host=options.pop("host", "") or unquote(parts.hostname or ""),
        port=int(given_port) if given_port else port,
        user=unquote(parts.username or ""),
        password=SecretStr(unquote(parts.password or "")),
        name=unquote(parts.path.removeprefix("/")),
        options=options,
    )
