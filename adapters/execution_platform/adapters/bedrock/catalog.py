"""Bedrock's list of models: foundation models that can be asked by their id, and inference profiles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec

from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    fields_of,
    object_json,
    value_of,
)
from execution_platform.v1 import catalog_pb2

__all__ = ["list_models"]

_MOST_PAGES = 20
_PAGE_SIZE = 1000
_MODELS = "/foundation-models"
_KINDS = ("SYSTEM_DEFINED", "APPLICATION")

Get = Callable[[str], Awaitable[bytes]]
"""Asks the control plane for a path with its query, encoded, and returns the body."""


async def list_models(get: Get, provider: str) -> list[catalog_pb2.Model]:
    """List the models that give text, and the profiles over them.

    Raises:
        AdapterError: as `get` does; ProtocolError where an answer is not what the API describes.
    """
    summaries = [fields_of(raw) for raw in elements_if_any(fields_of(await get(_MODELS)).get("modelSummaries"))]
    mute = {clean_text(summary.get("modelId")) for summary in summaries if not _gives_text(summary)}
    models = [_foundation_model(each, provider) for each in summaries if _gives_text(each) and _is_asked_by_id(each)]
    for kind in _KINDS:
        models += [_profile(each, provider) for each in await _profiles(get, kind) if not _is_over(each, mute)]
    # Servers in AWS's place may not look at the kind, and tell all profiles twice.
    return list({model.name: model for model in models}.values())


async def _profiles(get: Get, kind: str) -> list[Fields]:
    path = f"/inference-profiles?maxResults={_PAGE_SIZE}&type={kind}"
    found: list[Fields] = []
    token = ""
    for _ in range(_MOST_PAGES):
        page = fields_of(await get(f"{path}&nextToken={quote(token, safe='-_.~')}" if token else path))
        found += [fields_of(raw) for raw in elements_if_any(page.get("inferenceProfileSummaries"))]
        token = clean_text(page.get("nextToken"))
        if not token:
            break
    return found


def _is_asked_by_id(summary: Fields) -> bool:
    """Return whether requests may name the model itself; others are reached by a profile or reserved throughput."""
    kinds = value_of(summary.get("inferenceTypesSupported"))
    return not isinstance(kinds, list) or not kinds or "ON_DEMAND" in kinds


def _gives_text(summary: Fields) -> bool:
    given = value_of(summary.get("outputModalities"))
    return not isinstance(given, list) or "TEXT" in given


def _is_over(profile: Fields, models: set[str]) -> bool:
    """Return whether a profile is one over these models. Of those in other regions nothing may be known."""
    arns = [clean_text(fields_if_any(raw).get("modelArn")) for raw in elements_if_any(profile.get("models"))]
    return any(arn.rpartition("/")[2] in models for arn in arns)


def _foundation_model(summary: Fields, provider: str) -> catalog_pb2.Model:
    name = clean_text(summary.get("modelId"))
    maker, model = clean_text(summary.get("providerName")), clean_text(summary.get("modelName"))
    display_name = model if model.startswith(maker) else f"{maker} {model}"
    return _model(provider, name, display_name, summary)


def _profile(profile: Fields, provider: str) -> catalog_pb2.Model:
    """Return a profile as the model that requests name: one of an account's own by its ARN, as it must be."""
    own = clean_text(profile.get("type")) == "APPLICATION"
    name = clean_text(profile.get("inferenceProfileArn" if own else "inferenceProfileId"))
    return _model(provider, name, clean_text(profile.get("inferenceProfileName")), profile)


def _model(provider: str, name: str, display_name: str, told: dict[str, msgspec.Raw]) -> catalog_pb2.Model:
    return catalog_pb2.Model(
        name=f"{provider}/{name}",
        provider=provider,
        model=name,
        display_name=display_name,
        provider_metadata_json=object_json(told),
    )
