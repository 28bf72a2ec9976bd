"""The catalog tells of personas, and explains where a chat would go."""

from __future__ import annotations

import json
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from tests.server.conftest import (
    Serve,
    Served,
    chat_request,
    details_of,
    error_info,
    events_of,
    failed_stream,
)
from tests.server.planning import SPECS, spec, targets

from execution_platform.v1 import capability_pb2, catalog_pb2, chat_pb2

KEYS = {f"EP_{name}_API_KEY": "made-up-key" for name in ("ABLE", "BLIND", "PLAIN")}

REVIEWER: dict[str, Any] = {
    **targets("able/big", "blind"),
    "description": "Reads code.",
    "strategy": "weighted",
    "requires": ["tools", "streaming"],
    "tools": [{"name": "read_*"}],
    "allowed_providers": ["able", "blind", "plain"],
    "allowed_regions": ["eu"],
    "labels": {"team": "blue"},
    "limits": {"tokens_per_min": 1000, "cost_per_min": "0.25", "concurrent": 3},
    "mid_stream": "continue",
    "timeouts": {"first_token": 2, "idle": "1m"},
}
PLATFORM: dict[str, Any] = {
    "defaults": {"retries": {"most": 0}},
    "providers": {"able": {"region": "eu"}, "blind": {"region": "eu"}, "plain": {"region": "us"}},
    "personas": {
        "reviewer": REVIEWER,
        "a": targets("plain"),
        "b": targets("plain"),
        "failing": targets("able", "blind", retries={"most": 0}),
    },
    "breaker": {"failures": 1, "open_seconds": 60},
}


async def explained(served: Served, **fields: Any) -> catalog_pb2.ExplainRouteResponse:
    """Where a chat would go."""
    return await served.catalog.ExplainRoute(catalog_pb2.ExplainRouteRequest(chat=chat_pb2.ChatRequest(**fields)))


def verdicts(response: catalog_pb2.ExplainRouteResponse) -> dict[str, tuple[int, str]]:
    """Place and verdict by ``provider/model``."""
    return {
        f"{each.route.provider}/{each.route.model}": (
            each.position,
            catalog_pb2.RouteVerdict.Name(each.verdict).removeprefix("ROUTE_VERDICT_"),
        )
        for each in response.candidates
    }


async def test_a_persona_is_told_whole(serve: Serve) -> None:
    """GetPersona tells every setting of a persona, and the whole definition with the defaults merged in."""
    async with serve(KEYS, SPECS, PLATFORM) as served:
        persona = (await served.catalog.GetPersona(catalog_pb2.GetPersonaRequest(name="reviewer"))).persona
    assert (persona.name, persona.description) == ("reviewer", "Reads code.")
    assert list(persona.models) == ["able/big", "blind/one"]
    assert persona.strategy == catalog_pb2.ROUTE_STRATEGY_WEIGHTED
    assert list(persona.required_capabilities) == [
        capability_pb2.CAPABILITY_STREAMING,
        capability_pb2.CAPABILITY_TOOLS,
    ]
    assert (list(persona.tools), list(persona.allowed_regions)) == (["read_*"], ["eu"])
    assert list(persona.allowed_providers) == ["able", "blind", "plain"]
    assert dict(persona.labels) == {"team": "blue"}
    assert (persona.limits.tokens_per_min, persona.limits.concurrent) == (1000, 3)
    assert not persona.limits.HasField("requests_per_min")
    assert (persona.limits.cost_per_min.currency_code, persona.limits.cost_per_min.nanos) == ("USD", 250_000_000)
    assert persona.mid_stream == chat_pb2.MID_STREAM_POLICY_CONTINUE
    definition = json.loads(persona.definition_json)
    assert definition["requires"] == ["streaming", "tools"]
    assert definition["timeouts"] == {"first_token": 2.0, "idle": 60.0, "total": None}


async def test_personas_come_in_pages_in_order(serve: Serve) -> None:
    """Pages joined are all personas by name; a token of another list and a negative size are refused."""
    async with serve(KEYS, SPECS, PLATFORM) as served:
        names, token = [], ""
        while True:
            page = await served.catalog.ListPersonas(catalog_pb2.ListPersonasRequest(page_size=3, page_token=token))
            names += [persona.name for persona in page.personas]
            token = page.next_page_token
            if not token:
                break
        models = await served.catalog.ListModels(catalog_pb2.ListModelsRequest(page_size=1))
        for wrong in (
            catalog_pb2.ListPersonasRequest(page_token=models.next_page_token),
            catalog_pb2.ListPersonasRequest(page_size=-1),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await served.catalog.ListPersonas(wrong)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert names == ["a", "b", "failing", "reviewer"]


@pytest.mark.parametrize(
    ("platform", "name", "reason", "words"),
    [
        (PLATFORM, "reviewr", "PERSONA_NOT_FOUND", "name: the configuration has no 'reviewr'; did you mean 'reviewer'"),
        ({}, "reviewer", "PERSONA_NOT_FOUND", "name: the configuration has no personas"),
        (PLATFORM, "", "INVALID_REQUEST", "name: must name a persona"),
    ],
)
async def test_a_persona_that_is_not_there(
    serve: Serve, platform: dict[str, Any], name: str, reason: str, words: str
) -> None:
    """GetPersona tells what is wrong with a name."""
    async with serve(KEYS, SPECS, platform) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.catalog.GetPersona(catalog_pb2.GetPersonaRequest(name=name))
    assert error_info(caught.value).reason == reason
    assert words in (caught.value.details() or "")


async def test_a_route_is_explained_as_it_is_planned(serve: Serve) -> None:
    """Without any message a route is explained: who decided, how, in which order, and why nobody else."""
    async with serve(KEYS, SPECS, PLATFORM) as served:
        response = await explained(served, persona="reviewer", model="able")
        places = verdicts(response)
    assert (response.persona, response.decided_by) == ("reviewer", "the request's model")
    assert places["able/one"] == (1, "CHOSEN")
    assert places["blind/one"] == (2, "CHOSEN")
    assert places["able/big"] == places["plain/one"] == (0, "NOT_NEEDED")
    assert places["absent/one"] == (0, "NOT_CONFIGURED")
    assert response.first_token_timeout.ToTimedelta().total_seconds() == 2
    assert response.idle_timeout.ToTimedelta().total_seconds() == 60
    assert response.candidates[0].route.region == "eu"
    assert not response.HasField("error")


async def test_a_route_that_is_not_there_says_why(serve: Serve) -> None:
    """Where nobody is left the explanation holds the error of the chat, which fails before anybody is asked."""
    async with serve(KEYS, SPECS, PLATFORM) as served:
        fields: dict[str, Any] = {
            "persona": "a",
            "routing": chat_pb2.Routing(required_capabilities=[capability_pb2.CAPABILITY_TOOLS]),
        }
        response = await explained(served, **fields)
        events, error = await failed_stream(served.chat.Chat(chat_request(model="", **fields)))
    assert verdicts(response)["plain/one"] == (0, "CAPABILITY_MISSING")
    assert error_info(error).reason == "CAPABILITY_MISSING"
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    precondition = error_details_pb2.PreconditionFailure()
    assert details_of(error).details[-1].Unpack(precondition)
    [violation] = precondition.violations
    assert (violation.type, violation.subject) == ("CAPABILITY_MISSING", "provider:plain")
    assert "lacks tools" in violation.description
    assert events[-1].failed.error.message == response.error.message
    assert len(events[-1].failed.attempts) == 0


async def test_wrong_requests_are_refused_within_their_chat(serve: Serve) -> None:
    """What is wrong with the chat that is to be explained is told with its path."""
    wrong: list[tuple[catalog_pb2.ExplainRouteRequest, str]] = [
        (catalog_pb2.ExplainRouteRequest(), "chat"),
        (catalog_pb2.ExplainRouteRequest(chat=chat_pb2.ChatRequest(persona="nobody")), "chat.persona"),
        (
            catalog_pb2.ExplainRouteRequest(
                chat=chat_pb2.ChatRequest(routing=chat_pb2.Routing(allowed_providers=["able", "abel"]))
            ),
            "chat.routing.allowed_providers[1]",
        ),
    ]
    async with serve(KEYS, SPECS, PLATFORM) as served:
        for request, field in wrong:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await served.catalog.ExplainRoute(request)
            if caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT:
                assert field.encode() in details_of(caught.value).details[-1].value
            else:
                assert error_info(caught.value).reason == "PERSONA_NOT_FOUND"


async def test_an_open_circuit_is_shown_in_its_place(serve: Serve) -> None:
    """A leg whose circuit is open keeps its place in the order and is told to be passed over now."""
    down = [{"error": {"reason": "PROVIDER_UNAVAILABLE", "message": "it is down"}}]
    specs = [spec(name, default_model="echo", family="scripted") for name in ("able", "blind", "plain")]
    async with serve(KEYS, specs, PLATFORM) as served:
        request = chat_request(model="", persona="failing")
        request.provider_options.add(provider="scripted", options_json=json.dumps({"script": down}))
        await failed_stream(served.chat.Chat(request))
        response = await explained(served, persona="failing")
    first = response.candidates[0]
    assert (first.route.provider, first.position) == ("able", 1)
    assert first.verdict == catalog_pb2.ROUTE_VERDICT_CIRCUIT_OPEN
    assert "its circuit is open for" in first.reasons[-1]


async def test_a_provider_that_limits_the_rate_is_shown(serve: Serve) -> None:
    """A leg whose provider has asked not to come again for a while is told to be passed over now, and how long."""
    limited = [{"error": {"reason": "PROVIDER_RATE_LIMITED", "message": "slowly", "retry_after": 60}}]
    specs = [spec(name, default_model="echo", family="scripted") for name in ("able", "blind", "plain")]
    async with serve(KEYS, specs, PLATFORM) as served:
        request = chat_request(model="", persona="failing")
        request.provider_options.add(provider="scripted", options_json=json.dumps({"script": limited}))
        await failed_stream(served.chat.Chat(request))
        response = await explained(served, persona="failing")
    assert [each.verdict for each in response.candidates[:2]] == [catalog_pb2.ROUTE_VERDICT_RATE_LIMITED] * 2
    assert "its provider limits the rate: not before" in response.candidates[0].reasons[-1]


async def test_a_persona_reaches_the_provider_and_the_log(serve: Serve) -> None:
    """A chat of a persona goes where it says, with its prompt; the log tells its name."""
    platform = {"personas": {"short": {"provider": "scripted", "system_prompt": "Be brief."}}}
    async with serve({}, (), platform) as served:
        events = await events_of(served.chat.Chat(chat_request(model="", persona="short")))
        [line] = served.log_lines("chat")
    assert events[0].started.route.provider == "scripted"
    assert not [event for event in events if event.HasField("notice")]
    assert line["persona"] == "short"


async def test_a_personas_total_bounds_the_chat(serve: Serve) -> None:
    """A chat that takes longer than its persona's total ends with DEADLINE_EXCEEDED that names the time."""
    platform = {"personas": {"quick": {"provider": "scripted", "timeouts": {"total": 0.05}}}}
    async with serve({}, (), platform) as served:
        request = chat_request([{"hang": True}], model="", persona="quick")
        _, error = await failed_stream(served.chat.Chat(request))
    assert error_info(error).reason == "DEADLINE_EXCEEDED"
    assert "0.05 s" in (error.details() or "")


async def test_a_personas_tools_can_be_required(serve: Serve) -> None:
    """A choice among tools is checked against those that the persona brings along too."""
    offered = [{"name": "search", "description": "finds"}]
    platform = {"personas": {"finder": {"provider": "scripted", "tools": offered}}}
    choice = chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name="search")
    async with serve({}, (), platform) as served:
        await events_of(served.chat.Chat(chat_request(model="", persona="finder", tool_choice=choice)))
        wrong = chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name="other")
        _, error = await failed_stream(served.chat.Chat(chat_request(model="", persona="finder", tool_choice=wrong)))
    assert error_info(error).reason == "INVALID_REQUEST"
