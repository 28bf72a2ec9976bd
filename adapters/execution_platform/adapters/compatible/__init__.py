"""Servers that speak OpenAI's formats: rows of data (:mod:`.rows`), no code of their own."""

from __future__ import annotations

from execution_platform.adapters.compatible.models import CAPABILITIES
from execution_platform.adapters.compatible.row import Row
from execution_platform.adapters.compatible.rows import ROWS

__all__ = ["PROVIDERS", "Row"]

PROVIDERS = tuple(row.spec(CAPABILITIES[row.dialect.provider]) for row in ROWS)
