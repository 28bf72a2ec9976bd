"""The circuit breaker of one model of a provider.

The rules, beyond what pybreaker's states say:

- A failure is an AdapterError that says that the provider is down, from a provider that was asked. An answer is one
  that is complete, or that had output before somebody else ended it. Whatever else ends a call - the caller's own
  error, a cancel, a limit - tells nothing.
- Calls that began before the circuit last changed tell nothing either: they are late news.
- One call at a time probes. Its first output closes the circuit, since the rest may take minutes; until an answer is
  complete a single failure opens it again. A probe that tells nothing leaves the next call to probe.
- Failures in a row are counted in each process. What replicas share is in :mod:`.shared_circuits`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Protocol, Self

import pybreaker

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.config.personas import Breaker
from execution_platform.server.errors import CircuitOpenError
from execution_platform.server.resilience.circuit_storage import Storage
from execution_platform.v1 import catalog_pb2, error_pb2

__all__ = ["LONGEST_AT_LEAST", "Asking", "Circuit", "Replicas", "Surroundings"]

#: Longest time in seconds that a provider's own words keep a circuit open: it may be back sooner than it says.
LONGEST_AT_LEAST = 300.0

#: Seconds after which to come again while somebody probes: how long that takes is not known.
_PROBING_RETRY = 1.0

_STATES: dict[str, catalog_pb2.CircuitState.ValueType] = {
    pybreaker.STATE_CLOSED: catalog_pb2.CIRCUIT_STATE_CLOSED,
    pybreaker.STATE_OPEN: catalog_pb2.CIRCUIT_STATE_OPEN,
    pybreaker.STATE_HALF_OPEN: catalog_pb2.CIRCUIT_STATE_HALF_OPEN,
}


class Replicas(Protocol):
    """The other processes that ask the same providers."""

    def changed(self, circuit: Circuit, *, is_open: bool) -> None:
        """Tell them that a circuit opened or closed here."""
        ...

    async def lease(self, circuit: Circuit) -> str | None:
        """Return a token while nobody else probes, empty if they cannot be reached; None: somebody does.

        Brings the circuit to what they know.
        """
        ...

    def release(self, circuit: Circuit, token: str) -> None:
        """Let others probe."""
        ...


class Surroundings(Protocol):
    """What a circuit shares with the others.

    Attributes:
        clock: seconds, monotonic.
        settings: gives the settings in force for a provider.
        replicas: who shares what is known; None: nobody.
        patience: seconds after which a probe of another replica may be over.
    """

    clock: Callable[[], float]
    settings: Callable[[str], Breaker]
    replicas: Replicas | None
    patience: float

    def tell(self, circuit: Circuit, new: str, failures: int) -> None:
        """Tell log and metrics of a change, by pybreaker's name of the state."""
        ...

    def forget(self, circuit: Circuit) -> None:
        """Do without a circuit."""
        ...


class _DownError(Exception):
    """What pybreaker sees of a failure."""


class Circuit(pybreaker.CircuitBreakerListener):
    """The breaker of one model of a provider.

    Args:
        provider: name of the provider.
        model: the provider's name of the model.
        circuits: which it is one of.

    Attributes:
        storage: what it remembers.
        running: calls that are within :meth:`calling`.
        generation: changes with each change of the state.
        probe: the call that probes.
    """

    def __init__(self, provider: str, model: str, circuits: Surroundings) -> None:
        self.provider = provider
        self.model = model
        self.storage = Storage(circuits.clock)
        self.running = 0
        self.generation = 0
        self.probe: Asking | None = None
        self._circuits = circuits
        self._failures = 0
        self._away_until = 0.0
        self._breaker = pybreaker.CircuitBreaker(
            state_storage=self.storage, listeners=[self], throw_new_error_on_trip=False, name=f"{provider}/{model}"
        )

    def calling(self) -> Asking:
        """Return what holds the circuit while its model is asked; an async context manager.

        Entering it raises CircuitOpenError where the model is not to be asked now.
        """
        return Asking(self)

    @property
    def closed(self) -> bool:
        """Whether everybody may ask."""
        return self.storage.state == pybreaker.STATE_CLOSED

    @property
    def idle(self) -> bool:
        """Whether there is nothing to remember."""
        return self.closed and not self.storage.failures and not self.running

    @property
    def state(self) -> catalog_pb2.CircuitState.ValueType:
        """The state in the contract's words."""
        return _STATES[self.storage.state]

    def wait(self) -> float:
        """Return the seconds until a probe may be made; 0: it may, or the circuit is not open."""
        if self.storage.state != pybreaker.STATE_OPEN:
            return 0.0
        return self.storage.wait(self._settings().open_seconds)

    async def admit(self, asking: Asking) -> None:
        """Let a call ask. Raises CircuitOpenError."""
        if self.closed:
            asking.generation = self.generation
            return
        self._refuse_unless_due()
        # From here on nobody else passes, also while the other replicas are asked.
        self.probe = asking
        try:
            await self._begin_probe(asking)
        except BaseException:
            self.leave(asking)
            raise

    async def _begin_probe(self, asking: Asking) -> None:
        replicas = self._circuits.replicas
        if replicas is not None:
            token = await replicas.lease(self)
            if token is None:
                self._away_until = self._circuits.clock() + self._circuits.patience
                raise self._refusal(_PROBING_RETRY, "another replica is probing it")
            asking.lease = token
            if self.closed:
                self.leave(asking)
                asking.generation = self.generation
                return
            if wait := self.wait():
                raise self._refusal(wait)
        self._breaker.half_open()
        asking.generation = self.generation

    def leave(self, asking: Asking) -> None:
        """End a call's part as the probe, if it is."""
        if self.probe is asking:
            self.probe = None
        if asking.lease and self._circuits.replicas is not None:
            self._circuits.replicas.release(self, asking.lease)
        asking.lease = ""

    def output(self, asking: Asking) -> None:
        """Take note that a call has its first output."""
        if self.probe is not asking:
            return
        self._succeed()
        # Nothing is complete yet: what failed still counts, and one more is enough.
        self.storage.failures = max(self._failures, self._settings().failures - 1)
        asking.generation = self.generation
        self.leave(asking)

    def end(self, asking: Asking, error: BaseException | None) -> None:
        """Take note of how a call ended."""
        probing = self.probe is asking
        if probing or (self.closed and asking.generation == self.generation):
            if isinstance(error, AdapterError) and error.asked and error.decision.opens_circuit:
                self._fail(error)
            elif error is None or asking.has_output:
                self._succeed()
            elif probing:
                self._bring_to(pybreaker.STATE_OPEN)
        self.leave(asking)

    def bring(self, *, is_open: bool, opened: float, at_least: float, failures: int, reason: str) -> None:
        """Bring the circuit to what another replica knows.

        Args:
            is_open: whether it is open.
            opened: when it opened, on the clock here.
            at_least: as the storage's.
            failures: in a row.
            reason: of the last one.
        """
        if not is_open:
            if not self.closed:
                self.probe = None
                self._bring_to(pybreaker.STATE_CLOSED)
            return
        self.storage.opened, self.storage.at_least, self.storage.reason = opened, at_least, reason
        self.storage.failures = self._failures = failures
        # A probe that runs here tells more than what they knew.
        if self.probe is None or self.closed:
            self._bring_to(pybreaker.STATE_OPEN)

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,  # noqa: ARG002 - pybreaker's signature
        old_state: pybreaker.CircuitBreakerState | None,  # noqa: ARG002 - the same
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        """Tell of a change of the state. pybreaker calls it, before the storage has the new state."""
        self.generation += 1
        self._circuits.tell(self, new_state.name, self._failures)

    def forget_if_idle(self) -> None:
        """Leave nothing behind where there is nothing to remember."""
        if self.idle:
            self._circuits.forget(self)

    def _settings(self) -> Breaker:
        return self._circuits.settings(self.provider)

    def _refuse_unless_due(self) -> None:
        if self.probe is not None:
            raise self._refusal(_PROBING_RETRY, "a chat is probing it")
        wait = self.wait()
        if wait:
            raise self._refusal(wait)
        if self._away_until > self._circuits.clock():
            raise self._refusal(_PROBING_RETRY, "another replica is probing it")

    def _refusal(self, wait: float, instead: str = "") -> CircuitOpenError:
        when = instead or f"the next probe is due in {wait:.1f} s"
        return CircuitOpenError(
            f"{self.provider}/{self.model} is not asked after {self._failures} failures in a row, "
            f"the last {self.storage.reason}; {when}",
            retry_after=wait,
        )

    def _fail(self, error: AdapterError) -> None:
        settings = self._settings()
        self._breaker.fail_max = settings.failures
        self._failures = self.storage.failures + 1
        self.storage.reason = _told(error)
        self.storage.at_least = min(error.retry_after or 0.0, LONGEST_AT_LEAST)
        with contextlib.suppress(_DownError):
            self._breaker.call(_fail)
        if not self.closed:
            self._share(is_open=True)

    def _succeed(self) -> None:
        was_open = not self.closed
        self._breaker.call(_succeed)
        if was_open:
            self._share(is_open=False)

    def _share(self, *, is_open: bool) -> None:
        if self._circuits.replicas is not None:
            self._circuits.replicas.changed(self, is_open=is_open)

    def _bring_to(self, state: str) -> None:
        self.storage.state = state
        # pybreaker notices and tells.
        _ = self._breaker.state


class Asking:
    """One call of a model, as its circuit sees it.

    Attributes:
        generation: of the circuit when it was let in.
        has_output: the model has begun to answer.
        lease: the right to probe, among replicas.
    """

    __slots__ = ("_circuit", "generation", "has_output", "lease")

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self.generation = -1
        self.has_output = False
        self.lease = ""

    def answered(self) -> None:
        """Take note of output."""
        if not self.has_output:
            self.has_output = True
            self._circuit.output(self)

    async def __aenter__(self) -> Self:
        self._circuit.running += 1
        try:
            await self._circuit.admit(self)
        except BaseException:
            self._circuit.running -= 1
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._circuit.running -= 1
        self._circuit.end(self, error)
        self._circuit.forget_if_idle()


def _fail() -> NoReturn:
    raise _DownError


def _succeed() -> None:
    """Be a call that ends well."""


def _told(error: AdapterError) -> str:
    """Say how a provider failed, without its own words: they may hold anything."""
    reason = error_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    return f"{reason} (HTTP {error.provider_status})" if error.provider_status else reason
