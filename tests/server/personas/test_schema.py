"""The JSON Schema for editors takes what the reader takes, and says what each key means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from tests.docs.pages import ROOT, blocks_of
from tests.server.personas.reading import KNOWN, problems_of, read
from tests.server.personas.test_broken import BROKEN
from tests.server.personas.test_forms import RICH, SIMPLE

from execution_platform.server.config.schema import schema_of

SCHEMA = schema_of(KNOWN)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

GOOD = [
    SIMPLE,
    RICH,
    f'{{"version": 1, "$schema": "x.json", "personas": {RICH}}}',
    "{a: null, b: {}}",
    "a: {fallback: [fast, local-one, {model: anthropic/x}, openai/gpt-4, {provider: gemini, weight: 0.5}]}",
    "a: {capabilities: [Vision, JSON-Schema, pdf], tools: [read, {name: write, parameters: {type: object}}]}",
    "b: {}\na: {extends: b, budget: {tokens_per_min: 5, cost_per_min: 0.5}, limits: {concurrent: 1}, hedging: {}}",
    "a: {timeouts: {first_token: 2, idle: 500ms, total: 5 m}, hedging: null, sampling: null, retries: {most: null}}",
    "defaults: {retries: {first_wait: 1s}, fallback: [openai]}\npersonas:",
    "models: {openai/gpt-4: {capabilities: [vision], input_price: 1.25, output_price: '2.50'}}",
    """
prices:
- {provider: openai, model: gpt-5*, from: '2026-01-01', until: '2027-01-01T00:00:00+01:00', version: contract 1,
   input: 1.25, output: '10', cache_writes: {12h: 3}, tiers: [{above: 200000, input: 2}],
   service_tiers: {batch: {factor: 0.5}}, regions: {eu: {input: null}}, tools: {web_search: 10}, request: 0.01}
""",
    "prices: [{provider: vllm, model: '*', input: 0, output: 0, tiers: null}]",
    "tenants: {acme: {key_sha256: [%s]}}\neach_key: {requests_per_min: 5}" % ("ab" * 32),
    "tenants: {acme: {projects: {site: {key_sha256: [%s]}}}}" % ("ab" * 32),
    "providers: {gemini: {region: eu, breaker: {failures: 3, open_seconds: 5s}}, bedrock: {region: us}}",
]

#: Mistakes that a schema can see: those of a value by itself, not of what goes together.
SEEN = (
    "an unknown provider in a fallback",
    "an unknown provider",
    "an unknown provider in a text",
    "a fallback that is nothing",
    "an alias as a provider",
    "a model in the provider",
    "a fallback without its name",
    "a fallback that is no list",
    "a misspelt key",
    "a misspelt key of the file alone",
    "a misspelt key within",
    "a misspelt section",
    "a persona beside the sections",
    "a later version",
    "a misspelt strategy",
    "a misspelt capability",
    "a misspelt budget",
    "a limit in the budget",
    "a budget of 0",
    "a cost with its currency",
    "a budget that is a number",
    "a fraction of a token",
    "a number in quotes",
    "too hot",
    "a word for a number",
    "a time that is none",
    "no time at all",
    "too many retries",
    "a version for a model",
    "a number for a label",
    "a label too long",
    "a tool with a blank",
    "a tool without a name",
    "tools by name",
    "a persona that is a text",
    "a persona with a blank",
    "a list of personas",
    "a list for a file",
    "two parents",
    "defaults that extend",
    "an allowed provider that is none",
    "a provider's section that is none",
    "a model's section without the model",
    "a model's section of nobody",
    "a negative price",
    "a price of nobody",
    "a price of no model",
    "a misspelt price",
    "a price with its currency",
    "a time without its zone",
    "a tier without its length",
    "a lifetime that is none",
    "several versions",
    "prices by name",
    "a token in place of its digest",
    "a key of a provider",
)


def examples_of_the_page() -> list[str]:
    """Return the complete files of the page about personas."""
    return [
        block.code
        for block in blocks_of(ROOT / "docs/personas.md")
        if block.mark == "file" and block.language in {"yaml", "json"} and block.said != "broken.yaml"
    ]


def properties_of(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property that a schema describes, with where it stands."""
    if isinstance(schema, dict):
        for name, each in schema.get("properties", {}).items():
            yield f"{path}/{name}", each
        for key, each in schema.items():
            yield from properties_of(each, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, each in enumerate(schema):
            yield from properties_of(each, f"{path}/{index}")


def test_it_is_a_schema_of_its_draft() -> None:
    """The schema is valid in draft 2020-12 and can be written as JSON."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("text", [*GOOD, *examples_of_the_page()])
def test_what_the_reader_takes_is_valid(text: str) -> None:
    """Each good file is read without a problem and is valid by the schema."""
    read(text)
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("name", SEEN)
def test_what_the_reader_refuses_is_not_valid(name: str) -> None:
    """A broken file whose mistake is within one value is refused by the schema as it is by the reader."""
    text, _ = BROKEN[name]
    assert problems_of(("personas.yaml", text))
    # As the reader takes it, by YAML 1.2: what is no number or truth value there is a text.
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


def test_every_key_is_described() -> None:
    """Each property of the schema has a description, which editors show, or points to one of its own."""
    silent = [
        path
        for path, each in properties_of(SCHEMA)
        if not each.get("description") and not path.endswith("anyOf/1/model")
    ]
    assert silent == []


def test_editors_are_told_the_names() -> None:
    """Providers, also those that lack something here, and aliases are listed for completion."""
    persona = SCHEMA["$defs"]["PersonaSettings"]["properties"]
    providers = persona["provider"]["anyOf"][0]["enum"]
    assert {"openai", "blind", "lame", "bedrock", "claude_agent"} <= set(providers)
    fallback = persona["fallback"]["anyOf"][0]["items"]["anyOf"][0]["anyOf"][0]["enum"]
    assert {"fast", "openai"} <= set(fallback)
