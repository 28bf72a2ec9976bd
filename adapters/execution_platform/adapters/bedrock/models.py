"""What is known of the models at Bedrock. Data only."""

from __future__ import annotations

from execution_platform.adapters.capabilities import named
from execution_platform.adapters.spi import CapabilityRow, KnownModel

__all__ = ["CAPABILITIES", "FAMILY", "KNOWN_MODELS"]

FAMILY = "bedrock"
"""Whom the opaque state of Bedrock's answers belongs to."""

KNOWN_MODELS: tuple[KnownModel, ...] = ()

CAPABILITIES: tuple[CapabilityRow, ...] = (
    CapabilityRow(
        supported=named("streaming"),
        unsupported=named("seed", "logprobs"),
        source="botocore 1.44.5: data/bedrock-runtime/2023-09-30/service-2.json",
        as_of="2026-11-21",
    ),
)
