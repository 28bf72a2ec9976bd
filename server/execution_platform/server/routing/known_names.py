"""Names that metrics may carry: those of the configuration and of the providers' own data, never a caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.providers import Providers

__all__ = ["OTHER", "KnownNames"]

#: What stands for every name that is not known.
OTHER = "other"


class KnownNames:
    """Tells names that are known from those that only a caller has said.

    Args:
        providers: their data names models.
        targets: what aliases and the default model stand for.
        configuration: gives the configuration in force.
    """

    def __init__(
        self, providers: Providers, targets: Iterable[str], configuration: Callable[[], PlatformConfiguration]
    ) -> None:
        self._configuration = configuration
        self._fixed = frozenset(_fixed(providers, targets))
        self._read: tuple[PlatformConfiguration | None, frozenset[tuple[str, str]]] = (None, frozenset())

    def model(self, provider: str, model: str) -> str:
        """Return a model's name if it is known, else ``other``."""
        return model if (provider, model) in self._models() else OTHER

    def persona(self, name: str) -> str:
        """Return a persona's name if there is one, else ``other``; nothing stays nothing."""
        return name if not name or name in self._configuration().personas else OTHER

    def _models(self) -> frozenset[tuple[str, str]]:
        configuration = self._configuration()
        if self._read[0] is not configuration:
            self._read = (configuration, self._fixed.union(_configured(configuration)))
        return self._read[1]


def _fixed(providers: Providers, targets: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in providers.names():
        spec = providers.spec(name)
        yield name, spec.default_model
        for known in spec.models:
            yield name, known.name
    yield from map(_split, targets)


def _configured(configuration: PlatformConfiguration) -> Iterator[tuple[str, str]]:
    for persona in (configuration.defaults, *configuration.personas.values()):
        yield persona.provider, persona.model
        for target in persona.fallback:
            yield target.provider, target.model
    yield from map(_split, configuration.models)


def _split(name: str) -> tuple[str, str]:
    provider, _, model = name.partition("/")
    return provider, model
