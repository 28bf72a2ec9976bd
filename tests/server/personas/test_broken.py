"""What is wrong with a configuration is told with file, line, path and what to write, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.personas.reading import problems_of, read

from execution_platform.adapters import scripted
from execution_platform.server.config.load import ConfigurationError, load
from execution_platform.server.config.read import contents_of

TIME = "write a time as a number of seconds, or as 500ms, 30s, 5m or 1h"
CAPABILITY_NAMES = (
    "audio_input, batch, embeddings, image_input, logprobs, parallel_tools, pdf_input, prompt_caching, seed, "
    "streaming, structured_output, thinking, tools"
)
SECRET = "sk-made-up-0123456789abcdefghijklmnopqrstuvwxyz"

#: What is wrong, by what the test is called: the file's text, and the one line that it gives after the file's name.
BROKEN: dict[str, tuple[str, str]] = {
    "an unknown provider in a fallback": (
        "personas:\n  architect:\n    provider: anthropic\n    fallback:\n      - gemini\n      - {provider: opnai}\n",
        "6: personas.architect.fallback[1].provider: no provider 'opnai'; did you mean 'openai'?",
    ),
    "an unknown provider": ("a: {provider: OpenAi}", "1: a.provider: no provider 'OpenAi'; did you mean 'openai'?"),
    "an unknown provider in a text": (
        "a:\n  fallback: [opnai/gpt-4]",
        "2: a.fallback[0]: no provider 'opnai'; did you mean 'openai'?",
    ),
    "a fallback that is nothing": (
        "a:\n  fallback: [fst]",
        "2: a.fallback[0]: 'fst' is neither a provider nor provider/model nor an alias; did you mean 'fast'?",
    ),
    "a model without its provider": (
        "a: {model: claude-sonnet-4-5}",
        (
            "1: a.model: 'claude-sonnet-4-5' is neither a provider nor provider/model nor an alias; "
            "did you mean 'anthropic/claude-sonnet-4-5'?"
        ),
    ),
    "an alias as a provider": (
        "a: {provider: fast}",
        "1: a.provider: 'fast' is an alias of a model: write `model: fast`, without a provider",
    ),
    "a model in the provider": (
        "a: {provider: openai/gpt-4}",
        "1: a.provider: this names a model too: write `provider: openai` and `model: gpt-4`",
    ),
    "a fallback without its name": ("a:\n  fallback:\n  - weight: 2", "3: a.fallback[0]: `provider` is missing"),
    "a fallback that is no list": (
        "a: {fallback: openai}",
        "1: a.fallback: must be a list, such as [first, second]",
    ),
    "a fallback that is asked already": (
        "a:\n  provider: openai\n  fallback:\n    - anthropic\n    - openai/gpt-5-mini\n    - fast",
        "6: a.fallback[2]: asks openai/gpt-5-mini again, as line 5 does; leave it out",
    ),
    "a fallback to oneself": (
        "a:\n  provider: blind\n  fallback: [blind/mole]",
        "3: a.fallback[0]: asks blind/mole again, as line 2 does; leave it out",
    ),
    "a misspelt key": (
        "personas:\n  a:\n    provder: openai\n",
        "3: personas.a.provder: unknown key; did you mean 'provider'?",
    ),
    "a misspelt key of the file alone": (
        "personas:\n  a:\n    extend: b\n",
        "3: personas.a.extend: unknown key; did you mean 'extends'?",
    ),
    "a misspelt key within": (
        "a: {timeouts: {first_tokn: 3}}",
        "1: a.timeouts.first_tokn: unknown key; did you mean 'first_token'?",
    ),
    "a misspelt section": (
        "version: 1\npersona: {a: {}}\n",
        "2: persona: unknown key; did you mean 'personas'?",
    ),
    "a misspelt section and nothing else": (
        "persona:\n  a: {provider: openai}\n",
        "1: persona: unknown key; did you mean 'personas'?",
    ),
    "a persona beside the sections": (
        "version: 1\nwriter: {provider: openai}\n",
        "2: writer: unknown key; a persona belongs under `personas`",
    ),
    "a later version": ("version: 2\n", "1: version: must be 1, the version that this server reads"),
    "a misspelt strategy": (
        "a: {strategy: wieghted}",
        "1: a.strategy: 'wieghted' is not known here; did you mean 'weighted'?",
    ),
    "a strategy that is none": (
        "a: {strategy: 7}",
        "1: a.strategy: '7' is not known here; there are: cheapest, lowest_latency, priority, sticky, weighted",
    ),
    "a misspelt capability": (
        "a: {capabilities: [tools, visoin]}",
        "1: a.capabilities[1]: no capability 'visoin'; did you mean 'vision'?",
    ),
    "a capability that is none": (
        "a: {requires: [telepathy]}",
        f"1: a.requires[0]: no capability 'telepathy'; there are: {CAPABILITY_NAMES}",
    ),
    "capabilities twice": (
        "a:\n  requires: [tools]\n  capabilities: [vision]",
        "3: a.capabilities: says the same as `requires` in line 2; keep one of them",
    ),
    "a misspelt budget": (
        "a: {budget: {token_per_min: 5}}",
        "1: a.budget.token_per_min: unknown key; did you mean 'tokens_per_min'?",
    ),
    "a limit in the budget": (
        "a: {budget: {concurrent: 5}}",
        "1: a.budget.concurrent: unknown key; it takes tokens_per_min and cost_per_min; others go into `limits`",
    ),
    "a limit in both": (
        "a:\n  limits: {tokens_per_min: 5}\n  budget: {tokens_per_min: 6}",
        "3: a.budget.tokens_per_min: is also at `limits` in line 2; keep one of them",
    ),
    "a budget of 0": ("a: {budget: {tokens_per_min: 0}}", "1: a.budget.tokens_per_min: must be at least 1"),
    "a cost with its currency": (
        "a: {budget: {cost_per_min: $5}}",
        "1: a.budget.cost_per_min: must be a number, such as 0.50, without a currency",
    ),
    "a budget that is a number": (
        "a: {budget: 5}",
        "1: a.budget: must be a mapping, such as {tokens_per_min: 100000, cost_per_min: 0.50}",
    ),
    "a fraction of a token": (
        "a: {sampling: {max_output_tokens: 1.5}}",
        "1: a.sampling.max_output_tokens: must be a whole number, such as 1000",
    ),
    "a number in quotes": (
        'a: {sampling: {top_k: "5"}}',
        "1: a.sampling.top_k: must be a whole number, such as 1000",
    ),
    "too hot": ("a: {sampling: {temperature: 2.5}}", "1: a.sampling.temperature: must be at most 2"),
    "a word for a number": ("a: {weight: heavy}", "1: a.weight: must be a number, such as 0.5"),
    "a time that is none": ("a: {timeouts: {idle: soon}}", f"1: a.timeouts.idle: {TIME}"),
    "a list for a time": ("a: {timeouts: {idle: [1]}}", f"1: a.timeouts.idle: {TIME}"),
    "no time at all": ("a: {timeouts: {idle: 0}}", "1: a.timeouts.idle: must be above 0"),
    "too many retries": ("defaults: {retries: {most: 6}}", "1: defaults.retries.most: must be at most 5"),
    "yes for true": (
        "a: {fallback_reason_tracking: yes}",
        "1: a.fallback_reason_tracking: must be true or false",
    ),
    "a version for a model": (
        "a: {provider: openai, model: 4.1}",
        '1: a.model: must be a text: write "4.1", in quotes',
    ),
    "a number for a label": (
        "a: {labels: {cost_center: 4711}}",
        '1: a.labels.cost_center: must be a text: write "4711", in quotes',
    ),
    "a label too long": (
        f"a: {{labels: {{x: {'y' * 129}}}}}",
        "1: a.labels.x: must not have more characters than 128",
    ),
    "a tool twice": ("a:\n  tools:\n  - read\n  - {name: read}", "4: a.tools[1]: tool 'read' is already in line 3"),
    "a tool with a blank": (
        "a: {tools: [read file]}",
        "1: a.tools[0]: must be 1 to 128 letters, digits, '_', '-' or '.', or '*' for any of them",
    ),
    "a tool without a name": ("a: {tools: [{description: x}]}", "1: a.tools[0]: `name` is missing"),
    "tools by name": ("a: {tools: {read: {}}}", "1: a.tools: must be a list, such as [first, second]"),
    "a persona that is a text": (
        "architect: openai/gpt-4",
        "1: architect: must be a mapping, such as {provider: openai, model: gpt-4}",
    ),
    "a persona with a blank": (
        '"my persona": {provider: openai}',
        "1: [\"my persona\"]: cannot name a persona: use 1 to 128 letters, digits, '_', '-' or '.'",
    ),
    "a list of personas": (
        "personas:\n- {name: a}",
        "2: personas: must be a mapping of names to personas",
    ),
    "a list for a file": (
        "- a\n- b\n",
        "1: must be a mapping, such as {architect: {provider: openai, model: gpt-4}}",
    ),
    "an unknown parent": (
        "personas:\n  base: {}\n  a:\n    extends: bse\n",
        "4: personas.a.extends: no persona 'bse'; did you mean 'base'?",
    ),
    "two parents": ("a: {}\nb: {extends: [a]}", "2: b.extends: must be the name of one persona"),
    "a circle": (
        "personas:\n  a: {extends: b}\n  b: {extends: c}\n  c: {extends: a}\n",
        "4: personas.c.extends: goes round in a circle (a, b, c, a); let one of them extend another or nothing",
    ),
    "a persona of itself": (
        "a: {extends: a}",
        "1: a.extends: goes round in a circle (a, a); let one of them extend another or nothing",
    ),
    "defaults that extend": (
        "defaults: {extends: a}\npersonas: {a: {}}",
        "1: defaults.extends: cannot extend a persona: every persona begins with the defaults",
    ),
    "another provider's model with an inherited provider": (
        "personas:\n  a: {provider: openai}\n  b: {extends: a, model: anthropic/claude-sonnet-4-5}\n",
        "3: personas.b.model: would be asked of 'openai', which is inherited; write `provider` beside it",
    ),
    "an allowed provider that is none": (
        "a: {allowed_providers: [anthropc]}",
        "1: a.allowed_providers[0]: no provider 'anthropc'; did you mean 'anthropic'?",
    ),
    "options of a provider that is none": (
        "a: {provider_options: {anthropc: {speed: fast}}}",
        "1: a.provider_options.anthropc: no provider 'anthropc'; did you mean 'anthropic'?",
    ),
    "an option that a provider's adapter does not let be set": (
        "a:\n  provider_options:\n    sighted:\n      depth: 3\n      brightness: many",
        "5: a.provider_options.sighted.brightness: must be a whole number",
    ),
    "provider options that are no mapping": (
        "a: {provider_options: {anthropic: fast}}",
        "1: a.provider_options.anthropic: must be a mapping of keys to values",
    ),
    "a provider that is not allowed": (
        "a:\n  provider: openai\n  allowed_providers: [anthropic]",
        "3: a.allowed_providers: leaves out 'openai', which line 2 asks; add it or ask another",
    ),
    "a fallback that is not allowed": (
        "a:\n  provider: openai\n  fallback: [gemini]\n  allowed_providers: [openai]",
        "4: a.allowed_providers: leaves out 'gemini', which line 3 asks; add it or ask another",
    ),
    "a region that nobody is in": (
        "providers: {openai: {region: eu-west}}\npersonas:\n  a: {allowed_regions: [eu-wst]}",
        "3: personas.a.allowed_regions[0]: no provider or model is in region 'eu-wst'; did you mean 'eu-west'?",
    ),
    "a region where none is told": (
        "a: {allowed_regions: [mars]}",
        (
            "1: a.allowed_regions[0]: no provider or model is in region 'mars'; "
            "set `region` at `providers` or `models` first"
        ),
    ),
    "a region that an adapter knows": (
        "a: {allowed_regions: [clod-eu]}",
        "1: a.allowed_regions[0]: no provider or model is in region 'clod-eu'; did you mean 'cloud-eu'?",
    ),
    "regions of an adapter that leave nobody": (
        "a: {provider: cloud, model: cloud-us.x, fallback: [cloud/cloud-us.y], allowed_regions: [cloud-eu]}",
        (
            "1: a.allowed_regions: leaves no route: none of cloud/cloud-us.x, cloud/cloud-us.y is in these regions; "
            "set their `region` or ask others"
        ),
    ),
    "regions that leave nobody": (
        "providers: {openai: {region: eu}}\npersonas:\n  a: {provider: anthropic, model: x, allowed_regions: [eu]}",
        (
            "3: personas.a.allowed_regions: leaves no route: none of anthropic/x is in these regions; "
            "set their `region` or ask others"
        ),
    ),
    "weights of 0": (
        "a:\n  provider: openai\n  weight: 0\n  strategy: weighted\n  fallback: [{provider: gemini, weight: 0}]",
        "4: a.strategy: all weights are 0; give one of the routes a weight above 0",
    ),
    "a second attempt at nobody": (
        "a:\n  provider: openai\n  hedging: {after: 2s}",
        "3: a.hedging: there is no second route for a second attempt; add a `fallback` or leave it out",
    ),
    "a capability that nobody has": (
        "a:\n  provider: blind\n  capabilities: [vision]",
        "3: a.capabilities: blind/mole cannot do 'image_input'; ask a model that can, or do not require it",
    ),
    "a capability that the file denies": (
        "models: {openai/x: {capabilities: [tools]}}\npersonas:\n  a: {model: openai/x, requires: [seed]}",
        "3: personas.a.requires: openai/x cannot do 'seed'; ask a model that can, or do not require it",
    ),
    "a first output after the end": (
        "a: {timeouts: {first_token: 2m, total: 90s}}",
        "1: a.timeouts: `first_token` is longer than `total`",
    ),
    "a first wait above the longest": (
        "a: {retries: {first_wait: 20}}",
        "1: a.retries: `first_wait` is longer than `longest_wait`",
    ),
    "a provider's section that is none": (
        "providers: {openia: {region: eu}}",
        "1: providers.openia: no provider 'openia'; did you mean 'openai'?",
    ),
    "a model's section without the model": (
        "models: {openai: {}}",
        "1: models.openai: write the model too: openai/model",
    ),
    "a model's section of nobody": (
        "models: {oppenai/x: {}}",
        "1: models[\"oppenai/x\"]: no provider 'oppenai'; did you mean 'openai'?",
    ),
    "a price of nobody": (
        "prices:\n- {provider: opnai, model: gpt-5}",
        "2: prices[0].provider: no provider 'opnai'; did you mean 'openai'?",
    ),
    "a price of no model": ("prices:\n- {provider: openai}", "2: prices[0]: `model` is missing"),
    "a misspelt price": (
        "prices:\n- {provider: openai, model: gpt-5, form: 2026-01-01}",
        "2: prices[0].form: unknown key; did you mean 'from'?",
    ),
    "a price with its currency": (
        "prices:\n- {provider: openai, model: gpt-5, input: $1}",
        "2: prices[0].input: must be a number, such as 0.50, without a currency",
    ),
    "a time without its zone": (
        "prices:\n- {provider: openai, model: gpt-5, from: '2026-01-01T00:00:00'}",
        "2: prices[0].from: must tell its time zone, such as 2026-01-01T00:00:00Z",
    ),
    "a time that no calendar has": (
        "prices:\n- {provider: openai, model: gpt-5, until: '2026-13-01'}",
        "2: prices[0].until: write a day such as 2026-01-01, or a time such as 2026-01-01T00:00:00Z",
    ),
    "prices that never hold": (
        "prices:\n- {provider: openai, model: gpt-5, from: '2026-02-01', until: '2026-02-01'}",
        "2: prices[0]: `until` must be later than `from`; these prices would never hold",
    ),
    "a tier without its length": (
        "prices:\n- provider: openai\n  model: gpt-5\n  tiers: [{input: 2}]",
        "4: prices[0].tiers[0]: `above` is missing",
    ),
    "two tiers of one length": (
        "prices:\n- {provider: openai, model: gpt-5, tiers: [{above: 5}, {above: 5}]}",
        "2: prices[0].tiers: two tiers begin `above` the same number of tokens; keep one of them",
    ),
    "a lifetime that is none": (
        "prices:\n- {provider: openai, model: gpt-5, cache_writes: {1w: 3}}",
        "2: prices[0].cache_writes: write how long an entry lives as 90s, 45m or 12h",
    ),
    "several versions": (
        "prices:\n- {provider: openai, model: gpt-5, version: 'a, b'}",
        "2: prices[0].version: must be 1 to 64 letters, digits, blanks or any of '_.:+/-'",
    ),
    "prices by name": (
        "prices: {openai/gpt-5: {input: 1}}",
        "1: prices: must be a list, such as [{provider: openai, model: gpt-5, input: 1, output: 8}]",
    ),
    "two prices at a time": (
        "prices:\n- {provider: openai, model: gpt-5*, until: '2026-03-01'}\n- {provider: openai, model: '*-mini'}",
        (
            "3: prices[1]: holds for the same model at the same time as line 2; keep one of them, or give them `from` "
            "and `until`"
        ),
    ),
    "a negative price": (
        "models: {openai/x: {input_price: -1}}",
        '1: models["openai/x"].input_price: must be at least 0',
    ),
    "a token in place of its digest": (
        f"tenants: {{acme: {{key_sha256: [{SECRET}]}}}}",
        (
            "1: tenants.acme.key_sha256[0]: must be a SHA-256 digest: "
            "64 digits and letters a to f (never the token itself)"
        ),
    ),
    "a tenant with the name of no tenant": (
        "tenants:\n  default: {limits: {requests_per_min: 1}}\n",
        "2: tenants.default: cannot name a tenant: limits of callers who are no tenant's stand in `default_tenant`",
    ),
    "an empty key": ('"": {provider: openai}\n', "1: a key must not be empty"),
    "one key of two tenants": (
        f"tenants:\n  a: {{key_sha256: [{'a' * 64}]}}\n  b: {{key_sha256: [{'a' * 64}]}}\n",
        "3: tenants.b: shares a key with tenant 'a'; a key belongs to one tenant and one project",
    ),
    "one key of a tenant and its project": (
        f"tenants:\n  a:\n    key_sha256: [{'a' * 64}]\n    projects:\n      x: {{key_sha256: [{'a' * 64}]}}\n",
        "2: tenants.a: project 'x' shares a key with tenant 'a'; a key belongs to one tenant and one project",
    ),
    "one key of two projects": (
        f"tenants:\n  a: {{projects: {{x: {{key_sha256: [{'a' * 64}]}}, y: {{key_sha256: [{'a' * 64}]}}}}}}\n",
        (
            "2: tenants.a: project 'y' shares a key with project 'x' of tenant 'a'; "
            "a key belongs to one tenant and one project"
        ),
    ),
    "a token in place of a project's digest": (
        f"tenants: {{acme: {{projects: {{x: {{key_sha256: [{SECRET}]}}}}}}}}",
        (
            "1: tenants.acme.projects.x.key_sha256[0]: must be a SHA-256 digest: "
            "64 digits and letters a to f (never the token itself)"
        ),
    ),
    "a key of a provider": (
        f"a: {{provider: openai, api_key: {SECRET}}}",
        "1: a.api_key: unknown key; credentials do not belong into this file: set EP_<PROVIDER>_API_KEY",
    ),
    "a key twice": (
        "a:\n  provider: openai\n  model: x\n  provider: gemini\n",
        "4: a.provider: this key is already in line 2; keep one of them",
    ),
    "a persona twice": (
        "a: {}\nb: {}\na: {}\n",
        "3: a: this key is already in line 1; keep one of them",
    ),
    "no YAML": (
        "a: {provider: openai",
        "2: is not valid YAML: did not find expected ',' or '}' (while parsing a flow mapping, begun in line 1)",
    ),
    "a tab": ("a:\n\tprovider: openai\n", "2: is not valid YAML: a tab stands where spaces must"),
    "two documents": ("a: {}\n---\nb: {}\n", "2: begins a second document; write everything into one"),
    "a tag": (
        "a: {model: !!python/name:os.system x}",
        "1: a.model: a tag other than those of plain YAML cannot be used here; leave it out",
    ),
    "an alias of nothing": ("a: *b", "1: is not valid YAML: there is no anchor of this alias before it"),
    "an alias within itself": ("a: &x {labels: *x}", "1: a.labels: contains itself through an alias"),
    "a number beyond all bounds": ("a: {weight: 1e999}", "1: a.weight: is a number beyond all bounds"),
}

#: The same for JSON.
BROKEN_JSON: dict[str, tuple[str, str]] = {
    "a comma at the end": (
        '{"a": {"provider": "openai",\n}}',
        "2: is not valid JSON: a comma stands before the end; leave it out",
    ),
    "no JSON": ('{"a": {"provider" "openai"}}', "1: is not valid JSON: expecting ':' delimiter"),
    "an empty file": ("", "1: is not valid JSON: expecting value"),
    "a number that is none": ('{"a": {"weight": NaN}}', "1: is not valid JSON: there is no number NaN"),
    "a key twice": (
        '{"a": {\n "description": "x",\n "description": "y"}}',
        "3: a.description: this key is already in line 2; keep one of them",
    ),
    "half a character": (
        '{"a": {"system_prompt": "\\ud83d"}}',
        "1: a.system_prompt: holds half a character (a lone surrogate)",
    ),
    "a place far within": (
        '{\n"personas": {\n"architect": {\n"fallback": [\n"gemini",\n{"provider": "opnai"}\n]\n}\n}\n}',
        "6: personas.architect.fallback[1].provider: no provider 'opnai'; did you mean 'openai'?",
    ),
}


@pytest.mark.parametrize(("text", "line"), BROKEN.values(), ids=BROKEN)
def test_a_mistake_is_told_with_its_place_and_what_to_write(text: str, line: str) -> None:
    """A broken file gives exactly one line: file, line, path, what is wrong and what to write."""
    assert problems_of(("personas.yaml", text)) == (f"personas.yaml:{line}",)


@pytest.mark.parametrize(("text", "line"), BROKEN_JSON.values(), ids=BROKEN_JSON)
def test_a_mistake_in_json_is_told_too(text: str, line: str) -> None:
    """In JSON lines and paths are found as they are in YAML."""
    assert problems_of(("personas.json", text)) == (f"personas.json:{line}",)


def test_all_mistakes_are_told_at_once_and_in_order() -> None:
    """One read tells the mistakes of both files, by file and line, each once however many personas inherit it."""
    config = """\
defaults:
  retries: {most: 9}
personas:
  a: {provider: opnai, strateggy: weighted}
  b:
    extends: nobody
    capabilities: [visoin]
  c: {extends: a}
braker: {}
"""
    problems = problems_of(
        ("personas.yaml", config), ("map.json", '{"a": {"provider": "openai"}, "d": {"provder": "openai"}}')
    )
    assert problems == (
        "personas.yaml:2: defaults.retries.most: must be at most 5",
        "personas.yaml:4: personas.a.provider: no provider 'opnai'; did you mean 'openai'?",
        "personas.yaml:4: personas.a.strateggy: unknown key; did you mean 'strategy'?",
        "personas.yaml:6: personas.b.extends: no persona 'nobody'; there are: a, b, c, d",
        "personas.yaml:7: personas.b.capabilities[0]: no capability 'visoin'; did you mean 'vision'?",
        "personas.yaml:9: braker: unknown key; did you mean 'breaker'?",
        "map.json:1: a: personas.yaml:4 has this persona too; keep one of them",
        "map.json:1: d.provder: unknown key; did you mean 'provider'?",
    )


def test_the_map_has_personas_only() -> None:
    """In the second file sections other than `personas` and `version` are sent to the first."""
    assert problems_of(
        ("personas.yaml", "version: 1"), ("map.yaml", "version: 1\npersonas: {a: {}}\nbreaker: {}\n")
    ) == ("map.yaml:3: breaker: belongs into the file of EP_CONFIG_PATH",)


@pytest.mark.parametrize(
    "text",
    [
        f"a: {{provider: {SECRET}}}",
        f"a: {{fallback: [{SECRET}, {{provider: {SECRET}}}]}}",
        f"a: {{strategy: {SECRET}, capabilities: [{SECRET}], extends: {SECRET}}}",
        f"a: {{allowed_providers: [{SECRET}], model: {SECRET}}}",
        f"a: {{weight: {SECRET}, labels: [{SECRET}], timeouts: {{idle: {SECRET}}}}}",
        f"tenants: {{acme: {{key_sha256: {SECRET}}}}}",
        f"a: '{SECRET}\n",
        f"a: [{SECRET}\n",
        f"a: {{b: {SECRET}: c}}",
        f"a: *{SECRET}",
        f"providers: {{openai: {{region: [{SECRET}]}}}}",
    ],
)
def test_what_may_be_a_secret_is_not_repeated(text: str) -> None:
    """A key that was pasted into the wrong place is told by its place, not by itself."""
    problems = problems_of(("personas.yaml", text))
    assert problems
    assert not [line for line in problems if SECRET[:12] in line]


def test_what_chats_can_do_without_is_a_warning() -> None:
    """A route that will be passed over is warned of and does not stand in the way; one without its key is neither."""
    reading = read(
        "a:\n  provider: openai\n  fallback: [blind, lame/claude, anthropic]\n  requires: [vision]\n"
        "b: {provider: openai, strategy: cheapest}\n"
        "c: {provider: blind, requires: [seed]}\n"
    )
    placed = read("providers:\n  openai: {region: eu}\n  cloud: {region: eu}\n")
    assert placed.warnings == (
        (
            "personas.yaml:3: providers.cloud.region: all models of cloud count as being there, whatever it knows of "
            "where each of them runs; say so at `models` of those for which it is true"
        ),
    )
    assert reading.warnings == (
        "personas.yaml:3: a.fallback[1]: lame cannot be asked and is passed over: install execution-platform[lame]",
        "personas.yaml:4: a.requires: blind/mole, lame/claude cannot do 'image_input' and is passed over",
        "personas.yaml:5: b.strategy: 'cheapest' has only one route to choose from",
        (
            "personas.yaml:6: c.requires: nobody of blind/mole is known to do 'seed', so that chats are refused; "
            "say so at `models`"
        ),
    )


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"a: {model: \xff}\n", ":1: is not UTF-8"),
        (b"a: {}\nb: {model: '\x00'}\n", ":2: holds a control character"),
        (b"# " + b"x" * (4 * 1024 * 1024), ": is larger than 4 MiB"),
        (b"[" * 100, ":1: has more than 64 levels"),
    ],
)
def test_a_file_that_is_no_text_is_told(tmp_path: Path, data: bytes, line: str) -> None:
    """Bytes that are no text, or far too much of it, are told without reading on."""
    file = tmp_path / "personas.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        load(scripted.PROVIDERS, {"EP_CONFIG_PATH": str(file)})
    assert caught.value.problems == [f"{file}{line}"]


def test_aliases_cannot_blow_a_file_up() -> None:
    """A few lines of YAML that stand for millions of values are refused."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9)]
    assert problems_of(("personas.yaml", "\n".join(lines))) == (
        "personas.yaml: holds more than 100000 values, or more than 64 levels, with its aliases",
    )


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Files that are not there, or are folders, are told by name, together with everything else that is wrong."""
    environ = {
        "EP_CONFIG_PATH": str(tmp_path / "nothing.yaml"),
        "EP_PERSONA_PROVIDER_MAP_PATH": str(tmp_path),
        "EP_WORKERS": "0",
    }
    with pytest.raises(ConfigurationError) as caught:
        load(scripted.PROVIDERS, environ)
    assert caught.value.problems[1:] == [
        f"{tmp_path}/nothing.yaml: cannot be read: no such file or directory",
        f"{tmp_path}: cannot be read: is a directory",
    ]
    assert caught.value.problems[0].startswith("EP_WORKERS: ")
    assert [content.unread for content in contents_of([(str(tmp_path), False)])] == ["cannot be read: is a directory"]
