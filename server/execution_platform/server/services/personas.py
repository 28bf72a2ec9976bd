"""What the catalog tells of personas."""

from __future__ import annotations

import json
from typing import Any

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.config.personas import LimitSettings, PersonaSettings, Strategy
from execution_platform.server.config.source import PlatformSource
from execution_platform.server.routing.capabilities import by_name
from execution_platform.server.routing.planner import Planner
from execution_platform.server.services.paging import Page
from execution_platform.v1 import catalog_pb2, chat_pb2, common_pb2

__all__ = ["Personas", "strategy_of"]

_NANOS = 1_000_000_000


class Personas:
    """Tells of the personas in force.

    Args:
        platform: the configuration.
        planner: knows whom they name.
    """

    def __init__(self, platform: PlatformSource, planner: Planner) -> None:
        self._platform = platform
        self._planner = planner

    def page(self, request: catalog_pb2.ListPersonasRequest) -> catalog_pb2.ListPersonasResponse:
        """Return a page of personas, by name. Raises InvalidRequestError."""
        page = Page(request.page_size, request.page_token, "personas")
        names, token = page.of(sorted(self._platform.current.personas), str)
        return catalog_pb2.ListPersonasResponse(personas=[self._persona(name) for name in names], next_page_token=token)

    def one(self, request: catalog_pb2.GetPersonaRequest) -> catalog_pb2.GetPersonaResponse:
        """Return one persona. Raises InvalidRequestError and PersonaNotFoundError."""
        if not request.name:
            raise InvalidRequestError("name: must name a persona", field="name")
        return catalog_pb2.GetPersonaResponse(persona=self._persona(request.name))

    def _persona(self, name: str) -> catalog_pb2.Persona:
        settings = self._planner.persona(name, "name").settings
        return catalog_pb2.Persona(
            name=name,
            description=settings.description,
            models=self._planner.models_of(name),
            strategy=strategy_of(settings.strategy),
            required_capabilities=sorted(by_name(settings.requires)),
            tools=[tool.name for tool in settings.tools],
            allowed_providers=settings.allowed_providers,
            allowed_regions=settings.allowed_regions,
            labels=settings.labels,
            limits=_limits(settings.limits),
            mid_stream=chat_pb2.MidStreamPolicy.Value(f"MID_STREAM_POLICY_{settings.mid_stream.upper()}"),
            source=self._platform.place_of(name),
            definition_json=_definition(settings),
        )


def strategy_of(strategy: Strategy) -> catalog_pb2.RouteStrategy.ValueType:
    """Return a strategy as the contract names it."""
    return catalog_pb2.RouteStrategy.Value(f"ROUTE_STRATEGY_{strategy.upper()}")


def _limits(limits: LimitSettings) -> catalog_pb2.Limits:
    told = catalog_pb2.Limits(
        requests_per_min=limits.requests_per_min,
        tokens_per_min=limits.tokens_per_min,
        concurrent=limits.concurrent,
    )
    if limits.cost_per_min is not None:
        nanos = int((limits.cost_per_min * _NANOS).to_integral_value())
        told.cost_per_min.CopyFrom(common_pb2.Money(currency_code="USD", nanos=nanos))
    return told


def _definition(settings: PersonaSettings) -> str:
    definition: dict[str, Any] = settings.model_dump(mode="json")
    definition["requires"].sort()  # a set has no order of its own
    return json.dumps(definition, ensure_ascii=False)
