"""The provider's settings: which region, whose credentials, and what is missing to use it. Without botocore."""

from __future__ import annotations

import configparser
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from execution_platform.adapters.bedrock.endpoints import region_of_address
from execution_platform.adapters.bedrock.regions import KNOWN_PLACES, is_region, outside_of, places_of
from execution_platform.adapters.spi import Places, ProviderConfig, ProviderOption

__all__ = ["OPTIONS", "PLACES", "missing", "settle"]

OPTIONS: Sequence[ProviderOption] = (
    ProviderOption(
        "region",
        "Region that is asked where a model's name tells none. Default: AWS_REGION, AWS_DEFAULT_REGION, or the"
        " region of the profile.",
    ),
    ProviderOption("profile", "Profile of the AWS configuration files. Default: AWS_PROFILE, or the default one."),
    ProviderOption("role_arn", "Role that is assumed with the credentials that are found. Default: none."),
    ProviderOption("external_id", "External id for assuming EP_BEDROCK_ROLE_ARN, where its owner asks for one."),
    ProviderOption(
        "role_session_name", "Name of the session in which EP_BEDROCK_ROLE_ARN is assumed.", "execution-platform"
    ),
)

_LONGEST_SHOWN = 40


def settle(config: ProviderConfig, environ: Mapping[str, str]) -> ProviderConfig:
    """Return the configuration with the region that AWS's own variables and files tell, where it has none.

    Later changes of the files move nothing: requests go where they are said to go.
    """
    told = config.options.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    region = (told or _region_of_profile(config, environ)).strip()
    return replace(config, options={**config.options, "region": region})


def missing(config: ProviderConfig) -> str:
    """Return what is missing to use the provider, naming the remedy; empty: nothing. Imports no SDK."""
    if importlib.util.find_spec("botocore") is None:
        return "botocore is not installed: pip install 'execution-platform[bedrock]'"
    region = config.options.get("region", "")
    if not region:
        return "set EP_BEDROCK_REGION (or AWS_REGION)"
    if not is_region(region):
        shown = region[:_LONGEST_SHOWN]
        return f"{shown!r} is no region of AWS's: set EP_BEDROCK_REGION (or AWS_REGION), for example to eu-central-1"
    there = region_of_address(config.base_url)
    if there not in {"", region}:
        return f"EP_BEDROCK_BASE_URL leads to {there}, and the region is {region}: set EP_BEDROCK_REGION={there}"
    return ""


def _region_of_profile(config: ProviderConfig, environ: Mapping[str, str]) -> str:
    profile = config.options.get("profile") or environ.get("AWS_PROFILE") or "default"
    path = Path(environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.expanduser().read_text())
    except (OSError, RuntimeError, configparser.Error, UnicodeDecodeError):
        return ""
    section = "default" if profile == "default" else f"profile {profile}"
    return parser.get(section, "region", fallback="")


def _places(config: ProviderConfig, model: str) -> tuple[str, ...]:
    return places_of(model, config.options.get("region", ""))


def _outside(config: ProviderConfig, model: str) -> str:
    return outside_of(model, config.options.get("region", ""))


PLACES = Places(of=_places, known=KNOWN_PLACES, outside=_outside)
