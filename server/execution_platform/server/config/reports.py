"""What the section `reports` says: which report is sent by itself, when, and to whom."""

from __future__ import annotations

from datetime import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from execution_platform.server.config.time_zones import UnknownTimeZoneError, time_zone

__all__ = ["DailyReport", "ReportSettings"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DailyReport(_Model):
    """The report of the day before, sent each day."""

    at: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] = Field(
        default="07:00", description="When it is sent, by the clock of the time zone, such as `07:00`."
    )
    time_zone: Annotated[str, Field(max_length=128)] = Field(
        default="UTC", description="IANA name of the time zone in which days begin."
    )
    targets: tuple[Annotated[str, Field(max_length=128)], ...] = Field(
        min_length=1, max_length=64, description="Names of targets in `alerts.targets`, whatever alerts those take."
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            time_zone(value)
        except UnknownTimeZoneError:
            raise ValueError("is no time zone; write an IANA name such as Europe/Berlin") from None
        return value

    @property
    def time(self) -> time:
        """When it is sent, by the clock of the time zone."""
        return time.fromisoformat(self.at)


class ReportSettings(_Model):
    """Reports that are sent by themselves."""

    daily: DailyReport | None = Field(default=None, description="The report of each day. Null: none is sent.")
