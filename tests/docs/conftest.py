"""One server for all pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.processes import Server, serving
from tests.ports import lasting_port


@pytest.fixture(scope="session")
def pages_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as `ep serve` starts it, whose answers come from the scripted provider."""
    folder = tmp_path_factory.mktemp("server")
    # Pages ask for failures, each of which would be a reader's first: together they must not open the circuit.
    (folder / "pages.yaml").write_text("breaker: {failures: 1000}\n")
    settings = {"EP_DEFAULT_MODEL": "scripted", "EP_CONFIG_PATH": str(folder / "pages.yaml")}
    with serving(folder, settings) as server:
        yield server


@pytest.fixture
def spare_port() -> int:
    """A port that is free."""
    return lasting_port()
