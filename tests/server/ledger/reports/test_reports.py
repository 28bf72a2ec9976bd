"""Reports say what SummarizeUsage says, to the nano, and open anywhere."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from decimal import Decimal
from functools import partial
from html.parser import HTMLParser

import pytest
from tests.server.conftest import Serve
from tests.server.ledger.made_up import DAY, Try, Work, fill, id_of, micros
from tests.server.ledger.served import with_ledger

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.budgets.changes import create_budget
from execution_platform.server.ledger.forecasts.forecaster import Forecaster
from execution_platform.server.ledger.reading.summaries import plan_of, summarize
from execution_platform.server.ledger.reports.reporter import Reporter
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.services.costs.reports import LedgerReports
from execution_platform.v1 import common_pb2, cost_pb2

OVERVIEW, CHARGEBACK, DAILY = cost_pb2.ReportKind.values()[1:]
HTML, CSV, TEXT = cost_pb2.ReportFormat.values()[1:]
MARCH = micros("2026-03-01T00:00:00+00:00")
NOW = micros("2026-03-18T15:00:00+00:00")
HOSTILE = (
    '<script src="https://evil.example/x.js">alert(1)</script>"><img src=x onerror=alert(1)>\u202e</title></style>'
)


def works() -> list[Work]:
    """Work of two months, with failures, corrections, two currencies, and a model without a price."""
    made: list[Work] = []
    for number in range(330):
        at = MARCH - 29 * DAY + number * DAY // 7
        failed = Try("openai", "gpt", failed=True, costs=(("USD", 7 + number),))
        good = Try("gemini", "pro", costs=(("USD", 1_000_000_001 * (number % 5) + number), ("EUR", number)))
        tries = (
            (failed, good) if number % 4 == 0 else (Try("local", HOSTILE, costs=None),) if number % 50 == 1 else (good,)
        )
        made.append(
            Work(
                id_of(number + 1, at),
                at,
                tenant=f"tenant-{number % 3}" if number % 11 else HOSTILE,
                project="" if number % 2 else "web",
                persona="=HYPERLINK(1)" if number % 7 == 0 else "helper-desk",
                end_user_id=f"user-{number % 40}",
                outcome=cost_pb2.USAGE_OUTCOME_FINISHED,
                tries=tries,
                corrected=(Try("gemini", "pro", costs=(("USD", 5),)),) if number % 60 == 2 else None,
            )
        )
    return made


@pytest.fixture
async def reports(database: Database) -> LedgerReports:
    """Reports of a filled ledger, in the afternoon of a day in March."""
    await fill(database, works())
    budget = cost_pb2.Budget(id="all", display_name=HOSTILE[:128], period=cost_pb2.BUDGET_PERIOD_MONTH)
    budget.limit.CopyFrom(common_pb2.Money(currency_code="USD", nanos=10**10))
    await database.write(partial(create_budget, budget=budget, clock=lambda: NOW))
    return LedgerReports(Reporter(database, Forecaster(database, smooth=True, clock=lambda: NOW), lambda: NOW))


async def rendered(
    reports: LedgerReports, kind: int, file_format: int, **more: object
) -> tuple[str, cost_pb2.RenderReportResponse]:
    """A report, as a text and as it came."""
    request = cost_pb2.RenderReportRequest(kind=kind, format=file_format, **more)  # type: ignore[arg-type]  # as numbers
    response = await reports.render(request)
    return response.data.decode(), response


async def summary(database: Database, start: int, end: int, *dimensions: int) -> cost_pb2.SummarizeUsageResponse:
    """What SummarizeUsage tells of a time."""
    request = cost_pb2.SummarizeUsageRequest(dimensions=dimensions, limit=100_000)  # type: ignore[arg-type]  # as numbers
    request.filter.time_range.start_time.FromMicroseconds(start)
    request.filter.time_range.end_time.FromMicroseconds(end)
    return await database.read(lambda connection: summarize(connection, plan_of(request)).message())


#: All that a page consists of: nothing that loads, runs or submits.
_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "section", "h1", "h2", "p", "dl", "div", "dt", "dd", "bdi"),
    *("table", "thead", "tbody", "tr", "th", "td"),
    *("figure", "figcaption", "svg", "g", "rect", "line", "text"),
}


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.policy = ""
        self.open: list[str] = []
        self.said = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        found = dict(attrs)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag not in {"meta", "rect", "line"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that is closed at once."""
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """Close a tag; fail if it is not the last that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.said += data


@pytest.mark.parametrize("kind", [OVERVIEW, CHARGEBACK, DAILY])
async def test_a_page_loads_nothing_and_survives_hostile_names(reports: LedgerReports, kind: int) -> None:
    """A page is well nested, refers to nothing outside, runs nothing, forbids it too, and shows names as they are."""
    text, response = await rendered(reports, kind, HTML)
    assert response.mime_type == "text/html; charset=utf-8"
    page = Page(text)
    assert page.open == []
    assert page.tags <= _TAGS
    names = {name for _, name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {"src", "href", "style", "action", "srcset"}
    assert "url(" not in text
    assert "@import" not in text
    assert page.policy.startswith("default-src 'none'; style-src 'sha256-")
    assert HOSTILE in page.said or kind == DAILY


async def test_the_style_is_the_one_that_the_policy_lets_through(reports: LedgerReports) -> None:
    """The digest in the page's policy is that of its style."""
    text, _ = await rendered(reports, CHARGEBACK, HTML)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in Page(text).policy


async def test_a_chargeback_adds_up_to_the_summary(reports: LedgerReports, database: Database) -> None:
    """Lines of tenants and projects are those of SummarizeUsage, and add up to its total in each currency."""
    text, response = await rendered(reports, CHARGEBACK, CSV)
    assert (response.file_name, response.mime_type) == ("chargeback-2026-02.csv", "text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    by = await summary(
        database, MARCH - 28 * DAY, MARCH, cost_pb2.USAGE_DIMENSION_TENANT, cost_pb2.USAGE_DIMENSION_PROJECT
    )
    entries = [row for row in rows if row["line"] == "entry"]
    told = {(row["tenant"], row["project"], row["currency"]): Decimal(row["cost"]).scaleb(9) for row in entries}
    assert told == {(*row.values, cost.currency_code): cost.nanos for row in by.rows for cost in row.costs}
    totals = {row["currency"]: Decimal(row["cost"]).scaleb(9) for row in rows if row["line"] == "total"}
    assert totals == {cost.currency_code: cost.nanos for cost in by.total.costs}
    for currency, nanos in totals.items():
        assert sum(cost for (_, _, code), cost in told.items() if code == currency) == nanos
    assert sum(int(row["requests"]) for row in entries) == by.total.records
    assert sum(int(row["unpriced attempts"]) for row in entries) == by.total.unpriced


async def test_a_chargeback_tells_corrections_and_whether_it_is_closed(reports: LedgerReports) -> None:
    """What corrections changed is told in the month of the work; an open month is said to be open."""
    closed, _ = await rendered(reports, CHARGEBACK, TEXT)
    assert "The period is closed since 2026-03-01 00:00." in closed
    assert "Corrections of work of this period are in it: " in closed
    rows = csv.DictReader(io.StringIO((await rendered(reports, CHARGEBACK, CSV))[0]))
    told = sum(
        (Decimal(row["of which corrections"]) for row in rows if row["line"] == "entry" and row["currency"] == "USD"),
        Decimal(0),
    )
    begin = MARCH - 28 * DAY
    corrected = [work for work in works() if work.corrected and begin <= work.started < MARCH]
    costs = [(dict(one.costs or ()).get("USD", 0), sign) for work in corrected for one, sign in _changes(work)]
    assert told.scaleb(9) == sum(nanos * sign for nanos, sign in costs) != 0
    window = common_pb2.TimeRange()
    window.start_time.FromMicroseconds(MARCH)
    window.end_time.FromMicroseconds(MARCH + 31 * DAY)
    running, _ = await rendered(reports, CHARGEBACK, TEXT, filter=cost_pb2.UsageFilter(time_range=window))
    assert "The period is still open" in running


def _changes(work: Work) -> list[tuple[Try, int]]:
    return [*((one, -1) for one in work.tries), *((one, 1) for one in work.corrected or ())]


async def test_an_overview_shows_every_side(reports: LedgerReports, database: Database) -> None:
    """The overview has the total, each breakdown, the forecast, budgets, failures and models without a price."""
    text, response = await rendered(reports, OVERVIEW, TEXT)
    assert response.file_name == "overview-2026-03.txt"
    total = (await summary(database, MARCH, MARCH + 31 * DAY)).total
    costs = {cost.currency_code: cost.nanos for cost in total.costs}
    assert f"{costs['USD'] // 10**9:,}.{costs['USD'] % 10**9:09d} USD" in text
    for heading in (
        *("In short", "By day", "Forecast", "Budgets", "By provider", "By model", "By persona", "By tenant"),
        *("By project", "Top users", "How they ended", "Failures and fallbacks", "Models without a known price"),
    ):
        assert f"\n{heading}\n{'-' * len(heading)}\n" in text
    assert re.search(r"^local +<script src.* +2$", text, re.MULTILINE)
    assert "used up" in text
    assert "\u202e" not in text
    html, _ = await rendered(reports, OVERVIEW, HTML)
    assert html.count("<svg viewBox") == 1
    assert 'class="bar forecast"' in html


async def test_tables_with_remainders_add_up(reports: LedgerReports) -> None:
    """The lines of each table of an overview's CSV, remainders among them, add up to its total."""
    rows = list(csv.reader(io.StringIO((await rendered(reports, OVERVIEW, CSV))[0])))
    users = [row for row in rows if row[0] == "Top users"]
    assert [row[1] for row in users[-2:]] == ["others", "total"]
    amounts = [
        sum(Decimal(part.split()[0].replace(",", "")) for part in row[3].split(" + ") if "EUR" not in part)
        for row in users
    ]
    assert sum(amounts[:-1]) == amounts[-1]
    assert sum(int(row[4]) for row in users[:-1]) == int(users[-1][4])


async def test_a_spreadsheet_gets_no_formula(reports: LedgerReports) -> None:
    """A name that a spreadsheet would take for a formula has an apostrophe before it."""
    text, _ = await rendered(reports, OVERVIEW, CSV)
    assert "'=HYPERLINK(1)" in text
    assert not [cell for row in csv.reader(io.StringIO(text)) for cell in row if cell.startswith(("=", "@"))]


async def test_a_day_is_yesterday_of_the_time_zone(reports: LedgerReports, database: Database) -> None:
    """The daily report is of the day before, as the zone has it, and its cost is the summary's."""
    text, response = await rendered(reports, DAILY, TEXT, time_zone="Asia/Tokyo")
    assert response.file_name == "daily-2026-03-18.txt"
    assert "From 2026-03-18 00:00 to 2026-03-19 00:00, Asia/Tokyo." in text
    start = micros("2026-03-18T00:00:00+09:00")
    costs = {cost.currency_code: cost.nanos for cost in (await summary(database, start, start + DAY)).total.costs}
    assert text.startswith("Spending of 2026-03-18: ")
    assert Decimal(re.search(r"([\d,.]+) USD", text)[1].replace(",", "")).scaleb(9) == costs["USD"]  # type: ignore[index]  # it is there


async def test_an_empty_ledger_has_reports_too(database: Database) -> None:
    """Every report of nothing can be made, in every format."""
    part = LedgerReports(Reporter(database, Forecaster(database, smooth=True, clock=lambda: NOW), lambda: NOW))
    for kind in (OVERVIEW, CHARGEBACK, DAILY):
        for file_format in (HTML, CSV, TEXT):
            _, response = await rendered(part, kind, file_format)
            assert response.file_name
            assert response.mime_type


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (cost_pb2.RenderReportRequest(kind=99), "kind"),  # type: ignore[arg-type]  # not known
        (cost_pb2.RenderReportRequest(format=99), "format"),  # type: ignore[arg-type]  # not known
        (cost_pb2.RenderReportRequest(time_zone="Mars/Olympus"), "time_zone"),
        (cost_pb2.RenderReportRequest(filter=cost_pb2.UsageFilter(tenant="x" * 600)), "filter.tenant"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_its_field(
    database: Database, request_: cost_pb2.RenderReportRequest, field: str
) -> None:
    """A wrong request is refused, and the field is named; so is a time without a beginning."""
    part = LedgerReports(Reporter(database, Forecaster(database, smooth=True, clock=lambda: NOW), lambda: NOW))
    with pytest.raises(InvalidRequestError) as caught:
        await part.render(request_)
    assert caught.value.field == field
    endless = cost_pb2.RenderReportRequest()
    endless.filter.time_range.end_time.FromMicroseconds(NOW)
    with pytest.raises(InvalidRequestError, match=r"filter\.time_range\.start_time"):
        await part.render(endless)


async def test_a_server_renders_reports(serve: Serve, database: Database, database_url: str) -> None:
    """RenderReport answers out of the ledger of a server; with nothing set it is the overview as a page."""
    await fill(database, works())
    async with serve(with_ledger(database_url)) as served:
        response = await served.costs.RenderReport(cost_pb2.RenderReportRequest())
        assert response.data.startswith(b"<!DOCTYPE html>")
        assert response.file_name.startswith("overview-")
