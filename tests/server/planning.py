"""Providers, prices and latencies that tests of the planner plan with: nobody is ever asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import SecretStr

from execution_platform.adapters.capabilities import ALL
from execution_platform.adapters.registry import Registry
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import CapabilityRow, Places, ProviderConfig, ProviderSpec
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.latencies import Latencies
from execution_platform.server.routing.planner import Planner
from execution_platform.server.routing.providers import Providers
from execution_platform.server.routing.router import Router
from execution_platform.v1 import capability_pb2, catalog_pb2, chat_pb2

REQUEST_ID = "0b5f1d6e-6a0b-4c59-9f0c-0a3b6d1a2c4e"

TOOLS = capability_pb2.CAPABILITY_TOOLS
SEED = capability_pb2.CAPABILITY_SEED
IMAGES = capability_pb2.CAPABILITY_IMAGE_INPUT


def spec(name: str, *lacks: capability_pb2.Capability.ValueType, **fields: Any) -> ProviderSpec:
    """A provider that can do everything but what it lacks; its default model is `one`."""
    row = CapabilityRow(supported=frozenset(ALL) - {*lacks}, unsupported=frozenset(lacks), source="here", as_of="")
    made: dict[str, Any] = {
        "display_name": name.title(),
        "family": name,
        "create": lambda _: ScriptedAdapter(),
        "default_model": "one",
        "capabilities": [row],
        **fields,
    }
    return ProviderSpec(name, **made)


def _places_of(_: ProviderConfig, model: str) -> tuple[str, ...]:
    """Models of `cloud` are named after where they run."""
    places = {"eu-1": ("eu-1", "eu"), "eu": ("eu",), "us": ("us",), "global": ("global",)}
    return places.get(model.partition(".")[0], ())


def _outside_of(_: ProviderConfig, model: str) -> str:
    """Models of `cloud` that are asked from elsewhere are named so."""
    return "it is asked from us-1, outside eu" if model.startswith("outside.") else ""


SPECS = (
    spec("able", automatic_rank=10),
    spec("blind", IMAGES, automatic_rank=20),
    spec("plain", TOOLS, SEED, IMAGES, automatic_rank=30),
    spec("unknown", capabilities=[]),
    spec("keyless", needs_key=False, automatic_rank=90),
    spec("nameless", default_model=""),
    spec("absent", automatic_rank=5),
    spec("lame", needs_key=False, missing=lambda _: "install execution-platform[lame]"),
    spec("cloud", needs_key=False, places=Places(_places_of, frozenset({"eu-1", "eu", "us", "global"}), _outside_of)),
)

#: All of those that need one have their key, but `absent`.
KEYS = frozenset({"able", "blind", "plain", "unknown", "nameless"})


@dataclass
class ListPrices:
    """Prices of a thousand tokens, by ``provider/model``."""

    prices: Mapping[str, str] = field(default_factory=dict)

    def estimate(self, provider: str, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what so many tokens would cost."""
        price = self.prices.get(f"{provider}/{model}")
        return None if price is None else Decimal(price) * (input_tokens + output_tokens) / 1000


@dataclass
class Planning:
    """A planner and what it plans with."""

    platform: PlatformConfiguration
    keys: frozenset[str] = KEYS
    default_model: str = ""
    prices: ListPrices = field(default_factory=ListPrices)
    latencies: Latencies = field(default_factory=Latencies)

    def __post_init__(self) -> None:
        """Make the planner."""
        configs = {
            each.name: ProviderConfig(each.name, SecretStr("made-up-key") if each.name in self.keys else None)
            for each in SPECS
        }
        providers = Providers(Registry(SPECS), configs)
        router = Router(providers, {"quick": "plain/fast"}, self.default_model)
        self.planner = Planner(router, providers, lambda: self.platform, self.latencies, self.prices)

    def names(self, request: chat_pb2.ChatRequest, request_id: str = REQUEST_ID) -> list[str]:
        """Whom a chat asks, in order."""
        return [leg.name for leg in self.planner.plan(request, request_id).legs]

    def verdicts(self, request: chat_pb2.ChatRequest) -> dict[str, str]:
        """What is said of each candidate."""
        candidates = self.planner.explain(request, REQUEST_ID).candidates
        named = {each.leg.name.removesuffix("/"): each.verdict for each in candidates}
        assert len(named) == len(candidates)
        return {
            name: catalog_pb2.RouteVerdict.Name(verdict).removeprefix("ROUTE_VERDICT_")
            for name, verdict in named.items()
        }


def planning(platform: Mapping[str, Any] | None = None, **fields: Any) -> Planning:
    """A planner for a configuration."""
    return Planning(PlatformConfiguration.model_validate(platform or {}), **fields)


def targets(*names: str, **fields: Any) -> dict[str, Any]:
    """A persona that asks these, each ``provider`` or ``provider/model``, in order."""
    split = [dict(zip(("provider", "model"), name.split("/"), strict=False)) for name in names]
    return {**split[0], "fallback": split[1:], **fields}
