"""Time zones by their names."""

from __future__ import annotations

from zoneinfo import ZoneInfo

__all__ = ["UnknownTimeZoneError", "time_zone"]

#: Names under which systems keep copies of their zones, with leap seconds or without; no zone is called so.
_COPIES = ("posix/", "right/", "localtime", "posixrules")


class UnknownTimeZoneError(ValueError):
    """No time zone has this name."""


def time_zone(name: str) -> ZoneInfo:
    """Return a time zone.

    Args:
        name: its IANA name; empty: UTC.

    Raises:
        UnknownTimeZoneError: there is none of that name.
    """
    try:
        if name.startswith(_COPIES):
            raise ValueError(name)
        return ZoneInfo(name or "UTC")
    except (ValueError, OSError, LookupError) as error:  # a folder of zones, such as "Europe", is an OSError
        raise UnknownTimeZoneError(f"no time zone is called {name!r}") from error
