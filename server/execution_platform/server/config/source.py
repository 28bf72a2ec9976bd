"""The configuration of personas and routes that is in force now."""

from __future__ import annotations

from execution_platform.server.config.personas import PlatformConfiguration

__all__ = ["PlatformSource"]


class PlatformSource:
    """Holds the configuration in force.

    Attributes:
        current: the configuration; replaced as a whole, never changed.
    """

    def __init__(self, current: PlatformConfiguration | None = None) -> None:
        self.current = PlatformConfiguration() if current is None else current
