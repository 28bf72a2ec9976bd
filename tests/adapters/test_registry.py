"""The registry finds providers, survives broken packages, and helps with misspelt names."""

from importlib.metadata import EntryPoint, entry_points

import pytest

from execution_platform.adapters.registry import GROUP, DuplicateProviderError, Registry, UnknownProviderError
from execution_platform.adapters.spi import Adapter, ProviderConfig, ProviderSpec


def create(_: ProviderConfig) -> Adapter:
    raise AssertionError("the registry must not make adapters")


def spec(name: str) -> ProviderSpec:
    return ProviderSpec(name=name, display_name=f"Provider {name}", family=name, create=create)


ONE = (spec("one"), spec("uno"))
TWO = (spec("two"),)
ONE_AGAIN = (spec("one"),)
A_LIST = [spec("listed")]
STRANGERS = ("not a spec",)
BAD_NAME = (spec("Bad-Name"),)


def entry(value: str) -> EntryPoint:
    return EntryPoint(name=value.lower(), value=f"{__name__}:{value}", group=GROUP)


def test_specs_come_by_name() -> None:
    """Providers are listed sorted by name, whatever the order in which they were found."""
    registry = Registry([spec("zeta"), spec("alpha")])
    assert registry.names() == ("alpha", "zeta")
    assert [one.name for one in registry.specs()] == ["alpha", "zeta"]
    assert registry.spec("zeta").display_name == "Provider zeta"


def test_entry_points_bring_their_providers() -> None:
    """Every provider of every entry point is found."""
    registry = Registry.discover([entry("TWO"), entry("ONE")])
    assert registry.names() == ("one", "two", "uno")
    assert registry.broken == ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("MISSING", "AttributeError"),
        ("A_LIST", "TypeError: it must name a tuple of ProviderSpec, not list"),
        ("STRANGERS", "TypeError: it must name a tuple of ProviderSpec"),
        ("BAD_NAME", "ValueError: a provider's name is lower case"),
    ],
)
def test_a_broken_entry_point_costs_only_itself(value: str, reason: str) -> None:
    """An entry point that cannot be used is reported by name with its reason, and the others still work."""
    registry = Registry.discover([entry("ONE"), entry(value), entry("TWO")])
    assert registry.names() == ("one", "two", "uno")
    (broken,) = registry.broken
    assert value in broken.entry_point
    assert broken.reason.startswith(reason)


def test_a_module_that_is_not_there_is_reported() -> None:
    """An entry point into a module that cannot be imported is reported, naming the module."""
    registry = Registry.discover([EntryPoint("ghost", "no_such_module_anywhere:PROVIDERS", GROUP)])
    assert registry.names() == ()
    assert "no_such_module_anywhere" in registry.broken[0].reason


def test_two_providers_of_one_name_are_an_error() -> None:
    """Two entry points that bring one name are an error that names both."""
    with pytest.raises(DuplicateProviderError, match=r"'one'.*:ONE.*:ONE_AGAIN"):
        Registry.discover([entry("ONE"), entry("ONE_AGAIN")])
    with pytest.raises(DuplicateProviderError, match="Provider one"):
        Registry([spec("one"), spec("one")])


def test_a_name_must_form_the_names_of_settings() -> None:
    """A provider's name outside of lower case letters, digits and underscores is refused."""
    with pytest.raises(ValueError, match="lower case"):
        Registry([spec("Open-AI")])


@pytest.mark.parametrize(
    ("asked", "suggestion"),
    [("anthropc", "anthropic"), ("OpenAI", "openai"), ("zzzzzz", ""), ("", "")],
)
def test_an_unknown_name_suggests_the_nearest(asked: str, suggestion: str) -> None:
    """The error for an unknown name suggests the nearest known one where one is near, and lists all."""
    registry = Registry([spec("anthropic"), spec("openai")])
    with pytest.raises(UnknownProviderError) as caught:
        registry.spec(asked)
    assert caught.value.suggestion == suggestion
    assert ("did you mean" in str(caught.value)) == bool(suggestion)
    assert "anthropic, openai" in str(caught.value)


def test_an_unknown_long_name_is_cut() -> None:
    """The error for an unknown name shows at most 64 characters of it."""
    with pytest.raises(UnknownProviderError) as caught:
        Registry([]).spec("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_an_origin_names_its_distribution() -> None:
    """An installed entry point is told with the distribution that declares it."""
    installed = [point for point in entry_points(group=GROUP) if point.dist and point.dist.name == "execution-platform"]
    assert installed, "the distribution is not installed"
    broken = EntryPoint("scripted", "no_such_module_anywhere:X", GROUP)
    # EntryPoint is immutable; _for binds it to a distribution as the standard library does.
    bound = broken._for(installed[0].dist)  # type: ignore[attr-defined]  # not in the stubs
    assert Registry.discover([bound]).broken[0].entry_point.endswith("(execution-platform)")


def test_the_installed_entry_points_are_the_default() -> None:
    """Without arguments the installed entry points are read."""
    registry = Registry.discover()
    assert registry.names() == Registry.discover(entry_points(group=GROUP)).names()
    assert "scripted" in registry.names()
