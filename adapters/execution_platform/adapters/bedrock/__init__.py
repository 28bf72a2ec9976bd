"""Amazon Bedrock: models of many makers through Converse and ConverseStream."""

from execution_platform.adapters.bedrock.models import CAPABILITIES, KNOWN_MODELS
from execution_platform.adapters.bedrock.regions import listed_names, price_regions
from execution_platform.adapters.bedrock.settings import OPTIONS, PLACES, missing, settle
from execution_platform.adapters.spi import Adapter, PriceListing, ProviderConfig, ProviderSpec

__all__ = ["PROVIDERS"]


def _create(config: ProviderConfig) -> Adapter:
    from execution_platform.adapters.bedrock.adapter import BedrockAdapter  # noqa: PLC0415 - see ProviderSpec

    return BedrockAdapter(config)


PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="bedrock",
        display_name="Amazon Bedrock",
        family="bedrock",
        create=_create,
        needs_key=False,
        options=OPTIONS,
        models=KNOWN_MODELS,
        capabilities=CAPABILITIES,
        settle=settle,
        missing=missing,
        places=PLACES,
        price_listing=PriceListing("aws", listed_names, price_regions),
    ),
)
