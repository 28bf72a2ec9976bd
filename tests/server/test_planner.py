"""The plan of a chat: who decides, who may be asked, and what is said where nobody is left."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.conftest import chat_request
from tests.server.planning import IMAGES, REQUEST_ID, SEED, planning, targets

from execution_platform.adapters.errors import (
    AdapterError,
    InvalidRequestError,
    ModelNotFoundError,
    NotConfiguredError,
    UnsupportedOptionError,
)
from execution_platform.server.config.personas import MidStream, Strategy
from execution_platform.server.errors import (
    CapabilityMissingError,
    NotAllowedError,
    PersonaNotFoundError,
    ProviderNotFoundError,
)
from execution_platform.v1 import chat_pb2, content_pb2

REVIEWER = {"personas": {"reviewer": targets("able/big", "blind", "plain")}}


def ask(model: str = "", *, persona: str = "", **routing: Any) -> chat_pb2.ChatRequest:
    """A chat."""
    return chat_request(model=model, persona=persona, routing=chat_pb2.Routing(**routing))


def picture() -> chat_pb2.ChatRequest:
    """A chat of the reviewer with an image."""
    request = ask(persona="reviewer")
    media = content_pb2.MediaBlock(mime_type="image/png", data=b"png")
    request.messages[0].content.append(content_pb2.ContentBlock(media=media))
    return request


@pytest.mark.parametrize(
    ("request_", "names", "decided_by"),
    [
        (ask("plain/x", persona="reviewer"), ["plain/x", "blind/one", "plain/one"], "the request's model"),
        (
            ask("quick", persona="reviewer", fallback_models=["able", "quick"]),
            ["plain/fast", "able/one"],
            "the request's model",
        ),
        (ask(persona="reviewer"), ["able/big", "blind/one", "plain/one"], "persona reviewer"),
        (ask(persona="reviewer", fallback_models=["unknown/x"]), ["able/big", "unknown/x"], "persona reviewer"),
        (ask(), ["able/one", "blind/one", "plain/one"], "the credentials that are there"),
        (ask(fallback_models=["plain"]), ["able/one", "plain/one"], "the credentials that are there"),
    ],
    ids=["model", "model and fallbacks", "persona", "persona and fallbacks", "keys", "keys and fallbacks"],
)
def test_who_decides(request_: chat_pb2.ChatRequest, names: list[str], decided_by: str) -> None:
    """The request's model goes before the persona, that before the keys; the request's fallbacks replace others."""
    made = planning(REVIEWER)
    plan = made.planner.plan(request_, REQUEST_ID)
    assert ([leg.name for leg in plan.legs], plan.decided_by) == (names, decided_by)


def test_default_model_goes_before_the_keys_and_behind_the_persona() -> None:
    """EP_DEFAULT_MODEL decides alone where neither request nor persona names anybody."""
    made = planning(REVIEWER, default_model="quick")
    assert made.names(ask()) == ["plain/fast"]
    assert made.names(ask(persona="reviewer")) == ["able/big", "blind/one", "plain/one"]
    assert made.planner.plan(ask(), REQUEST_ID).decided_by == "EP_DEFAULT_MODEL"


def test_who_needs_no_key_answers_in_place_of_nobody_who_does() -> None:
    """A provider without credentials is chosen where there are none at all, and never follows one that has some."""
    assert planning(keys=frozenset()).names(ask()) == ["keyless/one"]
    assert "keyless/one" not in planning().names(ask())


def test_defaults_hold_for_chats_without_persona() -> None:
    """What the file's defaults name is asked where the request names neither model nor persona."""
    made = planning({"defaults": targets("plain", "able"), "personas": {"reviewer": targets("blind")}})
    assert made.names(ask()) == ["plain/one", "able/one"]
    assert made.names(ask(persona="reviewer")) == ["blind/one"]


def test_persona_without_provider_begins_with_what_the_keys_say() -> None:
    """A persona that names only fallbacks follows the server's choice, and one that names a model means that."""
    made = planning({"personas": {"a": {"fallback": [{"provider": "plain"}]}, "b": {"model": "quick"}}})
    assert made.names(ask(persona="a")) == ["able/one", "plain/one"]
    assert made.names(ask(persona="b")) == ["plain/fast"]


def test_unknown_persona_is_told_with_the_nearest_where_there_are_personas() -> None:
    """A wrong name is NOT_FOUND with the nearest; without personas every name is taken."""
    with pytest.raises(PersonaNotFoundError, match="did you mean 'reviewer'") as caught:
        planning(REVIEWER).names(ask(persona="reviewr"))
    assert caught.value.field == "persona"
    assert planning().planner.plan(ask("able", persona="anybody"), REQUEST_ID).persona == ""


def test_retries_off_is_one_attempt() -> None:
    """With routing.retries = false there is one leg, no retry, no hedge and nothing after output."""
    platform = {"personas": {"reviewer": targets("able", "blind", hedging={}, mid_stream="restart")}}
    made = planning(platform)
    plan = made.planner.plan(ask(persona="reviewer", retries=False), REQUEST_ID)
    assert ([leg.name for leg in plan.legs], plan.retries, plan.hedging) == (["able/one"], None, None)
    assert plan.mid_stream is MidStream.NEVER
    assert made.verdicts(ask(persona="reviewer", retries=False))["blind/one"] == "NOT_NEEDED"


def test_times_and_mid_stream_are_the_requests_before_the_personas() -> None:
    """Each time that the request leaves open is the persona's."""
    platform = {
        "personas": {"a": targets("able", timeouts={"first_token": 2, "idle": 3, "total": 9}, mid_stream="restart")}
    }
    made = planning(platform)
    own = made.planner.plan(ask(persona="a"), REQUEST_ID)
    assert (own.first_token, own.idle, own.total, own.mid_stream) == (2.0, 3.0, 9.0, MidStream.RESTART)
    request = ask(persona="a", mid_stream=chat_pb2.MID_STREAM_POLICY_CONTINUE)
    request.routing.first_token_timeout.FromMilliseconds(1_500)
    given = made.planner.plan(request, REQUEST_ID)
    assert (given.first_token, given.idle, given.total, given.mid_stream) == (1.5, 3.0, 9.0, MidStream.CONTINUE)


def test_who_cannot_be_used_is_passed_over_and_told() -> None:
    """Missing keys, adapters that lack something, unknown names: verdicts with what is missing, and no legs."""
    made = planning({"personas": {"a": targets("absent", "lame/x", "nobody", "nameless", "able", "able")}})
    plan = made.planner.plan(ask(persona="a"), REQUEST_ID)
    assert [leg.name for leg in plan.legs] == ["able/one"]
    told = {each.leg.provider: each.reasons[-1] for each in plan.candidates}
    assert told["absent"] == "set EP_ABSENT_API_KEY"
    assert told["lame"] == "install execution-platform[lame]"
    assert told["nobody"] == "there is no provider of this name"
    assert "no default model" in told["nameless"]


def test_a_first_choice_that_cannot_be_asked_is_told() -> None:
    """Where the request's model, or the first of a persona's list, is no leg, a notice says who is asked and why."""
    platform = {"personas": {"a": targets("absent", "able"), "b": targets("absent", "able", strategy="weighted")}}
    made = planning(platform)
    for request, field in ((ask("absent/x", fallback_models=["able"]), "model"), (ask(persona="a"), "persona")):
        notice = made.planner.plan(request, REQUEST_ID).notice
        assert notice is not None
        assert (notice.code, notice.field) == (chat_pb2.NOTICE_CODE_FALLBACK_USED, field)
        assert "able/one is asked in place of absent/" in notice.message
        assert "set EP_ABSENT_API_KEY" in notice.message
    assert made.planner.plan(ask(persona="b"), REQUEST_ID).notice is None


@pytest.mark.parametrize(
    ("platform", "request_", "error", "words"),
    [
        ({}, ask("absent/x"), NotConfiguredError, "provider absent is not configured: set EP_ABSENT_API_KEY"),
        ({}, ask("lame/x"), NotConfiguredError, "provider lame is not configured: install execution-platform.lame."),
        ({}, ask("absent/x", fallback_models=["lame/y"]), NotConfiguredError, "absent/x: set EP_.*; lame/y: install"),
        ({}, ask("nobody/x"), ProviderNotFoundError, "nobody"),
        ({}, ask("able", fallback_models=["abl"]), ModelNotFoundError, r"routing.fallback_models\[0\]: 'abl'.*'able'"),
        ({}, ask(allowed_providers=["nobody"]), InvalidRequestError, r"routing.allowed_providers\[0\]: no provider"),
        (
            {},
            ask(allowed_regions=["mars"]),
            InvalidRequestError,
            r"routing.allowed_regions\[0\]: no region is named 'mars'; known: eu, eu-1, global, us",
        ),
        ({}, ask(allowed_regions=["eu1"]), InvalidRequestError, "did you mean 'eu-1'"),
        ({}, ask("able", allowed_providers=["blind"]), NotAllowedError, "able/one: the request allows only blind"),
        (
            {"personas": {"a": targets("plain", "blind", requires=["tools", "image_input"])}},
            ask(persona="a"),
            CapabilityMissingError,
            "plain/one: lacks tools; lacks image_input; blind/one: lacks image_input",
        ),
        ({}, ask("unknown/x", required_capabilities=[SEED]), CapabilityMissingError, "models.unknown/x.capabilities"),
    ],
)
def test_nobody_left_is_told_with_the_remedy(
    platform: dict[str, Any], request_: chat_pb2.ChatRequest, error: type[AdapterError], words: str
) -> None:
    """Where no leg is left the error is of the kind of whoever came nearest, and names each with what is missing."""
    with pytest.raises(error, match=words):
        planning(platform).names(request_)


def test_lists_of_persona_and_request_hold_together() -> None:
    """A route must be on the persona's list and on the request's, by provider and by region."""
    made = planning(
        {
            "providers": {"able": {"region": "us"}, "blind": {"region": "eu"}, "plain": {"region": "us"}},
            "models": {"plain/eu-model": {"region": "eu"}},
            "personas": {
                "a": targets(
                    "able", "blind", "plain/eu-model", "plain", "unknown",
                    allowed_providers=["able", "plain", "unknown"], allowed_regions=["eu", "us"],
                )
            },
        }
    )  # fmt: skip
    assert made.names(ask(persona="a")) == ["able/one", "plain/eu-model", "plain/one"]
    assert made.names(ask(persona="a", allowed_regions=["eu"])) == ["plain/eu-model"]
    [leg] = made.planner.plan(ask(persona="a", allowed_regions=["eu"]), REQUEST_ID).legs
    assert leg.region == "eu"
    verdicts = made.verdicts(ask(persona="a", allowed_regions=["eu"]))
    assert verdicts["able/one"] == verdicts["plain/one"] == verdicts["unknown/one"] == "REGION_NOT_ALLOWED"
    assert verdicts["blind/one"] == "PROVIDER_NOT_ALLOWED"


def test_an_adapter_tells_where_its_models_run() -> None:
    """Any name of where a model runs allows it, the narrowest is the route's region; the refusal says where it runs."""
    made = planning(
        {
            "personas": {
                "a": targets("cloud/eu.m", "cloud/eu-1.m", "cloud/global.m", "cloud/m", "cloud/outside.m", "able")
            }
        }
    )
    plan = made.planner.explain(ask(persona="a", allowed_regions=["eu"]), REQUEST_ID)
    assert [(leg.model, leg.region) for leg in plan.legs] == [("eu.m", "eu"), ("eu-1.m", "eu-1")]
    assert made.names(ask(persona="a", allowed_regions=["eu-1"])) == ["cloud/eu-1.m"]
    told = {each.leg.name: each.reasons[-1] for each in plan.candidates}
    assert told["cloud/global.m"] == "it may run anywhere in global; the request allows only eu"
    assert told["cloud/outside.m"] == "it is asked from us-1, outside eu; the request allows only eu"
    assert told["cloud/m"].startswith("nobody knows where it runs; name its region at `models`")
    assert told["able/one"].startswith("the configuration names no region for it")


def test_the_configuration_goes_before_the_adapter_and_alone() -> None:
    """Where the configuration names a model's or a provider's region, what its adapter says of it counts no more."""
    platform = {
        "models": {"cloud/eu-1.m": {"region": "vault"}, "cloud/m": {"region": "eu"}},
        "personas": {"a": targets("cloud/eu-1.m", "cloud/m", allowed_regions=["eu", "eu-1"])},
    }
    made = planning(platform)
    assert made.names(ask(persona="a")) == ["cloud/m"]
    made = planning({**platform, "providers": {"cloud": {"region": "eu"}}})
    assert made.names(ask(persona="a")) == ["cloud/m"]
    assert made.names(ask("cloud/us.m", allowed_regions=["eu"])) == ["cloud/us.m"]


def test_required_capabilities_are_those_of_both() -> None:
    """What the persona and what the request requires is required together; who lacks one of them is no leg."""
    made = planning({"personas": {"a": targets("plain", "blind", "unknown", "able", requires=["tools"])}})
    assert made.names(ask(persona="a")) == ["blind/one", "able/one"]
    assert made.names(ask(persona="a", required_capabilities=[IMAGES])) == ["able/one"]


def test_images_go_to_who_sees_and_to_the_others_where_nobody_does() -> None:
    """A route that cannot take the prompt's media is out if another one can; if none can, adapters say what they do."""
    made = planning({"personas": {"reviewer": targets("blind", "able", "plain")}})
    assert made.names(picture()) == ["able/one"]
    assert made.verdicts(picture())["blind/one"] == "CAPABILITY_MISSING"
    assert planning({"personas": {"reviewer": targets("blind", "plain")}}).names(picture()) == [
        "blind/one",
        "plain/one",
    ]


def test_options_prefer_who_can_and_are_dropped_by_leg_elsewhere() -> None:
    """Who lacks an option comes last, and gets the request without it and a notice; the rest get it whole."""
    made = planning({"personas": {"a": targets("plain", "blind", "able")}})
    request = ask(persona="a")
    request.sampling.seed = 3
    before = request.SerializeToString(deterministic=True)
    plan = made.planner.plan(request, REQUEST_ID)
    assert [leg.name for leg in plan.legs] == ["blind/one", "able/one", "plain/one"]
    assert [leg.request is None for leg in plan.legs] == [True, True, False]
    last = plan.legs[2]
    assert last.request is not None
    assert not last.request.sampling.HasField("seed")
    assert [notice.field for notice in last.notices] == ["sampling.seed"]
    assert request.SerializeToString(deterministic=True) == before


def test_the_requests_own_model_stays_first_whatever_it_lacks() -> None:
    """A model that the request names is not moved behind others."""
    request = ask("plain", fallback_models=["able"])
    request.sampling.seed = 3
    assert planning().names(request) == ["plain/one", "able/one"]


def test_options_that_must_not_be_dropped_leave_out_who_lacks_them() -> None:
    """With REJECT a route that lacks an option is no leg; if all lack it the request is refused by the field."""
    request = ask("plain", fallback_models=["able"])
    request.sampling.seed = 3
    request.unsupported_options = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    assert planning().names(request) == ["able/one"]
    del request.routing.fallback_models[:]
    with pytest.raises(UnsupportedOptionError) as caught:
        planning().names(request)
    assert caught.value.field == "sampling.seed"


def test_sticky_without_session_says_so() -> None:
    """A persona that keeps sessions together asks in the order of its list where none is named, with a notice."""
    made = planning({"personas": {"a": targets("able", "blind", strategy="sticky")}})
    plan = made.planner.plan(ask(persona="a"), REQUEST_ID)
    assert plan.strategy is Strategy.PRIORITY
    assert plan.notice is not None
    assert plan.notice.field == "context.session_id"
    request = ask(persona="a")
    request.context.session_id = "s"
    with_session = made.planner.plan(request, REQUEST_ID)
    assert (with_session.strategy, with_session.notice) == (Strategy.STICKY, None)


def test_explain_tells_of_every_provider() -> None:
    """Every provider that there is appears, with a reason: chosen, passed over, not configured or not needed."""
    made = planning(REVIEWER)
    request = ask("plain", persona="reviewer")
    verdicts = made.verdicts(request)
    assert verdicts == {
        "plain/one": "CHOSEN",
        "blind/one": "CHOSEN",
        "able/big": "NOT_NEEDED",
        "absent/one": "NOT_CONFIGURED",
        "keyless/one": "NOT_NEEDED",
        "nameless": "NOT_NEEDED",
        "unknown/one": "NOT_NEEDED",
        "lame/one": "NOT_CONFIGURED",
        "cloud/one": "NOT_NEEDED",
    }
    plan = made.planner.explain(request, REQUEST_ID)
    assert all(each.reasons and all(each.reasons) for each in plan.candidates)


def test_explain_without_any_provider_says_what_is_missing() -> None:
    """Where nobody can be used the explanation carries the error that the chat would fail with."""
    made = planning({"personas": {"a": targets("absent")}})
    plan = made.planner.explain(ask(persona="a"), REQUEST_ID)
    assert isinstance(plan.error, NotConfiguredError)
    assert plan.legs == ()


def test_a_new_configuration_is_planned_with_at_once() -> None:
    """What was worked out of one configuration is not used with the next."""
    made = planning({"personas": {"a": targets("able")}})
    assert made.names(ask(persona="a")) == ["able/one"]
    made.platform = planning({"personas": {"a": targets("blind")}}).platform
    assert made.names(ask(persona="a")) == ["blind/one"]


def test_tools_alone_do_not_need_the_required_list() -> None:
    """Tools of the request prefer routes that can call them, without naming them as required."""
    request = ask(persona="a")
    request.tools.add(function=chat_pb2.FunctionTool(name="f"))
    made = planning({"personas": {"a": targets("plain", "able")}})
    assert made.names(request) == ["able/one", "plain/one"]
