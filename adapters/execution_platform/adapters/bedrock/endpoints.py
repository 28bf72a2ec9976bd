"""Where Bedrock is reached: the runtime, which answers, and the control plane, which lists models. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from execution_platform.adapters.bedrock.regions import is_region, model_name
from execution_platform.adapters.errors import InvalidRequestError

__all__ = ["control_url", "count_path", "region_of_address", "runtime_url"]

#: Domains by the first part of a region's name. Source: ``botocore/data/partitions.json`` of botocore 1.44.5.
_DOMAINS: Mapping[str, str] = {
    "cn": "amazonaws.com.cn",
    "eusc": "amazonaws.eu",
    "us-iso": "c2s.ic.gov",
    "us-isob": "sc2s.sgov.gov",
    "us-isof": "csp.hci.ic.gov",
    "eu-isoe": "cloud.adc-e.uk",
}

_DOMAIN = "amazonaws.com"

#: Domains of addresses that IPv6 reaches too. Source: as above.
_DUAL_STACK = (
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "api.aws.ic.gov",
    "api.aws.scloud",
    "api.aws.hci.ic.gov",
    "api.cloud-aws.adc-e.uk",
)

_OF_AWS = tuple(f".{domain}" for domain in (_DOMAIN, *_DOMAINS.values(), *_DUAL_STACK))


def runtime_url(base_url: str, region: str) -> str:
    """Return the address that answers.

    Args:
        base_url: a configured one, which stands for every region; empty: AWS's own.
        region: the one that is asked.

    Raises:
        InvalidRequestError: the configured address is AWS's, of another region: what is asked there runs there.
    """
    there = region_of_address(base_url)
    if there not in {"", region}:
        raise InvalidRequestError(
            f"model: it is asked in {region}, but EP_BEDROCK_BASE_URL leads to {there}", field="model"
        )
    return base_url.rstrip("/") or f"https://bedrock-runtime.{region}.{_domain(region)}"


def control_url(base_url: str, region: str) -> str:
    """Return the address that lists models. What stands at AWS's place, as a mock or a gateway, does both."""
    if base_url and not _is_aws(base_url):
        return base_url.rstrip("/")
    # An address of AWS's, as an endpoint in a VPC, is the runtime's alone; its neighbour has another name.
    return f"https://bedrock.{region}.{_domain(region)}"


def count_path(model: str) -> str:
    """Return the path that counts tokens, encoded as botocore does.

    It takes ids and ARNs of models only, and refuses those of profiles: then the model is named that is behind it.
    Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html.
    """
    name = model_name(model)
    counted = name.model if name.geography else name.wire
    return f"/model/{quote(counted, safe='-._~')}/count-tokens"


def region_of_address(url: str) -> str:
    """Return the region of an address of AWS's; empty: it is none, or tells none."""
    host = (urlsplit(url).hostname or "").split(".")
    return next(filter(is_region, host), "") if _is_aws(url) else ""


def _is_aws(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith(_OF_AWS)


def _domain(region: str) -> str:
    first, _, rest = region.partition("-")
    return _DOMAINS.get(first) or _DOMAINS.get(f"{first}-{rest.partition('-')[0]}") or _DOMAIN
