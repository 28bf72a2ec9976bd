"""Counts and times for operators. Made in app.py and handed down; :mod:`.metrics_endpoint` lets them be read.

Labels hold names of the configuration and of providers, never a caller's words: a model that nobody configured is
``other``. docs/metrics.md has the list, which is made from the instruments here.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, NoOpMeter, Observation
from opentelemetry.metrics import _Gauge as Gauge  # its place in the API: it has no public name

__all__ = ["INSTRUMENTS", "Instrument", "InstrumentKind", "Metrics"]

#: Bounds of the histograms of times, in seconds.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

#: Bounds of the histograms of amounts.
_AMOUNTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class InstrumentKind(StrEnum):
    """What sort of numbers an instrument gives."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is measured.

    Attributes:
        name: OpenTelemetry's name.
        kind: what sort of numbers it gives.
        description: for people.
        labels: by what it is told apart.
        unit: ``s`` or nothing.
    """

    name: str
    kind: InstrumentKind
    description: str
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def prometheus_name(self) -> str:
        """The name under which Prometheus finds it; of a histogram without ``_bucket``, ``_sum``, ``_count``."""
        unit = "_seconds" if self.unit == "s" else ""
        return self.name.replace(".", "_") + unit + ("_total" if self.kind is InstrumentKind.COUNTER else "")


def _counter(name: str, description: str, *labels: str) -> Instrument:
    return Instrument(name, InstrumentKind.COUNTER, description, labels)


def _gauge(name: str, description: str, *labels: str, unit: str = "") -> Instrument:
    return Instrument(name, InstrumentKind.GAUGE, description, labels, unit)


def _amounts(name: str, description: str) -> Instrument:
    return Instrument(name, InstrumentKind.HISTOGRAM, description)


def _seconds(name: str, description: str, *labels: str) -> Instrument:
    return Instrument(name, InstrumentKind.HISTOGRAM, description, labels, "s")


_CHATS = _counter("ep.chats", "Chats that ended, by ending and reason.", "persona", "ending", "reason")
_CHAT_SECONDS = _seconds("ep.chat.duration", "Time of a chat, from its arrival to its end.", "ending")
_RUNNING = _gauge("ep.chats.running", "Chats that run now.")
_WAITING = _gauge("ep.chats.waiting", "Chats that wait for a place now.")
_ATTEMPTS = _counter(
    "ep.attempts",
    "Attempts at providers, by outcome, cause, and kind of error.",
    *("provider", "model", "outcome", "cause", "kind"),
)
_ATTEMPT_SECONDS = _seconds("ep.attempt.duration", "Time of an attempt.", "provider", "model", "outcome")
_FIRST_OUTPUT = _seconds("ep.attempt.first_output", "Time to an attempt's first output.", "provider", "model")
_STARTUP = _seconds(
    "ep.attempt.startup", "Time that a process of the provider's own took to start.", "provider", "model"
)
_FALLBACKS = _counter(
    "ep.fallbacks", "Steps from a failed provider to the next, by reason.", "persona", "from", "to", "reason"
)
_RETRIES_DENIED = _counter(
    "ep.retries.denied", "Retries and hedges that a provider's retry budget did not allow.", "provider"
)
_HEDGES = _counter("ep.hedges", "Attempts that were begun beside a late one.", "from", "to")
_HEDGES_WON = _counter("ep.hedges.won", "Attempts beside a late one whose output came first.", "from", "to")
_TRANSITIONS = _counter(
    "ep.circuit.transitions", "Changes of circuits, by the state they come to.", "provider", "model", "state"
)
_OPEN_CIRCUITS = _gauge("ep.circuits.open", "Circuits that are not closed.", "provider", "model")
_LIMITED = _counter("ep.limited", "Chats and attempts refused by a limit, by whose and which.", "scope", "limit")
_SHARED_STATE = _gauge("ep.shared_state.available", "Whether the Redis that replicas share answers: 1 or 0.")
_RELOADS = _counter("ep.configuration.reloads", "Reads of the configuration while it runs, by result.", "result")
_RELOAD_OK = _gauge("ep.configuration.accepted", "Whether the last read of the configuration was accepted: 1 or 0.")
_RELOAD_TIME = _gauge(
    "ep.configuration.read.time", "When the configuration in force was read, since the epoch.", unit="s"
)

_COST = _counter(
    "ep.cost.nanos",
    "What attempts cost, in 1e-9 US dollars, as far as prices are known.",
    "provider",
    "model",
    "persona",
)
_TOKENS = _counter("ep.tokens", "Tokens of attempts, by kind.", "provider", "model", "persona", "kind")
_UNPRICED = _counter("ep.attempts.unpriced", "Attempts whose price is not known.", "provider", "model")
_BUDGET_REFUSALS = _counter(
    "ep.budget.refusals", "Attempts that no budget had room for, and answers that one ended.", "when"
)
_BATCH_SIZE = _amounts(
    "ep.ledger.batch.size", "What one transaction of the ledger did: reservations, records and such."
)
_BATCH_SECONDS = _seconds("ep.ledger.batch.duration", "Time of a transaction of the ledger.")
_LEDGER = _gauge("ep.ledger.available", "Whether the ledger's database answers: 1 or 0.")
_SPOOLED = _gauge("ep.ledger.spooled", "Records that wait in the spool for the database.")

#: All of them, in the order in which the documentation lists them.
INSTRUMENTS = (
    _CHATS,
    _CHAT_SECONDS,
    _RUNNING,
    _WAITING,
    _ATTEMPTS,
    _ATTEMPT_SECONDS,
    _FIRST_OUTPUT,
    _STARTUP,
    _FALLBACKS,
    _RETRIES_DENIED,
    _HEDGES,
    _HEDGES_WON,
    _TRANSITIONS,
    _OPEN_CIRCUITS,
    _LIMITED,
    _SHARED_STATE,
    _COST,
    _TOKENS,
    _UNPRICED,
    _BUDGET_REFUSALS,
    _BATCH_SIZE,
    _BATCH_SECONDS,
    _LEDGER,
    _SPOOLED,
    _RELOADS,
    _RELOAD_OK,
    _RELOAD_TIME,
)


def _as_given(_: str, name: str) -> str:
    return name


class Metrics:
    """What the server counts.

    Args:
        meter: makes the instruments; None: nothing is counted.
        model_label: tells what to call a model, given its provider and its name.
        persona_label: tells what to call a persona.

    Attributes:
        counting: there is a meter.
    """

    def __init__(
        self,
        meter: Meter | None = None,
        model_label: Callable[[str, str], str] = _as_given,
        persona_label: Callable[[str], str] = str,
    ) -> None:
        self.counting = meter is not None
        self._meter = meter = NoOpMeter("none") if meter is None else meter
        self._model_label = model_label
        self._persona_label = persona_label
        make = _Maker(meter)
        self._chats = make.counter(_CHATS)
        self._chat_seconds = make.histogram(_CHAT_SECONDS)
        self._attempts = make.counter(_ATTEMPTS)
        self._attempt_seconds = make.histogram(_ATTEMPT_SECONDS)
        self._first_output = make.histogram(_FIRST_OUTPUT)
        self._startup = make.histogram(_STARTUP)
        self._fallbacks = make.counter(_FALLBACKS)
        self._retries_denied = make.counter(_RETRIES_DENIED)
        self._hedges = make.counter(_HEDGES)
        self._hedges_won = make.counter(_HEDGES_WON)
        self._transitions = make.counter(_TRANSITIONS)
        self._open_circuits = make.gauge(_OPEN_CIRCUITS)
        self._ever_open: set[tuple[str, str]] = set()
        self._limited = make.counter(_LIMITED)
        self._shared_state = make.gauge(_SHARED_STATE)
        self._cost = make.counter(_COST)
        self._tokens = make.counter(_TOKENS)
        self._unpriced = make.counter(_UNPRICED)
        self._budget_refusals = make.counter(_BUDGET_REFUSALS)
        self._batch_size = make.histogram(_BATCH_SIZE)
        self._batch_seconds = make.histogram(_BATCH_SECONDS)
        self._reloads = make.counter(_RELOADS)
        self._reload_ok = make.gauge(_RELOAD_OK)
        self._reload_time = make.gauge(_RELOAD_TIME)
        # No server starts with a configuration that is refused.
        self._accepted()

    def watch_chats(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Let it be seen how many chats run and wait. Both are called from another thread; call this once."""
        self._observe(_RUNNING, running)
        self._observe(_WAITING, waiting)

    def watch_ledger(self, available: Callable[[], bool], spooled: Callable[[], int]) -> None:
        """Let it be seen whether the ledger's database answers, and how much waits for it. As :meth:`watch_chats`."""
        self._observe(_LEDGER, available)
        self._observe(_SPOOLED, spooled)

    def _observe(self, instrument: Instrument, count: Callable[[], int]) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(int(count()))]

        self._meter.create_observable_gauge(instrument.name, [observe], instrument.unit, instrument.description)

    def chat(self, persona: str, *, ending: str, reason: str, seconds: float) -> None:
        """Count a chat: how it ended, and why where it failed."""
        reason = reason.removeprefix("ERROR_REASON_").lower()
        self._chats.add(1, {"persona": self._persona_label(persona), "ending": ending, "reason": reason})
        self._chat_seconds.record(seconds, {"ending": ending})

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
        startup: float | None = None,
    ) -> None:
        """Count an attempt: how it ended, why it was made, the kind of its error, and its times."""
        who = {"provider": provider, "model": self._model_label(provider, model)}
        self._attempts.add(1, {**who, "outcome": outcome, "cause": cause, "kind": kind})
        if outcome != "skipped":
            self._attempt_seconds.record(seconds, {**who, "outcome": outcome})
        if first_output is not None:
            self._first_output.record(first_output, who)
        if startup is not None:
            self._startup.record(startup, who)

    def fallback(self, persona: str, failed: str, asked: str, reason: str) -> None:
        """Count a step from a provider that failed to the one that is asked next."""
        self._fallbacks.add(1, {"persona": self._persona_label(persona), "from": failed, "to": asked, "reason": reason})

    def retry_denied(self, provider: str) -> None:
        """Count a retry or a hedge that a provider's retry budget did not allow."""
        self._retries_denied.add(1, {"provider": provider})

    def hedge(self, late: str, asked: str, *, won: bool = False) -> None:
        """Count an attempt at a provider beside that at a late one: when it begins, and again if it wins."""
        (self._hedges_won if won else self._hedges).add(1, {"from": late, "to": asked})

    def circuit(self, provider: str, model: str, state: str) -> None:
        """Count a change of a circuit's state."""
        self._transitions.add(1, {"provider": provider, "model": self._model_label(provider, model), "state": state})

    def not_closed(self, models: Iterable[tuple[str, str]]) -> None:
        """Tell which circuits are not closed, each by provider and model."""
        now = Tally((provider, self._model_label(provider, model)) for provider, model in models)
        self._ever_open.update(now)
        for provider, model in self._ever_open:
            self._open_circuits.set(now[provider, model], {"provider": provider, "model": model})

    def limited(self, scope: str, limit: str) -> None:
        """Count a refusal: by whose limit (server, persona, tenant, key, provider), and by which."""
        self._limited.add(1, {"scope": scope, "limit": limit})

    def shared_state(self, *, available: bool) -> None:
        """Tell whether the state that replicas share can be reached."""
        self._shared_state.set(int(available))

    def spent(self, persona: str, provider: str, model: str, *, nanos: int | None, tokens: Mapping[str, int]) -> None:
        """Count what an attempt cost in 1e-9 US dollars, None where no price is known, and its tokens by kind."""
        who = {"provider": provider, "model": self._model_label(provider, model)}
        whose = {**who, "persona": self._persona_label(persona)}
        if nanos is None:
            self._unpriced.add(1, who)
        elif nanos > 0:
            self._cost.add(nanos, whose)
        for kind, quantity in tokens.items():
            if quantity:
                self._tokens.add(quantity, {**whose, "kind": kind})

    def budget_refused(self, when: str) -> None:
        """Count an attempt that no budget had room for (before), or an answer that one ended (running)."""
        self._budget_refusals.add(1, {"when": when})

    def ledger_batch(self, size: int, seconds: float) -> None:
        """Count a transaction of the ledger: how much it did, and how long it took."""
        self._batch_size.record(size)
        self._batch_seconds.record(seconds)

    def reload(self, *, ok: bool) -> None:
        """Count a read of the configuration while the server runs."""
        self._reloads.add(1, {"result": "ok" if ok else "refused"})
        if ok:
            self._accepted()
        else:
            self._reload_ok.set(0)

    def _accepted(self) -> None:
        self._reload_ok.set(1)
        self._reload_time.set(time.time())


class _Maker:
    """Makes instruments of a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def counter(self, instrument: Instrument) -> Counter:
        return self._meter.create_counter(instrument.name, instrument.unit, instrument.description)

    def gauge(self, instrument: Instrument) -> Gauge:
        return self._meter.create_gauge(instrument.name, instrument.unit, instrument.description)

    def histogram(self, instrument: Instrument) -> Histogram:
        return self._meter.create_histogram(
            instrument.name,
            instrument.unit,
            instrument.description,
            explicit_bucket_boundaries_advisory=_SECONDS if instrument.unit == "s" else _AMOUNTS,
        )
