"""Which providers there are: found through entry points, so that another package adds one without a change here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from execution_platform.adapters.spi import ProviderSpec

__all__ = [
    "GROUP",
    "BrokenEntryPoint",
    "DuplicateProviderError",
    "Registry",
    "UnknownProviderError",
]

#: Group of entry points; each names a tuple of ProviderSpec.
GROUP = "execution_platform.adapters"

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class BrokenEntryPoint:
    """An entry point that brought no provider.

    Attributes:
        entry_point: its name and value, with the distribution that declares it.
        reason: what went wrong, for people.
    """

    entry_point: str
    reason: str


class DuplicateProviderError(ValueError):
    """Two providers have one name."""


class UnknownProviderError(LookupError):
    """There is no provider of that name.

    Attributes:
        name: what was asked for.
        suggestion: the known name nearest to it; empty: none is near.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        names = sorted(known)
        self.suggestion = next(iter(difflib.get_close_matches(name.lower(), names, n=1)), "")
        hint = f"; did you mean {self.suggestion!r}?" if self.suggestion else ""
        # A caller's name may be long; what is shown of it need not be.
        super().__init__(f"no provider {name[:64]!r}{hint} (there are: {', '.join(names) or 'none'})")


class Registry:
    """The providers that can be configured, by name. Immutable.

    Args:
        specs: the providers.
        broken: entry points that brought none.

    Raises:
        DuplicateProviderError: two of them have one name; the error names where both come from.
        ValueError: a name is not lower case letters, digits and ``_``.
    """

    def __init__(self, specs: Iterable[ProviderSpec], *, broken: Iterable[BrokenEntryPoint] = ()) -> None:
        self._specs = _by_name((spec, spec.display_name) for spec in specs)
        self.broken = tuple(broken)

    @classmethod
    def discover(cls, entry_points: Iterable[metadata.EntryPoint] | None = None) -> Registry:
        """Load the providers of every installed package.

        An entry point that cannot be loaded is told in ``broken`` and costs only its own providers.

        Args:
            entry_points: the entry points to load; default: those of GROUP that are installed.

        Raises:
            DuplicateProviderError: two of them bring providers of one name.
        """
        if entry_points is None:
            entry_points = metadata.entry_points(group=GROUP)
        found: list[tuple[ProviderSpec, str]] = []
        broken: list[BrokenEntryPoint] = []
        for entry_point in entry_points:
            origin = _origin(entry_point)
            try:
                found += [(spec, origin) for spec in _load(entry_point)]
            except Exception as error:  # noqa: BLE001  # a stranger's module may raise anything; it must cost only itself
                broken.append(BrokenEntryPoint(origin, f"{type(error).__name__}: {error}"))
        registry = cls((), broken=broken)
        registry._specs = _by_name(found)
        return registry

    def specs(self) -> tuple[ProviderSpec, ...]:
        """Return all providers, by name."""
        return tuple(self._specs.values())

    def names(self) -> tuple[str, ...]:
        """Return the names of all providers, sorted."""
        return tuple(self._specs)

    def spec(self, name: str) -> ProviderSpec:
        """Return the provider of a name.

        Raises:
            UnknownProviderError: there is none; the error suggests the nearest.
        """
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownProviderError(name, self._specs) from None


def _by_name(found: Iterable[tuple[ProviderSpec, str]]) -> dict[str, ProviderSpec]:
    origins: dict[str, tuple[ProviderSpec, str]] = {}
    for spec, origin in found:
        _check_name(spec.name)
        if spec.name in origins:
            raise DuplicateProviderError(
                f"two providers are named {spec.name!r}: one of {origins[spec.name][1]}, one of {origin}"
            )
        origins[spec.name] = (spec, origin)
    return {name: origins[name][0] for name in sorted(origins)}


def _load(entry_point: metadata.EntryPoint) -> tuple[ProviderSpec, ...]:
    specs = entry_point.load()
    if not isinstance(specs, tuple) or not all(isinstance(spec, ProviderSpec) for spec in specs):
        raise TypeError(f"it must name a tuple of ProviderSpec, not {type(specs).__name__}")
    for spec in specs:
        _check_name(spec.name)
    return specs


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"a provider's name is lower case letters, digits and '_', not {name!r}")


def _origin(entry_point: metadata.EntryPoint) -> str:
    declared = f"{entry_point.name} = {entry_point.value}"
    return f"{declared} ({entry_point.dist.name})" if entry_point.dist else declared
