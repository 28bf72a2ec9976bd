"""What a circuit breaker remembers, in the memory of this process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pybreaker

__all__ = ["Storage"]


class Storage(pybreaker.CircuitBreakerStorage):
    """The state of one breaker. Reads are plain attributes: nothing here waits for anybody.

    pybreaker takes the time of an opening from the wall clock, which may jump; here it is noted on `clock`.

    Args:
        clock: seconds, monotonic.

    Attributes:
        failures: in a row.
        opened: when it opened last, on the clock; None: never yet.
        at_least: seconds that it stays open whatever the settings say, because the provider asked for them.
        reason: how the last failure was, in a few words without a provider's own text.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__("local")
        self._clock = clock
        self._state = pybreaker.STATE_CLOSED
        self._successes = 0
        self.failures = 0
        self.opened: float | None = None
        self.at_least = 0.0
        self.reason = ""

    @property
    def state(self) -> str:
        """The state by pybreaker's name."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state

    @property
    def counter(self) -> int:
        """Failures in a row."""
        return self.failures

    def increment_counter(self) -> None:
        """Count a failure."""
        self.failures += 1

    def reset_counter(self) -> None:
        """Begin to count anew."""
        self.failures = 0

    @property
    def success_counter(self) -> int:
        """Successes while half-open."""
        return self._successes

    def increment_success_counter(self) -> None:
        """Count a success."""
        self._successes += 1

    def reset_success_counter(self) -> None:
        """Begin to count anew."""
        self._successes = 0

    @property
    def opened_at(self) -> datetime | None:
        """When it opened last, by the wall clock of now."""
        return None if self.opened is None else datetime.now(UTC) - timedelta(seconds=self._clock() - self.opened)

    @opened_at.setter
    def opened_at(self, moment: datetime) -> None:  # noqa: ARG002 - the wall clock's
        self.opened = self._clock()

    def wait(self, open_seconds: float) -> float:
        """Return the seconds until a probe is due; 0: now."""
        if self.opened is None:
            return 0.0
        return max(0.0, self.opened + max(open_seconds, self.at_least) - self._clock())
