"""Circuit breakers: a model that has failed too often in a row is not asked for a while."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pybreaker

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter
from execution_platform.server.config.personas import Breaker
from execution_platform.server.errors import CircuitOpenError

__all__ = ["Breaking", "Circuit", "Circuits"]


class Circuit:
    """The breaker of one model of a provider."""

    def __init__(self, provider: str, model: str, settings: Breaker) -> None:
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=settings.failures,
            reset_timeout=settings.open_seconds,
            exclude=[lambda error: not (isinstance(error, AdapterError) and error.decision.opens_circuit)],
            throw_new_error_on_trip=False,
            name=f"{provider}/{model}",
        )

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Hold the circuit while its model is asked.

        Raises:
            CircuitOpenError: it is not to be asked now.
        """
        try:
            with self._breaker.calling():
                yield
        except pybreaker.CircuitBreakerError as error:
            raise CircuitOpenError("the circuit is open", retry_after=self._breaker.reset_timeout) from error


class Circuits:
    """The breakers of all models.

    Args:
        settings: gives the settings in force for a provider.
    """

    def __init__(self, settings: Callable[[str], Breaker]) -> None:
        self._settings = settings
        self._circuits: dict[tuple[str, str], Circuit] = {}

    def of(self, provider: str, model: str) -> Circuit:
        """Return the breaker of a model."""
        key = (provider, model)
        if key not in self._circuits:
            self._circuits[key] = Circuit(provider, model, self._settings(provider))
        return self._circuits[key]


class Breaking(WrappingAdapter):
    """Asks the wrapped adapter as far as the circuit lets it.

    Args:
        inner: the adapter.
        circuit: of the model that is asked.
    """

    def __init__(self, inner: Adapter, circuit: Circuit) -> None:
        super().__init__(inner)
        self._circuit = circuit

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises CircuitOpenError without asking, and AdapterError."""
        async with self._circuit.calling(), aclosing(self.inner.stream(call)) as stream:
            async for events in stream:
                yield events
