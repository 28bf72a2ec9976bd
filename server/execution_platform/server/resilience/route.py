"""The stack of one chat, readable in one place: who wraps whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Adapter
from execution_platform.server.config.personas import MidStream
from execution_platform.server.limits.limits import Limits
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.circuits import Breaking, Circuits
from execution_platform.server.resilience.fallback import Fallback, Route
from execution_platform.server.resilience.held import Held
from execution_platform.server.resilience.journal import Entry, Journal
from execution_platform.server.resilience.limited import Limited
from execution_platform.server.resilience.mid_stream import Resuming
from execution_platform.server.resilience.patient import Patient
from execution_platform.server.resilience.recorded import Recorded
from execution_platform.server.resilience.retry_budget import RetryBudgets
from execution_platform.server.resilience.retrying import Retrying
from execution_platform.server.resilience.throttled import Throttled
from execution_platform.server.routing.latencies import Latencies
from execution_platform.server.routing.plan import Leg, Plan
from execution_platform.server.routing.providers import Providers
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import chat_pb2

__all__ = ["Routes"]


@dataclass(frozen=True, slots=True)
class Routes:
    """Builds the route of a chat. What chats share is held here; what is one chat's is made for it.

    Outermost first: Resuming (after output, if asked for) > Fallback (the next model) > Retrying (the same again) >
    Recorded (one attempt, in the journal) > Breaking (circuit) > Throttled (what the provider says of its limits) >
    Limited (our limits of it) > Patient (timeouts) > Held (back until the first output) > the provider's adapter.
    """

    providers: Providers
    circuits: Circuits
    budgets: RetryBudgets
    latencies: Latencies
    limits: Limits
    metrics: Metrics
    logger: Logger

    def build(self, plan: Plan, journal: Journal, deadline: float) -> Route:
        """Return the route of a plan.

        Args:
            plan: whom to ask.
            journal: of the chat.
            deadline: when its time is over, on the monotonic clock.
        """
        some = partial(self._some, plan, journal, deadline)
        if plan.mid_stream is MidStream.NEVER:
            return some(plan.legs, chat_pb2.ATTEMPT_CAUSE_FALLBACK)
        return Resuming(plan.mid_stream, plan.legs, some, journal)

    def _some(
        self,
        plan: Plan,
        journal: Journal,
        deadline: float,
        legs: Sequence[Leg],
        cause: chat_pb2.AttemptCause.ValueType,
    ) -> Route:
        routes: list[tuple[Leg, Route]] = []
        for index, leg in enumerate(legs):
            alone = index + 1 == len(legs)
            recorded = Recorded(
                leg,
                partial(self._stack, plan, leg, alone),
                journal,
                deadline,
                self.providers,
                self.latencies,
                self.metrics,
            )
            recorded.cause = chat_pb2.ATTEMPT_CAUSE_FALLBACK if index else cause
            retrying = Retrying(recorded, plan.retries, self.budgets.of(leg.provider), deadline, alone=alone)
            routes.append((leg, retrying))
        return Fallback(routes, partial(self._step, plan))

    def _stack(self, plan: Plan, leg: Leg, alone: bool, entry: Entry) -> Adapter:
        adapter: Adapter = Held(self.providers.adapter(leg.provider), entry)
        if plan.first_token is not None or plan.idle is not None:
            adapter = Patient(adapter, plan.first_token, plan.idle)
        scope = self.limits.scopes.of_provider(leg.provider)
        if scope.limited:
            adapter = Limited(adapter, scope, entry, self.limits.limiter, self.limits.estimates)
        adapter = Throttled(adapter, leg, self.limits.throttles, self.metrics, alone=alone)
        return Breaking(adapter, partial(self.circuits.of, leg.provider, leg.model))

    def _step(self, plan: Plan, failed: Leg, error: AdapterError, following: Leg) -> None:
        reason = error.kind.value if error.asked else chat_pb2.AttemptOutcome.Name(chat_pb2.ATTEMPT_OUTCOME_SKIPPED)
        if plan.track_reasons:
            self.metrics.fallback(plan.persona, failed.provider, following.provider, reason)
        self.logger.debug("fallback", persona=plan.persona, failed=failed.name, asked=following.name, reason=reason)
