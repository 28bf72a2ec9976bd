"""What has to be configured for Bedrock, and what it costs to know that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adapters.bedrock.serving import KEYS, MODEL, call, collected, either
from tests.adapters.upstream import upstream

from execution_platform.adapters.bedrock import PROVIDERS
from execution_platform.adapters.bedrock.adapter import BedrockAdapter
from execution_platform.adapters.bedrock.regions import KNOWN_PLACES
from execution_platform.adapters.bedrock.request import build_request
from execution_platform.adapters.bedrock.settings import missing
from execution_platform.adapters.errors import NotConfiguredError
from execution_platform.adapters.spi import ProviderConfig
from execution_platform.server.config.load import load

[SPEC] = PROVIDERS


def config(**options: str) -> ProviderConfig:
    """A configuration with these options and the defaults of the others."""
    return ProviderConfig("bedrock", options={option.name: option.default for option in SPEC.options} | options)


def settled(given: ProviderConfig, environ: Mapping[str, str]) -> str:
    """The region that a configuration gets in an environment."""
    return SPEC.settle(given, environ).options["region"]


def test_a_region_is_looked_for_where_aws_looks(aws_home: Path) -> None:
    """The setting goes before the environment's two variables, those before the profile's region."""
    (aws_home / "config").write_text(
        "[default]\nregion = eu-north-1\n[profile paris]\nregion=eu-west-3\n[profile none]\noutput=json\n"
    )
    file = {"AWS_CONFIG_FILE": str(aws_home / "config")}
    both = {"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "us-west-2", **file}
    assert settled(config(region="eu-central-1"), both) == "eu-central-1"
    assert settled(config(region=" eu-central-1 "), both) == "eu-central-1"
    assert settled(config(), both) == "us-east-2"
    assert settled(config(), {"AWS_DEFAULT_REGION": "us-west-2", **file}) == "us-west-2"
    assert settled(config(profile="paris"), {"AWS_PROFILE": "none", **file}) == "eu-west-3"
    assert settled(config(), {"AWS_PROFILE": "paris", **file}) == "eu-west-3"
    assert settled(config(), file) == "eu-north-1"
    assert settled(config(profile="none"), file) == ""


@pytest.mark.parametrize("text", ["no section = 1", "[default", "\x00[default]\nregion", "[default]\nregion = \xff"])
def test_a_broken_profile_tells_no_region(aws_home: Path, text: str) -> None:
    """A file that is not one of AWS's is as good as none."""
    (aws_home / "config").write_bytes(text.encode("latin-1"))
    assert settled(config(), {"AWS_CONFIG_FILE": str(aws_home / "config")}) == ""


async def test_what_is_asked_and_where_it_counts_as_being_stay_one(
    aws_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile that changes under a running server moves neither its requests nor the places that it tells."""
    file, environ = aws_home / "config", {"AWS_CONFIG_FILE": str(aws_home / "config")}
    file.write_text("[default]\nregion = us-east-1\n")
    loaded = load([SPEC], environ).providers["bedrock"]
    file.write_text("[default]\nregion = eu-central-1\n")
    assert SPEC.places is not None
    assert SPEC.places.of(loaded, MODEL) == ("us-east-1", "us")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    async with upstream(either) as served:
        adapter = BedrockAdapter(replace(loaded, base_url=served.url))
        route = (await collected(adapter, call(MODEL)))[0].started.route
        await adapter.aclose()
    assert route.region == "us-east-1"
    assert "/us-east-1/bedrock/aws4_request" in served.received[0].headers["authorization"]


def test_only_a_region_must_be_set() -> None:
    """Credentials may come from the machine itself, so that only a missing region is told."""
    assert "EP_BEDROCK_REGION" in missing(config())
    assert missing(config(region="eu-central-1")) == ""


@pytest.mark.parametrize("region", ["eu-central1", "evil.example.org/x", "evil.example.org#", "eu-central-1.x", "EU"])
def test_what_is_no_region_is_told_by_the_setting(region: str) -> None:
    """A misspelt region is not asked, and no host is made of what is none; the setting is named."""
    said = missing(config(region=region))
    assert repr(region) in said
    assert "EP_BEDROCK_REGION" in said
    with pytest.raises(NotConfiguredError, match="EP_BEDROCK_REGION"):
        build_request(call(MODEL), "bedrock", region)
    assert SPEC.places is not None
    assert SPEC.places.of(config(region=region), MODEL) == ()


@pytest.mark.parametrize("region", sorted(place for place in KNOWN_PLACES if place[-1].isdigit()))
def test_every_region_may_be_set(region: str) -> None:
    """No region that is known is taken for a misspelt one."""
    assert missing(config(region=region)) == ""


def test_an_address_in_another_region_is_told() -> None:
    """An endpoint of AWS's is not asked for a region that it is not in."""
    address = "https://vpce-0a.bedrock-runtime.us-east-1.vpce.amazonaws.com"
    there = replace(config(region="us-east-1"), base_url=address)
    assert missing(there) == ""
    said = missing(replace(config(region="eu-central-1"), base_url=address))
    assert "EP_BEDROCK_BASE_URL" in said
    assert "us-east-1" in said


def test_places_follow_the_configured_region() -> None:
    """The same id is elsewhere where another region is configured."""
    assert SPEC.places is not None
    assert SPEC.places.of(config(region="eu-central-1"), MODEL) == ("eu-central-1", "eu")
    assert SPEC.places.of(config(region="us-east-1"), MODEL) == ("us-east-1", "us")


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
