"""What a persona extends, and the defaults, hold where the persona itself says nothing."""

from __future__ import annotations

import pytest
from tests.server.personas.reading import read

from execution_platform.server.config.personas import LimitSettings, PersonaSettings, RouteTarget


def personas_of(text: str) -> dict[str, PersonaSettings]:
    """Return the personas of a file, whole."""
    return read(text).configuration.personas


def test_the_nearest_word_wins() -> None:
    """A persona's own value wins over its parent's, that over the grandparent's, and that over the defaults'."""
    personas = personas_of(
        """
        defaults: {description: default, system_prompt: default, service_tier: default, labels: {from: default}}
        personas:
          grandparent: {system_prompt: grandparent, service_tier: grandparent, labels: {from: grandparent}}
          parent: {extends: grandparent, service_tier: parent, labels: {from: parent}}
          child: {extends: parent, labels: {from: child}}
        """
    )
    child = personas["child"]
    assert (child.description, child.system_prompt, child.service_tier) == ("default", "grandparent", "parent")
    assert child.labels == {"from": "child"}
    assert personas["grandparent"].labels == {"from": "grandparent"}


def test_a_persona_may_extend_one_that_comes_later() -> None:
    """The order of the file does not matter to `extends`."""
    assert personas_of("a: {extends: b}\nb: {extends: c}\nc: {provider: openai}")["a"].provider == "openai"


def test_provider_options_are_merged_as_requests_are() -> None:
    """Options of a provider are merged key by key, lists take the place of lists, and null takes one away."""
    child = personas_of(
        """
        parent:
          provider_options: {openai: {store: true, metadata: {a: "1"}, include: [x]}, gemini: {labels: {a: b}}}
        child:
          extends: parent
          provider_options: {openai: {store: null, metadata: {b: "2"}, include: [y], top: 1.50}}
        """
    )["child"]
    assert child.provider_options == {
        "openai": {"metadata": {"a": "1", "b": "2"}, "include": ["y"], "top": 1.5},
        "gemini": {"labels": {"a": "b"}},
    }


def test_mappings_are_merged_and_lists_are_replaced() -> None:
    """Limits and labels are merged key by key; fallbacks, tools and requirements take the place of the inherited."""
    child = personas_of(
        """
        parent:
          provider: openai
          limits: {tokens_per_min: 1000, concurrent: 5}
          labels: {team: core, cost: low}
          fallback: [anthropic, gemini]
          tools: [read, write]
          requires: [tools]
        child:
          extends: parent
          budget: {tokens_per_min: 2000}
          labels: {cost: high}
          fallback: [mistral]
          tools: []
          capabilities: [vision]
        """
    )["child"]
    assert child.limits == LimitSettings(tokens_per_min=2000, concurrent=5)
    assert child.labels == {"team": "core", "cost": "high"}
    assert child.fallback == (RouteTarget(provider="mistral"),)
    assert child.tools == ()
    assert child.requires == {"image_input"}


def test_null_takes_away_what_is_inherited() -> None:
    """A null brings back the built-in default, at the top as within a mapping, and touches nobody else's."""
    personas = personas_of(
        """
        defaults: {hedging: {after: 1s}, fallback: [anthropic, gemini], limits: {concurrent: 5, requests_per_min: 9}}
        personas:
          a: {provider: openai, hedging: null, fallback: ~, limits: {concurrent: null}}
          b: {provider: openai}
        """
    )
    assert personas["a"].hedging is None
    assert personas["a"].fallback == ()
    assert personas["a"].limits == LimitSettings(requests_per_min=9)
    assert personas["b"].limits == LimitSettings(concurrent=5, requests_per_min=9)


def test_another_provider_does_not_inherit_a_model() -> None:
    """Who names a provider without a model gets that provider's default, not the model and weight of the inherited."""
    personas = personas_of(
        """
        parent: {provider: openai, model: gpt-4, weight: 7}
        other: {extends: parent, provider: gemini}
        same: {extends: parent, model: gpt-5-mini}
        """
    )
    assert (personas["other"].provider, personas["other"].model, personas["other"].weight) == ("gemini", "", 1.0)
    assert (personas["same"].provider, personas["same"].model, personas["same"].weight) == ("openai", "gpt-5-mini", 7.0)


def test_an_inherited_fallback_to_oneself_is_left_out() -> None:
    """With fallbacks among the defaults every persona leaves out the one that it asks first."""
    personas = personas_of(
        """
        defaults: {fallback: [anthropic, fast, gemini]}
        personas:
          a: {provider: anthropic}
          b: {model: fast}
        """
    )
    assert [target.provider for target in personas["a"].fallback] == ["openai", "gemini"]
    assert [target.provider for target in personas["b"].fallback] == ["anthropic", "gemini"]


def test_an_inherited_fallback_may_be_narrowed_down() -> None:
    """A persona that allows fewer providers than its inherited fallbacks name is no mistake."""
    persona = personas_of(
        """
        defaults: {fallback: [anthropic, gemini]}
        personas: {a: {provider: openai, allowed_providers: [openai, gemini]}}
        """
    )["a"]
    assert persona.allowed_providers == ("openai", "gemini")


def test_chats_without_a_persona_get_the_defaults() -> None:
    """The defaults are there as they were written, for chats that name no persona."""
    defaults = read("defaults: {model: openai/gpt-4, labels: {a: b}}").configuration.defaults
    assert (defaults.provider, defaults.model, defaults.labels) == ("openai", "gpt-4", {"a": "b"})


def test_anchors_and_merge_keys_of_yaml_may_be_used() -> None:
    """An alias stands for its value, and `<<` takes in mappings whose keys lose against those beside it."""
    personas = personas_of(
        """
        personas:
          a: &a {provider: openai, labels: &labels {x: "1", y: "2"}}
          b: {<<: *a, model: gpt-4}
          c: {labels: {<<: [*labels, {z: "3"}], x: "4"}}
        """
    )
    assert personas["b"] == PersonaSettings(provider="openai", model="gpt-4", labels={"x": "1", "y": "2"})
    assert personas["c"].labels == {"x": "4", "y": "2", "z": "3"}


@pytest.mark.parametrize(
    ("written", "text"),
    [("no", "no"), ("on", "on"), ("12:30", "12:30"), ("2026-11-21", "2026-11-21"), ("'5'", "5"), ("!!str 5", "5")],
)
def test_words_stay_words(written: str, text: str) -> None:
    """What YAML 1.1 took for truth values, times and dates is a text, as in YAML 1.2."""
    assert personas_of(f"a: {{labels: {{x: {written}}}}}")["a"].labels == {"x": text}


@pytest.mark.parametrize(("written", "number"), [("012", 12), ("0x10", 16), ("0o17", 15), ("+7", 7)])
def test_numbers_are_those_of_yaml_1_2(written: str, number: int) -> None:
    """Leading zeros mean nothing; hexadecimal and octal numbers have their prefix."""
    assert personas_of(f"a: {{sampling: {{top_k: {written}}}}}")["a"].sampling.top_k == number
