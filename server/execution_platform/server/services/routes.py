"""Tells where a chat would go now, and why: its plan, with what stands in the way at this moment."""

from __future__ import annotations

from google.protobuf import duration_pb2

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.chat.validation import check_chat, check_tool_choice
from execution_platform.server.limits.throttles import Throttles
from execution_platform.server.resilience.circuits import Circuits
from execution_platform.server.routing.plan import Candidate, Leg, Plan
from execution_platform.server.routing.planner import Planner
from execution_platform.server.services.call import request_id_of
from execution_platform.server.services.personas import strategy_of
from execution_platform.server.status import error_detail
from execution_platform.v1 import catalog_pb2, chat_pb2

__all__ = ["RouteExplainer"]

_CHOSEN = catalog_pb2.ROUTE_VERDICT_CHOSEN


class RouteExplainer:
    """Explains routes.

    Args:
        planner: makes the plans.
        circuits: which models are not asked now.
        throttles: which are asked more slowly.
    """

    def __init__(self, planner: Planner, circuits: Circuits, throttles: Throttles) -> None:
        self._planner = planner
        self._circuits = circuits
        self._throttles = throttles

    def explain(self, request: catalog_pb2.ExplainRouteRequest) -> catalog_pb2.ExplainRouteResponse:
        """Tell where a chat would go. Raises AdapterError where the request itself is wrong."""
        if not request.HasField("chat"):
            raise InvalidRequestError("chat: must be set, for example with a persona", field="chat")
        check_chat(request.chat, needs_messages=False)
        plan = self._planner.explain(request.chat, request_id_of(request.chat.request_id))
        check_tool_choice(plan.request)
        response = catalog_pb2.ExplainRouteResponse(
            persona=plan.persona,
            strategy=strategy_of(plan.strategy),
            decided_by=plan.decided_by,
            candidates=[self._candidate(plan, candidate) for candidate in plan.candidates],
            error=None if plan.error is None else error_detail(plan.error),
        )
        if plan.first_token is not None:
            response.first_token_timeout.CopyFrom(_duration(plan.first_token))
        if plan.idle is not None:
            response.idle_timeout.CopyFrom(_duration(plan.idle))
        return response

    def _candidate(self, plan: Plan, candidate: Candidate) -> catalog_pb2.RouteCandidate:
        leg, verdict, reasons = candidate.leg, candidate.verdict, list(candidate.reasons)
        position = 0
        if verdict == _CHOSEN:
            position = plan.legs.index(leg) + 1
            reasons += (notice.message for notice in leg.notices)
            verdict = self._now(leg, reasons)
        return catalog_pb2.RouteCandidate(
            route=chat_pb2.Route(provider=leg.provider, model=leg.model, region=leg.region),
            position=position,
            verdict=verdict,
            reasons=reasons,
        )

    def _now(self, leg: Leg, reasons: list[str]) -> catalog_pb2.RouteVerdict.ValueType:
        """Return what would happen to a leg now; add why to its reasons."""
        circuit = self._circuits.known(leg.provider, leg.model)
        if circuit is not None and not circuit.closed:
            wait = circuit.wait()
            if wait:
                reasons.append(f"its circuit is open for {wait:.1f} s more")
                return catalog_pb2.ROUTE_VERDICT_CIRCUIT_OPEN
            if circuit.probe is not None:
                reasons.append("its circuit is half open: another chat probes whether it is back")
                return catalog_pb2.ROUTE_VERDICT_CIRCUIT_OPEN
            reasons.append("its circuit is open: the next chat probes whether it is back")
        wait = self._throttles.wait(leg.provider, leg.model)
        if wait:
            reasons.append(f"its provider limits the rate: not before {wait:.1f} s from now")
            return catalog_pb2.ROUTE_VERDICT_RATE_LIMITED
        return _CHOSEN


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
