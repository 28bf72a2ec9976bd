"""Windows of budgets follow one another whatever clocks do."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.server.ledger.budgets.windows import Calendar, UnknownTimeZoneError, time_zone, window_of
from execution_platform.v1 import cost_pb2

MINUTE, HOUR, DAY, WEEK, MONTH = (
    cost_pb2.BUDGET_PERIOD_MINUTE,
    cost_pb2.BUDGET_PERIOD_HOUR,
    cost_pb2.BUDGET_PERIOD_DAY,
    cost_pb2.BUDGET_PERIOD_WEEK,
    cost_pb2.BUDGET_PERIOD_MONTH,
)
#: Shortest and longest windows there are, in hours: zones leave out a day, or shift by a day, at the date line.
LENGTHS = {MINUTE: (1 / 3600, 1 / 60), HOUR: (1 / 3600, 1), DAY: (20, 48), WEEK: (144, 192), MONTH: (27 * 24, 32 * 24)}
ZONES = sorted(name for name in available_timezones() if not name.startswith(("posix", "right", "localtime")))
MICROS = 1_000_000

periods = st.sampled_from(sorted(LENGTHS))
zones = st.sampled_from(ZONES)
moments = st.integers(0, int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * MICROS)


def micros(text: str) -> int:
    """A moment, written as UTC."""
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp()) * MICROS


def local(moment: int, zone: str) -> str:
    """What a zone's clock shows."""
    return datetime.fromtimestamp(moment // MICROS, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")


def changes_of(zone: str, year: int) -> list[int]:
    """Moments of a year at which a zone's clock jumps, to the second."""
    found, tz = [], ZoneInfo(zone)

    def offset(moment: int) -> object:
        return datetime.fromtimestamp(moment, tz).utcoffset()

    begins = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    for day in range(begins, begins + 366 * 86_400, 86_400):
        low, high = day, day + 86_400
        if offset(low) != offset(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            found.append(high)
    return found


def assert_tile(calendar: Calendar, period: cost_pb2.BudgetPeriod.ValueType, moment: int) -> None:
    """The window of a moment holds it, is the same from all its moments, and touches its neighbours."""
    start, end = calendar.window(moment)
    assert start <= moment < end
    assert calendar.window(start - 1)[1] == start
    assert calendar.window(end)[0] == end
    assert calendar.window(start) == calendar.window(end - 1) == calendar.window((start + end) // 2) == (start, end)
    shortest, longest = LENGTHS[period]
    assert shortest * 3_600 * MICROS <= end - start <= longest * 3_600 * MICROS


@given(period=periods, zone=zones, moment=moments)
def test_windows_have_no_gap_and_no_overlap(period: cost_pb2.BudgetPeriod.ValueType, zone: str, moment: int) -> None:
    """Any moment of any zone lies in one window, which touches the one before and the one after."""
    assert_tile(Calendar(period, zone), period, moment)


@given(period=periods, zone=zones, year=st.integers(1970, 2037), seconds=st.integers(-90_000, 90_000))
def test_windows_have_no_gap_where_clocks_jump(
    period: cost_pb2.BudgetPeriod.ValueType, zone: str, year: int, seconds: int
) -> None:
    """Around each jump of each zone's clock windows follow one another as well."""
    for change in changes_of(zone, year):
        for moment in (change, change + seconds):
            if moment > 90_000:
                assert_tile(Calendar(period, zone), period, moment * MICROS)


@given(zone=zones, moment=moments, period=st.sampled_from([DAY, WEEK, MONTH]))
def test_a_window_begins_when_its_date_does(zone: str, moment: int, period: cost_pb2.BudgetPeriod.ValueType) -> None:
    """A day, week or month begins at the first moment of a date, which is a Monday or the first of a month."""
    start, _ = Calendar(period, zone).window(moment)
    first = datetime.fromtimestamp(start // MICROS, ZoneInfo(zone))
    before = datetime.fromtimestamp(start // MICROS - 1, ZoneInfo(zone))
    assert before.date() < first.date()
    assert first.minute == first.second == 0 or first.utcoffset() != before.utcoffset()
    if first.utcoffset() == before.utcoffset():
        assert period != WEEK or first.weekday() == 0
        assert period != MONTH or first.day == 1


@pytest.mark.parametrize(
    ("zone", "moment", "period", "start", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T12:00", DAY, "2026-03-29 00:00:00", 23),
        ("Europe/Berlin", "2026-10-25T12:00", DAY, "2026-10-25 00:00:00", 25),
        ("Europe/Berlin", "2026-10-25T12:00", WEEK, "2026-10-19 00:00:00", 169),
        ("Europe/Berlin", "2026-03-31T21:59", MONTH, "2026-03-01 00:00:00", 31 * 24 - 1),
        ("Europe/Berlin", "2026-03-31T22:00", MONTH, "2026-04-01 00:00:00", 30 * 24),
        ("", "2026-12-31T23:59:59", WEEK, "2026-12-28 00:00:00", 168),
        ("Asia/Kolkata", "2026-11-21T07:00", HOUR, "2026-11-21 12:00:00", 1),
        ("Asia/Kathmandu", "2026-11-21T07:00", DAY, "2026-11-21 00:00:00", 24),
        # The clocks jump over midnight: the day begins at 01:00.
        ("Africa/Cairo", "2026-04-24T12:00", DAY, "2026-04-24 01:00:00", 23),
        # Put back from 00:01 to 23:01: the day had begun already.
        ("America/St_Johns", "2010-11-07T12:00", DAY, "2010-11-07 00:00:00", 25),
        # 30 December 2011 was left out.
        ("Pacific/Apia", "2011-12-30T09:00", DAY, "2011-12-29 00:00:00", 24),
        ("Pacific/Apia", "2011-12-30T10:00", DAY, "2011-12-31 00:00:00", 24),
        # The clock shifts by half an hour, which cuts the hour.
        ("Australia/Lord_Howe", "2026-04-04T15:10", HOUR, "2026-04-05 01:30:00", 0.5),
        ("Australia/Lord_Howe", "2026-04-04T15:40", HOUR, "2026-04-05 02:00:00", 1),
        # The hour that comes twice is two windows: a budget of an hour has no room of two.
        ("Europe/Berlin", "2026-10-25T01:10", HOUR, "2026-10-25 02:00:00", 1),
    ],
)
def test_windows_of_odd_days(
    zone: str, moment: str, period: cost_pb2.BudgetPeriod.ValueType, start: str, hours: float
) -> None:
    """Windows begin and last as clocks there show."""
    budget = cost_pb2.Budget(period=period, time_zone=zone)
    begins, ends = window_of(budget, micros(moment))
    assert local(begins, zone or "UTC") == start
    assert ends - begins == hours * 3_600 * MICROS


@pytest.mark.parametrize("name", ["Europe", "Mars", "../etc/passwd", "posix/UTC", "right/UTC", "localtime", "a\0b"])
def test_a_name_that_is_no_zone_is_refused(name: str) -> None:
    """Folders, copies and paths are no time zones."""
    with pytest.raises(UnknownTimeZoneError):
        time_zone(name)


def test_a_period_has_to_be_set() -> None:
    """A budget without a period has no windows."""
    with pytest.raises(ValueError, match="period"):
        window_of(cost_pb2.Budget(), 0)
