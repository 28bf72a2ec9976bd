"""The stack of one chat, readable in one place: who wraps whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Adapter
from execution_platform.server.config.personas import MidStream
from execution_platform.server.limits.limits import Limits
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.budgeted import Budgeted, Budgeting
from execution_platform.server.resilience.circuits import Breaking, Circuits
from execution_platform.server.resilience.fallback import Fallback, Route, Steps
from execution_platform.server.resilience.hedging import Hedged
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
from execution_platform.v1 import chat_pb2, error_pb2

__all__ = ["Routes"]

_FALLBACK = chat_pb2.ATTEMPT_CAUSE_FALLBACK

#: Forms whose answers come whole or not at all: a second half that was asked for by itself is not of the form.
_ONE_PIECE = frozenset({"json", "json_schema"})


@dataclass(frozen=True, slots=True)
class Routes:
    """Builds the route of a chat. What chats share is held here; what is one chat's is made for it.

    Outermost first: Resuming (after output, if asked for) > Fallback (the next model) > Hedged (the first two of them
    side by side, if asked for) > Retrying (the same again) > Recorded (one attempt, in the journal) > Breaking
    (circuit) > Throttled (what the provider says of its limits) > Limited (our limits of it) > Budgeted (what may be
    spent) > Patient (timeouts) > Held (back until the first output) > the provider's adapter.
    """

    providers: Providers
    circuits: Circuits
    budgets: RetryBudgets
    latencies: Latencies
    limits: Limits
    metrics: Metrics
    logger: Logger
    budgeting: Budgeting | None = None

    def build(self, plan: Plan, journal: Journal, deadline: float) -> Route:
        """Return the route of a plan.

        Args:
            plan: whom to ask.
            journal: of the chat.
            deadline: when its time is over, on the monotonic clock.
        """
        some = partial(self._some, plan, journal, deadline)
        policy = _policy_of(plan)
        if policy is MidStream.NEVER:
            return some(plan.legs, _FALLBACK)
        return Resuming(policy, plan.legs, some, journal)

    def _some(
        self,
        plan: Plan,
        journal: Journal,
        deadline: float,
        legs: Sequence[Leg],
        cause: chat_pb2.AttemptCause.ValueType,
        after: AdapterError | None = None,
    ) -> Route:
        steps = Steps(partial(self._step, plan))
        one = [
            partial(self._one, plan, journal, deadline, leg, partial(self._alone, legs[index + 1 :]))
            for index, leg in enumerate(legs)
        ]
        routes: list[tuple[Leg, Route]] = [(legs[0], one[0](cause, after))]
        routes += [(leg, make(_FALLBACK)) for leg, make in zip(legs[1:], one[1:], strict=True)]
        beside = next((at for at, leg in enumerate(legs) if at and self._ready(leg)), None)
        if plan.hedging is not None and beside is not None:
            budget = self.budgets.of(legs[0].provider)
            second = (legs[beside], one[beside])
            hedged = Hedged(routes[0], second, plan.hedging, budget, journal, self.latencies, self.metrics, steps)
            routes = [(legs[beside], hedged), *routes[1:beside], *routes[beside + 1 :]]
        return Fallback(routes, steps)

    def _one(
        self,
        plan: Plan,
        journal: Journal,
        deadline: float,
        leg: Leg,
        alone: Callable[[], bool],
        cause: chat_pb2.AttemptCause.ValueType,
        after: AdapterError | None = None,
    ) -> Route:
        recorded = Recorded(leg, partial(self._stack, plan, leg, alone, journal), journal, deadline, self)
        recorded.cause = cause
        return Retrying(recorded, plan.retries, self.budgets.of(leg.provider), deadline, alone=alone, after=after)

    def _stack(self, plan: Plan, leg: Leg, alone: Callable[[], bool], journal: Journal, entry: Entry) -> Adapter:
        adapter: Adapter = Held(self.providers.adapter(leg.provider), entry)
        if plan.first_token is not None or plan.idle is not None:
            adapter = Patient(adapter, plan.first_token, plan.idle)
        if self.budgeting is not None and self.budgeting.touches(journal, entry):
            adapter = Budgeted(adapter, journal, entry, self.budgeting)
        scope = self.limits.scopes.of_provider(leg.provider)
        if scope.limited:
            adapter = Limited(adapter, scope, entry, self.limits.limiter, self.limits.estimates)
        adapter = Throttled(adapter, entry, self.limits.throttles, self.metrics, alone=alone())
        return Breaking(adapter, partial(self.circuits.of, leg.provider, leg.model))

    def _alone(self, others: Sequence[Leg]) -> bool:
        """Return whether none of these may be asked now."""
        return not any(map(self._ready, others))

    def _ready(self, leg: Leg) -> bool:
        """Return whether a leg's circuit lets it be asked now."""
        return self.circuits.state(leg.provider, leg.model)[1] <= 0.0

    def _step(self, plan: Plan, failed: Leg, error: AdapterError, following: Leg) -> None:
        reason = error.kind.value if error.asked else error_pb2.ErrorReason.Name(error.reason)
        reason = reason.removeprefix("ERROR_REASON_").lower()
        if plan.track_reasons:
            self.metrics.fallback(plan.persona, failed.provider, following.provider, reason)
        self.logger.debug("fallback", persona=plan.persona, failed=failed.name, asked=following.name, reason=reason)


def _policy_of(plan: Plan) -> MidStream:
    """Return what happens when an answer of a plan breaks off."""
    in_one_piece = plan.request.output_format.WhichOneof("format") in _ONE_PIECE
    if plan.retries is None or (plan.mid_stream is MidStream.CONTINUE and in_one_piece):
        return MidStream.NEVER
    return plan.mid_stream
