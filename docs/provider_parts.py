"""The generated parts that tell of providers and their models: of all of them, and on the page of each."""

import asyncio
import fnmatch
import importlib.metadata
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dialects import dialect_rows
from pydantic import SecretStr
from tables import ROOT, Row, code, table

from execution_platform.adapters.capabilities import ALL as ALL_CAPABILITIES
from execution_platform.adapters.capabilities import ModelCapabilities, capabilities_of, name_of
from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.registry import GROUP, Registry
from execution_platform.adapters.spi import CountsTokens, ListsModels, ProviderConfig, ProviderSpec

__all__ = ["PARTS", "PARTS_OF_ONE", "ROWS", "needs", "specs"]

#: The entry point whose providers are rows of one table, told in one line of the README.
ROWS = "compatible"

# --- providers --------------------------------------------------------------------------------------------------------


def specs() -> dict[str, list[ProviderSpec]]:
    """Return this distribution's providers by entry point; of each entry point the first to be chosen first."""
    ours = importlib.metadata.entry_points(group=GROUP)
    found = {
        entry.name: list(Registry.discover([entry]).specs())
        for entry in ours
        if entry.dist and entry.dist.name == "execution-platform"
    }
    by_rank = sorted(found.items(), key=lambda item: min(spec.automatic_rank or 1000 for spec in item[1]))
    return {name: listed for name, listed in by_rank if name != ROWS} | {ROWS: found[ROWS]}


def variable(spec: ProviderSpec, name: str) -> str:
    """Return the variable of a provider's setting, as code."""
    return code(f"EP_{spec.name.upper()}_{name.upper()}")


def page_of(name: str) -> str:
    """Return the file name of a provider's page."""
    return f"{name.replace('_', '-')}.md"


def linked(spec: ProviderSpec, folder: str) -> str:
    """Return a provider's name, as a link to its page."""
    return f"[{code(spec.name)}]({folder}/{page_of(spec.name)})"


def needs(spec: ProviderSpec) -> str:
    """Return what has to be set before a provider can be used."""
    asked = spec.missing(ProviderConfig(spec.name, base_url=spec.default_base_url))
    told = {"api_key": spec.needs_key, "base_url": spec.needs_base_url} | {each.name: False for each in spec.options}
    wanted = [name for name, needed in told.items() if needed or f"EP_{spec.name.upper()}_{name.upper()}" in asked]
    return " and ".join(variable(spec, name) + or_login(spec, name) for name in wanted) or "nothing"


def or_login(spec: ProviderSpec, name: str) -> str:
    """Return what takes the place of a setting, where it is a key that is missing only without a login."""
    login = name == "api_key" and not spec.needs_key and not spec.default_base_url
    return " or a login" if login else ""


def providers() -> str:
    """Return the README's table: the providers with an adapter of their own."""
    rows = (
        [linked(spec, "docs/providers"), spec.display_name, needs(spec), code(spec.default_model)]
        for name, listed in specs().items()
        for spec in listed
        if name != ROWS
    )
    return table(["provider", "what it is", "needs", "its default model"], rows)


def compatible() -> str:
    """Return the names of the servers that are rows, in one line."""
    return "\n" + ",\n".join(linked(spec, "docs/providers") for spec in specs()[ROWS]) + "\n\n"


def key_of(spec: ProviderSpec) -> str:
    """Return whether a provider needs a key."""
    if variable(spec, "api_key") not in needs(spec):
        return "Key, optional."
    if spec.needs_key:
        return "Key, required."
    elsewhere = "the address is another server's" if spec.default_base_url else "there is a login"
    return f"Key, required unless {elsewhere}."


def settings_of(spec: ProviderSpec) -> Iterator[Row]:
    """Yield every variable of a provider."""
    if spec.needs_key or spec.name not in {"local", "scripted"}:
        yield [variable(spec, "api_key"), "", key_of(spec)]
        base = "Address, required." if spec.needs_base_url else "Address."
        yield [variable(spec, "base_url"), code(spec.default_base_url), base]
    for option in spec.options:
        yield [variable(spec, option.name), code(option.default), option.description]


def provider_rows() -> Iterator[Row]:
    """Yield every variable of every provider."""
    for listed in specs().values():
        for spec in listed:
            who = f"**{spec.display_name}** {linked(spec, '../providers')}"
            for row in settings_of(spec):
                yield [who, *row]
                who = ""


def provider_settings() -> str:
    """Return the table of the providers' settings."""
    return table(["provider", "variable", "default", "meaning"], provider_rows())


def ranked() -> list[str]:
    """Return the names of the providers of the automatic choice, in their order."""
    every = (spec for listed in specs().values() for spec in listed)
    return [
        name for _, name in sorted((one.automatic_rank, one.name) for one in every if one.automatic_rank is not None)
    ]


def automatic() -> str:
    """Return the order of the automatic choice."""
    return "\n" + ", ".join(map(code, ranked())) + "\n\n"


# --- what models can do -----------------------------------------------------------------------------------------------

#: Heads of the matrix, as short as they can be; the page explains them.
SHORT = {
    "parallel_tools": "parallel", "structured_output": "schema", "image_input": "image", "pdf_input": "PDF",
    "audio_input": "audio", "prompt_caching": "caching", "embeddings": "embed*", "batch": "batch*",
}  # fmt: skip


def heads() -> list[str]:
    """Return the heads of the capabilities, in the contract's order."""
    return [SHORT.get(name_of(each), name_of(each)) for each in ALL_CAPABILITIES]


def marks(known: ModelCapabilities) -> list[str]:
    """Return what is known of each capability: yes, no, or nothing."""
    return [
        "yes" if each in known.supported else "**no**" if each in known.unsupported else "" for each in ALL_CAPABILITIES
    ]


def tokens(count: int | None) -> str:
    """Return a number of tokens; nothing if it is not known."""
    return "" if count is None else f"{count:,}"


def parity() -> str:
    """Return the matrix of providers, each with its default model or with what holds for all of its models."""
    rows = (
        [code(spec.name), code(spec.default_model) or "any", *marks(capabilities_of(spec, spec.default_model))]
        for listed in specs().values()
        for spec in listed
    )
    return table(["provider", "model", *heads()], rows)


#: What tells editions of one model apart: the tables name the model alone.
EDITION = re.compile(r"(-2\S*|@\*|:\*|-v\[0-9\]\*|-latest|-0)$")


def named_once(patterns: Sequence[str]) -> list[str]:
    """Return patterns without those of editions of a model that is among them, and without what may stand before it."""
    return [
        pattern.removeprefix("*") if pattern.startswith("*claude") else pattern
        for pattern in patterns
        if EDITION.sub("", pattern) == pattern or EDITION.sub("", pattern) not in patterns
    ]


def models_of(spec: ProviderSpec) -> Iterator[Row]:
    """Yield a row for each group of a provider's models that are alike: those it lists, and patterns of others."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    listed = [model.name for model in spec.models]
    patterns = named_once([pattern for row in spec.capabilities for pattern in row.models if pattern != "*"])
    for name in dict.fromkeys([*listed, *patterns]):
        if name not in listed and any(fnmatch.fnmatchcase(each, name) for each in listed):
            continue
        # No name has a tilde: what stands for others is not taken for one that has a row of its own.
        stands_for = re.sub(r"\[(.).*?\]", r"\1", name).replace("?", "0").replace("*", "~")
        known = capabilities_of(spec, stands_for)
        key = (*marks(known), tokens(known.context_window), tokens(known.max_output_tokens))
        groups.setdefault(key, []).append(name)
    for key, names in groups.items():
        yield [", ".join(code(name) for name in names), *key]


def capabilities() -> str:
    """Return a table for each provider that has something to say of single models."""
    made = ""
    for listed in specs().values():
        for spec in listed:
            rows = list(models_of(spec))
            if rows:
                any_model = ["any other", *marks(capabilities_of(spec, "")), "", ""]
                head = ["model", *heads(), "context", "answer"]
                made += f"\n### {spec.display_name}\n{table(head, iter([*rows, any_model]))}"
    return made


def capability_sources() -> str:
    """Return where each row of the data comes from, and when that was read."""
    rows = (
        [code(spec.name), ", ".join(map(code, named_once(row.models))), row.source, row.as_of]
        for listed in specs().values()
        for spec in listed
        for row in spec.capabilities
    )
    return table(["provider", "models", "source", "as of"], rows)


# --- the page of one provider ----------------------------------------------------------------------------------------

#: What the first lines of a page say of the API that is spoken.
_API = re.compile(r"^API: (.*)$", re.MULTILINE)


def api_of(name: str) -> str:
    """Return which API a provider's page says is spoken; nothing where it says none, or there is no page."""
    page = ROOT / f"docs/providers/{page_of(name)}"
    said = _API.search(page.read_text()) if page.exists() else None
    return said[1].removesuffix(".") if said else ""


def index() -> str:
    """Return the table of all providers, with their pages."""
    rows = (
        [
            f"[{spec.display_name}]({page_of(spec.name)})",
            code(spec.name),
            code(f"EP_{spec.name.upper()}_"),
            needs(spec),
            api_of(spec.name),
        ]
        for listed in specs().values()
        for spec in listed
    )
    return table(["page", "name", "settings", "needs", "API"], rows)


def settings_of_one(spec: ProviderSpec) -> str:
    """Return the table of a provider's settings."""
    rows = list(settings_of(spec))
    return table(["variable", "default", "meaning"], rows) if rows else "\nIt has no settings.\n\n"


def abilities(spec: ProviderSpec) -> tuple[str, str]:
    """Return whether a provider's adapter counts tokens, and whether it lists models."""
    config = ProviderConfig(
        spec.name,
        SecretStr("made-up"),
        spec.default_base_url or "http://127.0.0.1:9",
        {option.name: option.default for option in spec.options},
    )
    try:
        adapter = spec.create(config)
    except AdapterError as error:
        return f"not known: {error.message}", ""
    asyncio.run(adapter.aclose())
    counts = "by the provider" if isinstance(adapter, CountsTokens) else "by nobody: `NOT_SUPPORTED_BY_PROVIDER`"
    return counts, "asked of it" if isinstance(adapter, ListsModels) else "those that are known here"


def facts(spec: ProviderSpec) -> str:
    """Return what the code says of a provider as a whole."""
    order = ranked()
    place = f"place {order.index(spec.name) + 1} of {len(order)}" if spec.name in order else "only if it is named"
    listing = spec.price_listing
    prices = f"those of {code(listing.provider)} in `genai-prices`" if listing else "none; declare your own"
    counted, listed = abilities(spec)
    rows = [
        ["default model", code(spec.default_model) or "none: a request names one"],
        ["[chosen by itself](../configuration.md#which-provider-answers)", place],
        ["[family](../concepts.md#provider-and-family) of its opaque state", code(spec.family)],
        ["list of models", listed],
        ["tokens of a prompt are counted", counted],
        ["[prices](../prices.md)", prices],
    ]
    if spec.places is not None:
        rows.append(["places that it knows", ", ".join(code(place) for place in sorted(spec.places.known))])
    return table(["", ""], rows)


def models_of_one(spec: ProviderSpec) -> str:
    """Return a provider's facts, and the table of what is known of its models."""
    rows = [*models_of(spec), ["any other", *marks(capabilities_of(spec, "")), "", ""]]
    return facts(spec).removesuffix("\n") + table(["model", *heads(), "context", "answer"], rows)


def dialect(spec: ProviderSpec) -> str:
    """Return what a server of OpenAI's formats does otherwise than the shared page says."""
    rows = list(dialect_rows(spec.name))
    return table(["", f"{code(spec.name)} in Chat Completions"], rows) if rows else "\nNothing differs.\n\n"


PARTS: dict[str, Callable[[], str]] = {
    "providers": providers,
    "compatible": compatible,
    "provider-settings": provider_settings,
    "automatic": automatic,
    "index": index,
    "parity": parity,
    "capabilities": capabilities,
    "capability-sources": capability_sources,
}

#: Parts that are about one provider, whose name stands behind the part's.
PARTS_OF_ONE: dict[str, Callable[[ProviderSpec], str]] = {
    "settings-of": settings_of_one,
    "models-of": models_of_one,
    "dialect-of": dialect,
}
