"""The names that a configuration may use: providers, models, aliases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from execution_platform.adapters.spi import ProviderConfig, ProviderSpec
from execution_platform.server.config.nodes import Problems, Scalar, named, nearest, one_of, shown

__all__ = ["KnownNames"]


@dataclass(frozen=True)
class KnownNames:
    """What this server knows by name.

    Attributes:
        specs: the installed providers by name.
        aliases: EP_MODEL_ALIASES.
        alert_variables: EP_ALERT_*, which addresses of alerts take values from; they may be secret.
        configs: how the installed providers are reached, by name; what is missing here tells nothing of itself.
    """

    specs: Mapping[str, ProviderSpec] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    alert_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    configs: Mapping[str, ProviderConfig] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        specs: Iterable[ProviderSpec],
        aliases: Mapping[str, str],
        alert_variables: Mapping[str, str] | None = None,
        configs: Mapping[str, ProviderConfig] | None = None,
    ) -> KnownNames:
        """Return the names of some providers and aliases."""
        return cls({spec.name: spec for spec in specs}, dict(aliases), dict(alert_variables or {}), configs or {})

    def providers(self) -> set[str]:
        """Return the names of providers that may be named."""
        return set(self.specs)

    def is_installed(self, provider: str) -> bool:
        """Return whether there is an adapter for it."""
        return provider in self.specs

    def lacking(self, provider: str) -> str:
        """Return what a provider lacks here beside its key, naming the remedy; empty: nothing, as far as it is known.

        Whose key alone is missing is only not configured, as are most of those that there are.
        """
        spec, config = self.specs.get(provider), self.configs.get(provider)
        lack = "" if spec is None or config is None else spec.missing(config)
        return "" if lack == f"set EP_{provider.upper()}_API_KEY" else lack

    def places(self, provider: str, model: str) -> tuple[str, ...]:
        """Return where a model runs, as its adapter knows: what :class:`Places` tells; empty: nothing."""
        spec, config = self.specs.get(provider), self.configs.get(provider)
        return () if spec is None or spec.places is None or config is None else spec.places.of(config, model)

    def wrong_options(self, name: str, options: Mapping[str, Any]) -> dict[str, str]:
        """Return what is wrong with provider options of a provider, or of all of a family, by option."""
        specs = [spec for spec in self.specs.values() if name in {spec.name, spec.family}]
        return {option: wrong for spec in specs for option, wrong in spec.wrong_options(options).items()}

    def regions(self) -> set[str]:
        """Return the names of regions that adapters may tell."""
        return {name for spec in self.specs.values() if spec.places is not None for name in spec.places.known}

    def default_model(self, provider: str) -> str:
        """Return the model that is meant where only the provider is named; empty: there is none."""
        spec = self.specs.get(provider)
        return "" if spec is None else spec.default_model

    def check_provider(self, node: Scalar, problems: Problems) -> None:
        """Tell if a text does not name a provider, and what was probably meant."""
        name = node.text
        if name in self.providers():
            return
        head, slash, model = name.partition("/")
        if slash and head in self.providers():
            end = f" and `model: {model}`" if shown(model) else ", and the model in `model`"
            problems.add(node, f"this names a model too: write `provider: {head}`{end}")
        elif name in self.aliases:
            problems.add(node, f"{name!r} is an alias of a model: write `model: {name}`, without a provider")
        else:
            problems.add(node, f"no {named('provider', name)}; {one_of(name, self.providers())}")

    def target(self, node: Scalar, problems: Problems) -> tuple[str, str] | None:
        """Return provider and model of what a text names: a provider, provider/model or an alias; tell if nothing."""
        text = self.aliases.get(node.text, node.text)
        provider, slash, model = text.partition("/")
        if provider in self.providers():
            return provider, model
        if slash:
            problems.add(node, f"no {named('provider', provider)}; {one_of(provider, self.providers())}")
            return None
        listed = [f"{spec.name}/{text}" for spec in self.specs.values() if any(m.name == text for m in spec.models)]
        near = listed[0] if listed else nearest(text, {*self.providers(), *self.aliases})
        hint = f"did you mean {near!r}?" if near else "write provider/model"
        what = f"{shown(text)} is" if shown(text) else "this is"
        problems.add(node, f"{what} neither a provider nor provider/model nor an alias; {hint}")
        return None
