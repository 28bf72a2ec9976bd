"""`ep database` works without a server, on both databases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.processes import environment

from execution_platform.server.ledger.store.migrate import HEAD


def ep(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the group `database`."""
    return subprocess.run(
        [sys.executable, "-m", "execution_platform.server", "database", *arguments],
        cwd=folder,
        env=environment({"EP_DATABASE_URL": url}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_up_and_down(tmp_path: Path, database_url: str) -> None:
    """The status says whether there is something to upgrade; up and down do what they say."""
    first = ep(tmp_path, database_url, "status")
    assert (first.returncode, first.stdout.splitlines()[1]) == (1, "revision: none, it has no tables")
    assert "made-up-word" not in first.stdout
    assert ep(tmp_path, database_url, "upgrade").stdout == f"no tables -> {HEAD}\n"
    assert ep(tmp_path, database_url, "upgrade").stdout == f"{HEAD}: nothing to do\n"
    assert ep(tmp_path, database_url, "status").returncode == 0
    asked = ep(tmp_path, database_url, "downgrade", "0001")
    assert (asked.returncode, asked.stdout.strip()) == (1, "")
    assert "What it has no place for is lost" in asked.stderr
    assert ep(tmp_path, database_url, "downgrade", "0001", "--yes").stdout == f"{HEAD} -> 0001\n"
    assert ep(tmp_path, database_url, "status").returncode == 1


def test_a_status_makes_nothing(tmp_path: Path) -> None:
    """Asking for the status of a file that is not there does not make it."""
    assert ep(tmp_path, f"sqlite:///{tmp_path}/nothing.db", "status").returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_name_the_variable_and_the_fix(tmp_path: Path) -> None:
    """What is wrong with the address is told in a line, with status 2 and without the password."""
    away = ep(tmp_path, "postgresql://ledger:made-up-word@127.0.0.1:1/x", "status")
    assert (away.returncode, away.stdout) == (2, "")
    assert away.stderr.startswith("ep database: EP_DATABASE_URL: postgresql://ledger@127.0.0.1:1/x: ")
    assert "made-up-word" not in away.stderr
    (tmp_path / "notes.txt").write_text("these are notes, and no database\n" * 50)
    other = ep(tmp_path, f"sqlite:///{tmp_path}/notes.txt", "upgrade")
    assert (other.returncode, other.stdout) == (2, "")
    assert "file is not a database" in other.stderr
    unknown = ep(tmp_path, f"sqlite:///{tmp_path}/new.db", "upgrade", "7")
    assert (unknown.returncode, "there is no '7'; there are 0001" in unknown.stderr) == (2, True)
