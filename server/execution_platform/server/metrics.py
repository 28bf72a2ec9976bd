"""Counts and times for operators. Made in app.py and handed down."""

from __future__ import annotations

from opentelemetry.metrics import Meter, NoOpMeter

__all__ = ["Metrics"]

#: Bounds of the histograms of times, in seconds.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """What the server counts. Labels hold names of the configuration and of providers, never a caller's words.

    Args:
        meter: makes the instruments; None: nothing is counted.
    """

    def __init__(self, meter: Meter | None = None) -> None:
        meter = NoOpMeter("none") if meter is None else meter
        counter = meter.create_counter
        self._attempts = counter("ep.attempts", "1", "Attempts at providers, by outcome, kind of error and cause.")
        self._fallbacks = counter("ep.fallbacks", "1", "Steps from a failed provider to the next, by reason.")
        self._circuits = counter("ep.circuit.transitions", "1", "Changes of circuits, by the state they come to.")
        self._shared_state = meter.create_gauge("ep.shared_state.available", "1", "Whether Redis is there: 1 or 0.")
        self._limited = counter("ep.limited", "1", "Chats and attempts refused by a limit, by scope.")
        self._reloads = counter("ep.configuration.reloads", "1", "Reads of the configuration, by result.")
        self._chats = counter("ep.chats", "1", "Chats that ended, by ending and reason.")
        self._attempt_seconds = meter.create_histogram(
            "ep.attempt.duration", "s", "Time of an attempt.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._first_output_seconds = meter.create_histogram(
            "ep.attempt.first_output",
            "s",
            "Time to an attempt's first output.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._chat_seconds = meter.create_histogram(
            "ep.chat.duration", "s", "Time of a chat.", explicit_bucket_boundaries_advisory=_SECONDS
        )

    def attempt(
        self,
        provider: str,
        model: str,
        *,
        outcome: str,
        cause: str,
        kind: str,
        seconds: float,
        first_output: float | None,
    ) -> None:
        """Count an attempt: how it ended, why it was made, the kind of its error, and its times."""
        who = {"provider": provider, "model": model}
        self._attempts.add(1, {**who, "outcome": outcome, "cause": cause, "kind": kind})
        if outcome != "skipped":
            self._attempt_seconds.record(seconds, {**who, "outcome": outcome})
        if first_output is not None:
            self._first_output_seconds.record(first_output, who)

    def fallback(self, persona: str, failed: str, asked: str, reason: str) -> None:
        """Count a step from a provider that failed to the one that is asked next."""
        self._fallbacks.add(1, {"persona": persona, "from": failed, "to": asked, "reason": reason})

    def circuit(self, provider: str, model: str, state: str) -> None:
        """Count a change of a circuit's state."""
        self._circuits.add(1, {"provider": provider, "model": model, "state": state})

    def shared_state(self, *, available: bool) -> None:
        """Tell whether the state that replicas share can be reached."""
        self._shared_state.set(int(available))

    def limited(self, scope: str, limit: str) -> None:
        """Count a refusal: by whose limit (persona, tenant, key, provider), and by which."""
        self._limited.add(1, {"scope": scope, "limit": limit})

    def reload(self, *, ok: bool) -> None:
        """Count a read of the configuration."""
        self._reloads.add(1, {"result": "ok" if ok else "refused"})

    def chat(self, persona: str, *, ending: str, reason: str, seconds: float) -> None:
        """Count a chat: how it ended, and why where it failed."""
        self._chats.add(1, {"persona": persona, "ending": ending, "reason": reason})
        self._chat_seconds.record(seconds, {"ending": ending})
