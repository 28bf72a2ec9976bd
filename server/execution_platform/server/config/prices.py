"""Prices that the configuration gives: frozen models of the section `prices`, which go before every list."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

__all__ = [
    "LIFETIME",
    "Dollars",
    "PriceSettings",
    "PriceTier",
    "SpecialPrices",
    "TokenPrices",
    "both_hold",
    "matches",
    "same_names",
]

#: A version of list prices is a word of its own; one of the configuration must not look like several.
_VERSION = r"^[A-Za-z0-9][A-Za-z0-9_.:+/ -]{0,63}$"

#: How long a cache entry lives: 90s, 45m, 12h.
LIFETIME = r"^[1-9]\d{0,5}[smh]$"
_UNITS = {"s": 1, "m": 60, "h": 3_600}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")


def _instant(value: Any) -> Any:
    """Read ``2026-01-01``, which is midnight in UTC, or ``2026-01-01T00:00:00+01:00``."""
    try:
        text = str(value).strip()
        if _DATE.match(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        made = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("write a day such as 2026-01-01, or a time such as 2026-01-01T00:00:00Z") from None
    if made.tzinfo is None:
        raise ValueError("must tell its time zone, such as 2026-01-01T00:00:00Z")
    return made.astimezone(UTC)


Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:?\d{2}(:?\d{2}([.,]\d+)?)?(Z|[+-]\d{2}(:?\d{2}){0,2}))?\s*$",
        }
    ),
]
#: US dollars. What is finer than 1e-12 of them could not be told in the contract, whose money is whole 1e-9 units.
Dollars = Annotated[Decimal, Field(ge=0, le=10**6, decimal_places=12)]
Factor = Annotated[Decimal, Field(ge=0, le=1_000, decimal_places=6)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenPrices(_Model):
    """Prices of tokens, in US dollars for a million. What has none of its own costs what the whole costs."""

    input: Dollars | None = Field(default=None, description="The prompt.")
    output: Dollars | None = Field(default=None, description="The answer.")
    cache_read: Dollars | None = Field(default=None, description="Of the prompt: what a cache had. Null: `input`.")
    cache_write: Dollars | None = Field(
        default=None, description="Of the prompt: what a cache keeps for up to 30 minutes. Null: `input`."
    )
    cache_write_1h: Dollars | None = Field(
        default=None, description="Of the prompt: what a cache keeps for an hour. Null: as the list says."
    )
    cache_writes: dict[str, Dollars] = Field(
        default_factory=dict, description="Of the prompt: what a cache keeps for another time, by it, such as `12h`."
    )
    reasoning: Dollars | None = Field(default=None, description="Of the answer: reasoning. Null: `output`.")
    input_audio: Dollars | None = Field(
        default=None, description="Of the prompt: audio. Null: `input`, but for OpenAI and Azure as the list says."
    )
    input_image: Dollars | None = Field(default=None, description="Of the prompt: images. Null: `input`.")
    input_video: Dollars | None = Field(default=None, description="Of the prompt: video. Null: `input`.")
    cache_read_audio: Dollars | None = Field(
        default=None, description="Of the prompt: audio that a cache had. Null: `cache_read`."
    )
    cache_read_image: Dollars | None = Field(
        default=None, description="Of the prompt: images that a cache had. Null: `cache_read`."
    )
    output_audio: Dollars | None = Field(
        default=None, description="Of the answer: audio. Null: `output`, but for OpenAI and Azure as the list says."
    )
    output_image: Dollars | None = Field(default=None, description="Of the answer: images. Null: `output`.")
    output_video: Dollars | None = Field(default=None, description="Of the answer: video. Null: `output`.")

    @field_validator("cache_writes")
    @classmethod
    def _lifetimes(cls, value: dict[str, Decimal]) -> dict[str, Decimal]:
        for name in value:
            if not re.search(LIFETIME, name) or name.endswith("\n"):
                raise ValueError("write how long an entry lives as 90s, 45m or 12h")
        return value

    def lifetimes(self) -> dict[int, Decimal]:
        """Return the prices of `cache_writes` by seconds."""
        return {int(name[:-1]) * _UNITS[name[-1]]: price for name, price in self.cache_writes.items()}


class PriceTier(TokenPrices):
    """Prices of long prompts. What is left out costs what it costs in shorter ones."""

    above: Annotated[int, Field(ge=1, le=10**9)] = Field(
        description="Tokens of the whole prompt, cached ones among them, above which every token costs this."
    )


def _each_once(tiers: tuple[PriceTier, ...]) -> tuple[PriceTier, ...]:
    if len({tier.above for tier in tiers}) != len(tiers):
        raise ValueError("two tiers begin `above` the same number of tokens; keep one of them")
    return tuple(sorted(tiers, key=lambda tier: tier.above))


class SpecialPrices(TokenPrices):
    """Prices of a service tier or a region. What is left out costs what it costs otherwise, times `factor`."""

    factor: Factor | None = Field(
        default=None, description="What prices of tokens that are left out here are multiplied with. Null: 1."
    )
    tiers: tuple[PriceTier, ...] = Field(default=(), description="Prices of long prompts.")

    _tiers_differ = field_validator("tiers")(_each_once)


class PriceSettings(TokenPrices):
    """What models cost here, in place of the list."""

    provider: Annotated[str, Field(min_length=1)] = Field(description="Name of the provider.")
    model: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="The provider's name of the model; `*` stands for anything. A whole name goes before one with `*`."
    )
    since: Instant | None = Field(
        default=None, alias="from", description="A day or a time from which on these prices hold. Null: from ever."
    )
    until: Instant | None = Field(
        default=None, description="A day or a time from which on they do not hold any more. Null: without an end."
    )
    version: Annotated[str, Field(pattern=_VERSION)] | None = Field(
        default=None, description="What costs say of where their prices are from. Null: a digest of this entry."
    )
    tiers: tuple[PriceTier, ...] = Field(default=(), description="Prices of long prompts.")
    service_tiers: dict[str, SpecialPrices] = Field(
        default_factory=dict,
        description="By the provider's word for a service tier or speed, such as `batch`, `flex` or `priority`. "
        "Of one that is not here the list's prices hold.",
    )
    regions: dict[str, SpecialPrices] = Field(
        default_factory=dict, description="By the provider's word for where the model ran, else its adapter's."
    )
    tools: dict[str, Dollars] = Field(
        default_factory=dict,
        description="US dollars for 1,000 calls of a tool that the provider runs, by its name, such as `web_search`.",
    )
    request: Dollars | None = Field(
        default=None, description="US dollars for each request, beside what it uses. Null: as the list says."
    )

    _tiers_differ = field_validator("tiers")(_each_once)

    @model_validator(mode="after")
    def _in_order(self) -> PriceSettings:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("`until` must be later than `from`; these prices would never hold")
        return self

    def told_version(self) -> str:
        """Return what a cost says of where its prices are from."""
        if self.version is not None:
            return self.version
        digest = hashlib.sha256(self.model_dump_json(by_alias=True).encode())
        return f"configuration {digest.hexdigest()[:12]}"


def matches(pattern: str, model: str) -> bool:
    """Return whether a pattern, in which `*` stands for anything, is one of a model's name, whatever the case."""
    return re.fullmatch(".*".join(map(re.escape, pattern.lower().split("*"))), model.lower(), re.DOTALL) is not None


def same_names(first: str, second: str) -> bool:
    """Return whether there may be a name that both patterns match."""
    first, second = first.lower(), second.lower()
    reached = {(0, 0)}
    todo = [(0, 0)]
    while todo:
        here, there = todo.pop()
        if here == len(first) and there == len(second):
            return True
        for step in _steps(first[here : here + 1], second[there : there + 1], here, there):
            if step not in reached:
                reached.add(step)
                todo.append(step)
    return False


def _steps(one: str, other: str, here: int, there: int) -> list[tuple[int, int]]:
    """Return how far two patterns may be read on: a star takes a letter of the other, or nothing."""
    steps = []
    if one == "*":
        steps += [(here + 1, there)] + ([(here, there + 1)] if other else [])
    if other == "*":
        steps += [(here, there + 1)] + ([(here + 1, there)] if one else [])
    if one and one == other:
        steps.append((here + 1, there + 1))
    return steps


def both_hold(first: PriceSettings, second: PriceSettings) -> bool:
    """Return whether there may be a chat that two entries price alike well: then nobody knows which is meant."""
    if first.provider != second.provider or ("*" in first.model) != ("*" in second.model):
        return False
    apart = (first.until is not None and second.since is not None and first.until <= second.since) or (
        second.until is not None and first.since is not None and second.until <= first.since
    )
    return not apart and same_names(first.model, second.model)
