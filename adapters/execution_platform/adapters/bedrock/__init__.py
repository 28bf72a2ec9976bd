"""Amazon Bedrock: models of many makers through Converse and ConverseStream."""

from execution_platform.adapters.spi import ProviderSpec

__all__ = ["PROVIDERS"]

PROVIDERS: tuple[ProviderSpec, ...] = ()
