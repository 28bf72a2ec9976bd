"""Reads the files of personas and routes into a configuration, or tells everything that is wrong with them."""

from __future__ import annotations

import hashlib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from execution_platform.server.config.alert_addresses import alerts_of
from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.config.budgets import name_fault
from execution_platform.server.config.complaints import validated
from execution_platform.server.config.consistency import Checked, Consistency
from execution_platform.server.config.document import parse
from execution_platform.server.config.known import KnownNames
from execution_platform.server.config.merging import Merging, without_itself
from execution_platform.server.config.nodes import (
    Fields,
    Items,
    Node,
    Place,
    Problems,
    Scalar,
    joined,
    named,
    nearest,
    one_of,
)
from execution_platform.server.config.personas import (
    DEFAULT_TENANT,
    PersonaSettings,
    PlatformConfiguration,
    Tenant,
    named_owner,
)
from execution_platform.server.config.prices import PriceSettings, both_hold
from execution_platform.server.config.spelling import WRITTEN_ONLY, Spelling, text_node

__all__ = ["Content", "PlatformError", "Reading", "contents_of", "digest_of", "read_platform"]

M = TypeVar("M", bound=BaseModel)

#: Top-level keys of the file.
SECTIONS = tuple(PlatformConfiguration.model_fields)

#: Of these also a file that has only personas may have some.
_OF_PERSONAS = {"version", "personas"}

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PERSONA_KEYS = {*PersonaSettings.model_fields, *WRITTEN_ONLY}


class PlatformError(Exception):
    """The files are wrong.

    Attributes:
        problems: one line each, ``file:line: path: what is wrong``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file.

    Attributes:
        file: its name.
        data: its bytes.
        unread: why it cannot be read; empty: it can.
        only_personas: it is the map of EP_PERSONA_PROVIDER_MAP_PATH and may say nothing else.
    """

    file: str
    data: bytes = b""
    unread: str = ""
    only_personas: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What the files say.

    Attributes:
        configuration: all of it.
        sources: file and line of each persona.
        budget_sources: file and line of each budget.
        warnings: what somebody should look at, one line each.
        files: their names.
        digest: SHA-256 of the files' bytes, one after the other.
    """

    configuration: PlatformConfiguration
    sources: Mapping[str, str] = field(default_factory=dict)
    budget_sources: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    digest: str = ""


def contents_of(files: Iterable[tuple[str, bool]]) -> tuple[Content, ...]:
    """Read files' bytes; each with whether it holds personas only."""
    return tuple(_content_of(file, only_personas=only) for file, only in files)


def _content_of(file: str, *, only_personas: bool) -> Content:
    try:
        return Content(file, Path(file).read_bytes(), only_personas=only_personas)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Content(file, unread=f"cannot be read: {reason}", only_personas=only_personas)


def digest_of(contents: Iterable[Content]) -> str:
    """Return the SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content.data)
    return digest.hexdigest()


def read_platform(contents: Sequence[Content], known: KnownNames) -> Reading:
    """Read the configuration.

    Args:
        contents: of the files.
        known: names of providers and aliases.

    Raises:
        PlatformError: something is wrong; it names everything that is.
    """
    return _Reader(contents, known).read()


class _Reader:
    """Reads one configuration."""

    def __init__(self, contents: Sequence[Content], known: KnownNames) -> None:
        self._contents = contents
        self._known = known
        self._problems = Problems()
        self._warnings = Problems()
        self._spelling = Spelling(known, self._problems)
        self._personas: dict[str, Fields] = {}
        self._keys: dict[str, Place] = {}

    def read(self) -> Reading:
        files = [content.file for content in self._contents]
        sections: dict[str, Node] = {}
        for content in self._contents:
            sections.update(self._sections(content))
        made = self._configuration(sections)
        if self._problems or made is None:
            raise PlatformError(self._problems.lines(files))
        sources = {name: str(self._keys[name]) for name in made.personas}
        budgets = sections.get("budgets")
        places = {name: str(budgets.keys[name]) for name in made.budgets} if isinstance(budgets, Fields) else {}
        return Reading(made, sources, places, self._warnings.lines(files), tuple(files), digest_of(self._contents))

    # --- files to sections

    def _sections(self, content: Content) -> dict[str, Node]:
        """Return the sections of a file but its personas, which are kept."""
        if content.unread:
            self._problems.at(Place(content.file, 0, 0), "", content.unread)
            return {}
        root = parse(content.file, content.data, self._problems)
        if root is None:
            return {}
        if isinstance(root, Scalar) and root.kind == "null":
            # Editors empty a file before they write it; taken for a configuration it would lift every limit.
            self._problems.at(Place(content.file, 1, 0), "", "is empty; write `version: 1` where no persona is meant")
            return {}
        if isinstance(root, Fields):
            root = root.without("$schema")  # which is for editors
        else:
            self._problems.add(root, "must be a mapping, such as {architect: {provider: openai, model: gpt-4}}")
            return {}
        if not set(root.entries) & set(SECTIONS):
            self._take_personas(root, bare=True)
            return {}
        found: dict[str, Node] = {}
        for name, node in root.entries.items():
            if name == "personas":
                self._take_section_of_personas(node)
            elif name not in SECTIONS:
                self._unknown_section(root, name, node)
            elif content.only_personas and name not in _OF_PERSONAS:
                self._problems.at(root.keys[name], name, "belongs into the file of EP_CONFIG_PATH")
            elif name == "version":
                self._check_version(node)
            else:
                found[name] = node
        return found

    def _unknown_section(self, root: Fields, name: str, node: Node) -> None:
        near = nearest(name, SECTIONS)
        if near:
            hint = f"did you mean {near!r}?"
        elif _is_persona(node):
            hint = "a persona belongs under `personas`"
        else:
            hint = f"there are: {', '.join(SECTIONS)}"
        self._problems.at(root.keys[name], joined("", name), f"unknown key; {hint}")

    def _check_version(self, node: Node) -> None:
        if not (isinstance(node, Scalar) and node.kind == "int" and node.json == "1"):
            self._problems.add(node, "must be 1, the version that this server reads")

    def _take_section_of_personas(self, node: Node) -> None:
        if isinstance(node, Fields):
            self._take_personas(node)
        elif not (isinstance(node, Scalar) and node.kind == "null"):
            self._problems.add(node, "must be a mapping of names to personas")

    def _take_personas(self, personas: Fields, *, bare: bool = False) -> None:
        for name, node in personas.entries.items():
            place, path = personas.keys[name], joined(personas.path, name)
            near = nearest(name, SECTIONS) if bare and _is_of_mappings(node) else ""
            if near:
                self._problems.at(place, path, f"unknown key; did you mean {near!r}?")
            elif not _NAME.fullmatch(name):
                message = "cannot name a persona: use 1 to 128 letters, digits, '_', '-' or '.'"
                self._problems.at(place, path, message)
            elif name in self._personas:
                self._problems.at(place, path, f"{self._keys[name]} has this persona too; keep one of them")
            elif isinstance(node, Scalar) and node.kind == "null":
                self._keep(name, Fields(node.place, path, {}, {}), place)
            elif not isinstance(node, Fields):
                self._problems.add(node, "must be a mapping, such as {provider: openai, model: gpt-4}")
            else:
                self._keep(name, node, place)

    def _keep(self, name: str, persona: Fields, place: Place) -> None:
        self._personas[name] = self._spelling.persona(persona)
        self._keys[name] = place

    # --- sections to the configuration

    def _configuration(self, sections: Mapping[str, Node]) -> PlatformConfiguration | None:
        fields = PlatformConfiguration.model_fields
        made: dict[str, Any] = {}
        for name, node in sections.items():
            if name == "defaults" or (isinstance(node, Scalar) and node.kind == "null"):
                continue
            annotation = fields[name].annotation
            if typing.get_origin(annotation) is dict:
                made[name] = self._named(node, typing.get_args(annotation)[1])
            elif name == "prices":
                made[name] = self._prices(node)
            elif name == "alerts":
                made[name] = alerts_of(node, self._known.alert_variables, self._problems)
            else:
                made[name] = validated(typing.cast("type[BaseModel]", annotation), node, self._problems)
        defaults = self._defaults(sections.get("defaults"))
        if defaults is not None:
            made["defaults"] = validated(PersonaSettings, defaults, self._problems, WRITTEN_ONLY)
        self._check_tenants(sections.get("tenants"), made.get("tenants", {}))
        made["personas"] = self._whole_personas(defaults, made.get("providers", {}), made.get("models", {}))
        self._look_at_regions(sections.get("providers"))
        self._look_at_budgets(sections.get("budgets"), made)
        self._check_report_targets(sections.get("reports"), made.get("alerts"))
        return None if self._problems else PlatformConfiguration(**made)

    def _named(self, node: Node, model: type[M]) -> dict[str, M]:
        """Read a section that is a mapping of names."""
        if not isinstance(node, Fields):
            self._problems.add(node, "must be a mapping of names to their settings")
            return {}
        if node.path == "providers":
            self._spelling.provider_names(node)
        elif node.path == "models":
            self._spelling.model_facts(node)
            node = self._spelling.capabilities_of_models(node)
        elif node.path == "budgets":
            self._check_names_of_budgets(node)
        read = {name: validated(model, each, self._problems) for name, each in node.entries.items()}
        return {name: value for name, value in read.items() if value is not None}

    def _check_names_of_budgets(self, node: Fields) -> None:
        for name, each in node.entries.items():
            if fault := name_fault(name):
                self._problems.at(node.keys[name], each.path, fault)
            scope = each.get("scope") if isinstance(each, Fields) else None
            provider = scope.get("provider") if isinstance(scope, Fields) else None
            if isinstance(provider, Scalar) and provider.kind == "str" and provider.text:
                self._known.check_provider(provider, self._problems)

    def _look_at_regions(self, node: Node | None) -> None:
        """Tell where a region goes before what an adapter knows of each model."""
        for name, each in node.entries.items() if isinstance(node, Fields) else ():
            spec = self._known.specs.get(name)
            region = each.get("region") if isinstance(each, Fields) else None
            if spec is not None and spec.places is not None and isinstance(region, Scalar) and region.text:
                message = f"all models of {name} count as being there, whatever it knows of where each of them runs"
                self._warnings.add(region, f"{message}; say so at `models` of those for which it is true")

    def _look_at_budgets(self, node: Node | None, made: Mapping[str, Any]) -> None:
        """Tell of budgets that count nothing, because nobody is called so."""
        names = {"tenant": {DEFAULT_TENANT, *made.get("tenants", {})}, "persona": set(made["personas"])}
        for each in node.entries.values() if isinstance(node, Fields) else ():
            scope = each.get("scope") if isinstance(each, Fields) else None
            if not isinstance(scope, Fields):
                continue
            for key, known in names.items():
                text = scope.text(key)
                if text and text not in known:
                    self._warnings.add(
                        scope.entries[key], f"there is no {named(key, text)} here; {one_of(text, known)}"
                    )

    def _check_report_targets(self, node: Node | None, alerts: AlertSettings | None) -> None:
        daily = node.get("daily") if isinstance(node, Fields) else None
        targets = daily.get("targets") if isinstance(daily, Fields) else None
        known = set(alerts.targets) if alerts is not None else set()
        for each in targets if isinstance(targets, Items) else ():
            if isinstance(each, Scalar) and each.kind == "str" and each.text not in known:
                self._problems.add(each, f"is no target of `alerts.targets`; {one_of(each.text, known)}")

    def _prices(self, node: Node) -> tuple[PriceSettings, ...]:
        if not isinstance(node, Items):
            self._problems.add(node, "must be a list, such as [{provider: openai, model: gpt-5, input: 1, output: 8}]")
            return ()
        found: list[tuple[Node, PriceSettings]] = []
        for each in node:
            provider = each.get("provider") if isinstance(each, Fields) else None
            if isinstance(provider, Scalar) and provider.kind == "str" and provider.text:
                self._known.check_provider(provider, self._problems)
            made = validated(PriceSettings, each, self._problems)
            if made is None:
                continue
            for other, entry in found:
                if both_hold(entry, made):
                    message = f"holds for the same model at the same time as line {other.place.line}; keep one of them"
                    self._problems.add(each, f"{message}, or give them `from` and `until`")
            found.append((each, made))
        return tuple(made for _, made in found)

    def _defaults(self, node: Node | None) -> Fields | None:
        if node is None or (isinstance(node, Scalar) and node.kind == "null"):
            return None
        if not isinstance(node, Fields):
            self._problems.add(node, "must be a mapping of a persona's keys to values")
            return None
        if "extends" in node:
            message = "cannot extend a persona: every persona begins with the defaults"
            self._problems.at(node.keys["extends"], f"{node.path}.extends", message)
            node = node.without("extends")
        return self._with_provider(self._spelling.persona(node), None)

    def _check_tenants(self, node: Node | None, tenants: Mapping[str, Tenant]) -> None:
        owners: dict[str, tuple[str, str]] = {}
        for name, tenant in tenants.items():
            if name == DEFAULT_TENANT and isinstance(node, Fields):
                message = "cannot name a tenant: limits of callers who are no tenant's stand in `default_tenant`"
                self._problems.at(node.keys[name], joined(node.path, name), message)
            for digest, project in tenant.digests():
                owner = owners.setdefault(digest, (name, project))
                if owner != (name, project) and isinstance(node, Fields):
                    shares = f"project {project!r} shares" if project else "shares"
                    message = f"{shares} a key with {named_owner(*owner)}; a key belongs to one tenant and one project"
                    self._problems.at(node.keys[name], joined(node.path, name), message)

    def _whole_personas(
        self, defaults: Fields | None, providers: Mapping[str, Any], models: Mapping[str, Any]
    ) -> dict[str, PersonaSettings]:
        consistency = Consistency(self._known, providers, models, self._problems, self._warnings)
        found: dict[str, PersonaSettings] = {}
        for name, merged in Merging(self._personas, defaults, self._problems).whole().items():
            whole = without_itself(self._with_provider(merged, self._personas[name]), self._known)
            settings = validated(PersonaSettings, whole, self._problems, WRITTEN_ONLY)
            if settings is not None:
                consistency.check(Checked(self._personas[name], whole, settings))
                found[name] = settings
        return found

    def _with_provider(self, persona: Fields, own: Fields | None) -> Fields:
        """Divide `model: provider/model`, or an alias, where no provider is named."""
        model = persona.get("model")
        if not isinstance(model, Scalar) or model.kind != "str" or not model.text:
            return persona
        provider = persona.get("provider")
        if isinstance(provider, Scalar) and provider.kind == "str" and not provider.text:
            provider = None
        if provider is not None:
            self._check_inherited_provider(model, persona.text("provider"), own)
            return persona
        target = self._known.target(model, self._problems)
        if target is None:
            return persona
        entries = {
            **persona.entries,
            "provider": text_node(model, target[0]),
            "model": text_node(model, target[1]),
        }
        return persona.with_entries(entries)

    def _check_inherited_provider(self, model: Scalar, provider: str, own: Fields | None) -> None:
        """Tell of a model that names another provider than the one which is inherited: both may be meant."""
        if own is None or own.get("provider") is not None or own.get("model") is None:
            return
        head, slash, _ = self._known.aliases.get(model.text, model.text).partition("/")
        if slash and head in self._known.providers() and head != provider:
            message = f"would be asked of {provider!r}, which is inherited; write `provider` beside it"
            self._problems.add(model, message)


def _is_persona(node: Node) -> bool:
    return isinstance(node, Fields) and bool(set(node.entries) & _PERSONA_KEYS)


def _is_of_mappings(node: Node) -> bool:
    """Return whether a value looks like a section, such as personas by name, rather than like a persona."""
    return (
        isinstance(node, Fields)
        and bool(node.entries)
        and not _is_persona(node)
        and all(isinstance(each, Fields) for each in node.entries.values())
    )
