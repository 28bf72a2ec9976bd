"""What holds for every plan, whatever configuration and request meet."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.server.conftest import chat_request
from tests.server.planning import IMAGES, KEYS, SEED, SPECS, TOOLS, ListPrices, Planning, planning

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.routing.latencies import Latencies
from execution_platform.server.routing.plan import Leg
from execution_platform.v1 import catalog_pb2, chat_pb2

PROVIDERS = [spec.name for spec in SPECS]
REGIONS = ["eu", "us", "global"]

CLOUD_MODELS = ["eu.x", "eu-1.x", "us.x", "global.x"]

TARGETS = st.builds(
    lambda provider, model, weight: {"provider": provider, "model": model, "weight": weight},
    st.sampled_from(PROVIDERS),
    st.sampled_from(["", "x", "y", *CLOUD_MODELS]),
    st.sampled_from([0, 1, 2.5]),
)

PERSONAS = st.builds(
    lambda target, **settings: {**target, **settings},
    TARGETS,
    fallback=st.lists(TARGETS, max_size=4),
    strategy=st.sampled_from(["priority", "weighted", "lowest_latency", "cheapest", "sticky"]),
    requires=st.sets(st.sampled_from(["tools", "seed"]), max_size=1),
    allowed_providers=st.just([]) | st.lists(st.sampled_from(PROVIDERS), min_size=1, unique=True),
    allowed_regions=st.just([]) | st.lists(st.sampled_from(REGIONS), min_size=1, unique=True),
    system_prompt=st.sampled_from(["", "Be brief."]),
    sampling=st.sampled_from([{}, {"seed": 1}]),
)

PLATFORMS = st.fixed_dictionaries(
    {
        "personas": st.fixed_dictionaries({"dev": PERSONAS}),
        "providers": st.dictionaries(
            st.sampled_from(PROVIDERS), st.fixed_dictionaries({"region": st.sampled_from(REGIONS)})
        ),
    }
)

MODELS = st.sampled_from(
    ["", "able", "plain/x", "quick", "absent/y", "lame/z", *(f"cloud/{model}" for model in CLOUD_MODELS)]
)


@st.composite
def requests(draw: st.DrawFn) -> chat_pb2.ChatRequest:
    """Chats with whatever a plan depends on."""
    request = chat_request(model=draw(MODELS), persona=draw(st.sampled_from(["", "dev"])))
    routing = request.routing
    routing.fallback_models.extend(draw(st.lists(MODELS.filter(bool), max_size=3)))
    routing.allowed_providers.extend(draw(st.lists(st.sampled_from(PROVIDERS), max_size=3)))
    routing.required_capabilities.extend(draw(st.lists(st.sampled_from([TOOLS, SEED, IMAGES]), max_size=1)))
    if draw(st.booleans()):
        routing.retries = draw(st.booleans())
    request.context.session_id = draw(st.sampled_from(["", "s", "t"]))
    if draw(st.booleans()):
        request.messages[0].content.add().media.mime_type = "image/png"
    if draw(st.booleans()):
        request.sampling.seed = 1
    return request


def made(platform: Mapping[str, Any], keys: frozenset[str]) -> Planning:
    """A planner with some prices and latencies."""
    latencies = Latencies()
    latencies.note("able", "one", 0.2)
    latencies.note("plain", "x", 0.1)
    return planning(platform, keys=keys, latencies=latencies, prices=ListPrices({"able/one": "1", "blind/one": "0.5"}))


def said(planner: Planning, request: chat_pb2.ChatRequest, request_id: str) -> object:
    """Everything of a plan, or of the error in its place."""
    try:
        return planner.planner.plan(request, request_id)
    except AdapterError as error:
        return type(error), error.message, error.field


def any_of(leg: Leg, regions: list[str]) -> bool:
    """Whether a list of regions allows a leg; of the names that tests have, eu holds eu-1."""
    return leg.region in regions or (leg.region == "eu-1" and "eu" in regions)


@given(PLATFORMS, requests(), st.sets(st.sampled_from(sorted(KEYS))), st.uuids())
def test_the_same_inputs_give_the_same_plan(
    platform: dict[str, Any], request: chat_pb2.ChatRequest, keys: set[str], request_id: object
) -> None:
    """Two planners with equal inputs make equal plans, and neither changes the request."""
    before = request.SerializeToString(deterministic=True)
    first, second = (said(made(platform, frozenset(keys)), request, str(request_id)) for _ in range(2))
    assert first == second
    assert request.SerializeToString(deterministic=True) == before


@given(PLATFORMS, requests(), st.sets(st.sampled_from(sorted(KEYS))), st.uuids())
def test_every_candidate_appears_once_with_its_reason(
    platform: dict[str, Any], request: chat_pb2.ChatRequest, keys: set[str], request_id: object
) -> None:
    """An explanation has every provider and every named route, once and with a reason, the chosen in order."""
    planner = made(platform, frozenset(keys)).planner
    try:
        plan = planner.explain(request, str(request_id))
    except AdapterError:
        return  # the request itself is wrong
    legs = [(each.leg.provider, each.leg.model) for each in plan.candidates]
    assert len(set(legs)) == len(legs)
    assert {provider for provider, _ in legs} >= {spec.name for spec in SPECS}
    assert all(each.reasons and all(each.reasons) for each in plan.candidates)
    chosen = [each.leg for each in plan.candidates if each.verdict == catalog_pb2.ROUTE_VERDICT_CHOSEN]
    assert tuple(chosen) == plan.legs
    assert (plan.error is None) == bool(plan.legs)
    if request.persona:
        persona = platform["personas"]["dev"]
        named = {(each["provider"], each["model"]) for each in (persona, *persona["fallback"]) if each["model"]}
        assert named <= set(legs)


@given(PLATFORMS, requests(), st.sets(st.sampled_from(sorted(KEYS))))
def test_a_plan_keeps_the_rules(platform: dict[str, Any], request: chat_pb2.ChatRequest, keys: set[str]) -> None:
    """No leg is outside the lists, without a key, or known to lack what is required."""
    planner = made(platform, frozenset(keys)).planner
    try:
        plan = planner.plan(request, "id")
    except AdapterError:
        return
    persona = platform["personas"]["dev"] if request.persona else {}
    for leg in plan.legs:
        assert leg.provider in keys | {"keyless", "cloud"}
        assert not persona.get("allowed_providers") or leg.provider in persona["allowed_providers"]
        assert not persona.get("allowed_regions") or any_of(leg, persona["allowed_regions"])
        assert not request.routing.allowed_providers or leg.provider in request.routing.allowed_providers
        if "tools" in persona.get("requires", ()):
            assert leg.provider not in {"plain", "unknown"}
    if request.routing.HasField("retries") and not request.routing.retries:
        assert (len(plan.legs), plan.retries) == (1, None)


@given(
    PLATFORMS.map(lambda platform: {**platform, "providers": {}}),
    requests(),
    st.sampled_from([["eu"], ["eu-1"], ["eu", "eu-1"]]),
    st.lists(st.sampled_from(REGIONS), max_size=2),
    st.booleans(),
)
def test_a_persona_of_one_region_reaches_no_other(
    platform: dict[str, Any],
    request: chat_pb2.ChatRequest,
    allowed: list[str],
    asked_for: list[str],
    hedged: bool,
) -> None:
    """Whatever a request names or allows, nobody outside is asked: first, in turn, beside, or to go on."""
    dev = {**platform["personas"]["dev"], "allowed_regions": allowed}
    if hedged:
        dev["hedging"] = {"after": 0.1}
    request.persona = "dev"
    request.routing.allowed_regions.extend(asked_for)
    request.routing.mid_stream = chat_pb2.MID_STREAM_POLICY_CONTINUE
    planner = made({**platform, "personas": {"dev": dev}}, KEYS).planner
    try:
        legs = planner.plan(request, "id").legs
    except AdapterError:
        return
    outside = [leg.name for leg in legs if leg.provider != "cloud" or not leg.model.startswith(("eu.", "eu-1."))]
    assert (outside, [leg.region for leg in legs if not any_of(leg, allowed)]) == ([], [])


@given(
    PLATFORMS,
    st.sampled_from(["weighted", "sticky"]),
    st.sampled_from(["s", "t", "u"]),
    st.randoms(use_true_random=False),
    st.uuids(),
)
def test_weights_and_sessions_are_planned_alike_whatever_the_order_of_the_list(
    platform: dict[str, Any], strategy: str, session: str, random: Random, request_id: object
) -> None:
    """For WEIGHTED and STICKY the order in which a persona lists its routes changes nothing."""
    persona = {**platform["personas"]["dev"], "strategy": strategy}
    listed = {(each["provider"], each["model"]): each for each in (persona, *persona["fallback"])}
    targets = [{key: each[key] for key in ("provider", "model", "weight")} for each in listed.values()]
    request = chat_request(model="", persona="dev", context=chat_pb2.CallContext(session_id=session))
    orders = []
    for order in (targets, random.sample(targets, len(targets))):
        dev = {**persona, **order[0], "fallback": order[1:]}
        planner = made({**platform, "personas": {"dev": dev}}, KEYS).planner
        orders.append([leg.name for leg in planner.explain(request, str(request_id)).legs])
    assert orders[0] == orders[1]
