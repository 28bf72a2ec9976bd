"""Where a region is asked."""

from __future__ import annotations

import re

import botocore.session
import pytest

from execution_platform.adapters.bedrock.endpoints import control_url, region_of_address, runtime_url
from execution_platform.adapters.errors import InvalidRequestError


def partitions() -> list[tuple[str, str]]:
    """Each region that botocore knows, with its domain."""
    told = botocore.session.Session().get_component("data_loader").load_data("partitions")["partitions"]
    return [(name, each["outputs"]["dnsSuffix"]) for each in told for name in each["regions"] if "global" not in name]


@pytest.mark.parametrize(("region", "domain"), partitions(), ids=lambda part: part)
def test_a_region_is_asked_in_its_own_domain(region: str, domain: str) -> None:
    """The address of every region is the one that botocore gives it, China's and the sovereign ones included."""
    assert runtime_url("", region) == f"https://bedrock-runtime.{region}.{domain}"
    assert control_url("", region) == f"https://bedrock.{region}.{domain}"


def test_botocore_asks_the_same_address() -> None:
    """Botocore's own clients would ask these addresses."""
    session = botocore.session.Session()
    for region in ("eu-central-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"):
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        for service, url in (("bedrock-runtime", runtime_url), ("bedrock", control_url)):
            client = session.create_client(service, region_name=region, **keys)
            assert client.meta.endpoint_url == url("", region)
            client.close()


@pytest.mark.parametrize(
    ("base_url", "runtime", "control"),
    [
        ("http://127.0.0.1:4566/", "http://127.0.0.1:4566", "http://127.0.0.1:4566"),
        ("https://gateway.example/bedrock", "https://gateway.example/bedrock", "https://gateway.example/bedrock"),
        (
            "https://vpce-0a-1b.bedrock-runtime.eu-west-1.vpce.amazonaws.com",
            "https://vpce-0a-1b.bedrock-runtime.eu-west-1.vpce.amazonaws.com",
            "https://bedrock.eu-west-1.amazonaws.com",
        ),
    ],
)
def test_an_address_of_the_operators_stands_for_all(base_url: str, runtime: str, control: str) -> None:
    """A configured address answers everything, unless it is AWS's own for the runtime alone."""
    assert (runtime_url(base_url, "eu-west-1"), control_url(base_url, "eu-west-1")) == (runtime, control)


def test_addresses_are_encrypted() -> None:
    """AWS is never asked without TLS."""
    assert all(re.match(r"https://", runtime_url("", region)) for region, _ in partitions())


@pytest.mark.parametrize(("region", "domain"), partitions(), ids=lambda part: part)
def test_an_endpoint_of_one_region_is_asked_for_no_other(region: str, domain: str) -> None:
    """What stands in a region answers there: nobody is asked there for a region where the answer may be made."""
    other = "eu-central-1" if region == "us-east-1" else "us-east-1"
    for host in (f"bedrock-runtime.{region}.{domain}", f"vpce-0a-1b-{region}a.bedrock-runtime.{region}.vpce.{domain}"):
        assert region_of_address(f"https://{host}/") == region
        assert runtime_url(f"https://{host}/", region) == f"https://{host}"
        with pytest.raises(InvalidRequestError, match=re.escape(region)):
            runtime_url(f"https://{host}", other)


def test_every_domain_of_aws_is_known() -> None:
    """Also addresses that IPv6 reaches tell their region; those of others tell none, whatever is in them."""
    told = botocore.session.Session().get_component("data_loader").load_data("partitions")["partitions"]
    for partition in told:
        assert region_of_address(f"https://bedrock-runtime.us-east-1.{partition['outputs']['dualStackDnsSuffix']}")
    assert region_of_address("https://bedrock-runtime-fips.us-east-1.amazonaws.com") == "us-east-1"
    for host in ("127.0.0.1:4566", "us-east-1.gateway.example", "bedrock.us-east-1.notamazonaws.com"):
        assert region_of_address(f"https://{host}") == ""
