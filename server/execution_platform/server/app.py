"""The composition root: everything is made here and handed down."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from execution_platform.adapters.registry import Registry
from execution_platform.server.chat.admission import Admission
from execution_platform.server.chat.pipeline import ChatPipeline
from execution_platform.server.config.load import Configuration, ConfigurationError
from execution_platform.server.config.reloading import Reloading
from execution_platform.server.config.settings import Settings
from execution_platform.server.limits.estimates import Estimates
from execution_platform.server.limits.limiter import Limiter
from execution_platform.server.limits.limits import Limits
from execution_platform.server.limits.scopes import Scopes
from execution_platform.server.limits.throttles import Throttles
from execution_platform.server.listening import ListenError, check_address, check_socket
from execution_platform.server.metrics import Metrics
from execution_platform.server.metrics_endpoint import MetricsEndpoint
from execution_platform.server.resilience.circuits import Circuits, breaker_of
from execution_platform.server.resilience.retry_budget import RetryBudgets
from execution_platform.server.resilience.route import Routes
from execution_platform.server.resilience.shared_circuits import SharedCircuits
from execution_platform.server.routing.known_names import KnownNames
from execution_platform.server.routing.latencies import Latencies
from execution_platform.server.routing.planner import Planner
from execution_platform.server.routing.price_sheet import PriceSheet
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.providers import Providers
from execution_platform.server.routing.router import Router
from execution_platform.server.routing.worst_case import WorstCases
from execution_platform.server.services.catalog import CatalogService
from execution_platform.server.services.chat import ChatService
from execution_platform.server.services.costs.parts import CostParts
from execution_platform.server.services.costs.prices import PriceOffice
from execution_platform.server.services.costs.service import CostService
from execution_platform.server.services.guard import Guard
from execution_platform.server.services.personas import Personas
from execution_platform.server.services.reflection import add_reflection
from execution_platform.server.services.routes import RouteExplainer
from execution_platform.server.shared_state import SharedState
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import catalog_pb2, catalog_pb2_grpc, chat_pb2, chat_pb2_grpc, cost_pb2, cost_pb2_grpc

if TYPE_CHECKING:
    from execution_platform.server.accounting import Accounting

__all__ = ["App"]

_CHAT = chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
_CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name
_COST = cost_pb2.DESCRIPTOR.services_by_name["CostService"].full_name
_SERVICES = (_CHAT, _CATALOG, _COST)

#: Seconds between telling callers to go and closing their connections, once no chat runs any more.
_CLOSE_SECONDS = 2.0


class App:
    """One server process.

    Args:
        configuration: what was configured.
        registry: the providers that there are.
        logger: for everything that happens.
        share_port: other processes serve on the same port.

    Raises:
        ConfigurationError: a model leads nowhere, or the files for TLS do not serve.
    """

    def __init__(
        self, configuration: Configuration, registry: Registry, logger: Logger, *, share_port: bool = False
    ) -> None:
        self._settings = settings = configuration.settings
        self._platform = configuration.platform
        self._logger = logger
        self._share_port = share_port
        self._started = time.time()
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.providers = Providers(registry, configuration.providers)
        self.router = Router(self.providers, settings.model_aliases, settings.default_model)
        self.admission = Admission(
            settings.max_concurrent_chats, settings.admission_queue, settings.admission_wait_seconds
        )
        self.address = settings.listen
        self.metrics_endpoint = MetricsEndpoint(settings.metrics_listen) if settings.metrics_listen else None
        self.metrics = self._make_metrics()
        self.reloading = Reloading(self._platform, self.metrics, logger, watch=settings.config_watch)
        self.shared: SharedState | None = None
        if settings.redis_url.get_secret_value():
            self.shared = SharedState(
                settings.redis_url, settings.redis_prefix, self.metrics, logger, bound=settings.redis_wait_seconds
            )
        self.circuits = Circuits(lambda provider: breaker_of(self._platform.current, provider), self.metrics, logger)
        self._shared_circuits = None if self.shared is None else SharedCircuits(self.shared, self.circuits, logger)
        self.prices = Prices(lambda: self._platform.current, self.providers.listings(), where=self.providers.place)
        self.latencies = Latencies()
        self.planner = Planner(self.router, self.providers, lambda: self._platform.current, self.latencies, self.prices)
        self.limits = Limits(
            Scopes(lambda: self._platform.current, budgets=settings.ledger == "on"),
            Limiter(self.metrics, self.shared),
            Estimates(self.prices),
            Throttles(),
        )
        self.accounting = self._make_accounting() if settings.ledger == "on" else None
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._check_routes()
        self._credentials = _server_credentials(settings) if settings.tls_cert_file else None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[App]:
        """Serve while the context is entered; `address` then tells where. Drains at the end.

        Raises:
            ListenError: the address cannot be served on.
            ConfigurationError: the ledger's database refuses.
        """
        self._server = self._make_server()
        if self.metrics_endpoint is not None:
            await self.metrics_endpoint.start()
            self._logger.info("serving_metrics", address=self.metrics_endpoint.address)
        if self.shared is not None:
            await self.shared.start()
        if self._shared_circuits is not None:
            await self._shared_circuits.start()
        if self.accounting is not None:
            await self.accounting.start()
        self.providers.prepare(self.planner.providers())
        await self._server.start()
        for name in ("", *_SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._logger.info("serving", address=self.address, default_provider=self.router.default_provider())
        self.ready.set()
        try:
            async with self._configuration_kept():
                yield self
        finally:
            await self.shut_down()

    @contextlib.asynccontextmanager
    async def _configuration_kept(self) -> AsyncIterator[None]:
        """Keep the configuration as its files are while the context is entered."""
        if not self._platform.files:
            yield
            return
        task = asyncio.create_task(self.reloading.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=_CLOSE_SECONDS)

    async def run(self) -> bool:
        """Serve until SIGTERM, SIGINT or :meth:`stop`. A second signal ends the process at once.

        Returns:
            Whether all chats finished by themselves.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        if self._platform.files:
            loop.add_signal_handler(signal.SIGHUP, self.reloading.ask)
        async with self.serving():
            # Some 200,000 objects that stay: under load a tenth of the CPU went into looking at them again and again.
            gc.freeze()
            await self._stopping.wait()
        return not self.admission.ended

    def stop(self) -> None:
        """End :meth:`run`, gracefully."""
        self._stopping.set()

    def _on_signal(self, number: int) -> None:
        self._logger.info("stopping", signal=signal.Signals(number).name, running_chats=self.admission.running)
        self.stop()
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    def _check_routes(self) -> None:
        """Refuse aliases and defaults that lead nowhere, at start rather than at the first chat."""
        problems: list[str] = []
        targets: list[tuple[str, str]] = [("EP_DEFAULT_MODEL", self._settings.default_model)]
        targets += [(f"EP_MODEL_ALIASES: {name}", target) for name, target in self._settings.model_aliases.items()]
        for place, target in targets:
            try:
                if target:
                    self.router.resolve(target)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told with its place
                problems.append(f"{place}: {error}")
        if problems:
            raise ConfigurationError(problems)

    def _make_accounting(self) -> Accounting:
        # Here, since its libraries take their time, which only servers with a ledger shall pay.
        from execution_platform.server.accounting import Accounting, Surroundings  # noqa: PLC0415

        accounting = Accounting(
            Surroundings(
                self._settings,
                self._platform,
                self.prices,
                self.planner,
                self.limits,
                self.metrics,
                self._logger,
            )
        )
        books = accounting.books
        self.metrics.watch_ledger(lambda: books.database.available, lambda: books.ledger.spooled)
        return accounting

    def _make_metrics(self) -> Metrics:
        if self.metrics_endpoint is None:
            return Metrics()
        settings = self._settings
        targets = (settings.default_model, *settings.model_aliases.values())
        known = KnownNames(self.providers, targets, lambda: self._platform.current)
        metrics = Metrics(self.metrics_endpoint.meter, known.model, known.persona)
        metrics.watch_chats(lambda: self.admission.running, lambda: self.admission.waiting)
        return metrics

    def _make_server(self) -> grpc.aio.Server:
        settings = self._settings
        server = grpc.aio.server(
            interceptors=[Guard(_SERVICES, self._logger)],
            options=_channel_options(settings, share_port=self._share_port),
            compression=grpc.Compression.NoCompression,
        )
        pipeline = self._make_pipeline()
        chat_pb2_grpc.add_ChatServiceServicer_to_server(
            ChatService(
                pipeline, default_deadline=settings.default_deadline_seconds, heartbeat=settings.heartbeat_seconds
            ),
            server,
        )
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(
            CatalogService(
                self.providers,
                self.router,
                self.admission,
                self.circuits,
                self.limits.throttles,
                platform=self._platform,
                personas=Personas(self._platform, self.planner),
                routes=RouteExplainer(self.planner, self.circuits, self.limits.throttles),
                version=metadata.version("execution-platform"),
                started=self._started,
                max_receive_bytes=settings.max_receive_bytes,
                logger=self._logger,
            ),
            server,
        )
        cost_pb2_grpc.add_CostServiceServicer_to_server(CostService(self._cost_parts(), self._logger), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            add_reflection((*_SERVICES, health.SERVICE_NAME), server)
        self.address = self._bind(server)
        return server

    def _cost_parts(self) -> CostParts:
        """Make the parts of CostService. Prices are there without a ledger, too."""
        prices = PriceOffice(
            self.prices,
            PriceSheet(lambda: self._platform.current, self.prices.list),
            self.planner,
            self.providers,
            self.limits,
            WorstCases(self.prices, self.planner.facts, lambda: self._platform.current),
            None if self.accounting is None else self.accounting.behind_prices,
        )
        return replace(CostParts() if self.accounting is None else self.accounting.parts, prices=prices)

    def _make_pipeline(self) -> ChatPipeline:
        metrics = self.metrics
        platform = self._platform
        routes = Routes(
            self.providers,
            self.circuits,
            RetryBudgets(lambda: platform.current.retry_budget, metrics),
            self.latencies,
            self.limits,
            metrics,
            self._logger,
            None if self.accounting is None else self.accounting.budgeting,
        )
        return ChatPipeline(
            self.providers,
            self.planner,
            routes,
            self.admission,
            self.limits,
            metrics,
            self._logger,
            None if self.accounting is None else self.accounting.ledger,
        )

    def _bind(self, server: grpc.aio.Server) -> str:
        listen = self._settings.listen
        if listen.startswith("unix:"):
            check_socket(listen)
        elif not self._share_port:
            check_address(listen)
        add: Callable[[str], int] = server.add_insecure_port
        if self._credentials is not None:
            add = partial(server.add_secure_port, server_credentials=self._credentials)
        try:
            port = add(listen)
        except RuntimeError as error:
            raise ListenError(f"cannot serve on {listen}; choose another address with EP_LISTEN") from error
        return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"

    async def shut_down(self) -> None:
        """Drain and end: NOT_SERVING, no new chats, time for the running ones, then close. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.enter_graceful_shutdown()
        if self.accounting is not None:
            await self.accounting.drain()
        finished = await self.admission.drain(self._settings.drain_seconds)
        if not finished:
            self._logger.warning("drain_cut_short", after_seconds=self._settings.drain_seconds)
        await server.stop(_CLOSE_SECONDS)
        late = await self.providers.aclose()
        await self.limits.limiter.aclose()
        if self.accounting is not None:
            # No chat runs any more: what they were settled with is written, and then the books are closed.
            await self.accounting.aclose()
        if self._shared_circuits is not None:
            await self._shared_circuits.aclose()
        if self.shared is not None:
            await self.shared.aclose()
        if self.metrics_endpoint is not None:
            await self.metrics_endpoint.aclose()
        if late:
            self._logger.warning("providers_did_not_close", providers=late)
        self._logger.info("stopped", all_chats_finished=finished)


def _channel_options(settings: Settings, *, share_port: bool) -> list[tuple[str, int]]:
    return [
        # Without workers a second server on the port must be told, not silently get half of the calls.
        ("grpc.so_reuseport", int(share_port)),
        ("grpc.max_receive_message_length", settings.max_receive_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 9_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.max_metadata_size", 16 * 1024),
    ]


def _server_credentials(settings: Settings) -> grpc.ServerCredentials:
    problems: list[str] = []
    read: list[bytes] = []
    for variable, path in (("EP_TLS_KEY_FILE", settings.tls_key_file), ("EP_TLS_CERT_FILE", settings.tls_cert_file)):
        try:
            read.append(Path(path).read_bytes())
        except OSError as error:
            problems.append(f"{variable}: cannot read {path}: {error.strerror}")
    if not problems:
        problems.extend(_mismatch(settings))
    if problems:
        raise ConfigurationError(problems)
    return grpc.ssl_server_credentials([(read[0], read[1])])


def _mismatch(settings: Settings) -> Iterator[str]:
    """Say in one line what gRPC says in several of its inside."""
    try:
        # Without a password it would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert_file, settings.tls_key_file, password=""
        )
    except (ssl.SSLError, ValueError) as error:
        reason = str(getattr(error, "reason", None) or "").lower().replace("_", " ")
        yield (
            "EP_TLS_CERT_FILE and EP_TLS_KEY_FILE: not a certificate and its own private key in PEM, without a password"
            + (f" ({reason})" if reason else "")
        )
