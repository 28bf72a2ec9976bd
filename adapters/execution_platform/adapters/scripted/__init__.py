"""The deterministic provider: for tests, and for first steps without a key or a model."""

from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.scripted.models import CAPABILITIES, DEFAULT_MODEL, MODELS
from execution_platform.adapters.scripted.play import FAMILY
from execution_platform.adapters.spi import ProviderConfig, ProviderSpec

__all__ = ["PROVIDERS", "ScriptedAdapter"]


def _create(_: ProviderConfig) -> ScriptedAdapter:
    return ScriptedAdapter()


PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="scripted",
        display_name="Scripted answers",
        family=FAMILY,
        create=_create,
        default_model=DEFAULT_MODEL,
        needs_key=False,
        models=MODELS,
        capabilities=CAPABILITIES,
        automatic_rank=99,
    ),
)
