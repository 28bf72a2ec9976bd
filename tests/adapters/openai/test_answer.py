"""What both formats tell beside the answer: identifiers, rate limits, costs."""

from __future__ import annotations

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.adapters.openai_api.answer import (
    provider_request_id,
    rate_limits,
    stated_cost,
)
from execution_platform.v1 import usage_pb2


@pytest.mark.parametrize(
    ("reset", "seconds", "nanos"),
    [
        ("6ms", 0, 6_000_000),
        ("1m30.5s", 90, 500_000_000),
        ("17h2m", 61_320, 0),
        ("0s", 0, 0),
        ("120", 120, 0),
        ("0.25", 0, 250_000_000),
        ("1d", 86_400, 0),
    ],
)
def test_a_reset_is_a_span(reset: str, seconds: int, nanos: int) -> None:
    """Spans come as OpenAI writes them or as seconds."""
    [limit] = rate_limits({"x-ratelimit-reset-tokens": reset})
    assert limit.name == "tokens"
    assert limit.reset_after == duration_pb2.Duration(seconds=seconds, nanos=nanos)


@pytest.mark.parametrize("reset", ["1754667660000", "1754667660"])
def test_a_reset_may_be_a_time(reset: str) -> None:
    """A time comes as seconds or milliseconds of the epoch."""
    [limit] = rate_limits({"X-RateLimit-Reset": reset})
    assert limit.name == "requests"
    assert limit.reset_time == timestamp_pb2.Timestamp(seconds=1_754_667_660)


def test_limits_are_put_together_by_name() -> None:
    """Limit, rest and reset of one name are one snapshot; what is not a number is passed over."""
    headers = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9.0",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-limit-input-images": "5",
        "x-ratelimit-limit-tokens": "many",
        "x-ratelimit-remaining-tokens": "9" * 30,
        "x-ratelimit-reset-tokens": "soon",
        "x-ratelimit-renewalperiod-tokens": "60",
        "content-type": "text/event-stream",
    }
    limits = {limit.name: (limit.limit, limit.remaining) for limit in rate_limits(headers)}
    assert limits == {"requests": (10, 9), "input-images": (5, 0)}


@given(
    st.dictionaries(st.sampled_from(["x-ratelimit-limit", "x-ratelimit-reset-a", "x-ratelimit-remaining"]), st.text())
)
def test_no_header_breaks_an_answer(headers: dict[str, str]) -> None:
    """Whatever stands in the headers, reading them raises nothing."""
    assert len(rate_limits(headers)) <= 2


def test_the_request_id_is_the_servers() -> None:
    """The first header of those that servers use that is not empty names the request."""
    assert provider_request_id({"x-request-id": "", "apim-request-id": "a"}) == "a"
    assert provider_request_id({}) == ""


@pytest.mark.parametrize(
    ("cost", "ticks", "nanos"),
    [
        ("3.6e-05", None, 36_000),
        ("0.0000000005", None, 0),
        ("0.0000000015", None, 2),
        (None, "9243500", 924_350),
        (None, "15", 2),
        ("0", None, 0),
    ],
)
def test_a_stated_cost_is_exact(cost: str | None, ticks: str | None, nanos: int) -> None:
    """Costs are rounded once, half to even, to 1e-9 USD."""
    stated = stated_cost(cost, ticks)
    assert stated is not None
    [line] = stated.lines
    assert (line.amount.currency_code, line.amount.nanos) == ("USD", nanos)
    assert line.source == usage_pb2.COST_SOURCE_PROVIDER
    assert stated.status == usage_pb2.COST_STATUS_EXACT


@pytest.mark.parametrize("cost", [None, "", "null", '"free"', "Infinity", "1e30"])
def test_what_is_no_cost_is_none(cost: str | None) -> None:
    """Something else than a number of dollars states nothing, rather than 0."""
    assert stated_cost(cost) is None
