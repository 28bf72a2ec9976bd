"""Merges what a persona extends, and the defaults, into it.

What holds for a persona is, the later wins: ``defaults``, then what it extends, from the oldest on, then its own words.

* A mapping is merged key by key, at every depth: ``limits: {concurrent: 5}`` leaves the other limits as they were.
* Anything else, lists too, takes the place of what was there.
* ``null`` takes away what was inherited, so that the built-in default holds.
* ``provider`` without ``model`` takes away the inherited model and weight: they are another provider's.
* An inherited fallback that is the persona's own provider and model by now is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from execution_platform.server.config.known import KnownNames
from execution_platform.server.config.nodes import Fields, Items, Problems, Scalar, named, one_of

__all__ = ["Merging", "merge", "without_itself"]


def merge(base: Fields, over: Fields) -> Fields:
    """Return ``over`` with what it leaves open taken from ``base``."""
    entries = dict(base.entries)
    keys = {**base.keys, **over.keys}
    for key, node in over.entries.items():
        below = entries.get(key)
        if isinstance(node, Scalar) and node.kind == "null":
            entries.pop(key, None)
        elif isinstance(below, Fields) and isinstance(node, Fields):
            entries[key] = merge(below, node)
        else:
            entries[key] = node
    return over.with_entries(entries, keys)


class Merging:
    """Makes personas whole.

    Args:
        written: the personas as their model has them, by name.
        defaults: what every one begins with.
        problems: takes what is wrong with `extends`.
    """

    def __init__(self, written: Mapping[str, Fields], defaults: Fields | None, problems: Problems) -> None:
        self._written = written
        self._defaults = defaults
        self._problems = problems
        self._parents = {name: self._parent_of(fields) for name, fields in written.items()}
        self._cut_circles()
        self._whole: dict[str, Fields] = {}

    def whole(self) -> dict[str, Fields]:
        """Return the personas with all that they inherit."""
        return {name: self._of(name) for name in self._written}

    def _parent_of(self, persona: Fields) -> str:
        node = persona.get("extends")
        if node is None:
            return ""
        if not isinstance(node, Scalar) or node.kind != "str":
            self._problems.add(node, "must be the name of one persona")
            return ""
        if node.text not in self._written:
            self._problems.add(node, f"no {named('persona', node.text)}; {one_of(node.text, self._written)}")
            return ""
        return node.text

    def _cut_circles(self) -> None:
        """Tell each circle once, where it closes, and go on as if it did not."""
        done: set[str] = set()
        for start in self._written:
            chain: list[str] = []
            name = start
            while name and name not in done and name not in chain:
                chain.append(name)
                name = self._parents[name]
            if name in chain:
                circle = [*chain[chain.index(name) :], name]
                last = circle[-2]
                said = ", ".join(circle)
                node = self._written[last].entries["extends"]
                self._problems.add(node, f"goes round in a circle ({said}); let one of them extend another or nothing")
                self._parents[last] = ""
            done.update(chain)

    def _of(self, name: str) -> Fields:
        chain: list[str] = []
        while name and name not in self._whole:
            chain.append(name)
            name = self._parents[name]
        below = self._whole[name] if name else self._defaults
        for each in reversed(chain):
            own = self._written[each].without("extends")
            below = self._whole[each] = own if below is None else merge(_for_provider_of(own, below), own)
        assert below is not None  # noqa: S101 - a chain has at least its own name
        return below


def without_itself(persona: Fields, known: KnownNames) -> Fields:
    """Leave out inherited fallbacks that are what the persona asks first; own ones are a mistake that is told."""
    fallback = persona.get("fallback")
    if not isinstance(fallback, Items) or fallback.path.startswith(f"{persona.path}."):
        return persona
    own = _route_of(persona, known)
    kept = tuple(node for node in fallback if not isinstance(node, Fields) or _route_of(node, known) != own)
    return persona.with_entries({**persona.entries, "fallback": Items(fallback.place, fallback.path, kept)})


def _route_of(node: Fields, known: KnownNames) -> tuple[str, str]:
    provider = node.text("provider")
    return provider, node.text("model") or known.default_model(provider)


def _for_provider_of(own: Fields, below: Fields) -> Fields:
    """Return what is inherited without the model and weight of another provider."""
    if own.get("provider") is None:
        return below
    return below.without(*({"model", "weight"} - set(own.entries)))
