"""What the section `alerts` says: who is told of what, and when spending is told as such."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from execution_platform.v1 import cost_pb2

__all__ = ["AlertName", "AlertSettings", "AlertTarget", "AnomalySettings", "SpendRates"]

_Dollars = Annotated[Decimal, Field(gt=0, le=10**6, decimal_places=9)]


class AlertName(StrEnum):
    """What an alert is about; the names of the contract's AlertKind in lower case."""

    THRESHOLD = "threshold"
    BUDGET_EXCEEDED = "budget_exceeded"
    UNPRICED_MODEL = "unpriced_model"
    ANOMALY = "anomaly"
    SPEND_RATE = "spend_rate"
    DEARER_FALLBACK = "dearer_fallback"
    LEDGER_OUTAGE = "ledger_outage"

    @property
    def kind(self) -> int:
        """The contract's number of it."""
        return cost_pb2.AlertKind.Value(f"ALERT_KIND_{self.name}")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AlertTarget(_Model):
    """Who is told."""

    url: SecretStr = Field(
        min_length=1,
        description="Address as apprise writes it, such as `slack://...`, `mailtos://...` or `jsons://...`. "
        "`${EP_ALERT_...}` in it stands for the value of that variable.",
    )
    kinds: frozenset[AlertName] = Field(default=frozenset(), description="Of which alerts. Empty: of all.")
    tenants: tuple[Annotated[str, Field(max_length=128)], ...] = Field(
        default=(),
        description="Of which tenants' alerts. Empty: of all, and of those that are no tenant's.",
    )

    def wants(self, kind: int, tenant: str) -> bool:
        """Return whether it is to be told of an alert."""
        of_kind = not self.kinds or any(name.kind == kind for name in self.kinds)
        return of_kind and (not self.tenants or tenant in self.tenants)


class SpendRates(_Model):
    """US dollars in 60 minutes above which an alert is raised; null: none."""

    whole: _Dollars | None = Field(default=None, description="Of all tenants together.")
    each_tenant: _Dollars | None = Field(default=None, description="Of each tenant that has none of its own.")
    tenants: dict[str, _Dollars] = Field(default_factory=dict, description="Of single tenants, by name.")


class AnomalySettings(_Model):
    """When an hour is told to be far dearer than this hour of the week usually is."""

    enabled: bool = Field(default=True, description="Whether hours are compared at all.")
    deviations: Annotated[Decimal, Field(ge=3, le=100)] = Field(
        default=Decimal(8), description="Robust standard deviations above the median that are too many."
    )
    least_weeks: Annotated[int, Field(ge=2, le=8)] = Field(
        default=4, description="Weeks that must have been seen before an hour is compared with them."
    )
    least_amount: _Dollars = Field(
        default=Decimal(1), description="US dollars above the median below which nothing is told."
    )


class AlertSettings(_Model):
    """Alerts."""

    targets: dict[str, AlertTarget] = Field(default_factory=dict, max_length=64, description="Who is told, by name.")
    spend_rate: SpendRates = Field(default=SpendRates(), description="Spending in an hour that is told.")
    anomalies: AnomalySettings = Field(default=AnomalySettings(), description="Hours that are told as unusual.")
    give_up_days: Annotated[int, Field(ge=1, le=30)] = Field(
        default=3, description="Days after which an alert that a target did not take is no longer sent to it."
    )
