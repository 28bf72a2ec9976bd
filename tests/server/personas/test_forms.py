"""Both forms of the configuration are read as they stand, in YAML and JSON."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest
from tests.server.personas.reading import KNOWN, read

from execution_platform.server.config.personas import (
    CapabilityName,
    Hedging,
    LimitSettings,
    MidStream,
    PersonaSettings,
    RouteTarget,
    Strategy,
    ToolSettings,
)
from execution_platform.server.config.read import Content, PlatformError, read_platform
from execution_platform.server.config.spelling import CAPABILITIES

SIMPLE = '{"architect": {"provider": "openai", "model": "gpt-4"}, "reviewer": {"provider": "claude_agent"}}'

RICH = """
{
  "backend_dev": {
    "provider": "anthropic",
    "fallback": ["openai", "gemini/gemini-2.5-pro", {"provider": "openrouter", "model": "meta/llama", "weight": 2}],
    "budget": {"tokens_per_min": 90000, "cost_per_min": 0.1},
    "capabilities": ["tools", "vision", "JSON-schema"],
    "tools": ["read_file", {"name": "search", "description": "searches", "parameters": {"type": "object"}}],
    "fallback_reason_tracking": false
  }
}
"""

RICH_READ = PersonaSettings(
    provider="anthropic",
    fallback=(
        RouteTarget(provider="openai"),
        RouteTarget(provider="gemini", model="gemini-2.5-pro"),
        RouteTarget(provider="openrouter", model="meta/llama", weight=2),
    ),
    limits=LimitSettings(tokens_per_min=90_000, cost_per_min=Decimal("0.1")),
    requires=frozenset({CapabilityName.TOOLS, CapabilityName.IMAGE_INPUT, CapabilityName.STRUCTURED_OUTPUT}),
    tools=(
        ToolSettings(name="read_file"),
        ToolSettings(name="search", description="searches", parameters={"type": "object"}),
    ),
    fallback_reason_tracking=False,
)


@pytest.mark.parametrize("only_personas", [True, False])
def test_the_simple_map_is_read_verbatim(only_personas: bool) -> None:
    """The map of the issue is read from either of the two files, whatever its providers lack here."""
    reading = read_platform([Content("map.json", SIMPLE.encode(), only_personas=only_personas)], KNOWN)
    assert reading.configuration.personas == {
        "architect": PersonaSettings(provider="openai", model="gpt-4"),
        "reviewer": PersonaSettings(provider="claude_agent"),
    }
    assert reading.sources == {"architect": "map.json:1", "reviewer": "map.json:1"}
    assert reading.warnings == ()


def test_the_richer_form_is_read_verbatim() -> None:
    """Fallbacks, budget, capabilities, tools and tracking of the richer form are read as they stand."""
    assert read(RICH, "personas.json").configuration.personas == {"backend_dev": RICH_READ}


def test_personas_may_stand_under_their_own_key() -> None:
    """Beside version and other sections the personas stand under `personas`, and mean the same."""
    text = f'{{"version": 1, "personas": {RICH}, "breaker": {{"failures": 3}}}}'
    configuration = read(text, "personas.json").configuration
    assert configuration.personas == {"backend_dev": RICH_READ}
    assert configuration.breaker.failures == 3


def test_both_files_make_one_configuration() -> None:
    """Personas of the map get the defaults of the other file, and may extend its personas."""
    config = "defaults: {labels: {team: core}}\npersonas:\n  base: {provider: openai, strategy: sticky}\n"
    contents = [
        Content("personas.yaml", config.encode()),
        Content("map.json", b'{"architect": {"extends": "base", "model": "gpt-4"}}', only_personas=True),
    ]
    personas = read_platform(contents, KNOWN).configuration.personas
    assert personas["architect"] == PersonaSettings(
        provider="openai", model="gpt-4", strategy=Strategy.STICKY, labels={"team": "core"}
    )


def test_every_section_is_read() -> None:
    """Providers, models, tenants, limits and all of a persona's own sections reach their models."""
    configuration = read(
        """
        version: 1
        defaults: {retries: {most: 2, first_wait: 500ms}, mid_stream: continue}
        personas:
          writer:
            provider: gemini
            timeouts: {first_token: 2.5, idle: 30s, total: 5m}
            sampling: {temperature: 0.2, stop_sequences: [END]}
            reasoning: {enabled: true, budget_tokens: 1000}
            hedging: {}
            fallback: [openai]
            allowed_regions: [eu]
        providers: {gemini: {region: eu, limits: {concurrent: 4}, breaker: {failures: 2}}}
        models: {gemini/gemini-2.5-pro: {capabilities: [vision, pdf], input_price: 1.25}}
        tenants: {acme: {key_sha256: [%s], limits: {requests_per_min: 60}}}
        default_tenant: {requests_per_min: 10}
        each_key: {concurrent: 3}
        retry_budget: {ratio: 0.2}
        """
        % ("ab" * 32)
    ).configuration
    writer = configuration.personas["writer"]
    assert (writer.timeouts.first_token, writer.timeouts.idle, writer.timeouts.total) == (2.5, 30.0, 300.0)
    assert (writer.retries.most, writer.retries.first_wait, writer.mid_stream) == (2, 0.5, MidStream.CONTINUE)
    assert (writer.sampling.temperature, writer.sampling.stop_sequences) == (0.2, ("END",))
    assert (writer.reasoning.enabled, writer.reasoning.budget_tokens) == (True, 1000)
    assert writer.hedging == Hedging()
    gemini = configuration.providers["gemini"]
    assert (gemini.region, gemini.limits.concurrent) == ("eu", 4)
    facts = configuration.models["gemini/gemini-2.5-pro"]
    assert facts.capabilities == frozenset({CapabilityName.IMAGE_INPUT, CapabilityName.PDF_INPUT})
    assert facts.input_price == Decimal("1.25")
    assert configuration.tenants["acme"].limits.requests_per_min == 60
    assert (configuration.default_tenant.requests_per_min, configuration.each_key.concurrent) == (10, 3)
    assert configuration.retry_budget.ratio == 0.2


@pytest.mark.parametrize("file", ["p.yaml", "p.json"])
def test_money_keeps_its_digits(file: str) -> None:
    """A price is read digit by digit, never through a float, in YAML as in JSON."""
    price = "0.1000000000000000055511151231"
    text = f'{{"a": {{"budget": {{"cost_per_min": {price}}}}}}}'
    cost = read(text, file).configuration.personas["a"].limits.cost_per_min
    assert str(cost) == price


def test_a_schema_of_a_tool_stays_as_it_is() -> None:
    """The parameters of a tool keep their nulls, their large numbers and the order of their keys."""
    text = '{"a": {"tools": [{"name": "t", "parameters": {"z": null, "a": [null, 12345678901234567890], "b": 1.5}}]}}'
    [tool] = read(text, "p.json").configuration.personas["a"].tools
    assert tool.parameters == {"z": None, "a": [None, 12345678901234567890], "b": 1.5}
    assert list(tool.parameters) == ["z", "a", "b"]


@pytest.mark.parametrize(("word", "name"), CAPABILITIES.items())
def test_capabilities_have_further_words(word: str, name: CapabilityName) -> None:
    """Each word for a capability is read under both keys, whatever its case, with - as with _."""
    written = word.upper().replace("_", "-")
    personas = read(f"{{a: {{capabilities: [{written}]}}, b: {{requires: [{word}]}}}}").configuration.personas
    assert personas["a"].requires == personas["b"].requires == {name}


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("openai", ("openai", "")),
        ("openai/gpt-4", ("openai", "gpt-4")),
        ("openrouter/meta/llama", ("openrouter", "meta/llama")),
        ("fast", ("openai", "gpt-5-mini")),
        ("local-one", ("local", "")),
        ("{model: fast, weight: 3}", ("openai", "gpt-5-mini")),
        ("{provider: openrouter, model: openai/gpt-4}", ("openrouter", "openai/gpt-4")),
    ],
)
def test_a_fallback_names_provider_model_or_alias(written: str, target: tuple[str, str]) -> None:
    """A fallback is a provider, provider/model or an alias, as a text or in a mapping."""
    [fallback] = read(f"a: {{provider: anthropic, fallback: [{written}]}}").configuration.personas["a"].fallback
    assert (fallback.provider, fallback.model) == target


@pytest.mark.parametrize("model", ["openai/gpt-5-mini", "fast"])
def test_a_persona_may_name_its_model_alone(model: str) -> None:
    """Without a provider `model` is provider/model or an alias."""
    persona = read(f"a: {{model: {model}}}").configuration.personas["a"]
    assert (persona.provider, persona.model) == ("openai", "gpt-5-mini")


def test_an_empty_persona_is_one() -> None:
    """A persona of which nothing is said is chosen for by the keys that are there."""
    assert read("a:\nb: {}\n").configuration.personas == {"a": PersonaSettings(), "b": PersonaSettings()}


@pytest.mark.parametrize("text", ["version: 1\n", "personas:\n", "{}"])
def test_a_file_may_say_nothing(text: str) -> None:
    """A file without a persona is a configuration without one."""
    assert read(text).configuration.personas == {}


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_an_empty_file_is_a_mistake(text: str) -> None:
    """A file that an editor has emptied and not written yet does not lift every limit."""
    with pytest.raises(
        PlatformError, match=r"personas\.yaml:1: is empty; write `version: 1` where no persona is meant"
    ):
        read(text)


def test_where_a_persona_is_defined_is_known() -> None:
    """Each persona's source is file and line of its name."""
    text = "personas:\n  a: {}\n\n  b:\n    provider: openai\n"
    assert read(text).sources == {"a": "personas.yaml:2", "b": "personas.yaml:4"}


def test_editors_may_be_told_of_the_schema() -> None:
    """`$schema` at the top is for editors and is passed over, in both forms."""
    for text in ('{"$schema": "x.json", "a": {}}', '{"$schema": "x.json", "personas": {"a": {}}}'):
        assert list(read(text, "p.json").configuration.personas) == ["a"]


def test_the_digest_is_that_of_the_bytes() -> None:
    """The digest is the SHA-256 of the files one after the other, as `cat FILES | sha256sum` tells it."""
    contents = [Content("a.yaml", b"a: {}\n"), Content("b.yaml", b"b: {}\n", only_personas=True)]
    assert read_platform(contents, KNOWN).digest == hashlib.sha256(b"a: {}\nb: {}\n").hexdigest()
