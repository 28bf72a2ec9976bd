"""Brings a persona from the ways in which it may be written into the one that its model has.

=============================  ===================================================
written                        read as
=============================  ===================================================
``capabilities: [vision]``     ``requires: [image_input]``
``budget: {tokens_per_min}``   ``limits: {tokens_per_min}``; also ``cost_per_min``
``fallback: [openai/gpt-4]``   ``fallback: [{provider: openai, model: gpt-4}]``
``tools: [search]``            ``tools: [{name: search}]``
=============================  ===================================================

Every value keeps the place and the path where it was written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from execution_platform.server.config.known import KnownNames
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
from execution_platform.server.config.personas import CapabilityName

__all__ = ["BUDGET", "CAPABILITIES", "WRITTEN_ONLY", "Spelling", "text_node"]

#: Keys of a persona that only the file has.
WRITTEN_ONLY = ("extends", "capabilities", "budget")

#: Limits that may stand in `budget`.
BUDGET = ("tokens_per_min", "cost_per_min")

#: Further words for capabilities. Case does not matter, and `-` is as `_`.
CAPABILITIES: Mapping[str, CapabilityName] = {
    **{name.value: name for name in CapabilityName},
    "audio": CapabilityName.AUDIO_INPUT,
    "batches": CapabilityName.BATCH,
    "caching": CapabilityName.PROMPT_CACHING,
    "documents": CapabilityName.PDF_INPUT,
    "embedding": CapabilityName.EMBEDDINGS,
    "function_calling": CapabilityName.TOOLS,
    "functions": CapabilityName.TOOLS,
    "image": CapabilityName.IMAGE_INPUT,
    "images": CapabilityName.IMAGE_INPUT,
    "json_schema": CapabilityName.STRUCTURED_OUTPUT,
    "parallel_tool_calls": CapabilityName.PARALLEL_TOOLS,
    "pdf": CapabilityName.PDF_INPUT,
    "prompt_cache": CapabilityName.PROMPT_CACHING,
    "reasoning": CapabilityName.THINKING,
    "stream": CapabilityName.STREAMING,
    "structured_outputs": CapabilityName.STRUCTURED_OUTPUT,
    "tool_calling": CapabilityName.TOOLS,
    "tool_use": CapabilityName.TOOLS,
    "vision": CapabilityName.IMAGE_INPUT,
}


def text_node(at: Node, text: str) -> Scalar:
    """Return a text that stands where something else was written."""
    return Scalar(at.place, at.path, "str", text, json.dumps(text))


class Spelling:
    """Reads one file's ways of writing.

    Args:
        known: names of providers and aliases.
        problems: takes what is wrong.
    """

    def __init__(self, known: KnownNames, problems: Problems) -> None:
        self._known = known
        self._problems = problems

    def persona(self, written: Fields) -> Fields:
        """Return a persona, or the defaults, as the model has it."""
        entries, keys = dict(written.entries), dict(written.keys)
        self._rename(entries, keys)
        self._spread_budget(written, entries, keys)
        for name, read in (("requires", self._capability), ("fallback", self._route), ("tools", self._tool)):
            node = entries.get(name)
            if isinstance(node, Items):
                entries[name] = Items(node.place, node.path, tuple(map(read, node)))
        self._check_names(entries)
        return written.with_entries(entries, keys)

    def model_facts(self, models: Fields) -> None:
        """Check the keys of `models`, which are provider/model."""
        for name in models.entries:
            provider, slash, model = name.partition("/")
            place, path = models.keys[name], joined(models.path, name)
            if provider not in self._known.providers():
                hint = one_of(provider, self._known.providers())
                self._problems.at(place, path, f"no {named('provider', provider)}; {hint}")
            elif not slash or not model:
                self._problems.at(place, path, f"write the model too: {provider}/model")

    def provider_names(self, providers: Fields) -> None:
        """Check the keys of `providers`."""
        for name, node in providers.entries.items():
            at = Scalar(providers.keys[name], node.path, "str", name, "")
            self._known.check_provider(at, self._problems)

    def capabilities_of_models(self, models: Fields) -> Fields:
        """Return `models` with the capabilities' proper names."""
        return models.with_entries({name: self._facts(node) for name, node in models.entries.items()})

    def _facts(self, node: Node) -> Node:
        listed = node.entries.get("capabilities") if isinstance(node, Fields) else None
        if not isinstance(node, Fields) or not isinstance(listed, Items):
            return node
        read = Items(listed.place, listed.path, tuple(map(self._capability, listed)))
        return node.with_entries({**node.entries, "capabilities": read})

    def _rename(self, entries: dict[str, Node], keys: dict[str, Place]) -> None:
        node = entries.pop("capabilities", None)
        if node is None:
            return
        if "requires" in entries:
            message = f"says the same as `requires` in line {keys['requires'].line}; keep one of them"
            self._problems.at(keys["capabilities"], node.path, message)
            return
        entries["requires"] = node
        keys["requires"] = keys["capabilities"]

    def _spread_budget(self, written: Fields, entries: dict[str, Node], keys: dict[str, Place]) -> None:
        budget = entries.pop("budget", None)
        if budget is None or (isinstance(budget, Scalar) and budget.kind == "null"):
            return
        if not isinstance(budget, Fields):
            self._problems.add(budget, "must be a mapping, such as {tokens_per_min: 100000, cost_per_min: 0.50}")
            return
        limits = written.get("limits")
        if limits is not None and not isinstance(limits, Fields):
            return  # which is told by whoever reads the limits
        inner = dict(limits.entries) if limits is not None else {}
        places = dict(limits.keys) if limits is not None else {}
        for name, node in budget.entries.items():
            if name not in BUDGET:
                near = nearest(name, BUDGET)
                hint = (
                    f"did you mean {near!r}?" if near else f"it takes {' and '.join(BUDGET)}; others go into `limits`"
                )
                self._problems.at(budget.keys[name], node.path, f"unknown key; {hint}")
            elif name in inner:
                message = f"is also at `limits` in line {places[name].line}; keep one of them"
                self._problems.at(budget.keys[name], node.path, message)
            else:
                inner[name], places[name] = node, budget.keys[name]
        base = limits or Fields(budget.place, budget.path, {}, {})
        entries["limits"] = base.with_entries(inner, places)
        keys.setdefault("limits", keys["budget"])

    def _capability(self, node: Node) -> Node:
        if not isinstance(node, Scalar) or node.kind != "str":
            return node
        found = CAPABILITIES.get(node.text.lower().replace("-", "_"))
        if found is None:
            words = CAPABILITIES if nearest(node.text, CAPABILITIES) else {name.value for name in CapabilityName}
            hint = one_of(node.text, words)
            self._problems.add(node, f"no {named('capability', node.text)}; {hint}")
            # Told already: what stands in for it is not told again.
            return text_node(node, CapabilityName.STREAMING)
        return text_node(node, found.value)

    def _route(self, node: Node) -> Node:
        if isinstance(node, Scalar) and node.kind == "str":
            target = self._known.target(node, self._problems)
            return self._targeted(node, {}, target)
        if not isinstance(node, Fields):
            return node
        provider, model = node.get("provider"), node.get("model")
        if isinstance(provider, Scalar) and provider.kind == "str" and provider.text:
            self._known.check_provider(provider, self._problems)
        elif provider is None and isinstance(model, Scalar) and model.kind == "str":
            return self._targeted(model, node.entries, self._known.target(model, self._problems), node)
        return node

    def _targeted(
        self, at: Scalar, entries: Mapping[str, Node], target: tuple[str, str] | None, outer: Fields | None = None
    ) -> Fields:
        provider, model = target or (at.text, "")
        made = {**entries, "provider": text_node(at, provider), "model": text_node(at, model)}
        base = outer or Fields(at.place, at.path, {}, {})
        return base.with_entries(made)

    def _tool(self, node: Node) -> Node:
        if isinstance(node, Scalar) and node.kind == "str":
            return Fields(node.place, node.path, {"name": node}, {"name": node.place})
        return node

    def _check_names(self, entries: Mapping[str, Node]) -> None:
        provider = entries.get("provider")
        if isinstance(provider, Scalar) and provider.kind == "str" and provider.text:
            self._known.check_provider(provider, self._problems)
        allowed = entries.get("allowed_providers")
        for node in allowed if isinstance(allowed, Items) else ():
            if isinstance(node, Scalar) and node.kind == "str":
                self._known.check_provider(node, self._problems)
