"""Runs servers: one process, or a parent with workers; with a first chat where that is wanted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from execution_platform.adapters.registry import Registry
from execution_platform.server.app import App
from execution_platform.server.config.load import Configuration, ConfigurationError, load
from execution_platform.server.listening import ListenError, check_address
from execution_platform.server.telemetry import HoldingLogger, Logger, make_logger
from execution_platform.server.workers import Workers, listen_to_parent, reserved_port

__all__ = ["EXIT_CONFIGURATION", "EXIT_FAILURE", "EXIT_OK", "ServeOptions", "serve"]

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_CONFIGURATION = 2

#: Set for a worker by its parent: the port is shared on purpose.
WORKER_VARIABLE = "EP_WORKER"

#: Talks to the server that has just started, at the given address; returns whether all went well.
FirstChat = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says.

    Attributes:
        overrides: settings by variable, which win over environment and file.
        env_file: file of settings.
        first_chat: runs once the server serves; None: nothing does.
        once: end after the first chat.
    """

    overrides: dict[str, str]
    env_file: Path
    first_chat: FirstChat | None = None
    once: bool = False


def serve(options: ServeOptions, tell: Callable[[str], None]) -> int:
    """Serve until told to stop. Returns the exit status.

    Args:
        options: what the command line says.
        tell: shows one line to the operator, for mistakes that end the command.
    """
    registry = Registry.discover()
    try:
        configuration = load(registry.specs(), os.environ, options.env_file, options.overrides)
        logger = make_logger(configuration.settings.log_level, configuration.settings.log_format)
        _warn(logger, configuration, registry)
        is_worker = os.environ.get(WORKER_VARIABLE) == "1"
        if configuration.settings.workers > 1 and not is_worker:
            return _run(_serve_workers(configuration, registry, options, logger))
        return _run(_serve_one(configuration, registry, options, logger, share_port=is_worker))
    except ConfigurationError as error:
        for problem in error.problems:
            tell(problem)
        return EXIT_CONFIGURATION
    except ListenError as error:
        tell(str(error))
        return EXIT_FAILURE


def _run(main: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _warn(logger: Logger, configuration: Configuration, registry: Registry) -> None:
    for warning in configuration.warnings:
        logger.warning("configuration", message=warning)
    for broken in registry.broken:
        logger.warning("broken_adapter", entry_point=broken.entry_point, reason=broken.reason)


async def _serve_one(
    configuration: Configuration, registry: Registry, options: ServeOptions, logger: Logger, *, share_port: bool
) -> int:
    if options.first_chat is None:
        app = App(configuration, registry, logger, share_port=share_port)
        if share_port:
            listen_to_parent(app.reloading.ask)
        await app.run()
        return EXIT_OK
    holding = HoldingLogger(logger)
    app = App(configuration, registry, holding, share_port=share_port)
    chat = asyncio.create_task(_talk(app, options.first_chat, holding, once=options.once))
    try:
        await app.run()
    finally:
        chat.cancel()
        results = await asyncio.gather(chat, return_exceptions=True)
    return EXIT_OK if not options.once or results[0] is True else EXIT_FAILURE


async def _talk(app: App, first_chat: FirstChat, logger: HoldingLogger, *, once: bool) -> bool:
    await app.ready.wait()
    try:
        with logger.held():
            return await first_chat(app.address)
    finally:
        if once:
            app.stop()


async def _serve_workers(
    configuration: Configuration, registry: Registry, options: ServeOptions, logger: Logger
) -> int:
    settings = configuration.settings
    if options.first_chat is not None:
        raise ConfigurationError(["--hello and --once go with one process: leave out --workers and EP_WORKERS"])
    # Made for its checks only: what is wrong is told once, here, rather than by each worker.
    App(configuration, registry, logger)
    metrics = [_metrics_address(settings.metrics_listen, number) for number in range(settings.workers)]
    for address in filter(None, metrics):
        check_address(address, "EP_METRICS_LISTEN")
    with reserved_port(settings.listen) as address:
        logger.info("serving_with_workers", address=address, workers=settings.workers)
        shared = {**os.environ, **options.overrides, WORKER_VARIABLE: "1", "EP_LISTEN": address}
        arguments = ["serve", *(["--env-file", str(options.env_file)] if options.env_file.exists() else [])]
        workers = Workers(
            settings.workers,
            arguments,
            lambda number: {**shared, "EP_METRICS_LISTEN": metrics[number]},
            settings.drain_seconds,
            logger,
            hopeless=EXIT_CONFIGURATION,
        )
        return await workers.run(reloads=bool(configuration.platform.files))


def _metrics_address(listen: str, number: int) -> str:
    """Return where a worker serves its metrics: each has numbers of its own, and the kernel would mix them up."""
    host, _, port = listen.rpartition(":")
    return listen if int(port or 0) == 0 else f"{host}:{int(port) + number}"
