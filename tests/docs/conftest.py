"""One server for all pages."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.e2e.processes import Server, serving


@pytest.fixture(scope="session")
def pages_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as `ep serve` starts it, whose answers come from the scripted provider."""
    with serving(tmp_path_factory.mktemp("server"), {"EP_DEFAULT_MODEL": "scripted"}) as server:
        yield server


@pytest.fixture
def spare_port() -> int:
    """A port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
