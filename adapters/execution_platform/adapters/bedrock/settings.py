"""The provider's settings: which region, whose credentials, and what is missing to use it. Without botocore."""

from __future__ import annotations

import configparser
import functools
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from execution_platform.adapters.bedrock.regions import KNOWN_PLACES, places_of
from execution_platform.adapters.spi import Places, ProviderConfig, ProviderOption

__all__ = ["OPTIONS", "PLACES", "configured_region", "missing"]

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


def missing(config: ProviderConfig) -> str:
    """Return what is missing to use the provider, naming the remedy; empty: nothing. Imports no SDK."""
    if importlib.util.find_spec("botocore") is None:
        return "botocore is not installed: pip install 'execution-platform[bedrock]'"
    return "" if configured_region(config) else "set EP_BEDROCK_REGION (or AWS_REGION)"


def configured_region(config: ProviderConfig, environ: Mapping[str, str] | None = None) -> str:
    """Return the region that is asked where a model's name tells none; empty: nobody says.

    Args:
        config: the provider's configuration.
        environ: the environment that AWS's own variables are read from; None: the process's.
    """
    environ = os.environ if environ is None else environ
    told = config.options.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return told or _region_of_profile(config, environ)


def _region_of_profile(config: ProviderConfig, environ: Mapping[str, str]) -> str:
    profile = config.options.get("profile") or environ.get("AWS_PROFILE") or "default"
    path = Path(environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    try:
        return _read_region(path, profile)
    except (OSError, configparser.Error, UnicodeDecodeError):
        return ""


# Read once: where requests go and where they are said to go must be the same, whatever becomes of the file.
@functools.lru_cache(maxsize=64)
def _read_region(path: Path, profile: str) -> str:
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(path.read_text())
    section = "default" if profile == "default" else f"profile {profile}"
    return parser.get(section, "region", fallback="").strip()


def _places(config: ProviderConfig, model: str) -> tuple[str, ...]:
    return places_of(model, configured_region(config))


PLACES = Places(of=_places, known=KNOWN_PLACES)
