"""What a model can do, read from the rows of its provider.

Rows lie over one another: the one for all models first, then those with longer patterns. Each may turn what the one
below says, or say that it is not known after all.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from execution_platform.adapters.spi import CapabilityRow, KnownModel, ProviderSpec
from execution_platform.v1 import capability_pb2

__all__ = ["ALL", "ModelCapabilities", "Set", "capabilities_of", "context_windows", "name_of", "named"]

Set = frozenset[capability_pb2.Capability.ValueType]

#: Every capability of the contract, in its order.
ALL: tuple[capability_pb2.Capability.ValueType, ...] = tuple(
    number for number in capability_pb2.Capability.values() if number != capability_pb2.CAPABILITY_UNSPECIFIED
)


#: What tells one edition of a model from another: a date or a word for the newest.
_EDITION = re.compile(r"(-\d{8}|-\d{4}-\d{2}-\d{2}|@\w+|-latest)$")


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """What is known of one model. What is neither supported nor unsupported is not known.

    Attributes:
        supported: what it can do, and the adapter with it.
        unsupported: what it, or the adapter with it, cannot do.
        context_window: most tokens of prompt and answer; None: not known.
        max_output_tokens: most tokens of an answer; None: not known.
        sources: where that is said, the most specific first.
        as_of: day on which the oldest of the sources was read; empty: there is none.
    """

    supported: Set = frozenset()
    unsupported: Set = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    sources: tuple[str, ...] = ()
    as_of: str = ""

    def message(self) -> capability_pb2.Capabilities:
        """Return it as the contract tells it."""
        return capability_pb2.Capabilities(
            supported=sorted(self.supported),
            unsupported=sorted(self.unsupported),
            source=" ".join(self.sources),
            as_of=self.as_of,
        )


def name_of(capability: capability_pb2.Capability.ValueType) -> str:
    """Return a capability's name as configurations write it, for example ``parallel_tools``."""
    return capability_pb2.Capability.Name(capability).removeprefix("CAPABILITY_").lower()


def named(*names: str) -> Set:
    """Return capabilities by their names. Raises ValueError for a name that there is not."""
    return frozenset(capability_pb2.Capability.Value(f"CAPABILITY_{name.upper()}") for name in names)


def context_windows(source: str, as_of: str, *sizes: tuple[int, tuple[str, ...]]) -> tuple[CapabilityRow, ...]:
    """Return rows that say nothing but how much models can read: tokens, with patterns of models."""
    return tuple(
        CapabilityRow(models=models, context_window=tokens, source=source, as_of=as_of) for tokens, models in sizes
    )


def capabilities_of(spec: ProviderSpec, model: str) -> ModelCapabilities:
    """Return what a provider's data says of one of its models, whether it lists the model or not."""
    rows = _rows_for(spec.capabilities, model)
    supported: set[capability_pb2.Capability.ValueType] = set()
    unsupported: set[capability_pb2.Capability.ValueType] = set()
    window = output = None
    for row in rows:
        said = row.supported | row.unsupported | row.unknown
        supported = (supported - said) | row.supported
        unsupported = (unsupported - said) | row.unsupported
        window = row.context_window or window
        output = row.max_output_tokens or output
    known = _known(spec, model)
    if known is not None:
        window = known.context_window or window
        output = known.max_output_tokens or output
    return ModelCapabilities(
        frozenset(supported),
        frozenset(unsupported),
        window,
        output,
        tuple(dict.fromkeys(row.source for row in reversed(rows))),
        min((row.as_of for row in rows), default=""),
    )


def _known(spec: ProviderSpec, model: str) -> KnownModel | None:
    """Return what the provider lists under a model's name, or under that name without its date."""
    by_name = {known.name: known for known in spec.models}
    return by_name.get(model) or by_name.get(_EDITION.sub("", model))


def _rows_for(rows: Iterable[CapabilityRow], model: str) -> list[CapabilityRow]:
    """Return the rows that hold for a model, the least specific first."""
    found = [(_match(row, model), row) for row in rows]
    return [row for _, row in sorted((pair for pair in found if pair[0] >= 0), key=lambda pair: pair[0])]


def _match(row: CapabilityRow, model: str) -> int:
    """Return how specifically a row holds for a model: characters of its longest fitting pattern; -1: not at all."""
    name = model.lower()
    return max(
        (len(pattern.replace("*", "")) for pattern in row.models if fnmatch.fnmatchcase(name, pattern)), default=-1
    )
