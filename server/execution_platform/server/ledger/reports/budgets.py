"""The part of reports that tells of budgets and of what is to come."""

from __future__ import annotations

from execution_platform.server.ledger.reports.document import (
    Bar,
    Cell,
    Facts,
    Line,
    Note,
    Section,
    Table,
    Weight,
    money_text,
)
from execution_platform.server.ledger.reports.sums import Scope, day_of, moment_text
from execution_platform.v1 import cost_pb2

__all__ = ["budgets_section", "forecast_bars", "forecast_section"]

#: Budgets that are shown, the worst first.
_MOST = 100

_OUTLOOKS = {
    cost_pb2.OUTLOOK_UNSPECIFIED: "not known",
    cost_pb2.OUTLOOK_HOLDS: "holds",
    cost_pb2.OUTLOOK_AT_RISK: "at risk",
    cost_pb2.OUTLOOK_BREAKS: "breaks",
    cost_pb2.OUTLOOK_BROKEN: "used up",
}


def forecast_section(forecast: cost_pb2.ForecastCostResponse) -> Section:
    """Tell what is to come."""
    why = f" ({forecast.method_reason})" if forecast.method_reason else ""
    parts: list[Facts | Note] = [
        Facts(
            [
                ("By the end of today", _interval(forecast.day_end)),
                ("By the end of this month", _interval(forecast.month_end)),
                ("This month so far", money_text(forecast.spent_this_month.nanos)),
            ]
        ),
        Note(f"Method: {forecast.method}{why}. In brackets: where it lies in four of five cases."),
    ]
    if forecast.unpriced:
        parts.append(Note(f"{forecast.unpriced:,} attempts of the history have no known price and are not in it."))
    return Section("Forecast", parts)


def forecast_bars(forecast: cost_pb2.ForecastCostResponse, scope: Scope) -> list[Bar]:
    """Return bars of the days ahead within the time of a report, without today's."""
    bars = []
    for point in forecast.points[1:]:
        start = point.time_range.start_time.ToMicroseconds()
        if start < scope.end:
            cost = point.cost
            text = f"{_interval(cost)} (forecast)"
            label = day_of(start, scope.zone)[5:]
            bars.append(Bar(label, cost.expected.nanos, text, cost.low.nanos, cost.high.nanos, forecast=True))
    return bars


def budgets_section(
    forecast: cost_pb2.ForecastCostResponse, statuses: dict[str, cost_pb2.BudgetStatus], zone: str
) -> Section:
    """Tell of the budgets that count any of a spending."""
    outlooks = sorted(forecast.budgets, key=lambda each: (-each.outlook, each.budget_id))
    known = [each for each in outlooks if each.budget_id in statuses]
    lines = [_line(statuses[each.budget_id], each, zone) for each in known[:_MOST]]
    if len(known) > _MOST:
        lines.append(Line([Cell(f"{len(known) - _MOST:,} more"), *[Cell("")] * 6], Weight.REST))
    heads = ["budget", "each", "spent", "limit", "used", "outlook", "breaks"]
    return Section("Budgets", [Table(heads, lines, "No budget counts any of this, but for those of minutes.")])


def _line(status: cost_pb2.BudgetStatus, outlook: cost_pb2.BudgetOutlook, zone: str) -> Line:
    return Line(
        [
            Cell(status.budget.display_name or status.budget.id, name=True),
            Cell(cost_pb2.BudgetPeriod.Name(status.budget.period).removeprefix("BUDGET_PERIOD_").lower()),
            *_spent(status),
            Cell(_OUTLOOKS[outlook.outlook]),
            _breaks(outlook, zone),
        ]
    )


def _breaks(outlook: cost_pb2.BudgetOutlook, zone: str) -> Cell:
    if not outlook.HasField("break_time"):
        return Cell("-", value="")
    return Cell(moment_text(outlook.break_time.ToMicroseconds(), zone))


def _spent(status: cost_pb2.BudgetStatus) -> list[Cell]:
    budget = status.budget
    spent, limit, parts = [], [], []
    if budget.HasField("limit"):
        spent.append(money_text(status.spent.nanos))
        limit.append(money_text(budget.limit.nanos))
        parts.append(status.spent.nanos / budget.limit.nanos)
    if budget.max_tokens:
        spent.append(f"{status.spent_tokens:,} tokens")
        limit.append(f"{budget.max_tokens:,} tokens")
        parts.append(status.spent_tokens / budget.max_tokens)
    used = max(parts, default=0.0)
    return [
        Cell(", ".join(spent), number=True),
        Cell(", ".join(limit), number=True),
        Cell(f"{100 * used:.0f} %", number=True, share=used),
    ]


def _interval(cost: cost_pb2.ForecastInterval) -> str:
    """Return an interval for people: to the cent, or to three digits of what is less."""
    low, high = _about(cost.low.nanos), _about(cost.high.nanos)
    return f"{_about(cost.expected.nanos)} USD ({low} to {high})"


def _about(nanos: int) -> str:
    dollars = nanos / 1e9
    return f"{dollars:,.2f}" if abs(dollars) >= 1 or not nanos else f"{dollars:.3g}"
