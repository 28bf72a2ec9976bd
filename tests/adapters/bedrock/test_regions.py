"""Names of models at Bedrock, where they run, and under which names their prices are listed."""

from __future__ import annotations

import pytest
from botocore.serialize import create_serializer
from botocore.session import Session
from genai_prices import data as prices
from genai_prices.types import ModelInfo
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.adapters.bedrock.models import KNOWN_MODELS
from execution_platform.adapters.bedrock.regions import (
    KNOWN_PLACES,
    listed_names,
    model_name,
    model_path,
    outside_of,
    places_of,
)
from execution_platform.adapters.errors import InvalidRequestError

SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:eu-west-1:123456789012"
ENDPOINT = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/e"


def _models() -> list[ModelInfo]:
    [aws] = [provider for provider in prices.providers if provider.id == "aws"]
    return aws.models


@pytest.mark.parametrize(
    ("name", "wire", "region", "model"),
    [
        (SONNET, SONNET, "", SONNET),
        (f"eu.{SONNET}", f"eu.{SONNET}", "", SONNET),
        (f"us-gov.{SONNET}", f"us-gov.{SONNET}", "", SONNET),
        (f"global.{SONNET}", f"global.{SONNET}", "", SONNET),
        (f"eu-central-1/{SONNET}", SONNET, "eu-central-1", SONNET),
        (f"eu-central-1/eu.{SONNET}", f"eu.{SONNET}", "eu-central-1", SONNET),
        ("us-gov-west-1/amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0", "us-gov-west-1", "amazon.nova-pro-v1:0"),
        (f"{ARN}:inference-profile/eu.{SONNET}", f"{ARN}:inference-profile/eu.{SONNET}", "eu-west-1", SONNET),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{SONNET}",) * 2 + ("us-east-1", SONNET),
        (f"{ARN}:application-inference-profile/a1b2",) * 2 + ("eu-west-1", ""),
        (f"eu-west-1/{ARN}:imported-model/a1b2", f"{ARN}:imported-model/a1b2", "eu-west-1", ""),
        (ENDPOINT, ENDPOINT, "eu-central-1", ""),
        ("zai.glm-4.7-flash", "zai.glm-4.7-flash", "", "zai.glm-4.7-flash"),
        ("us.zai.glm-5.3", "us.zai.glm-5.3", "", "zai.glm-5.3"),
        (f"emea.{SONNET}", f"emea.{SONNET}", "", SONNET),
    ],
)
def test_a_name_tells_id_region_and_model(name: str, wire: str, region: str, model: str) -> None:
    """Each form of a name is told apart; only a region before it is taken off."""
    read = model_name(name)
    assert (read.wire, read.region, read.model) == (wire, region, model)


def test_a_region_before_an_arn_of_another_one_is_refused() -> None:
    """It would be asked where it is not; it has no place either."""
    name = f"us-east-1/{ARN}:imported-model/a1b2"
    with pytest.raises(InvalidRequestError, match="eu-west-1"):
        model_name(name)
    assert places_of(name, "us-east-1") == ()


@pytest.mark.parametrize(
    ("name", "places"),
    [
        (SONNET, ("eu-central-1", "eu")),
        (f"ap-northeast-3/{SONNET}", ("ap-northeast-3", "jp", "apac")),
        (f"eu-west-2/{SONNET}", ("eu-west-2",)),
        (f"eu-central-2/{SONNET}", ("eu-central-2",)),
        (f"sa-east-1/{SONNET}", ("sa-east-1",)),
        (f"eu.{SONNET}", ("eu",)),
        (f"us-east-2/us.{SONNET}", ("us",)),
        (f"us-gov-west-1/us-gov.{SONNET}", ("us-gov",)),
        (f"ap-northeast-3/apac.{SONNET}", ("apac",)),
        (f"ap-northeast-3/jp.{SONNET}", ("jp", "apac")),
        (f"ap-southeast-2/au.{SONNET}", ("au", "apac")),
        (f"ap-south-1/in.{SONNET}", ("in", "apac")),
        (f"ca-central-1/ca.{SONNET}", ("ca",)),
        (f"global.{SONNET}", ("global",)),
        (f"eu-central-1/global.{SONNET}", ("global",)),
        (f"us.{SONNET}", ()),
        (f"us-east-1/eu.{SONNET}", ()),
        (f"eu-west-2/eu.{SONNET}", ()),
        (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.{SONNET}", ()),
        (f"arn:aws:bedrock:us-east-1:A1:imported-model/{SONNET}", ()),
        (f"{ARN}:inference-profile/eu.{SONNET}", ("eu",)),
        (f"{ARN}:inference-profile/global.{SONNET}", ("global",)),
        (f"{ARN}:application-inference-profile/a1b2", ()),
        (f"{ARN}:default-prompt-router/anthropic.claude:1", ()),
        (f"{ARN}:prompt/ABCDEFGHIJ:1", ()),
        (f"{ARN}:provisioned-model/a1b2", ("eu-west-1", "eu")),
        (f"sa.{SONNET}", ()),
        (f"emea.{SONNET}", ()),
        ("emea.somebody.model-1.2", ()),
        ("zai.glm-4.7-flash", ("eu-central-1", "eu")),
        ("somebody.model-1", ("eu-central-1", "eu")),
        (f"{ARN}:inference-profile/sa.{SONNET}", ()),
    ],
)
def test_a_model_is_where_its_name_says(name: str, places: tuple[str, ...]) -> None:
    """A profile is no narrower than its geography, and nowhere if asked from outside; what a name hides is, too."""
    assert places_of(name, "eu-central-1") == places
    assert set(places) <= KNOWN_PLACES


@pytest.mark.parametrize("region", ["evil", "eu-central1", "x-1", "-"])
def test_an_arn_of_no_region_is_refused(region: str) -> None:
    """What cannot be a region of AWS's is neither asked nor a place."""
    name = f"arn:aws:bedrock:{region}:123456789012:imported-model/a1b2"
    with pytest.raises(InvalidRequestError, match=region):
        model_name(name)
    assert places_of(name, "eu-central-1") == ()


def test_a_model_in_no_region_is_nowhere() -> None:
    """Without a configured region an id tells no place, but a profile does."""
    assert places_of(SONNET, "") == ()
    assert places_of(f"eu.{SONNET}", "") == ("eu",)


@pytest.mark.parametrize("model", [*(model.name for model in KNOWN_MODELS), *(model.id for model in _models())])
def test_every_known_model_has_a_place(model: str) -> None:
    """No maker that is known is taken for a geography that is not."""
    assert places_of(model.removeprefix("regional."), "us-east-1" if model.startswith("us.") else "eu-central-1")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("us.amazon.nova-pro-v1:0", "it is asked from eu-central-1, outside us"),
        ("us-east-1/us.amazon.nova-pro-v1:0", ""),
        ("eu.amazon.nova-pro-v1:0", ""),
        ("global.amazon.nova-pro-v1:0", ""),
        ("amazon.nova-pro-v1:0", ""),
        ("us-east-1/arn:aws:bedrock:eu-central-1::foundation-model/amazon.nova-pro-v1:0", ""),
    ],
)
def test_a_profile_that_is_asked_from_outside_is_told(name: str, told: str) -> None:
    """Only a profile whose geography does not hold the region that is asked is told as asked from outside."""
    assert outside_of(name, "eu-central-1") == told


def test_every_region_of_bedrock_is_known() -> None:
    """Each region in which botocore knows Bedrock can be named in a list of allowed regions."""
    regions = {
        region
        for partition in Session().get_available_partitions()
        for region in Session().get_available_regions("bedrock", partition)
        if not region.startswith("bedrock-")
    }
    assert "eu-central-1" in regions
    assert regions <= KNOWN_PLACES


@given(st.text(min_size=1, max_size=80))
def test_a_path_has_one_model_whatever_its_name(name: str) -> None:
    """No name adds a part to the path, nor a query."""
    try:
        path = model_path(name, "converse")
    except InvalidRequestError:
        return
    assert path.count("/") == 3
    assert not set(path) & set(":?#%") - {"%"}


@pytest.mark.parametrize("name", [SONNET, f"{ARN}:inference-profile/eu.{SONNET}", "a b/ü~._-"])
def test_a_path_is_encoded_as_botocore_does(name: str) -> None:
    """The URL is byte for byte the one that botocore would ask, so that its signature fits."""
    model = Session().get_service_model("bedrock-runtime").operation_model("Converse")
    serialized = create_serializer("rest-json").serialize_to_request({"modelId": name, "messages": []}, model)
    assert model_path(name, "converse") == serialized["url_path"]


def _listed(name: str) -> str:
    """The id of the price that a model gets; empty: none."""
    for wanted in listed_names(name):
        for model in _models():
            if model.is_match(wanted):
                return model.id
    return ""


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        (f"eu.{SONNET}", f"regional.{SONNET}"),
        (f"ca.{SONNET}", f"regional.{SONNET}"),
        (SONNET, f"regional.{SONNET}"),
        (f"eu-central-1/{SONNET}", f"regional.{SONNET}"),
        (f"{ARN}:inference-profile/eu.{SONNET}", f"regional.{SONNET}"),
        (f"global.{SONNET}", f"global.{SONNET}"),
        (f"us-east-1/global.{SONNET}", f"global.{SONNET}"),
        ("global.anthropic.claude-opus-5-5", "global.anthropic.claude-opus-5-5"),
        ("eu.anthropic.claude-opus-5-5", "regional.anthropic.claude-opus-5-5"),
        ("ca.anthropic.claude-opus-5-5", "regional.anthropic.claude-opus-5-5"),
        ("eu.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("global.amazon.nova-2-lite-v1:0", "global.amazon.nova-2-lite-v1:0"),
        ("us.meta.llama4-maverick-17b-instruct-v1:0", "meta.llama4-maverick-17b-instruct-v1:0"),
        ("eu.moonshotai.kimi-k3", "regional.moonshotai.kimi-k3"),
        (f"{ARN}:application-inference-profile/a1b2", ""),
    ],
)
def test_a_model_finds_its_price(name: str, listed: str) -> None:
    """A model is priced as its region or as the global profile, whatever its name looks like; a hidden one is not."""
    assert _listed(name) == listed


def test_most_models_that_are_told_have_a_price() -> None:
    """Only those that the list does not have at all are without one."""
    unpriced = {model.name for model in KNOWN_MODELS if not _listed(model.name)}
    assert unpriced == {
        "minimax.minimax-m2",
        "zai.glm-4.7-flash",
        "cohere.command-r-plus-v1:0",
        "ai21.jamba-1-5-large-v1:0",
    }
