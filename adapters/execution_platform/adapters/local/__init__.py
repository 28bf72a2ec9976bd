"""A small real model inside this process: no key, no network, no download beyond two packages."""

from execution_platform.adapters.local.settings import CAPABILITIES, DEFAULT_MODEL, MODELS, OPTIONS, missing
from execution_platform.adapters.spi import Adapter, ProviderConfig, ProviderSpec

__all__ = ["PROVIDERS"]


def _create(config: ProviderConfig) -> Adapter:
    from execution_platform.adapters.local.adapter import LocalAdapter  # noqa: PLC0415 - see ProviderSpec

    return LocalAdapter(config)


PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="local",
        display_name="Local model",
        family="local",
        create=_create,
        default_model=DEFAULT_MODEL,
        needs_key=False,
        options=OPTIONS,
        models=MODELS,
        capabilities=CAPABILITIES,
        missing=missing,
        automatic_rank=90,
    ),
)
