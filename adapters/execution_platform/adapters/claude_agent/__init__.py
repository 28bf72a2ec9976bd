"""Claude Agent SDK: Claude Code's own loop, each run a process in a cage."""

from execution_platform.adapters.spi import ProviderSpec

__all__ = ["PROVIDERS"]

PROVIDERS: tuple[ProviderSpec, ...] = ()
