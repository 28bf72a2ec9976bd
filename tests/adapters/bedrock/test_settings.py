"""What has to be configured for Bedrock, and what it costs to know that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from execution_platform.adapters.bedrock import PROVIDERS
from execution_platform.adapters.bedrock.settings import configured_region, missing
from execution_platform.adapters.spi import ProviderConfig

[SPEC] = PROVIDERS


def config(**options: str) -> ProviderConfig:
    """A configuration with these options and the defaults of the others."""
    return ProviderConfig("bedrock", options={option.name: option.default for option in SPEC.options} | options)


def test_a_region_is_looked_for_where_aws_looks(aws_home: Path) -> None:
    """The setting goes before the environment's two variables, those before the profile's region."""
    (aws_home / "config").write_text(
        "[default]\nregion = eu-north-1\n[profile paris]\nregion=eu-west-3\n[profile none]\noutput=json\n"
    )
    file = {"AWS_CONFIG_FILE": str(aws_home / "config")}
    both = {"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "us-west-2", **file}
    assert configured_region(config(region="eu-central-1"), both) == "eu-central-1"
    assert configured_region(config(), both) == "us-east-2"
    assert configured_region(config(), {"AWS_DEFAULT_REGION": "us-west-2", **file}) == "us-west-2"
    assert configured_region(config(profile="paris"), {"AWS_PROFILE": "none", **file}) == "eu-west-3"
    assert configured_region(config(), {"AWS_PROFILE": "paris", **file}) == "eu-west-3"
    assert configured_region(config(), file) == "eu-north-1"
    assert configured_region(config(profile="none"), file) == ""


@pytest.mark.parametrize("text", ["no section = 1", "[default", "\x00[default]\nregion", "[default]\nregion = \xff"])
def test_a_broken_profile_tells_no_region(aws_home: Path, text: str) -> None:
    """A file that is not one of AWS's is as good as none."""
    (aws_home / "config").write_bytes(text.encode("latin-1"))
    assert configured_region(config(), {"AWS_CONFIG_FILE": str(aws_home / "config")}) == ""


def test_a_region_that_was_read_holds(aws_home: Path) -> None:
    """A profile that changes under a running server moves neither its requests nor the places that it tells."""
    file, found = aws_home / "config", {"AWS_CONFIG_FILE": str(aws_home / "config")}
    assert configured_region(config(), found) == ""
    file.write_text("[default]\nregion = eu-west-1\n")
    assert configured_region(config(), found) == "eu-west-1"
    file.write_text("[default]\nregion = us-east-1\n")
    assert configured_region(config(), found) == "eu-west-1"


def test_only_a_region_must_be_set() -> None:
    """Credentials may come from the machine itself, so that only a missing region is told."""
    assert "EP_BEDROCK_REGION" in missing(config())
    assert missing(config(region="eu-central-1")) == ""


def test_places_follow_the_configured_region() -> None:
    """The same id is elsewhere where another region is configured."""
    assert SPEC.places is not None
    model = "amazon.nova-pro-v1:0"
    assert SPEC.places.of(config(region="eu-central-1"), model) == ("eu-central-1", "eu")
    assert SPEC.places.of(config(region="us-east-1"), model) == ("us-east-1", "us")


#: As if it were not installed.
_WITHOUT_SDK = 'import sys; sys.modules["botocore"] = None\n'

_USE = """
import sys
from execution_platform.adapters.registry import Registry
from execution_platform.adapters.spi import ProviderConfig
registry = Registry.discover()
[spec] = [spec for spec in registry.specs() if spec.name == "bedrock"]
config = ProviderConfig("bedrock", options={"region": "eu-central-1"})
said = spec.missing(config)
assert spec.places.of(config, "eu.amazon.nova-pro-v1:0") == ("eu",)
assert spec.price_listing.names("amazon.nova-pro-v1:0")
assert not [name for name in sys.modules if name.startswith("botocore.")], "botocore is imported"
assert not registry.broken, registry.broken
print(said)
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [("", ""), (_WITHOUT_SDK, "execution-platform[bedrock]")],
)
def test_nobody_pays_for_an_sdk_that_is_not_used(before: str, said: str) -> None:
    """Discovery, places, prices and `missing` import no botocore; where it is not installed, that is said."""
    done = subprocess.run([sys.executable, "-c", before + _USE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert bool(done.stdout.strip()) == bool(said)
