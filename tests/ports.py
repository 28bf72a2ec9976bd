"""Ports of this machine for tests: one where nobody listens, and one to which a server may come back."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

#: Below what systems give to whoever asks for any port: none of those who do can take it meanwhile.
_LASTING = range(15_000, 30_000)


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """Keep a port at which connections are refused, and yield its address."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{kept.getsockname()[1]}"


def lasting_port(count: int = 1) -> int:
    """Return a free port that a server may leave and take again; the first of so many neighbours.

    No other process of tests on this machine is given it while this one runs.
    """
    while True:
        port = random.SystemRandom().choice(_LASTING)
        if all(_ours(each) for each in range(port, port + count)):
            return port


def _ours(port: int) -> bool:
    """Take a port's name, which this process keeps to its end; tell whether that and the port itself were free."""
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0execution-platform-tests-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            return False
        name.detach()
    return True
