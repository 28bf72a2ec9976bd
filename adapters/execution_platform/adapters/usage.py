"""Builds disjoint, additive usage from what providers count in overlapping ways."""

from __future__ import annotations

from google.protobuf import duration_pb2

from execution_platform.v1 import content_pb2, usage_pb2

__all__ = ["UsageItems"]

#: What a quantity can hold.
_MOST = 2**63 - 1

_Key = tuple[
    usage_pb2.UsageKind.ValueType, content_pb2.Modality.ValueType, int, str, usage_pb2.UsageUnit.ValueType, str
]


class UsageItems:
    """Collects usage items; equal ones are merged, zeros are left out, order is that of the first mention."""

    def __init__(self) -> None:
        self._quantities: dict[_Key, int] = {}

    def add(
        self,
        kind: usage_pb2.UsageKind.ValueType,
        quantity: int,
        *,
        modality: content_pb2.Modality.ValueType = content_pb2.MODALITY_UNSPECIFIED,
        cache_ttl_seconds: int = 0,
        tool: str = "",
        unit: usage_pb2.UsageUnit.ValueType = usage_pb2.USAGE_UNIT_TOKEN,
        model: str = "",
    ) -> None:
        """Add a quantity. Zero or less is nothing: a part larger than its whole is the provider's slip."""
        if quantity <= 0:
            return
        key = (kind, modality, cache_ttl_seconds, tool, unit, model)
        self._quantities[key] = min(self._quantities.get(key, 0) + quantity, _MOST)

    def items(self) -> list[usage_pb2.UsageItem]:
        """Return the items."""
        return [_item(key, quantity) for key, quantity in self._quantities.items()]

    def usage(self, provider_usage_json: str = "") -> usage_pb2.Usage:
        """Return the items as a Usage that keeps the provider's own JSON."""
        return usage_pb2.Usage(items=self.items(), provider_usage_json=provider_usage_json)


def _item(key: _Key, quantity: int) -> usage_pb2.UsageItem:
    kind, modality, ttl, tool, unit, model = key
    item = usage_pb2.UsageItem(
        kind=kind,
        modality=modality,
        tool=tool,
        unit=unit,
        quantity=quantity,
        model=model,
    )
    if ttl:
        item.cache_ttl.CopyFrom(duration_pb2.Duration(seconds=ttl))
    return item
