"""Names of models at Bedrock, and where they run. Pure.

A name is one of:

* ``anthropic.claude-...-v1:0``: a model in the region that is asked;
* ``eu.anthropic.claude-...``: a cross-region inference profile; the prefix names the geography that it stays in;
* an ARN of a model, profile, prompt, router or endpoint; it names its region;
* ``REGION/`` before any of these: the region that is asked, whatever is configured.

Sources: ``botocore/data/bedrock-runtime`` (the pattern of modelId) and ``botocore/data/endpoints.json`` of botocore
1.44; "Geographic cross-Region inference" and "Supported Regions and models for inference profiles" of the Amazon
Bedrock User Guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import quote

from execution_platform.adapters.errors import InvalidRequestError

__all__ = [
    "KNOWN_PLACES",
    "ModelName",
    "asked_region",
    "is_region",
    "listed_names",
    "model_name",
    "model_path",
    "outside_of",
    "places_of",
    "price_regions",
]

_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+){1,3}-\d")
_PREFIXED = re.compile(rf"(?P<region>{_REGION.pattern})/(?P<name>.+)", re.DOTALL)
_ARN = re.compile(r"arn:[a-z-]+:(?:bedrock|sagemaker):(?P<region>[a-z0-9-]*):\d*:(?P<kind>[a-z-]+)/(?P<rest>.+)")

#: Regions of each geography that a profile may stay in. A profile may be asked from others too (``eu.`` from London or
#: Zurich), but runs only here.
_GEOGRAPHIES: Mapping[str, tuple[str, ...]] = {
    "eu": (
        "eu-central-1",
        "eu-north-1",
        "eu-south-1",
        "eu-south-2",
        "eu-west-1",
        "eu-west-3",
        "eusc-de-east-1",
    ),
    "us": ("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
    "us-gov": ("us-gov-east-1", "us-gov-west-1"),
    "jp": ("ap-northeast-1", "ap-northeast-3"),
    "au": ("ap-southeast-2", "ap-southeast-4"),
    "in": ("ap-south-1", "ap-south-2"),
    "ca": ("ca-central-1", "ca-west-1"),
    "apac": (
        "ap-east-1",
        "ap-east-2",
        "ap-northeast-1",
        "ap-northeast-2",
        "ap-northeast-3",
        "ap-south-1",
        "ap-south-2",
        "ap-southeast-1",
        "ap-southeast-2",
        "ap-southeast-3",
        "ap-southeast-4",
        "ap-southeast-5",
        "ap-southeast-6",
        "ap-southeast-7",
    ),
}
_GLOBAL = "global"

#: Regions in no geography of a profile.
_ALONE = (
    "af-south-1",
    "eu-central-2",
    "eu-west-2",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-iso-east-1",
    "us-isob-east-1",
    "us-isof-east-1",
    "us-isof-south-1",
)

KNOWN_PLACES: frozenset[str] = frozenset(
    {_GLOBAL, *_GEOGRAPHIES, *_ALONE, *(region for regions in _GEOGRAPHIES.values() for region in regions)}
)
"""Every name that :func:`places_of` tells of the regions that botocore 1.44 knows."""

_PROFILE = re.compile(rf"(?P<geography>{'|'.join(map(re.escape, (*_GEOGRAPHIES, _GLOBAL)))})\.(?P<model>[^.]+\..+)")

#: Whose names ids of models begin with.
_MAKERS = frozenset(
    {
        "ai21",
        "amazon",
        "anthropic",
        "cohere",
        "deepseek",
        "google",
        "luma",
        "meta",
        "minimax",
        "mistral",
        "moonshot",
        "moonshotai",
        "nvidia",
        "openai",
        "qwen",
        "stability",
        "twelvelabs",
        "writer",
        "zai",
    }
)

#: ARNs whose resource runs in the ARN's own region.
_IN_REGION = frozenset(
    {
        "foundation-model",
        "custom-model",
        "custom-model-deployment",
        "imported-model",
        "provisioned-model",
        "endpoint",
    }
)


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a model's name says.

    Attributes:
        wire: the id or ARN as Bedrock takes it.
        region: the region that is asked; empty: the name does not tell.
        geography: of a cross-region profile: where it stays, ``global`` among them; empty: it is none.
        model: the model's own id, without region and geography; empty: the name does not tell.
        in_region: it runs in the region that is asked; False with no geography: the name does not tell.
    """

    wire: str
    region: str = ""
    geography: str = ""
    model: str = ""
    in_region: bool = True


def is_region(name: str) -> bool:
    """Return whether a name is built like one of a region."""
    return _REGION.fullmatch(name) is not None


def model_name(name: str) -> ModelName:
    """Read a model's name.

    Raises:
        InvalidRequestError: it has a region before an ARN of another one, or an ARN's region cannot be one.
    """
    prefixed = _PREFIXED.fullmatch(name)
    region, wire = (prefixed["region"], prefixed["name"]) if prefixed else ("", name)
    arn = _ARN.fullmatch(wire)
    if arn is None:
        # What is no ARN that can be read may be one of any region.
        return ModelName(wire, region, in_region=False) if wire.startswith("arn:") else _of_id(wire, wire, region)
    if arn["region"] and not is_region(arn["region"]):
        raise InvalidRequestError(f"model: {arn['region']!r} in the ARN is no region of AWS's", field="model")
    if region and arn["region"] not in {"", region}:
        raise InvalidRequestError(f"model: the ARN is of {arn['region']}, not of {region}", field="model")
    region = region or arn["region"]
    if arn["kind"] == "inference-profile":
        return _of_id(wire, arn["rest"], region)
    own = arn["rest"] if arn["kind"] == "foundation-model" else ""
    return ModelName(wire, region, model=own, in_region=arn["kind"] in _IN_REGION)


def _of_id(wire: str, identifier: str, region: str) -> ModelName:
    profile = _PROFILE.fullmatch(identifier)
    if profile:
        return ModelName(wire, region, profile["geography"], profile["model"], in_region=False)
    first, _, rest = identifier.partition(".")
    # A profile whose geography nobody knows yet must not pass for a model in one region.
    unknown_geography = "." in rest and first not in _MAKERS
    own = rest if unknown_geography and rest.partition(".")[0] in _MAKERS else identifier
    return ModelName(wire, region, model=own, in_region=not unknown_geography)


def asked_region(model: ModelName, configured_region: str) -> str:
    """Return the region whose endpoint is asked: the name's own, else the configured one; empty: neither tells one."""
    return model.region or (configured_region if is_region(configured_region) else "")


def places_of(name: str, configured_region: str) -> tuple[str, ...]:
    """Return where a model runs, the narrowest place first; empty: not known. See :class:`~..spi.Places`.

    What is asked goes to :func:`asked_region` first, so that a profile asked from outside its geography has no place
    that contains both.
    """
    try:
        model = model_name(name)
    except InvalidRequestError:
        return ()
    region = asked_region(model, configured_region)
    if model.geography:
        held = _GEOGRAPHIES.get(model.geography, ())
        return () if _is_outside(model, region) else (model.geography, *_wider(held, model.geography))
    if not model.in_region or not region:
        return ()
    return (region, *_wider((region,), region))


def outside_of(name: str, configured_region: str) -> str:
    """Return, for people, that a profile is asked from outside its geography; empty: it is not."""
    try:
        model = model_name(name)
    except InvalidRequestError:
        return ""
    region = asked_region(model, configured_region)
    return f"it is asked from {region}, outside {model.geography}" if _is_outside(model, region) else ""


def _is_outside(model: ModelName, region: str) -> bool:
    held = _GEOGRAPHIES.get(model.geography, ())
    return bool(held and region) and region not in held


def _wider(regions: Sequence[str], own: str) -> tuple[str, ...]:
    """Return the geographies that hold all these regions, the smallest first."""
    found = [name for name, held in _GEOGRAPHIES.items() if regions and name != own and set(regions) <= set(held)]
    return tuple(sorted(found, key=lambda name: len(_GEOGRAPHIES[name])))


def model_path(name: str, operation: str) -> str:
    """Return the path of an operation on a model, encoded as botocore does: ``:`` as %3A, ``/`` as %2F."""
    return f"/model/{quote(model_name(name).wire, safe='-._~')}/{operation}"


def listed_names(name: str) -> tuple[str, ...]:
    """Return the names under which the package ``genai-prices`` may list a model's price, the most exact first.

    It tells regional profiles from global ones by the prefix, and takes a bare id for the regional price: so a
    geography that it does not know is priced as its region, and a global profile never is.
    """
    model = model_name(name)
    if not model.model:
        return ()
    if model.geography == _GLOBAL:
        return (f"{_GLOBAL}.{model.model}",)
    return (f"{model.geography}.{model.model}", model.model) if model.geography else (model.model,)


#: Regions of other partitions, which have prices of their own that the list does not have.
_APART = ("us-gov", "us-iso", "eusc-")

_REGIONAL: Mapping[str, Decimal] = {
    "": Decimal(1),
    **{place: Decimal(1) for place in sorted(KNOWN_PLACES) if not place.startswith(_APART)},
}
_IN_THE_US: Mapping[str, Decimal] = {place: Decimal(1) for place in ("us", *_GEOGRAPHIES["us"])}


def price_regions(listed: str) -> Mapping[str, Decimal] | None:
    """Return where the price holds that ``genai-prices`` lists under a name; see :class:`~..spi.PriceListing`.

    An entry that is called regional holds in every region but those of other partitions: for GovCloud AWS asks a fifth
    more for the same models. Entries of all other models are what AWS asks in the United States; elsewhere it asks
    more, for each model something else (Nova Pro: 5 % in Asia, 31 % in Europe). Sources: the comments of
    ``genai-prices`` 0.2.3; AWS's prices by region as LiteLLM's table ``model_prices_and_context_window.json`` has them.
    """
    if listed.startswith(f"{_GLOBAL}."):
        return None
    return _REGIONAL if listed.startswith("regional.") else _IN_THE_US
