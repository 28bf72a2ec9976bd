"""Where Bedrock is reached: the runtime, which answers, and the control plane, which lists models. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from execution_platform.adapters.bedrock.regions import model_name

__all__ = ["control_url", "count_path", "runtime_url"]

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


def runtime_url(base_url: str, region: str) -> str:
    """Return the address that answers.

    Args:
        base_url: a configured one, which stands for every region; empty: AWS's own.
        region: the one that is asked.
    """
    return base_url.rstrip("/") or f"https://bedrock-runtime.{region}.{_domain(region)}"


def control_url(base_url: str, region: str) -> str:
    """Return the address that lists models. What stands at AWS's place, as a mock or a gateway, does both."""
    host = urlsplit(base_url).hostname or ""
    if base_url and not host.endswith((_DOMAIN, *_DOMAINS.values())):
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


def _domain(region: str) -> str:
    first, _, rest = region.partition("-")
    return _DOMAINS.get(first) or _DOMAINS.get(f"{first}-{rest.partition('-')[0]}") or _DOMAIN
