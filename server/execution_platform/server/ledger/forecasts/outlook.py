"""Whether budgets will hold, and when they break: what possible futures spend within a budget's window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

from execution_platform.server.ledger.budgets.matching import BudgetTerms
from execution_platform.server.ledger.forecasts.days import interval
from execution_platform.server.ledger.forecasts.futures import Futures
from execution_platform.server.ledger.forecasts.reading import MONEY, TOKENS, Day, Spending
from execution_platform.v1 import common_pb2, cost_pb2

__all__ = ["Judged", "Limit", "concerns", "filter_of", "judge", "limits_of", "outlook_of"]

_NAMES = ("tenant", "project", "persona", "end_user_id", "provider", "model")

#: Whole days that tell how spending is spread over a day.
_PROFILE_DAYS = 28

_SEED = 20_261_122


@dataclass(frozen=True, slots=True)
class Limit:
    """What a budget limits: an amount, and which."""

    which: int
    most: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What will become of a limit.

    Attributes:
        outlook: whether it will hold.
        breaks: when it breaks in most futures, in microseconds since the epoch; None: not within the window.
        at_reset: what will have been spent in the window: most likely, at least, at most.
    """

    outlook: cost_pb2.Outlook.ValueType
    breaks: int | None
    at_reset: tuple[float, float, float]


def concerns(terms: BudgetTerms, usage_filter: cost_pb2.UsageFilter) -> bool:
    """Return whether a budget may count any of a spending. Those of minutes are over before anybody reads of them."""
    scope = terms.budget.scope
    if terms.budget.period == cost_pb2.BUDGET_PERIOD_MINUTE:
        return False
    return all(
        not getattr(scope, name)
        or not getattr(usage_filter, name)
        or getattr(scope, name) == getattr(usage_filter, name)
        for name in _NAMES
    ) and all(usage_filter.labels.get(key, value) == value for key, value in scope.labels.items())


def filter_of(scope: cost_pb2.BudgetScope) -> cost_pb2.UsageFilter:
    """Return which records a budget counts."""
    return cost_pb2.UsageFilter(**{name: getattr(scope, name) for name in _NAMES}, labels=scope.labels)


def limits_of(terms: BudgetTerms) -> list[Limit]:
    """Return what a budget limits: money, tokens, or both."""
    limits = []
    if terms.limit_nanos is not None:
        limits.append(Limit(MONEY, terms.limit_nanos))
    if terms.max_tokens is not None:
        limits.append(Limit(TOKENS, terms.max_tokens))
    return limits


def judge(spending: Spending, futures: Futures, limit: Limit, window: tuple[int, int], confidence: float) -> Judged:
    """Return what will become of a limit.

    Args:
        spending: what the budget counts, by days of its time zone.
        futures: of that.
        limit: of the budget.
        window: beginning and end of its present window, in microseconds since the epoch.
        confidence: of the interval.
    """
    spent = spending.since(window[0], limit.which)
    pieces = _pieces(spending, futures, window[1], limit.which)
    totals = [spent + sum(amounts) for amounts in zip(*(piece.amounts for piece in pieces), strict=True)]
    at_reset = interval(totals, confidence)
    if spent >= limit.most:
        return Judged(cost_pb2.OUTLOOK_BROKEN, None, at_reset)
    moment = median(_crossings(pieces, limit.most - spent, len(totals)))
    breaks = None if math.isinf(moment) else int(moment)
    middle, _, high = at_reset
    if middle >= limit.most:
        return Judged(cost_pb2.OUTLOOK_BREAKS, breaks, at_reset)
    risk = cost_pb2.OUTLOOK_AT_RISK if high >= limit.most else cost_pb2.OUTLOOK_HOLDS
    return Judged(risk, None, at_reset)


def outlook_of(terms: BudgetTerms, judged: Sequence[tuple[Limit, Judged]]) -> cost_pb2.BudgetOutlook:
    """Return what is told of a budget: of two limits the worse."""
    told = cost_pb2.BudgetOutlook(
        budget_id=terms.id,
        display_name=terms.budget.display_name,
        outlook=max((each.outlook for _, each in judged), default=cost_pb2.OUTLOOK_UNSPECIFIED),
    )
    if breaks := [each.breaks for _, each in judged if each.breaks is not None]:
        told.break_time.FromMicroseconds(min(breaks))
    for limit, each in judged:
        if limit.which == MONEY:
            told.limit.CopyFrom(dollars(limit.most))
            told.at_reset.CopyFrom(interval_of(each.at_reset))
        else:
            told.max_tokens = limit.most
            told.expected_tokens = round(each.at_reset[0])
    return told


def dollars(nanos: float) -> common_pb2.Money:
    """Return an amount of money, rounded to whole nanos."""
    return common_pb2.Money(currency_code="USD", nanos=round(nanos))


def interval_of(amounts: tuple[float, float, float], more: int = 0) -> cost_pb2.ForecastInterval:
    """Return an interval of money.

    Args:
        amounts: most likely, at least, at most.
        more: what is known to come on top of each.
    """
    expected, low, high = (dollars(round(amount) + more) for amount in amounts)
    return cost_pb2.ForecastInterval(expected=expected, low=low, high=high)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a window, within one day.

    Attributes:
        amounts: what is spent in it, in each future.
        times: its moments, in microseconds since the epoch, rising.
        shares: by each of them, which part of it has been spent.
    """

    amounts: Sequence[float]
    times: Sequence[float]
    shares: Sequence[float]

    def when(self, share: float) -> float:
        """Return by when a share of it has been spent."""
        for number in range(1, len(self.times)):
            if share <= self.shares[number]:
                before, after = self.shares[number - 1], self.shares[number]
                part = (share - before) / (after - before) if after > before else 1.0
                return self.times[number - 1] + part * (self.times[number] - self.times[number - 1])
        return self.times[-1]


def _pieces(spending: Spending, futures: Futures, end: int, which: int) -> list[_Piece]:
    """Return the rest of a window, cut into days. A window of an hour is a part of today's rest."""
    profile = _profile(spending.days[-_PROFILE_DAYS:], which)
    today = _piece(futures.rest, spending.today, spending.now, profile)
    if end < spending.today.end:
        share = _share_by(today, end)
        inside = [
            (moment, part / share) for moment, part in zip(today.times, today.shares, strict=True) if moment < end
        ]
        times, shares = [*(moment for moment, _ in inside), float(end)], [*(part for _, part in inside), 1.0]
        return [_Piece(_part_of_today(spending, futures, share, end, which), times, shares)]
    ahead = [day for day in spending.ahead(len(futures.days)) if day.start < end]
    return [
        today,
        *(_piece(amounts, day, day.start, profile) for amounts, day in zip(futures.days, ahead, strict=False)),
    ]


def _part_of_today(spending: Spending, futures: Futures, share: float, end: int, which: int) -> list[float]:
    """Return what is spent from now to an hour's end, in each future: as on past days a part of the rest."""
    begin, stop = spending.now - spending.today.start, end - spending.today.start
    cut = [(day.by(begin, which), day.by(stop, which), day.total(which)) for day in spending.days[-_PROFILE_DAYS:]]
    parts = [(then - now) / (whole - now) for now, then, whole in cut if whole > now] or [share]
    drawn = Random(_SEED).choices(parts, k=len(futures.rest))  # noqa: S311 - a simulation
    return [amount * part for amount, part in zip(futures.rest, drawn, strict=True)]


def _piece(amounts: Sequence[float], day: Day, start: int, profile: Sequence[float]) -> _Piece:
    """Return what is left of a day from a moment on."""
    hour = (day.end - day.start) / len(profile)
    first = (start - day.start) / hour
    times, shares = [float(start)], [0.0]
    for number in range(int(first), len(profile)):
        part = number + 1 - max(first, number)
        times.append(day.start + (number + 1) * hour)
        shares.append(shares[-1] + profile[number] * part)
    whole = shares[-1]
    return _Piece(amounts, times, [share / whole for share in shares])


def _share_by(piece: _Piece, moment: float) -> float:
    for number in range(1, len(piece.times)):
        if moment <= piece.times[number]:
            begin, end = piece.times[number - 1], piece.times[number]
            part = (moment - begin) / (end - begin) if end > begin else 1.0
            return piece.shares[number - 1] + part * (piece.shares[number] - piece.shares[number - 1])
    return 1.0


def _profile(days: Iterable[Day], which: int) -> list[float]:
    """Return which part of a day's spending falls into each of its 24 hours; none is without any."""
    parts = [1.0] * 24
    for day in days:
        if (whole := day.total(which)) > 0:
            for hour in day.hours:
                number = int((hour.start - day.start) / (day.end - day.start) * 24)
                parts[number] += 24 * max(hour.amounts[which], 0) / whole
    return [part / sum(parts) for part in parts]


def _crossings(pieces: Sequence[_Piece], left: float, futures: int) -> list[float]:
    """Return when each future has spent what is left; infinity: never."""
    found = []
    for future in range(futures):
        spent, moment = 0.0, math.inf
        for piece in pieces:
            amount = piece.amounts[future]
            if amount > 0 and spent + amount >= left:
                moment = piece.when((left - spent) / amount)
                break
            spent += amount
        found.append(moment)
    return found
