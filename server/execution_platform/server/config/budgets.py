"""What the section `budgets` says: what may be spent, on what, in which time."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from execution_platform.server.config.time_zones import UnknownTimeZoneError, time_zone

__all__ = ["BudgetPeriod", "BudgetScopeSettings", "BudgetSettings", "Enforcement", "Unpriced", "name_fault"]

#: Ids of budgets that are made of personas' limits begin so.
_PERSONAS: Final = "persona."

_Name = Annotated[str, Field(max_length=512)]
_Label = Annotated[str, Field(max_length=128)]


class BudgetPeriod(StrEnum):
    """How long a window is; the names of the contract's BudgetPeriod in lower case."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Enforcement(StrEnum):
    """What happens when a budget is used up."""

    HARD = "hard"
    SOFT = "soft"


class Unpriced(StrEnum):
    """What a budget of money does with a chat whose price is not known."""

    ALLOW = "allow"
    REFUSE = "refuse"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BudgetScopeSettings(_Model):
    """What a budget counts. All that is set must apply; an empty name: any."""

    tenant: _Name = Field(default="", description="Name of the tenant; `default`: of keys that are no tenant's.")
    project: _Name = Field(default="", description="Name of the project.")
    persona: _Name = Field(default="", description="Name of the persona.")
    end_user_id: _Name = Field(default="", description="End user, as requests name it.")
    provider: _Name = Field(default="", description="Name of the provider that is asked.")
    model: _Name = Field(default="", description="The provider's name of the model that is asked.")
    labels: dict[_Label, _Label] = Field(
        default_factory=dict, max_length=32, description="Labels of the request or its persona, all of them."
    )


class BudgetSettings(_Model):
    """A budget."""

    display_name: Annotated[str, Field(max_length=128)] = Field(default="", description="Its name for people.")
    scope: BudgetScopeSettings = Field(
        default=BudgetScopeSettings(), description="What it counts. Left out: all chats."
    )
    limit: Annotated[Decimal, Field(gt=0, le=10**9, decimal_places=9)] | None = Field(
        default=None, description="Most US dollars in a window. A budget has this, `max_tokens`, or both."
    )
    max_tokens: Annotated[int, Field(ge=1, le=10**18)] | None = Field(
        default=None, description="Most tokens in a window, prompts and answers together."
    )
    period: BudgetPeriod = Field(description="How long a window is.")
    time_zone: Annotated[str, Field(max_length=128)] = Field(
        default="UTC", description="IANA name of the time zone in which days, weeks and months begin."
    )
    enforcement: Enforcement = Field(
        default=Enforcement.HARD,
        description="`hard`: chats that might not fit are refused, running ones end. `soft`: alerts only.",
    )
    alert_percents: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000)], ...], Field(max_length=16)] = Field(
        default=(),
        description="Percents of the limit at which an alert is raised. Left out: 50, 80 and 100; of a `minute`: none.",
    )
    unpriced: Unpriced | None = Field(
        default=None,
        description="What becomes of a chat whose price is not known. Null: a hard budget of money refuses it.",
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            time_zone(value)
        except UnknownTimeZoneError:
            raise ValueError("is no time zone; write an IANA name such as Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _some_limit(self) -> BudgetSettings:
        if self.limit is None and self.max_tokens is None:
            raise ValueError("give it a `limit` (US dollars) or `max_tokens`, or both")
        return self


def name_fault(name: str) -> str:
    """Return why a text cannot be the id of a budget in the file; empty: it can."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name):
        return "cannot name a budget: use 1 to 128 letters, digits, '_', '-' or '.'"
    if name.startswith(_PERSONAS):
        return f"cannot name a budget: {_PERSONAS!r} begins the budgets that personas' limits are"
    return ""
