"""Where models run: what the configuration says of it, else what their provider's adapter knows."""

from __future__ import annotations

from dataclasses import dataclass

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.providers import Providers

__all__ = ["Whereabouts", "regions_known", "whereabouts_of"]


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a model runs.

    Attributes:
        names: any of them on a list of regions allows it; the first is told as the route's region. Empty: not known.
        declared: the configuration says so, rather than the provider's adapter.
        told_by_adapter: the provider's adapter knows where its models run, but not of this one.
        outside: why this one has no place although its name tells one; empty: it is just not known.
    """

    names: tuple[str, ...] = ()
    declared: bool = False
    told_by_adapter: bool = False
    outside: str = ""

    @property
    def region(self) -> str:
        """The narrowest name; empty: not known."""
        return self.names[0] if self.names else ""

    def __str__(self) -> str:
        """Return it for people."""
        if self.declared:
            return f"it serves from {self.region}"
        if self.names:
            return f"it may run anywhere in {self.region}"
        if self.outside:
            return self.outside
        if self.told_by_adapter:
            return "nobody knows where it runs; name its region at `models` of the configuration"
        return "the configuration names no region for it"


def whereabouts_of(
    configuration: PlatformConfiguration, providers: Providers, provider: str, model: str
) -> Whereabouts:
    """Return where a model runs.

    What the configuration says goes first and alone: of the model, else of its provider. Behind it comes what the
    provider's adapter knows.
    """
    facts = configuration.models.get(f"{provider}/{model}") if configuration.models else None
    settings = configuration.providers.get(provider)
    declared = (facts.region if facts is not None else "") or (settings.region if settings is not None else "")
    if declared:
        return Whereabouts((declared,), declared=True)
    places = providers.spec(provider).places if providers.knows(provider) else None
    if places is None:
        return Whereabouts()
    config = providers.config(provider)
    names = places.of(config, model)
    return Whereabouts(names, told_by_adapter=True, outside="" if names else places.outside(config, model))


def regions_known(configuration: PlatformConfiguration, providers: Providers) -> set[str]:
    """Return the names of regions that lists may have: those of the configuration and those that adapters may tell."""
    named = {settings.region for settings in configuration.providers.values()}
    named |= {facts.region for facts in configuration.models.values()}
    told = (providers.spec(name).places for name in providers.names())
    return named.union(*(places.known for places in told if places is not None)) - {""}
