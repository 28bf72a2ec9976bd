"""Checks that what a persona says goes together: a finding is an error, or a warning where chats can do without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from execution_platform.adapters.capabilities import capabilities_of, name_of
from execution_platform.server.config.known import KnownNames
from execution_platform.server.config.nodes import Fields, Items, Node, Problems, named, nearest, one_of
from execution_platform.server.config.personas import (
    CapabilityName,
    ModelFacts,
    PersonaSettings,
    ProviderSettings,
    RouteTarget,
    Strategy,
)

__all__ = ["Checked", "Consistency"]

#: Strategies that choose; PRIORITY has an order, STICKY needs none to be of use.
_CHOOSING = {Strategy.WEIGHTED, Strategy.LOWEST_LATENCY, Strategy.CHEAPEST}


@dataclass(frozen=True, slots=True)
class Checked:
    """A persona, as it was written itself and as it is with what it inherits."""

    own: Fields
    whole: Fields
    settings: PersonaSettings

    def at(self, key: str) -> Node:
        """Return the value of a key where the persona has it itself, else the persona."""
        node = self.own.get(key)
        return self.own if node is None else node

    def routes(self) -> Iterator[tuple[Node, RouteTarget]]:
        """Yield whom it asks, with the place where each is named: its own provider first, if it has one."""
        settings = self.settings
        if settings.provider:
            target = RouteTarget(provider=settings.provider, model=settings.model, weight=settings.weight)
            yield self.at("provider"), target
        fallback = self.whole.get("fallback")
        nodes = fallback.items if isinstance(fallback, Items) else ()
        yield from zip(nodes, settings.fallback, strict=True)


class Consistency:
    """Checks personas.

    Args:
        known: names and data of providers.
        providers: what the file says of providers.
        models: what the file says of models.
        problems: takes errors.
        warnings: takes warnings.
    """

    def __init__(
        self,
        known: KnownNames,
        providers: Mapping[str, ProviderSettings],
        models: Mapping[str, ModelFacts],
        problems: Problems,
        warnings: Problems,
    ) -> None:
        self._known = known
        self._providers = providers
        self._models = models
        self._problems = problems
        self._warnings = warnings

    def check(self, persona: Checked) -> None:
        """Check one persona."""
        self._usable(persona)
        self._twice(persona)
        self._choice(persona)
        self._allowed_providers(persona)
        self._provider_options(persona)
        self._allowed_regions(persona)
        self._capabilities(persona)
        self._times(persona)
        self._tools(persona)

    def _usable(self, persona: Checked) -> None:
        for node, target in persona.routes():
            lack = self._known.lacking(target.provider)
            if lack:
                self._warnings.add(node, f"{target.provider} cannot be asked and is passed over: {lack}")

    def _twice(self, persona: Checked) -> None:
        seen: dict[str, Node] = {}
        for node, target in persona.routes():
            name = self._name_of(target)
            if target.provider not in self._known.providers():
                continue  # which is told already
            if name in seen:
                self._problems.add(node, f"asks {name} again, as line {seen[name].place.line} does; leave it out")
            seen.setdefault(name, node)

    def _choice(self, persona: Checked) -> None:
        settings = persona.settings
        routes = list(persona.routes())
        if settings.strategy is Strategy.WEIGHTED and routes and not any(target.weight for _, target in routes):
            self._problems.add(persona.at("strategy"), "all weights are 0; give one of the routes a weight above 0")
        if len(routes) > 1 or not settings.provider:
            return
        if settings.hedging is not None:
            message = "there is no second route for a second attempt; add a `fallback` or leave it out"
            self._problems.add(persona.at("hedging"), message)
        if settings.strategy in _CHOOSING:
            message = f"{settings.strategy.value!r} has only one route to choose from"
            self._warnings.add(persona.at("strategy"), message)

    def _allowed_providers(self, persona: Checked) -> None:
        allowed = persona.settings.allowed_providers
        if not allowed:
            return
        for node, target in persona.routes():
            # An inherited fallback may be narrowed down; what the persona names itself must be meant.
            inherited = target.provider != persona.settings.provider and not _within(node, persona.own)
            if target.provider not in allowed and not inherited:
                message = f"leaves out {target.provider!r}, which line {node.place.line} asks; add it or ask another"
                self._problems.add(persona.at("allowed_providers"), message)

    def _provider_options(self, persona: Checked) -> None:
        """Refuse options of a provider, or family, that nobody knows, and those that it would refuse in each chat."""
        known = self._known.providers() | {spec.family for spec in self._known.specs.values()}
        written = persona.whole.get("provider_options")
        for name, node in written.entries.items() if isinstance(written, Fields) else ():
            if name not in known:
                self._problems.add(node, f"no {named('provider', name)}; {one_of(name, known)}")
                continue
            options = persona.settings.provider_options.get(name, {})
            for option, wrong in self._known.wrong_options(name, options).items():
                at = node.entries.get(option, node) if isinstance(node, Fields) else node
                self._problems.add(at, wrong)

    def _allowed_regions(self, persona: Checked) -> None:
        allowed = persona.settings.allowed_regions
        named_here = {each.region for each in self._providers.values()} | {
            each.region for each in self._models.values()
        }
        named_here.discard("")
        regions = named_here | self._known.regions()
        listed = persona.whole.get("allowed_regions")
        nodes = listed.items if isinstance(listed, Items) else ()
        for node, region in zip(nodes, allowed, strict=True):
            if region not in regions:
                # What adapters know is long, and nothing that anybody has to choose from.
                likely = regions if nearest(region, regions) else named_here
                hint = one_of(region, likely) if likely else "set `region` at `providers` or `models` first"
                self._problems.add(node, f"no provider or model is in {named('region', region)}; {hint}")
        routes = [target for _, target in persona.routes()]
        if persona.settings.provider and set(allowed) & regions:
            self._some_region(persona, routes, set(allowed))

    def _some_region(self, persona: Checked, routes: list[RouteTarget], allowed: set[str]) -> None:
        if not any(allowed.intersection(self._regions_of(target)) for target in routes):
            names = ", ".join(dict.fromkeys(self._name_of(target) for target in routes))
            message = f"leaves no route: none of {names} is in these regions; set their `region` or ask others"
            self._problems.add(persona.at("allowed_regions"), message)

    def _capabilities(self, persona: Checked) -> None:
        routes = [target for _, target in persona.routes() if self._known.is_installed(target.provider)]
        if not persona.settings.provider or not routes:
            return
        for capability in sorted(persona.settings.requires):
            known = {self._name_of(target): self._can(target, capability) for target in routes}
            lacking = ", ".join(name for name, can in known.items() if can is False)
            at, what = persona.at("requires"), repr(capability.value)
            if all(can is False for can in known.values()):
                message = f"{lacking} cannot do {what}; ask a model that can, or do not require it"
                self._problems.add(at, message)
            elif not any(known.values()):
                names = ", ".join(known)
                message = f"nobody of {names} is known to do {what}, so that chats are refused; say so at `models`"
                self._warnings.add(at, message)
            elif lacking:
                self._warnings.add(at, f"{lacking} cannot do {what} and is passed over")

    def _can(self, target: RouteTarget, capability: CapabilityName) -> bool | None:
        """Return whether a model can do something; None: it is not known."""
        model = target.model or self._known.default_model(target.provider)
        facts = self._models.get(f"{target.provider}/{model}")
        if facts is not None and facts.capabilities is not None:
            return capability in facts.capabilities
        found = capabilities_of(self._known.specs[target.provider], model)
        if any(name_of(each) == capability.value for each in found.supported):
            return True
        return False if any(name_of(each) == capability.value for each in found.unsupported) else None

    def _times(self, persona: Checked) -> None:
        times, retries = persona.settings.timeouts, persona.settings.retries
        if times.total is not None and times.first_token is not None and times.first_token > times.total:
            self._problems.add(persona.at("timeouts"), "`first_token` is longer than `total`")
        if retries.first_wait > retries.longest_wait:
            self._problems.add(persona.at("retries"), "`first_wait` is longer than `longest_wait`")

    def _tools(self, persona: Checked) -> None:
        listed = persona.whole.get("tools")
        nodes = listed.items if isinstance(listed, Items) else ()
        seen: dict[str, Node] = {}
        for node, tool in zip(nodes, persona.settings.tools, strict=True):
            if tool.name in seen:
                self._problems.add(node, f"tool {tool.name!r} is already in line {seen[tool.name].place.line}")
            seen.setdefault(tool.name, node)

    def _regions_of(self, target: RouteTarget) -> tuple[str, ...]:
        facts = self._models.get(self._name_of(target))
        provider = self._providers.get(target.provider)
        declared = (facts.region if facts is not None else "") or (provider.region if provider is not None else "")
        model = target.model or self._known.default_model(target.provider)
        return (declared,) if declared else self._known.places(target.provider, model)

    def _name_of(self, target: RouteTarget) -> str:
        model = target.model or self._known.default_model(target.provider)
        return f"{target.provider}/{model}" if model else target.provider


def _within(node: Node, outer: Fields) -> bool:
    return node.place.file == outer.place.file and node.path.startswith(f"{outer.path}.")
