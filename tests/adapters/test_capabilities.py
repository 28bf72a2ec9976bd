"""Rows of capabilities lie over one another, the most specific on top."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from genai_prices.data import providers
from tests.adapters.what_models_are_asked import SPECS

from execution_platform.adapters.capabilities import ALL, capabilities_of, name_of, named
from execution_platform.adapters.spi import CapabilityRow, KnownModel, ProviderSpec

EVERY = CapabilityRow(
    supported=named("streaming", "seed"), unsupported=named("logprobs"), source="a page", as_of="2026-11-02"
)
LARGE = CapabilityRow(
    models=("large*",),
    supported=named("logprobs", "tools"),
    unknown=named("seed"),
    context_window=1000,
    source="a page on large ones",
    as_of="2026-11-01",
)
LARGE_2 = CapabilityRow(
    models=("large-2", "huge-2"), unsupported=named("tools"), source="a page on large-2", as_of="2026-11-03"
)


def spec(*rows: CapabilityRow, models: tuple[KnownModel, ...] = ()) -> ProviderSpec:
    return dataclasses.replace(SPECS["scripted"], capabilities=rows, models=models)


def test_a_specific_row_goes_before_a_general_one() -> None:
    """The longest pattern wins, in whatever order the rows stand; what it leaves open is what the next one says."""
    for rows in ((EVERY, LARGE, LARGE_2), (LARGE_2, LARGE, EVERY)):
        known = capabilities_of(spec(*rows), "large-2")
        assert known.supported == named("streaming", "logprobs")
        assert known.unsupported == named("tools")
        assert known.context_window == 1000
        assert known.sources == ("a page on large-2", "a page on large ones", "a page")
        assert known.as_of == "2026-11-01"


def test_what_a_row_calls_unknown_is_in_neither_list() -> None:
    """A row can take back what a more general one says."""
    known = capabilities_of(spec(EVERY, LARGE), "Large-9")
    assert not named("seed") & (known.supported | known.unsupported)


def test_of_a_provider_without_rows_nothing_is_known() -> None:
    """No row, no claim, and no source for it."""
    known = capabilities_of(spec(), "large")
    assert (known.supported, known.unsupported, known.sources, known.as_of) == (frozenset(), frozenset(), (), "")


@pytest.mark.parametrize("name", ["m", "m-20261001", "m-2026-10-01", "m@20261001", "m-latest"])
def test_a_dated_name_has_the_sizes_of_its_model(name: str) -> None:
    """Sizes are those of the model that is listed, whatever edition is asked for."""
    known = capabilities_of(spec(EVERY, models=(KnownModel("m", context_window=7, max_output_tokens=3),)), name)
    assert (known.context_window, known.max_output_tokens) == (7, 3)


def test_another_model_of_like_name_has_sizes_of_its_own() -> None:
    """A name that only begins like a listed one is another model."""
    assert capabilities_of(spec(EVERY, models=(KnownModel("m", context_window=7),)), "m-mini").context_window is None


def test_the_message_tells_what_is_known() -> None:
    """The contract's message has both lists in order, every source, and the oldest day."""
    message = capabilities_of(spec(EVERY, LARGE), "large").message()
    assert [name_of(each) for each in message.supported] == ["streaming", "tools", "logprobs"]
    assert (message.source, message.as_of) == ("a page on large ones a page", "2026-11-01")


def test_names_are_the_contracts() -> None:
    """Each capability has a name that leads back to it, and a wrong name is an error where it is written."""
    assert named(*(name_of(each) for each in ALL)) == frozenset(ALL)
    with pytest.raises(ValueError, match="CAPABILITY_TOLOS"):
        named("tolos")


@pytest.mark.parametrize("provider", sorted(SPECS))
def test_rows_are_sound(provider: str) -> None:
    """Each row has a source and a day that has been, contradicts itself nowhere, and matches lower case."""
    rows = SPECS[provider].capabilities
    assert any(row.models == ("*",) for row in rows)
    for row in rows:
        assert row.source.strip()
        assert dt.date(2026, 1, 1) <= dt.date.fromisoformat(row.as_of) <= dt.datetime.now(dt.UTC).date()
        said = [row.supported, row.unsupported, row.unknown]
        assert sum(map(len, said)) == len(frozenset().union(*said))
        assert all(pattern == pattern.lower() for pattern in row.models)


OURS_AND_THEIRS = {"bedrock": "aws", "moonshot": "moonshotai", "xai": "x-ai"}


@pytest.mark.parametrize("provider", sorted(SPECS))
def test_sizes_from_the_price_list_are_those_of_the_price_list(provider: str) -> None:
    """Where a size is said to come from genai-prices, the installed package says the same."""
    theirs = {each.id: each for each in providers}
    for row in SPECS[provider].capabilities:
        if row.source.startswith("genai-prices") and row.context_window is not None:
            for name in row.models:
                found = theirs[OURS_AND_THEIRS.get(provider, provider)].find_model(name.replace("*", ""))
                assert found is not None, name
                assert found.context_window == row.context_window, name
