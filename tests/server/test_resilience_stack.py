"""The whole stack of a chat keeps the promises of an adapter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

import pytest
from tests.server.conftest import chat_request

from execution_platform.adapters import scripted
from execution_platform.adapters.registry import Registry
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events, ProviderConfig
from execution_platform.adapters.testing import Answer, check_adapter
from execution_platform.server.app import App
from execution_platform.server.config.load import load
from execution_platform.server.config.personas import Hedging, MidStream, PlatformConfiguration, Retries
from execution_platform.server.config.source import PlatformSource
from execution_platform.server.resilience.journal import Journal
from execution_platform.server.resilience.retry_budget import RetryBudgets
from execution_platform.server.resilience.route import Routes
from execution_platform.server.routing.plan import Leg, Plan
from execution_platform.server.telemetry import make_logger

Script: TypeAlias = Sequence[Mapping[str, Any]]

ANSWER: Script = [
    {"started": True},
    {"notice": "n"},
    {"thinking": "Hm"},
    {"text": "One"},
    {"pause_ms": 1},
    {"text": " two"},
]
DOWN: Script = [{"error": {"reason": "PROVIDER_OVERLOADED"}}]
BROKEN: Script = [{"text": "On"}, {"pause_ms": 1}, {"text": "e"}, {"break": True}]

LIMITED = {"providers": {"a": {"limits": {"concurrent": 100}}}, "breaker": {"failures": 1000}}


class Stacked:
    """A chat's whole route as an adapter."""

    def __init__(self, routes: Routes, plan: Mapping[str, Any]) -> None:
        self._routes = routes
        self._plan = plan

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one chat."""
        plan = Plan(call.request, legs=(Leg("a", "echo"), Leg("b", "echo")), **self._plan)
        route = self._routes.build(plan, Journal(), math.inf)
        async with aclosing(route.stream(call)) as stream:
            async for events in stream:
                yield events

    async def aclose(self) -> None:
        """The providers' adapters are shared."""


def giving(adapter: ScriptedAdapter) -> Callable[[ProviderConfig], ScriptedAdapter]:
    """What makes a provider's adapter, where it is made already."""
    return lambda _: adapter


def stack(plan: Mapping[str, Any], *adapters: ScriptedAdapter) -> Stacked:
    """The route of a plan over providers `a` and `b`."""
    specs = [
        dataclasses.replace(scripted.PROVIDERS[0], name=name, create=giving(adapter))
        for name, adapter in zip("ab", adapters, strict=True)
    ]
    registry = Registry(specs)
    configuration = load(registry.specs(), {})
    platform = PlatformConfiguration.model_validate(LIMITED)
    logger = make_logger("error", "json")
    app = App(dataclasses.replace(configuration, platform=PlatformSource(platform)), registry, logger)
    budgets = RetryBudgets(lambda: platform.retry_budget, app.metrics)
    routes = Routes(app.providers, app.circuits, budgets, app.latencies, app.limits, app.metrics, logger)
    return Stacked(routes, plan)


async def conforms(plan: Mapping[str, Any], *adapters: ScriptedAdapter) -> Answer:
    """What the kit makes of such a route, which leaves no stream of its adapters open."""
    return await check_adapter(
        lambda: stack(plan, *adapters),
        Call(chat_request(), "echo", "id", timeout=60.0),
        is_free=lambda: not any(adapter.open_streams for adapter in adapters),
    )


EVERYTHING: Mapping[str, Any] = {
    "retries": Retries(first_wait=0.001, longest_wait=0.001),
    "mid_stream": MidStream.RESTART,
    "hedging": Hedging(after=3600),
    "first_token": 3600.0,
    "idle": 3600.0,
}
PLANS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "patient": {"first_token": 3600.0, "idle": 3600.0},
    "restart": {"mid_stream": MidStream.RESTART},
    "continue": {"mid_stream": MidStream.CONTINUE},
    "hedged": {"hedging": Hedging(after=3600)},
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
async def test_the_stack_is_an_adapter(plan: Mapping[str, Any]) -> None:
    """A route with any wrappers streams, closes and cancels as the seam demands."""
    answer = await conforms(plan, ScriptedAdapter(ANSWER), ScriptedAdapter(ANSWER))
    assert answer.text() == "One two"


async def test_the_stack_is_an_adapter_while_the_first_is_down() -> None:
    """The same holds while the first provider fails each time, and is retried as far as that is paid for."""
    first = ScriptedAdapter(DOWN)
    answer = await conforms(EVERYTHING, first, ScriptedAdapter(ANSWER))
    assert answer.text() == "One two"
    assert first.calls > 0


@pytest.mark.parametrize("policy", [MidStream.RESTART, MidStream.CONTINUE])
async def test_the_stack_is_an_adapter_while_answers_break_off(policy: MidStream) -> None:
    """The same holds while each answer breaks off and is gone on with."""
    answer = await conforms({**EVERYTHING, "mid_stream": policy}, ScriptedAdapter(BROKEN), ScriptedAdapter(ANSWER))
    assert [block.text.text for block in answer.blocks if block.HasField("text")] == ["One", "One two"]
