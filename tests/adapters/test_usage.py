"""Usage items are disjoint: equal ones are merged, nothing is counted as zero."""

from execution_platform.adapters.usage import UsageItems
from execution_platform.v1 import content_pb2, usage_pb2


def test_equal_items_are_merged_in_order() -> None:
    """Items that differ in nothing but quantity become one, at the place of the first."""
    items = UsageItems()
    items.add(usage_pb2.USAGE_KIND_INPUT, 5)
    items.add(usage_pb2.USAGE_KIND_OUTPUT, 2)
    items.add(usage_pb2.USAGE_KIND_INPUT, 3)
    assert [(item.kind, item.quantity) for item in items.items()] == [
        (usage_pb2.USAGE_KIND_INPUT, 8),
        (usage_pb2.USAGE_KIND_OUTPUT, 2),
    ]


def test_items_that_differ_in_anything_stay_apart() -> None:
    """Modality, time to live, tool, unit and model each keep items apart, and are told."""
    items = UsageItems()
    kind = usage_pb2.USAGE_KIND_CACHE_WRITE
    items.add(kind, 1)
    items.add(kind, 2, modality=content_pb2.MODALITY_AUDIO)
    items.add(kind, 3, cache_ttl_seconds=3600)
    items.add(kind, 4, tool="web_search")
    items.add(kind, 5, unit=usage_pb2.USAGE_UNIT_CALL)
    items.add(kind, 6, model="other")
    told = items.items()
    assert [item.quantity for item in told] == [1, 2, 3, 4, 5, 6]
    assert told[0].unit == usage_pb2.USAGE_UNIT_TOKEN
    assert not told[0].HasField("cache_ttl")
    assert told[1].modality == content_pb2.MODALITY_AUDIO
    assert told[2].cache_ttl.seconds == 3600
    assert (told[3].tool, told[4].unit, told[5].model) == ("web_search", usage_pb2.USAGE_UNIT_CALL, "other")


def test_nothing_is_not_an_item() -> None:
    """Zero and less are left out."""
    items = UsageItems()
    items.add(usage_pb2.USAGE_KIND_INPUT, 0)
    items.add(usage_pb2.USAGE_KIND_INPUT, -4)
    assert items.items() == []


def test_usage_keeps_the_providers_json() -> None:
    """A usage holds the items and the provider's own JSON as it stands."""
    items = UsageItems()
    items.add(usage_pb2.USAGE_KIND_INPUT, 1)
    usage = items.usage('{"a": 1.0}')
    assert (len(usage.items), usage.provider_usage_json) == (1, '{"a": 1.0}')


def test_a_quantity_ends_where_its_field_does() -> None:
    """Sums beyond 64 bits, which no provider means, are the largest quantity."""
    items = UsageItems()
    items.add(usage_pb2.USAGE_KIND_INPUT, 2**63 - 1)
    items.add(usage_pb2.USAGE_KIND_INPUT, 5)
    assert [item.quantity for item in items.items()] == [2**63 - 1]
