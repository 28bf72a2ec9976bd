"""The list of models: those that can be asked by their id, and the profiles over them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from execution_platform.adapters.bedrock.catalog import list_models
from execution_platform.adapters.errors import ProtocolError

MODELS = "/foundation-models"
ARN = "arn:aws:bedrock:eu-central-1"


def model(name: str, maker: str, title: str, *kinds: str, gives: str = "TEXT") -> dict[str, Any]:
    arn = f"{ARN}::foundation-model/{name}"
    named = {"modelArn": arn, "modelId": name, "providerName": maker, "modelName": title}
    able = {"outputModalities": [gives], "inferenceTypesSupported": list(kinds)}
    return {**named, **able, "modelLifecycle": {"status": "ACTIVE"}}


def profile(name: str, over: str, kind: str = "SYSTEM_DEFINED") -> dict[str, Any]:
    arn = f"{ARN}:123456789012:{'application-' if kind == 'APPLICATION' else ''}inference-profile/{name}"
    models = [{"modelArn": f"arn:aws:bedrock:{region}::foundation-model/{over}"} for region in ("eu-west-1", "eu-x-9")]
    named = {"inferenceProfileArn": arn, "inferenceProfileId": name, "inferenceProfileName": f"Profile {name}"}
    return {**named, "models": models, "type": kind, "status": "ACTIVE"}


CLAUDE = model("anthropic.claude-x-v1:0", "Anthropic", "Claude X", "INFERENCE_PROFILE")
NOVA = model("amazon.nova-lite-v1:0", "Amazon", "Nova Lite", "ON_DEMAND", "INFERENCE_PROFILE")
TITAN = model("amazon.titan-x", "Amazon", "Amazon Titan X", "ON_DEMAND")
RESERVED = model("amazon.titan-x:0:4k", "Amazon", "Titan X", "PROVISIONED")
IMAGES = model("stability.images-v1:0", "Stability AI", "Images", "ON_DEMAND", gives="IMAGE")
EU_CLAUDE = profile("eu.anthropic.claude-x-v1:0", "anthropic.claude-x-v1:0")
EU_IMAGES = profile("eu.stability.images-v1:0", "stability.images-v1:0")
EU_NOVA = profile("eu.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0")
OWN = profile("abc123", "anthropic.claude-x-v1:0", "APPLICATION")


def serving(pages: Mapping[str, Any], asked: list[str]) -> Callable[[str], Awaitable[bytes]]:
    async def get(path: str) -> bytes:
        asked.append(path)
        return json.dumps(pages.get(path, {"inferenceProfileSummaries": []})).encode()

    return get


async def listed(pages: Mapping[str, Any]) -> dict[str, Any]:
    models = await list_models(serving(pages, []), "bedrock")
    return {model.model: model for model in models}


PROFILES = "/inference-profiles?maxResults=1000&type="


async def test_models_and_profiles_are_listed_page_by_page() -> None:
    """Models are named by id, profiles of AWS's by id, own ones by ARN; what is said of each is kept."""
    asked: list[str] = []
    pages = {
        MODELS: {"modelSummaries": [CLAUDE, NOVA, TITAN]},
        f"{PROFILES}SYSTEM_DEFINED": {"inferenceProfileSummaries": [EU_CLAUDE], "nextToken": "a+/="},
        f"{PROFILES}SYSTEM_DEFINED&nextToken=a%2B%2F%3D": {"inferenceProfileSummaries": [EU_NOVA]},
        f"{PROFILES}APPLICATION": {"inferenceProfileSummaries": [OWN]},
    }
    models = await list_models(serving(pages, asked), "bedrock")
    assert asked == list(pages)
    assert [model.name for model in models] == [
        "bedrock/amazon.nova-lite-v1:0",
        "bedrock/amazon.titan-x",
        "bedrock/eu.anthropic.claude-x-v1:0",
        "bedrock/eu.amazon.nova-lite-v1:0",
        f"bedrock/{ARN}:123456789012:application-inference-profile/abc123",
    ]
    nova, titan, claude, *_ = models
    assert (nova.provider, nova.model, nova.display_name) == ("bedrock", "amazon.nova-lite-v1:0", "Amazon Nova Lite")
    assert titan.display_name == "Amazon Titan X"
    assert claude.display_name == "Profile eu.anthropic.claude-x-v1:0"
    assert json.loads(nova.provider_metadata_json) == NOVA
    assert json.loads(claude.provider_metadata_json) == EU_CLAUDE


async def test_what_cannot_be_asked_by_its_id_is_not_listed() -> None:
    """Models that are reached only through a profile, or reserved throughput, are not names that a chat can use."""
    assert not await listed({MODELS: {"modelSummaries": [CLAUDE, RESERVED]}})


async def test_what_gives_no_text_is_not_listed() -> None:
    """Neither a model of images nor a profile over it is one to chat with; a profile over unknown models may be."""
    pages = {
        MODELS: {"modelSummaries": [IMAGES]},
        f"{PROFILES}SYSTEM_DEFINED": {"inferenceProfileSummaries": [EU_CLAUDE, EU_IMAGES]},
    }
    assert set(await listed(pages)) == {"eu.anthropic.claude-x-v1:0"}


async def test_a_profile_that_is_told_twice_is_one() -> None:
    """A server that does not look at which kind is asked for makes no model twice."""
    page = {"inferenceProfileSummaries": [EU_CLAUDE, OWN]}
    models = await list_models(
        serving({f"{PROFILES}{kind}": page for kind in ("SYSTEM_DEFINED", "APPLICATION")}, []), "b"
    )
    assert [model.model for model in models] == ["eu.anthropic.claude-x-v1:0", OWN["inferenceProfileArn"]]


async def test_pages_without_end_are_left() -> None:
    """A server that always names another page is not asked for ever."""
    asked: list[str] = []

    async def endless(path: str) -> bytes:
        asked.append(path)
        return b'{"inferenceProfileSummaries": [], "nextToken": "more"}'

    assert await list_models(endless, "bedrock") == []
    assert len(asked) < 50


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'"x"'])
async def test_a_page_that_is_none_is_a_breach(body: bytes) -> None:
    """What is no JSON object is no list."""

    async def odd(_: str) -> bytes:
        return body

    with pytest.raises(ProtocolError):
        await list_models(odd, "bedrock")
