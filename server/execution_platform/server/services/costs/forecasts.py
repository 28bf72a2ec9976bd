"""What it will come to."""

from __future__ import annotations

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.budgets.windows import UnknownTimeZoneError, time_zone
from execution_platform.server.ledger.forecasts.forecaster import Forecaster, Wanted
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.v1 import cost_pb2

__all__ = ["LedgerForecasts"]

_DEFAULT_CONFIDENCE = 0.8
_MOST_DAYS = 366


class LedgerForecasts:
    """The part of CostService that looks ahead.

    Args:
        forecaster: makes forecasts.
    """

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster

    async def forecast(self, request: cost_pb2.ForecastCostRequest) -> cost_pb2.ForecastCostResponse:
        """Forecast a spending.

        Raises:
            InvalidRequestError: a field is wrong.
            LedgerUnavailableError: the ledger cannot be read.
        """
        return await self._forecaster.forecast(_wanted(request))


def _wanted(request: cost_pb2.ForecastCostRequest) -> Wanted:
    if request.filter.HasField("time_range"):
        raise InvalidRequestError(
            "filter.time_range: a forecast goes from now on, and is made from the last half year: leave it out",
            field="filter.time_range",
        )
    selection = Selection.of(request.filter)
    confidence = request.confidence if request.HasField("confidence") else _DEFAULT_CONFIDENCE
    if not 0 < confidence < 1:
        raise InvalidRequestError("confidence: must be above 0 and below 1, such as 0.8", field="confidence")
    if not 0 <= request.days <= _MOST_DAYS:
        raise InvalidRequestError(
            f"days: must be 1 to {_MOST_DAYS}, or 0 for those to the end of the month", field="days"
        )
    try:
        time_zone(request.time_zone)
    except UnknownTimeZoneError as error:
        raise InvalidRequestError(
            f'time_zone: {error}: write an IANA name such as "Europe/Berlin", or leave it empty for UTC',
            field="time_zone",
        ) from error
    return Wanted(selection.filter, request.time_zone, confidence, request.days)
