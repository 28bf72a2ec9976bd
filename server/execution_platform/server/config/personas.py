"""Personas, and everything else that the configuration file says about routes: frozen models, merged and checked.

Names of fields are the names in the file; docs/personas.md explains them. A model here holds values that are whole:
what a persona extends and the defaults have been merged in by :mod:`.merging`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.config.budgets import BudgetSettings, name_fault
from execution_platform.server.config.prices import Dollars, PriceSettings, both_hold
from execution_platform.server.config.reports import ReportSettings

__all__ = [
    "DEFAULT_TENANT",
    "Breaker",
    "CapabilityName",
    "Hedging",
    "LimitSettings",
    "MidStream",
    "ModelFacts",
    "PersonaSettings",
    "PlatformConfiguration",
    "Project",
    "ProviderSettings",
    "ReasoningSettings",
    "Retries",
    "RetryBudgetSettings",
    "RouteTarget",
    "SamplingSettings",
    "Strategy",
    "Tenant",
    "TimeoutSettings",
    "ToolSettings",
    "named_owner",
]

#: The tenant of credentials that are no tenant's.
DEFAULT_TENANT = "default"

_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h)?\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: Any) -> Any:
    """Read ``2``, ``2.5`` or ``"2s"``, ``"500ms"``, ``"5m"``, ``"1h"``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = _SPAN.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a time as a number of seconds, or as 500ms, 30s, 5m or 1h")
    return float(match["number"]) * _UNITS[match["unit"] or "s"]


Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, le=86_400),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 86_400},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h)?\s*$"},
            ]
        }
    ),
]
Count = Annotated[int, Field(ge=1, le=10**12)]
Label = Annotated[str, Field(max_length=128)]


class Strategy(StrEnum):
    """How one of several routes is chosen."""

    PRIORITY = "priority"
    WEIGHTED = "weighted"
    LOWEST_LATENCY = "lowest_latency"
    CHEAPEST = "cheapest"
    STICKY = "sticky"


class MidStream(StrEnum):
    """What happens when an answer breaks off after output has been sent."""

    NEVER = "never"
    RESTART = "restart"
    CONTINUE = "continue"


class CapabilityName(StrEnum):
    """What a model can do; the names of the contract's Capability in lower case."""

    STREAMING = "streaming"
    TOOLS = "tools"
    PARALLEL_TOOLS = "parallel_tools"
    THINKING = "thinking"
    STRUCTURED_OUTPUT = "structured_output"
    IMAGE_INPUT = "image_input"
    PDF_INPUT = "pdf_input"
    AUDIO_INPUT = "audio_input"
    PROMPT_CACHING = "prompt_caching"
    SEED = "seed"
    LOGPROBS = "logprobs"
    EMBEDDINGS = "embeddings"
    BATCH = "batch"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitSettings(_Model):
    """Most that may be used; null: no limit."""

    requests_per_min: Count | None = Field(default=None, description="Chats that begin in a minute.")
    tokens_per_min: Count | None = Field(default=None, description="Tokens in a minute, prompts and answers together.")
    cost_per_min: Annotated[Decimal, Field(ge=Decimal("1e-9"), le=10**6)] | None = Field(
        default=None, description="Cost in a minute in US dollars, by the list prices that the server knows."
    )
    concurrent: Count | None = Field(default=None, description="Chats that run at once.")


class RouteTarget(_Model):
    """One that may be asked."""

    provider: Annotated[str, Field(min_length=1)] = Field(description="Name of the provider.")
    model: str = Field(default="", description="The provider's name of the model. Empty: the provider's default.")
    weight: Annotated[float, Field(ge=0, le=10**6)] = Field(
        default=1.0, description="Share of the chats, for the strategy `weighted`."
    )


class TimeoutSettings(_Model):
    """Times of one attempt, and of the chat as a whole."""

    first_token: Seconds | None = Field(
        default=None, description="Longest time to the first output; then the next is asked. Null: the provider's own."
    )
    idle: Seconds | None = Field(default=None, description="Longest silence after it. Null: the provider's own.")
    total: Seconds | None = Field(default=None, description="Longest time for the whole chat. Null: the caller's.")


class Retries(_Model):
    """When the same model is asked again. Waiting times double and are drawn between 0 and that time (full jitter)."""

    most: Annotated[int, Field(ge=0, le=5)] = Field(default=5, description="Most retries of one route.")
    most_before_fallback: Annotated[int, Field(ge=0, le=5)] = Field(
        default=1, description="Most retries of a route while another one is left to fall back to."
    )
    first_wait: Seconds = Field(default=1.0, description="Longest wait before the first retry; doubles each time.")
    longest_wait: Seconds = Field(default=16.0, description="Longest wait before any retry.")
    longest_wait_before_fallback: Seconds = Field(
        default=2.0, description="A provider that asks for a longer wait is left for the next one, if there is one."
    )


class Hedging(_Model):
    """A second attempt beside one that is later than usual."""

    percentile: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=95.0, description="The second attempt begins when the first output is later than this percentile."
    )
    least_samples: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=20, description="Answers that must have been seen before a percentile means anything."
    )
    after: Seconds | None = Field(default=None, description="Begin after this time, whatever was seen before.")


class SamplingSettings(_Model):
    """Defaults of ChatRequest.sampling."""

    max_output_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="Most tokens of an answer."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=None, description="How far the choice of words is left to chance."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="Only the likeliest tokens that have this probability together."
    )
    top_k: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="Only this many of the likeliest tokens."
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        default=None, description="Against tokens, the more the oftener they have come."
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        default=None, description="Against tokens that have come at all."
    )
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = Field(
        default=None, description="The same seed gives the same answer, as far as the provider can."
    )
    stop_sequences: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="An answer ends before any of these."
    )


class ReasoningSettings(_Model):
    """Defaults of ChatRequest.reasoning."""

    enabled: bool | None = Field(default=None, description="Whether the model reasons. Null: as it does by itself.")
    effort: str = Field(default="", description="How hard, in the provider's word, such as `low`.")
    budget_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Most tokens of reasoning."
    )
    display: Literal["", "omitted", "summary", "concise_summary", "detailed_summary"] = Field(
        default="", description="What is shown of it. Empty: what the provider shows by itself."
    )


class ToolSettings(_Model):
    """A tool of a persona. Only a name: its chats may use a tool of that name. With more: every chat is offered it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*-]{1,128}$")] = Field(
        description="Its name. Where it is only allowed, `*` stands for anything."
    )
    description: str = Field(default="", description="What it does, for the model.")
    parameters: dict[str, Any] | None = Field(default=None, description="JSON schema of the arguments.")

    @property
    def offered(self) -> bool:
        """Whether every chat is offered it."""
        return bool(self.description) or self.parameters is not None

    @model_validator(mode="after")
    def _one_name(self) -> ToolSettings:
        if self.offered and "*" in self.name:
            raise ValueError(
                f"{self.name!r} cannot name a tool that is offered: `*` is for tools that are only allowed"
            )
        return self


class PersonaSettings(_Model):
    """One persona."""

    description: str = Field(default="", description="What it is for.")
    provider: str = Field(default="", description="Who is asked. Empty: chosen by the credentials that are there.")
    model: str = Field(default="", description="Its model. Empty: the provider's default.")
    weight: Annotated[float, Field(ge=0, le=10**6)] = Field(
        default=1.0, description="Share of the chats, for the strategy `weighted`."
    )
    fallback: tuple[RouteTarget, ...] = Field(default=(), description="Who is asked next, in order.")
    strategy: Strategy = Field(default=Strategy.PRIORITY, description="How one of them is chosen.")
    requires: frozenset[CapabilityName] = Field(
        default=frozenset(), description="What whoever answers must be able to do. Also written `capabilities`."
    )
    tools: tuple[ToolSettings, ...] = Field(default=(), description="Tools that its chats may use. Empty: all.")
    system_prompt: str = Field(default="", description="Comes before the instructions of the request.")
    sampling: SamplingSettings = Field(default=SamplingSettings(), description="Where the request leaves these open.")
    reasoning: ReasoningSettings = Field(
        default=ReasoningSettings(), description="Where the request leaves these open."
    )
    service_tier: str = Field(default="", description="Tier of service, where the request names none.")
    provider_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Options of single providers, by name of the provider. What a request gives lies over them.",
    )
    allowed_providers: tuple[str, ...] = Field(default=(), description="Who may be asked. Empty: all.")
    allowed_regions: tuple[str, ...] = Field(
        default=(), description="Regions that may be asked: those named here, and those that adapters know. Empty: all."
    )
    labels: Annotated[dict[Label, Label], Field(max_length=32)] = Field(
        default_factory=dict, description="Labels that its chats carry."
    )
    limits: LimitSettings = Field(
        default=LimitSettings(),
        description="What its chats may use. `tokens_per_min` and `cost_per_min` may also stand in `budget`.",
    )
    timeouts: TimeoutSettings = Field(default=TimeoutSettings(), description="How long things may take.")
    retries: Retries = Field(default=Retries(), description="When the same model is asked again.")
    hedging: Hedging | None = Field(
        default=None, description="A second attempt beside a late one; `{}`: with the defaults. Null: none."
    )
    mid_stream: MidStream = Field(
        default=MidStream.NEVER,
        description="What happens when an answer breaks off: it fails (`never`), the next one begins anew (`restart`), "
        "or goes on from there (`continue`).",
    )
    unsupported_options: Literal["drop", "reject"] | None = Field(
        default=None,
        description="What happens to an option that the model lacks: it is left out with a notice, or the chat is "
        "refused. Null: as the request says.",
    )
    fallback_reason_tracking: bool = Field(
        default=True, description="Count the reason of each fallback of this persona in the metrics."
    )


class Breaker(_Model):
    """When a provider's model is not asked for a while."""

    failures: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=5, description="Failures in a row that open the circuit."
    )
    open_seconds: Seconds = Field(default=30.0, description="Time until one chat probes whether it is back.")


class ProviderSettings(_Model):
    """What the routes need to know of a provider beyond EP_<PROVIDER>_*."""

    region: str = Field(
        default="", description="Region that it serves from, in words of your own. Goes before what its adapter knows."
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="What all chats together may ask of it.")
    breaker: Breaker | None = Field(default=None, description="Null: the file's `breaker`.")


class ModelFacts(_Model):
    """What is known here of a model, beside and before what the provider's own data says."""

    capabilities: frozenset[CapabilityName] | None = Field(default=None, description="All that it can do.")
    context_window: Count | None = Field(default=None, description="Most tokens of prompt and answer together.")
    max_output_tokens: Count | None = Field(default=None, description="Most tokens of an answer.")
    region: str = Field(default="", description="Region of this model, where it is not the provider's.")
    input_price: Dollars | None = Field(
        default=None,
        description="US dollars for a million tokens of input, cached or not, in place of the list price.",
    )
    output_price: Dollars | None = Field(
        default=None,
        description="US dollars for a million tokens of output, reasoning included, in place of the list price.",
    )


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Project(_Model):
    """A part of a tenant, for the ledger. A chat belongs to the project of the credential that it came with."""

    key_sha256: tuple[Digest, ...] = Field(
        default=(), description="SHA-256 digests, in hex, of the bearer tokens that are this project's."
    )


class Tenant(_Model):
    """Who pays. A chat belongs to the tenant of the credential that it came with."""

    key_sha256: tuple[Digest, ...] = Field(
        default=(), description="SHA-256 digests, in hex, of the bearer tokens that are this tenant's, of no project."
    )
    projects: dict[str, Project] = Field(
        default_factory=dict, description="Its projects, by name. Their keys are the tenant's as well."
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="What its chats may use together.")

    def digests(self) -> Iterator[tuple[str, str]]:
        """Yield its keys, each with its project; empty: of none."""
        yield from ((digest, "") for digest in self.key_sha256)
        for name, project in self.projects.items():
            yield from ((digest, name) for digest in project.key_sha256)


def named_owner(tenant: str, project: str) -> str:
    """Return in words whose a key is."""
    return f"project {project!r} of tenant {tenant!r}" if project else f"tenant {tenant!r}"


class RetryBudgetSettings(_Model):
    """How much load retries may add to a provider, so that an outage does not double it."""

    ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.1, description="Retries that each request within the window pays for."
    )
    ratio_of_answers: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5,
        description="Retries that each answer within the last fifth of the window pays for, where that is more: "
        "none in a full outage.",
    )
    least: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=3, description="Retries within the window that are always allowed, for servers with few chats."
    )
    window_seconds: Seconds = Field(default=10.0, description="Span over which requests are counted.")


class PlatformConfiguration(_Model):
    """The whole configuration of personas and routes. Empty: as if there were no file."""

    version: Literal[1] = Field(default=1, description="Version of the file's format.")
    personas: dict[str, PersonaSettings] = Field(default_factory=dict, description="The personas by name.")
    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict, description="What the routes need to know of providers, by name."
    )
    models: dict[str, ModelFacts] = Field(
        default_factory=dict, description="What is known of models here, by `provider/model`."
    )
    prices: tuple[PriceSettings, ...] = Field(
        default=(), description="What models cost here, in place of the published prices."
    )
    tenants: dict[str, Tenant] = Field(default_factory=dict, description="Who pays, by name.")
    default_tenant: LimitSettings = Field(
        default=LimitSettings(), description="Limits of chats whose credential is no tenant's."
    )
    each_key: LimitSettings = Field(default=LimitSettings(), description="Limits of each caller's credential.")
    budgets: dict[str, BudgetSettings] = Field(
        default_factory=dict, description="What may be spent, by the budget's id; held by the ledger."
    )
    alerts: AlertSettings = Field(
        default=AlertSettings(), description="Who is told what about spending, and when it is unusual."
    )
    reports: ReportSettings = Field(
        default=ReportSettings(), description="Which reports are sent by themselves; made from the ledger."
    )
    defaults: PersonaSettings = Field(
        default=PersonaSettings(), description="What every persona, and a chat without one, begins with."
    )
    breaker: Breaker = Field(
        default=Breaker(), description="When a model is not asked for a while; a provider may have its own."
    )
    retry_budget: RetryBudgetSettings = Field(
        default=RetryBudgetSettings(), description="How much load retries may add to a provider."
    )

    @field_validator("personas")
    @classmethod
    def _names(cls, value: dict[str, PersonaSettings]) -> dict[str, PersonaSettings]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name):
                raise ValueError(f"{name!r} cannot name a persona: use 1 to 128 letters, digits, '_', '-' or '.'")
        return value

    @field_validator("budgets")
    @classmethod
    def _budget_names(cls, value: dict[str, BudgetSettings]) -> dict[str, BudgetSettings]:
        for name in value:
            if fault := name_fault(name):
                raise ValueError(f"{name!r} {fault}")
        return value

    @model_validator(mode="after")
    def _one_price(self) -> PlatformConfiguration:
        for first, second in itertools.combinations(self.prices, 2):
            if both_hold(first, second):
                raise ValueError(f"two entries of prices hold for {second.provider}/{second.model} at the same time")
        return self

    @model_validator(mode="after")
    def _one_tenant_a_key(self) -> PlatformConfiguration:
        owners: dict[str, tuple[str, str]] = {}
        if DEFAULT_TENANT in self.tenants:
            raise ValueError(f"{DEFAULT_TENANT!r} cannot name a tenant: give its limits as default_tenant")
        for name, tenant in self.tenants.items():
            for digest, project in tenant.digests():
                owner = owners.setdefault(digest, (name, project))
                if owner != (name, project):
                    raise ValueError(
                        f"{named_owner(*owner)} and {named_owner(name, project)} share the key {digest[:8]}..."
                    )
        return self
