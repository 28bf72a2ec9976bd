"""The circuit breakers of all models, and what asks them. The rules are in :mod:`.circuit`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pybreaker

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter
from execution_platform.server.config.personas import Breaker, PlatformConfiguration
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.circuit import Circuit, Replicas
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import catalog_pb2

__all__ = ["MOST_CIRCUITS", "Breaking", "Circuits", "breaker_of"]

#: Circuits that are kept. Callers name models, so there may be any number of names.
MOST_CIRCUITS = 1_000


def breaker_of(platform: PlatformConfiguration, provider: str) -> Breaker:
    """Return the settings for a provider's circuits: its own, or the file's."""
    settings = platform.providers.get(provider)
    return platform.breaker if settings is None or settings.breaker is None else settings.breaker


class Circuits:
    """The breakers of all models.

    Args:
        settings: gives the settings in force for a provider.
        metrics: are told of each change.
        logger: is told as well.
        clock: seconds, monotonic.
        most: circuits that are kept.

    Attributes:
        replicas: who shares what is known; None: nobody.
        patience: seconds after which a probe of another replica may be over.
    """

    def __init__(
        self,
        settings: Callable[[str], Breaker],
        metrics: Metrics,
        logger: Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST_CIRCUITS,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.replicas: Replicas | None = None
        self.patience = 0.2
        self._metrics = metrics
        self._logger = logger
        self._most = most
        self._not_closed: set[tuple[str, str]] = set()
        self._circuits: OrderedDict[tuple[str, str], Circuit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._circuits)

    def of(self, provider: str, model: str) -> Circuit:
        """Return the breaker of a model. Keep it no longer than until its call begins: it may be forgotten."""
        key = (provider, model)
        circuit = self._circuits.get(key)
        if circuit is None:
            self._make_room()
            circuit = self._circuits[key] = Circuit(provider, model, self)
        else:
            self._circuits.move_to_end(key)
        return circuit

    def known(self, provider: str, model: str) -> Circuit | None:
        """Return the breaker of a model, if there is anything to remember of it."""
        return self._circuits.get((provider, model))

    def state(self, provider: str, model: str) -> tuple[catalog_pb2.CircuitState.ValueType, float]:
        """Return the state of a model's circuit, and the seconds until it may be probed, without making one."""
        circuit = self.known(provider, model)
        if circuit is None:
            return catalog_pb2.CIRCUIT_STATE_CLOSED, 0.0
        return circuit.state, circuit.wait()

    def failed(self, provider: str) -> list[Circuit]:
        """Return the circuits of a provider's models that have failed lately, by model."""
        found = [
            circuit
            for circuit in self._circuits.values()
            if circuit.provider == provider and (circuit.storage.failures or not circuit.closed)
        ]
        return sorted(found, key=lambda circuit: circuit.model)

    def forget(self, circuit: Circuit) -> None:
        """Do without a circuit."""
        key = (circuit.provider, circuit.model)
        if self._circuits.get(key) is circuit:
            del self._circuits[key]
            if key in self._not_closed:
                self._not_closed.remove(key)
                self._metrics.not_closed(self._not_closed)

    def tell(self, circuit: Circuit, new: str, failures: int) -> None:
        """Tell log and metrics of a change, by pybreaker's name of the state."""
        key = (circuit.provider, circuit.model)
        if new == pybreaker.STATE_CLOSED:
            self._not_closed.discard(key)
        else:
            self._not_closed.add(key)
        self._metrics.circuit(circuit.provider, circuit.model, new.replace("-", "_"))
        self._metrics.not_closed(self._not_closed)
        told = {
            "provider": circuit.provider,
            "model": circuit.model,
            "failures": failures,
            "reason": circuit.storage.reason,
        }
        if new == pybreaker.STATE_OPEN:
            seconds = round(circuit.storage.wait(self.settings(circuit.provider).open_seconds), 3)
            self._logger.warning("circuit_opened", **told, probe_in_seconds=seconds)
        else:
            half = new == pybreaker.STATE_HALF_OPEN
            self._logger.info("circuit_half_open" if half else "circuit_closed", **told)

    def _make_room(self) -> None:
        """Forget what was asked longest ago; what is closed first, and nothing that runs."""
        if len(self._circuits) < self._most:
            return
        free = [circuit for circuit in self._circuits.values() if not circuit.running]
        victim = next((circuit for circuit in free if circuit.closed), free[0] if free else None)
        if victim is not None:
            self.forget(victim)


class Breaking(WrappingAdapter):
    """Asks the wrapped adapter as far as the circuit lets it.

    Args:
        inner: the adapter; yields nothing before its first output.
        circuit: gives the circuit of the model that is asked.
    """

    def __init__(self, inner: Adapter, circuit: Callable[[], Circuit]) -> None:
        super().__init__(inner)
        self._circuit = circuit

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises CircuitOpenError without asking, and AdapterError."""
        async with self._circuit().calling() as asking, aclosing(self.inner.stream(call)) as stream:
            async for events in stream:
                asking.answered()
                yield events
            if not asking.has_output:
                raise ProtocolError("the adapter ended without a word")
