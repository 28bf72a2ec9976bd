"""Lets Prometheus read what is counted: an HTTP endpoint of its own, in a thread of its own.

Nothing here is global: each server has its meter, its registry and its socket. The thread is prometheus_client's, so
that a scrape, which takes milliseconds, keeps no chat waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from threading import Lock, Thread
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Metric, ProcessCollector, start_http_server

from execution_platform.server.listening import ListenError

__all__ = ["MetricsEndpoint"]


class _OneAtATime(CollectorRegistry):
    """A registry for the exporter, which mixes up two scrapes that come at once."""

    def __init__(self) -> None:
        super().__init__()
        self._scraping = Lock()

    def collect(self) -> Iterable[Metric]:
        with self._scraping:
            return list(super().collect())


class MetricsEndpoint:
    """Serves metrics in Prometheus's text format and in OpenMetrics, under any path.

    Args:
        listen: ``host:port``; port 0: any free one.

    Attributes:
        meter: makes the instruments whose numbers are served.
        address: where it serves, once it does.
    """

    def __init__(self, listen: str) -> None:
        self.address = listen
        self._registry = _OneAtATime()
        # CPU time, memory and file descriptors of this process.
        ProcessCollector(registry=self._registry)
        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=self._registry)
        # Everything that the environment would otherwise say is said here: only EP_* configures this server.
        self._provider = MeterProvider(
            [reader], Resource.get_empty(), exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
        )
        self.meter: Meter = self._provider.get_meter("execution_platform")
        self._serving: tuple[WSGIServer, Thread] | None = None

    async def start(self) -> None:
        """Serve.

        Raises:
            ListenError: the address cannot be served on.
        """
        host, _, port = self.address.rpartition(":")
        try:
            # In a thread, since the standard library asks the name service for the host's full name.
            self._serving = await asyncio.to_thread(start_http_server, int(port), host.strip("[]"), self._registry)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise ListenError(
                f"cannot serve metrics on {self.address}: {why}; choose another address with EP_METRICS_LISTEN"
            ) from error
        self.address = f"{host}:{self._serving[0].server_port}"

    async def aclose(self) -> None:
        """Serve no more. Idempotent."""
        serving, self._serving = self._serving, None
        if serving is None:
            return
        server, thread = serving
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)
        self._provider.shutdown()
