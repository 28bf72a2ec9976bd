"""Claude Agent SDK: Claude Code's own loop, each run a process in a cage."""

from execution_platform.adapters.claude_agent.options import wrong_options
from execution_platform.adapters.claude_agent.settings import (
    CAPABILITIES,
    DEFAULT_MODEL,
    MODELS,
    OPTIONS,
    PRICE_LISTING,
    missing,
)
from execution_platform.adapters.spi import Adapter, ProviderConfig, ProviderSpec

__all__ = ["PROVIDERS"]


def _create(config: ProviderConfig) -> Adapter:
    from execution_platform.adapters.claude_agent.adapter import ClaudeAgentAdapter  # noqa: PLC0415 - see ProviderSpec

    return ClaudeAgentAdapter(config)


PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="claude_agent",
        display_name="Claude Agent SDK",
        family="claude_agent",
        create=_create,
        default_model=DEFAULT_MODEL,
        needs_key=False,
        options=OPTIONS,
        models=MODELS,
        capabilities=CAPABILITIES,
        missing=missing,
        wrong_options=wrong_options,
        price_listing=PRICE_LISTING,
        many_calls=True,
    ),
)
