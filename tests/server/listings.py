"""Where the published prices of the installed providers are."""

from __future__ import annotations

from execution_platform.adapters.registry import Registry

__all__ = ["LISTINGS"]

LISTINGS = {spec.name: spec.price_listing for spec in Registry.discover().specs() if spec.price_listing is not None}
