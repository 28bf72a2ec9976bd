"""Tries forecasts on made-up spending whose further course is known, and makes the table of docs/forecasts.md.

::

    .venv/bin/python -m tests.server.ledger.forecasts.backtest

Each series is cut at a random hour of a random day; what the forecast says of what comes then is held against it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from execution_platform.server.ledger.forecasts.days import interval
from execution_platform.server.ledger.forecasts.futures import FUTURES, see
from execution_platform.server.ledger.forecasts.reading import MONEY, Day, Hour, Spending

HOUR = 3_600_000_000
DAY = 24 * HOUR
#: 2026-01-05T00:00:00Z, a Monday.
MONDAY = 1_767_571_200_000_000
#: Days ahead, today among them; their sum is what a month comes to.
AHEAD = 30

#: Dollars by weekday, and how much of a day falls into each hour.
WEEK = (120, 125, 120, 115, 110, 45, 40)
HOURS = tuple(0.3 if hour < 7 or hour > 20 else 1.5 for hour in range(24))


@dataclass(frozen=True)
class Kind:
    """A kind of series.

    Attributes:
        value: what a day comes to in dollars, by its number, the length of the history, and chance.
        least: days of history at least.
        most: days of history at most.
    """

    value: Callable[[int, int, Random], float]
    least: int = 35
    most: int = 182


def _noise(random: Random, deviation: float = 0.2) -> float:
    return math.exp(random.gauss(0, deviation))


def _spiky(day: int, _: int, random: Random) -> float:
    return WEEK[day % 7] * _noise(random) * (random.uniform(4, 12) if random.random() < 0.04 else 1)


def _shifted(day: int, length: int, random: Random) -> float:
    return WEEK[day % 7] * _noise(random) * (1 if day < length - 14 - length // 5 else 2.5)


KINDS: Mapping[str, Kind] = {
    "flat": Kind(lambda _day, _length, random: 100 * _noise(random)),
    "trend": Kind(lambda day, _, random: (100 + day) * _noise(random)),
    "growth, 1 % a day": Kind(lambda day, _, random: 100 * 1.01**day * _noise(random)),
    "weekly season": Kind(lambda day, _, random: WEEK[day % 7] * _noise(random)),
    "weekly season and trend": Kind(lambda day, _, random: WEEK[day % 7] * (1 + day / 100) * _noise(random)),
    "weekly season and spikes": Kind(_spiky),
    "level shift": Kind(_shifted),
    "nothing on weekends": Kind(lambda day, _, random: 0 if day % 7 > 4 else 100 * _noise(random)),
    "nothing on most days": Kind(
        lambda _day, _length, random: 0 if random.random() < 0.6 else 100 * _noise(random, 0.5)
    ),
    "short, flat": Kind(lambda _day, _length, random: 100 * _noise(random), 7, 27),
    "short, weekly season": Kind(lambda day, _, random: WEEK[day % 7] * _noise(random), 7, 27),
}


@dataclass
class Score:
    """How forecasts of one kind of series did."""

    series: int = 0
    days: list[bool] = field(default_factory=list)
    day_ends: list[bool] = field(default_factory=list)
    months: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    methods: dict[str, int] = field(default_factory=dict)

    def row(self, name: str) -> str:
        """Return a row of the table."""
        methods = ", ".join(sorted(self.methods))
        cells = [f"{100 * sum(each) / len(each):.0f} %" for each in (self.day_ends, self.days, self.months)]
        cells += [f"{100 * sorted(each)[len(each) // 2]:.0f} %" for each in (self.widths, self.errors)]
        return f"| {name} | {methods} | {' | '.join(cells)} |"


def series(kind: Kind, length: int, hour: int, random: Random) -> tuple[Spending, list[float]]:
    """Return a spending that ends at an hour of today, and what today and the days after it really come to."""
    days: list[Day] = []
    truth: list[float] = []
    for number in range(length + AHEAD):
        total = kind.value(number, length, random) * 1e9
        parts = [part * random.gammavariate(4, 0.25) for part in HOURS]
        start = MONDAY + number * DAY
        hours = [
            Hour(start + index * HOUR, start + (index + 1) * HOUR, (round(total * part / sum(parts)), 0))
            for index, part in enumerate(parts)
        ]
        if number >= length:
            truth.append(sum(each.amounts[MONEY] for each in hours))
        if number == length:
            hours = hours[:hour]
        if number <= length:
            days.append(Day(start, start + DAY, tuple(hours)))
    return Spending(days[-1].start + hour * HOUR, tuple(days[:-1]), days[-1], "", 0), truth


def score(name: str, seeds: int, *, smooth: bool = True, futures: int = FUTURES, confidence: float = 0.8) -> Score:
    """Try forecasts of one kind of series."""
    kind = KINDS[name]
    result = Score()
    for seed in range(seeds):
        random = Random(f"{name} {seed}")  # noqa: S311 - no secret
        length, hour = random.randint(kind.least, kind.most), random.randrange(24)
        spending, truth = series(kind, length, hour, random)
        seen = see(spending, MONEY, AHEAD - 1, smooth=smooth, futures=futures)
        result.series += 1
        result.methods[seen.method] = result.methods.get(seen.method, 0) + 1
        rest = truth[0] - seen.so_far
        result.day_ends.append(_inside(interval(seen.rest, confidence), rest))
        for amounts, true in zip(seen.days, truth[1:], strict=True):
            result.days.append(_inside(interval(amounts, confidence), true))
        month = interval(seen.sums(AHEAD - 1), confidence)
        whole = rest + sum(truth[1:])
        result.months.append(_inside(month, whole))
        result.widths.append((month[2] - month[1]) / whole)
        result.errors.append(abs(month[0] - whole) / whole)
    return result


def _inside(found: tuple[float, float, float], true: float) -> bool:
    # What is told is rounded to whole nanos.
    return round(found[1]) <= round(true) <= round(found[2])


def table(seeds: int) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| spending | method | day end | days | month | width | error |"
    yield "|---|---|---|---|---|---|---|"
    for smooth in (True, False):
        for name in KINDS:
            if smooth or KINDS[name].least > 27:
                yield score(name, seeds, smooth=smooth).row(name if smooth else f"{name} (without the extra)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="series of each kind")
    for line in table(parser.parse_args().seeds):
        print(line, flush=True)
