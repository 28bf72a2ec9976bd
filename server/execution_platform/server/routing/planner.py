"""Makes the plan of a chat: the request's own words first, then the persona's, then what this server has keys for."""

from __future__ import annotations

from collections.abc import Callable

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.plan import Leg, Plan
from execution_platform.server.routing.router import Router
from execution_platform.v1 import chat_pb2

__all__ = ["Planner"]


class Planner:
    """Makes plans.

    Args:
        router: resolves names of models.
        configuration: gives the configuration in force.
    """

    def __init__(self, router: Router, configuration: Callable[[], PlatformConfiguration]) -> None:
        self._router = router
        self._configuration = configuration

    def plan(self, request: chat_pb2.ChatRequest) -> Plan:
        """Make the plan of a chat. Raises AdapterError where there is none."""
        targets = [self._router.resolve(name) for name in (request.model, *request.routing.fallback_models)]
        legs = tuple(Leg(target.provider, target.model) for target in targets)
        return Plan(request, legs=legs, notice=targets[0].notice, retries=self._configuration().defaults.retries)
