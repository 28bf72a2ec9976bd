"""The JSON Schema of the files, for editors: made of the models, with every way of writing that the reader takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from execution_platform.server.config.known import KnownNames
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.config.prices import LIFETIME
from execution_platform.server.config.read import SECTIONS
from execution_platform.server.config.spelling import BUDGET, CAPABILITIES

__all__ = ["schema_of"]

Schema = dict[str, Any]

_NAME = r"^[A-Za-z0-9_.-]{1,128}$"
_TOOL = r"^[A-Za-z0-9_.*-]{1,128}$"
_TEXT: Schema = {"type": "string"}


def schema_of(known: KnownNames) -> Schema:
    """Return the schema of the files, in draft 2020-12.

    Args:
        known: names of providers and aliases, which editors complete.
    """
    made = PlatformConfiguration.model_json_schema(ref_template="#/$defs/{model}")
    definitions: dict[str, Schema] = made.pop("$defs")
    _without_titles(made)
    for definition in definitions.values():
        _without_titles(definition)
        for each in definition.get("properties", {}).values():
            _as_money(each)
            _as_money(each.get("additionalProperties", {}))
    _spell_persona(definitions, known)
    _spell_sections(made, definitions, known)
    for definition in (made, *definitions.values()):
        needed = {"version", *definition.get("required", ())}
        for name, each in definition.get("properties", {}).items():
            if name not in needed:
                definition["properties"][name] = _or_null(each)
    definitions["Configuration"] = {**made, "title": "Personas and all else"}
    definitions["Personas"] = _bare(made)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Execution Platform: personas and routes",
        "description": "A file of EP_CONFIG_PATH or EP_PERSONA_PROVIDER_MAP_PATH.",
        "type": "object",
        "if": {"anyOf": [{"required": [name]} for name in SECTIONS]},
        "then": {"$ref": "#/$defs/Configuration"},
        "else": {"$ref": "#/$defs/Personas"},
        "$defs": definitions,
    }


def _bare(configuration: Schema) -> Schema:
    """Return the schema of a file that has only personas, without a word around them."""
    persona = configuration["properties"]["personas"]["anyOf"][0]["additionalProperties"]
    return {
        "title": "Personas by name",
        "type": "object",
        "properties": {"$schema": configuration["properties"]["$schema"]},
        "patternProperties": {_NAME: persona},
        "additionalProperties": False,
    }


def _spell_persona(definitions: dict[str, Schema], known: KnownNames) -> None:
    provider = {"enum": sorted(known.providers())}
    target = _target(known)
    capabilities = {"type": "array", "items": _capability()}
    definitions.pop("CapabilityName")
    definitions["ModelFacts"]["properties"]["capabilities"].update(anyOf=[capabilities, {"type": "null"}])

    route = definitions["RouteTarget"]
    route["properties"]["provider"].update(provider)
    route.pop("required")
    route["anyOf"] = [{"required": ["provider"]}, {"required": ["model"], "properties": {"model": target}}]

    persona = definitions["PersonaSettings"]["properties"]
    persona["provider"].update({"enum": ["", *provider["enum"]]})
    persona["allowed_providers"]["items"] = provider
    persona["requires"] = {**persona["requires"], **capabilities}
    del persona["requires"]["uniqueItems"]
    persona["fallback"]["items"] = {"anyOf": [target, {"$ref": "#/$defs/RouteTarget"}]}
    persona["tools"]["items"] = {"anyOf": [{**_TEXT, "pattern": _TOOL}, {"$ref": "#/$defs/ToolSettings"}]}
    persona["capabilities"] = {**capabilities, "description": "The same as `requires`."}
    limits = definitions["LimitSettings"]["properties"]
    persona["budget"] = {
        "type": "object",
        "description": "Limits that may also stand in `limits`.",
        "properties": {name: _or_null(limits[name]) for name in BUDGET},
        "additionalProperties": False,
    }
    defaults = {"properties": dict(persona), "additionalProperties": False, "type": "object"}
    definitions["Defaults"] = {**defaults, "description": "What every persona begins with."}
    persona["extends"] = {
        **_TEXT,
        "description": "Name of the persona whose values hold where this one says nothing.",
    }


def _spell_sections(made: Schema, definitions: dict[str, Schema], known: KnownNames) -> None:
    sections = made["properties"]
    sections["defaults"]["$ref"] = "#/$defs/Defaults"
    sections["personas"]["propertyNames"] = {"pattern": _NAME}
    # An empty persona is one as well: it chooses by the keys that are there.
    sections["personas"]["additionalProperties"] = _or_null({"$ref": "#/$defs/PersonaSettings"})
    sections["providers"]["propertyNames"] = {"enum": sorted(known.providers())}
    sections["models"]["propertyNames"] = {"pattern": _of_providers(known)}
    # Those of personas' limits begin with "persona.".
    sections["budgets"]["propertyNames"] = {"pattern": _NAME, "not": {"pattern": r"^persona\."}}
    definitions["BudgetScopeSettings"]["properties"]["provider"]["enum"] = ["", *sorted(known.providers())]
    definitions["PriceSettings"]["properties"]["provider"]["enum"] = sorted(known.providers())
    for name in ("PriceSettings", "SpecialPrices", "PriceTier"):
        definitions[name]["properties"]["cache_writes"]["propertyNames"] = {"pattern": LIFETIME}
    for each in sections.values():
        each.pop("default", None)
    for definition in definitions.values():
        for each in definition.get("properties", {}).values():
            if isinstance(each.get("default"), dict):
                del each["default"]  # of the model, which its own fields tell better
    sections["$schema"] = {**_TEXT, "description": "Where this schema is, for editors. The server ignores it."}


def _of_providers(known: KnownNames) -> str:
    return f"^({'|'.join(map(re.escape, sorted(known.providers())))})/."


def _target(known: KnownNames) -> Schema:
    """Return the schema of what names a model: a provider, provider/model or an alias."""
    names = sorted({*known.providers(), *known.aliases})
    return {"anyOf": [{"enum": names}, {**_TEXT, "pattern": _of_providers(known)}]}


def _capability() -> Schema:
    """Return the schema of a capability's name: whatever the case, and with - for _."""
    proper = sorted({name.value for name in CAPABILITIES.values()})
    words = "|".join(_any_case(word) for word in CAPABILITIES)
    return {"anyOf": [{"enum": proper}, {**_TEXT, "pattern": f"^({words})$"}]}


def _any_case(word: str) -> str:
    return "".join("[_-]" if each == "_" else f"[{each}{each.upper()}]" for each in word)


def _or_null(schema: Schema) -> Schema:
    """Return the schema of a value that may also be null: as if its line were not there."""
    if {"type": "null"} in schema.get("anyOf", []):
        return schema
    told = {key: value for key, value in schema.items() if key in {"description", "default"}}
    rest = {key: value for key, value in schema.items() if key not in told}
    return {**told, "anyOf": [rest, {"type": "null"}]}


def _as_money(schema: Schema) -> None:
    """Have a text that stands for an amount of money look like a number."""
    kinds = schema.get("anyOf", [])
    if {"type": "string"} in kinds and any(each.get("type") == "number" for each in kinds):
        kinds[kinds.index({"type": "string"})] = {**_TEXT, "pattern": r"^\d+(\.\d+)?$"}


def _without_titles(schema: Schema) -> None:
    """Take out the titles, which only repeat the names."""
    for each in _schemas_in(schema):
        each.pop("title", None)


def _schemas_in(schema: Any) -> Iterator[Schema]:
    if isinstance(schema, list):
        for each in schema:
            yield from _schemas_in(each)
    elif isinstance(schema, dict):
        yield schema
        for key, each in schema.items():
            if key == "properties":
                for inner in each.values():
                    yield from _schemas_in(inner)
            elif key not in {"default", "enum"}:
                yield from _schemas_in(each)
