"""Published prices from which more than one provider sells."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from execution_platform.adapters.spi import PriceListing

__all__ = ["ANTHROPIC"]

#: What it costs to be served from one region only. Source: platform.claude.com/docs/en/manage-claude/data-residency,
#: read 2026-11-21.
_REGIONS: Final = {"": Decimal(1), "global": Decimal(1), "not_available": Decimal(1), "us": Decimal("1.1")}

#: Anthropic's own prices. Source of the tool that is free: platform.claude.com, the page of the web fetch tool, read
#: 2026-11-21.
ANTHROPIC: Final = PriceListing("anthropic", regions=lambda _: _REGIONS, free_tools=frozenset({"web_fetch"}))
