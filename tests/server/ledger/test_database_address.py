"""EP_DATABASE_URL is read, or refused with what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from execution_platform.server.config.load import ConfigurationError, load
from execution_platform.server.ledger.store.address import DatabaseAddress, state_folder


def test_addresses_of_files() -> None:
    """Three slashes begin a relative path, four an absolute one; an empty address is the user's state folder."""
    assert DatabaseAddress.parse("sqlite:///one/ledger.db").path == Path("one/ledger.db")
    assert DatabaseAddress.parse("sqlite:////var/lib/ledger.db").path == Path("/var/lib/ledger.db")
    assert DatabaseAddress.parse("").path.parts[-2:] == ("execution-platform", "ledger.db")
    assert state_folder({"XDG_STATE_HOME": "/var/state"}) == Path("/var/state/execution-platform")
    assert state_folder({"XDG_STATE_HOME": "not/absolute"}) == Path.home() / ".local/state/execution-platform"


def test_addresses_of_servers() -> None:
    """User, password, host, port, name and TLS are read; what people see lacks the password."""
    found = DatabaseAddress.parse("postgresql://le%40dger:p%2Fw@db.example:6543/books?sslmode=verify-full")
    assert (found.user, found.password.get_secret_value()) == ("le@dger", "p/w")
    assert (found.host, found.port, found.name) == ("db.example", 6543, "books")
    assert found.options == {"sslmode": "verify-full"}
    assert str(found) == "postgresql://le@dger@db.example:6543/books"
    assert "p/w" not in repr(found)
    socket = DatabaseAddress.parse("postgres:///books?host=/run/postgresql")
    assert (socket.host, socket.port, socket.name) == ("/run/postgresql", None, "books")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///a.db?mode=ro", "options after"),
        ("mysql://secret@host/db", "'mysql' is no database"),
        ("/var/lib/ledger.db", "no scheme"),
        ("postgresql://u:secret@host:port/db", "cannot be read"),
        ("postgresql://u:secret@host/db?sslmode=maybe", "sslmode is one of"),
        ("postgresql://u:secret@host/db?fast=1", "no option is called 'fast'"),
    ],
)
def test_mistakes_name_the_variable(text: str, said: str) -> None:
    """Each mistake names the variable and what to write, and no password."""
    with pytest.raises(ConfigurationError, match=f"^EP_DATABASE_URL: .*{said}") as caught:
        DatabaseAddress.parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["ledger.db", "mysql://u:secret@host/db", "sqlite://"])
def test_settings_refuse_what_cannot_be_an_address(text: str) -> None:
    """A server with such an address does not start, and says what to write."""
    with pytest.raises(ConfigurationError, match=r"EP_DATABASE_URL.*sqlite:///path/to/ledger\.db") as caught:
        load([], {"EP_DATABASE_URL": text})
    assert "secret" not in str(caught.value)
