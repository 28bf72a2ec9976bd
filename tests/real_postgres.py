"""A real PostgreSQL server for tests, as a process of its own on a free port of this machine.

The binaries are `postgres` and `initdb` on PATH, or those that the wheel `pgserver` brings. PostgreSQL refuses to run
as root; then it runs as nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import lasting_port

#: Seconds after which a server that should be there counts as not coming.
_PATIENCE = 120.0


class RealPostgres:
    """A PostgreSQL server that can die and come back on the same port.

    Args:
        folder: where it keeps everything; its user must be able to enter it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._binaries = self._reachable(_binaries())
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self.port = lasting_port()

    def url(self, name: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://ledger:made-up-word@127.0.0.1:{self.port}/{name}"

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers."""
        if not (self._folder / "data/PG_VERSION").exists():
            self._initialize()
        # Nothing here outlives the machine: what a crash of it would lose may be lost.
        fast = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]
        place = ["-D", str(self._folder / "data"), "-p", str(self.port), "-k", str(self._folder)]
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), *place, "-h", "127.0.0.1", *fast],
                stdout=log,
                stderr=log,
                **self._as_user(),
            )
        end = time.monotonic() + _PATIENCE
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "postgres.log").read_text()
            assert time.monotonic() < end, "PostgreSQL does not come up"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, as an operator would who does not wait for anybody."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash would; its next start repairs what is left."""
        self._end(signal.SIGQUIT)

    def new_database(self) -> str:
        """Make an empty database and return its address."""
        name = f"ledger_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def run(self, statement: str, name: str = "postgres") -> None:
        """Run one statement."""
        _in_own_loop(self._run(statement, name))

    async def _run(self, statement: str, name: str) -> None:
        import asyncpg  # noqa: PLC0415 - an extra

        connection = await asyncpg.connect(self.url(name))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _initialize(self) -> None:
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        words = self._folder / "password"
        words.write_text("made-up-word\n")
        if self._user is not None:
            os.chown(words, self._user.pw_uid, self._user.pw_gid)
        subprocess.run(
            [
                str(self._binaries / "initdb"),
                *("-D", str(self._folder / "data"), "-U", "ledger", "--pwfile", str(words)),
                *("-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "-N"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._as_user(),
        )

    def _reachable(self, binaries: Path) -> Path:
        """Return binaries that the server's user can start: these, or a copy of them with all that they need."""
        if self._user is None or _enterable(binaries):
            return binaries
        copy = self._folder / "installed"
        shutil.copytree(binaries.parent, copy)
        self._folder.chmod(0o711)
        return copy / binaries.name

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {"cwd": self._folder}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [], "cwd": self._folder}

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(_PATIENCE)

    def _answers(self) -> bool:
        try:
            self.run("SELECT 1")
        except Exception:  # noqa: BLE001 - asyncpg raises a dozen kinds while a server comes up
            return False
        return True


def _in_own_loop(work: Any) -> None:
    """Run a coroutine to its end, also where a loop runs already."""
    import threading  # noqa: PLC0415 - for this only

    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - handed over
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _enterable(folder: Path) -> bool:
    """Return whether everybody may enter a folder."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (folder.resolve(), *folder.resolve().parents))


def _place() -> Path:
    """Return where temporary folders go that another user has to enter, as PostgreSQL's has if this is root."""
    usual = Path(tempfile.gettempdir())
    if os.geteuid() != 0 or _enterable(usual):
        return usual
    places = (Path(each) for each in ("/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108 - the folder in it is made safely
    return next((each for each in places if each.is_dir() and _enterable(each)), usual)


def _binaries() -> Path:
    if importlib.util.find_spec("asyncpg") is None:
        pytest.skip("there is no asyncpg: run make setup")
    if (found := shutil.which("postgres")) and (Path(found).resolve().parent / "initdb").exists():
        return Path(found).resolve().parent
    if (package := importlib.util.find_spec("pgserver")) and package.origin:
        binaries = Path(package.origin).parent / "pginstall/bin"
        if (binaries / "postgres").exists():
            return binaries
    pytest.skip("there is no postgres: run make setup, or install PostgreSQL")


@contextlib.contextmanager
def real_postgres() -> Iterator[RealPostgres]:
    """Run a PostgreSQL server while the context is entered."""
    # Not below pytest's own folders, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="ep-postgres-", dir=_place()))
    try:
        postgres = RealPostgres(folder)
        postgres.start()
        try:
            yield postgres
        finally:
            # What it would still write would be deleted at once.
            postgres.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
