"""The commands about costs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from google.protobuf import timestamp_pb2
from tests.clients.platform_server import Platform
from tests.clients.test_command_line import ep

from execution_platform.client.cli_cost_options import moment, nanos_of, usage_filter
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, usage_pb2

NOW = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)


def usd(nanos: int) -> common_pb2.Money:
    return common_pb2.Money(currency_code="USD", nanos=nanos)


def at(text: str) -> timestamp_pb2.Timestamp:
    made = timestamp_pb2.Timestamp()
    made.FromJsonString(text)
    return made


def span(start: str, end: str) -> common_pb2.TimeRange:
    return common_pb2.TimeRange(start_time=at(start), end_time=at(end))


@pytest.mark.parametrize(
    ("text", "zone", "means"),
    [
        ("now", "", "2026-11-21T23:30:00+00:00"),
        ("today", "", "2026-11-21T00:00:00+00:00"),
        ("today", "Europe/Berlin", "2026-11-21T23:00:00+00:00"),
        ("month", "Europe/Berlin", "2026-10-31T23:00:00+00:00"),
        ("7d", "Europe/Berlin", "2026-11-14T23:30:00+00:00"),
        ("90m", "", "2026-11-21T22:00:00+00:00"),
        ("2026-11-01", "America/New_York", "2026-11-01T04:00:00+00:00"),
        ("2026-11-01T08:00+02:00", "America/New_York", "2026-11-01T06:00:00+00:00"),
    ],
)
def test_times_are_understood_in_their_zone(text: str, zone: str, means: str) -> None:
    """Dates begin at midnight in the zone that was named, and spans count back from now."""
    assert moment(text, zone, "--since", NOW).isoformat() == means


@pytest.mark.parametrize(
    ("where", "since", "zone", "told"),
    [
        (["persona"], "", "", "name=value"),
        (["person=x"], "", "", "'person' is not one of tenant, project, persona"),
        (["status=free"], "", "", "'free' is not one of exact, estimated, unpriced"),
        ([], "yesterday-ish", "", "write 2026-11-01"),
        ([], "today", "Mars/Base", "no time zone 'Mars/Base'"),
    ],
)
def test_options_that_mean_nothing_say_how_to_write_them(where: list[str], since: str, zone: str, told: str) -> None:
    """A condition, time or zone that is not understood is wrong usage, and the message says what would be right."""
    with pytest.raises(typer.BadParameter, match=told):
        usage_filter(where, since, "", zone)


def test_every_condition_reaches_the_filter() -> None:
    """Each name that --where takes sets its field, and --since and --until the span of time."""
    found = usage_filter(
        [
            "tenant=t", "project=p", "persona=r", "user=u", "session=s", "provider=o", "model=m", "request=q",
            "label.team=blue", "label.env=x=y", "status=unpriced", "kind=external", "outcome=lost",
        ],
        "2026-11-01",
        "now",
        now=NOW,
    )  # fmt: skip
    assert found == cost_pb2.UsageFilter(
        time_range=span("2026-11-01T00:00:00Z", "2026-11-21T23:30:00Z"),
        tenant="t", project="p", persona="r", end_user_id="u", session_id="s", provider="o", model="m", request_id="q",
        labels={"team": "blue", "env": "x=y"},
        cost_statuses=[usage_pb2.COST_STATUS_UNPRICED],
        kinds=[cost_pb2.USAGE_RECORD_KIND_EXTERNAL],
        outcomes=[cost_pb2.USAGE_OUTCOME_LOST],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "nanos"), [("50", 50 * 10**9), ("0.000000001", 1), ("123456789.5", 123456789500000000)]
)
def test_dollars_are_read_exactly(text: str, nanos: int) -> None:
    """Amounts never pass through a float."""
    assert nanos_of(text, "--limit") == nanos


@pytest.mark.parametrize("text", ["1e3", "-1", "1.0000000001", "1,5", "$5", ""])
def test_amounts_that_are_none_are_refused(text: str) -> None:
    """What is no plain amount of dollars is wrong usage."""
    with pytest.raises(typer.BadParameter, match="write dollars"):
        nanos_of(text, "--limit")


def test_sums_are_told_by_dimension_and_time(platform: Platform, target: str) -> None:
    """Dimensions, granularity, zone and limit reach the request; each sum is a line, what the limit cut off another."""
    row = cost_pb2.UsageSum(
        time_range=span("2026-11-20T23:00:00Z", "2026-11-21T23:00:00Z"),
        values=["reviewer", ""],
        records=3,
        costs=[usd(1_250_000_000)],
        unpriced=1,
        input_tokens=10,
        cache_read_tokens=20,
        cache_write_tokens=30,
        output_tokens=4,
        reasoning_tokens=5,
    )
    others = cost_pb2.UsageSum(records=9, costs=[usd(1)])
    platform.costs.will_answer(cost_pb2.SummarizeUsageResponse(rows=[row], others=others, total=others))
    ran = ep(
        "costs", "summary", "--by", "persona", "--by", "label.team", "--per", "day", "-z", "Europe/Berlin", "--since",
        "2026-11-01", "--limit", "1", "-t", target,
    )  # fmt: skip
    assert ran.output == (
        "2026-11-21 00:00\treviewer\t-\tUSD 1.25\t1\t3\t60\t9\n(others)\t\t\tUSD 0.000000001\t0\t9\t0\t0\n"
    )
    sent = platform.costs.requests[-1]
    assert list(sent.dimensions) == [cost_pb2.USAGE_DIMENSION_PERSONA, cost_pb2.USAGE_DIMENSION_LABEL]
    assert (list(sent.label_keys), sent.granularity, sent.time_zone, sent.limit) == (
        ["team"],
        cost_pb2.GRANULARITY_DAY,
        "Europe/Berlin",
        1,
    )
    assert sent.filter.time_range.start_time == at("2026-10-31T23:00:00Z")


def a_record(identifier: str) -> cost_pb2.UsageRecord:
    line = usage_pb2.CostLine(
        amount=usd(2_000), description="output", quantity=2, price=usd(10**9), per_quantity=1_000_000
    )
    attempt = chat_pb2.Attempt(
        provider="p", model="m", outcome=chat_pb2.ATTEMPT_OUTCOME_FINISHED, cost=usage_pb2.Cost(lines=[line])
    )
    return cost_pb2.UsageRecord(
        id=identifier,
        kind=cost_pb2.USAGE_RECORD_KIND_CHAT,
        request_id="r",
        tenant="t",
        persona="reviewer",
        start_time=at("2026-11-21T10:00:00Z"),
        outcome=cost_pb2.USAGE_OUTCOME_FINISHED,
        route=chat_pb2.Route(provider="p", model="m"),
        attempts=[attempt],
        cost=usage_pb2.Cost(status=usage_pb2.COST_STATUS_ESTIMATED, price_version="list 1"),
        totals=[usd(2_000)],
        input_tokens=7,
        output_tokens=2,
    )


def test_records_are_listed_up_to_a_number(platform: Platform, target: str) -> None:
    """Records come over as many pages as are needed, and not more than were asked for."""
    first = cost_pb2.ListUsageRecordsResponse(records=[a_record("b")], next_page_token="next")
    platform.costs.will_answer(first, cost_pb2.ListUsageRecordsResponse(records=[a_record("a"), a_record("0")]))
    ran = ep("costs", "records", "-n", "2", "-w", "persona=reviewer", "-t", target)
    line = "2026-11-21 10:00\treviewer\tp/m\tfinished\t7\t2\tUSD 0.000002\testimated\n"
    assert ran.output == f"b\t{line}a\t{line}"
    assert [request.page_token for request in platform.costs.requests] == ["", "next"]
    assert platform.costs.requests[1].filter.persona == "reviewer"


def test_a_record_is_shown_with_its_lines_and_corrections(platform: Platform, target: str) -> None:
    """Each attempt has the lines of its cost with quantity and price, and corrections follow."""
    correction = cost_pb2.UsageRecord(
        id="c", kind=cost_pb2.USAGE_RECORD_KIND_CORRECTION, totals=[usd(-500)], end_time=at("2026-11-22T00:00:00Z")
    )
    platform.costs.will_answer(
        cost_pb2.GetUsageRecordResponse(
            record=a_record("a"),
            corrections=[correction],
            totals=[usd(1_500)],
            cost_status=usage_pb2.COST_STATUS_ESTIMATED,
        )
    )
    ran = ep("costs", "record", "--request", "r", "-t", target)
    assert [tuple(line.split("\t")) for line in ran.output.splitlines()] == [
        ("request", "r"),
        ("began", "2026-11-21 10:00"),
        ("outcome", "finished"),
        ("tenant", "t"),
        ("persona", "reviewer"),
        ("attempt 1", "p/m, finished"),
        ("  output", "USD 0.000002 = 2 at USD 1 per 1000000"),
        ("corrected 2026-11-22 00:00", "USD -0.0000005"),
        ("cost", "USD 0.0000015 (estimated)"),
        ("prices", "list 1"),
    ]
    assert platform.costs.requests[-1].request_id == "r"
    assert ep("costs", "record", "-t", target).exit_code == 2


def test_a_forecast_is_told_with_its_budgets(platform: Platform, target: str) -> None:
    """Day's end, month's end and each day come first, then how it was made, then whether budgets hold."""
    interval = cost_pb2.ForecastInterval(expected=usd(2 * 10**9), low=usd(10**9), high=usd(3 * 10**9))
    point = cost_pb2.ForecastPoint(time_range=span("2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"), cost=interval)
    outlook = cost_pb2.BudgetOutlook(
        budget_id="team", limit=usd(10**9), outlook=cost_pb2.OUTLOOK_AT_RISK, break_time=at("2026-11-22T12:00:00Z")
    )
    of_tokens = cost_pb2.BudgetOutlook(
        budget_id="tokens", max_tokens=9, expected_tokens=7, outlook=cost_pb2.OUTLOOK_HOLDS
    )
    platform.costs.will_answer(
        cost_pb2.ForecastCostResponse(
            day_end=interval, month_end=interval, points=[point], method="mean-of-days", method_reason="too few days",
            spent_today=usd(1), spent_this_month=usd(2), unpriced=4, budgets=[outlook, of_tokens],
        )
    )  # fmt: skip
    ran = ep("costs", "forecast", "--days", "3", "--confidence", "0.9", "-w", "tenant=acme", "-t", target)
    figures = "USD 2\tUSD 1\tUSD 3\n"
    assert ran.stdout == (
        f"today\t{figures}this month\t{figures}2026-11-22\t{figures}team\tUSD 1\tat risk\t2026-11-22 12:00\tUSD 0\n"
        "tokens\t9 tokens\tholds\t-\t7 tokens\n"
    )
    assert "method mean-of-days: too few days" in ran.stderr
    assert "4 attempts without a known price" in ran.stderr
    sent = platform.costs.requests[-1]
    assert (sent.days, sent.confidence, sent.filter.tenant) == (3, 0.9, "acme")


def test_budgets_are_made_of_their_options(platform: Platform, target: str) -> None:
    """Each option sets its field of the new budget."""
    ran = ep(
        "costs", "budgets", "create", "team", "--name", "The team", "--limit", "50.5", "--max-tokens", "1000", "--per",
        "week", "-s", "tenant=acme", "-s", "user=u", "-s", "label.env=prod", "--soft", "--alert-at", "90", "--alert-at",
        "50", "--unpriced", "allow", "-z", "Europe/Berlin", "-t", target,
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert platform.costs.requests[-1].budget == cost_pb2.Budget(
        id="team",
        display_name="The team",
        limit=usd(50_500_000_000),
        max_tokens=1000,
        period=cost_pb2.BUDGET_PERIOD_WEEK,
        scope=cost_pb2.BudgetScope(tenant="acme", end_user_id="u", labels={"env": "prod"}),
        enforcement=cost_pb2.BUDGET_ENFORCEMENT_SOFT,
        alert_percents=[50, 90],
        unpriced=cost_pb2.UNPRICED_POLICY_ALLOW,
        time_zone="Europe/Berlin",
    )


def status() -> cost_pb2.BudgetStatus:
    budget = cost_pb2.Budget(
        id="team",
        limit=usd(50 * 10**9),
        period=cost_pb2.BUDGET_PERIOD_MONTH,
        scope=cost_pb2.BudgetScope(tenant="acme", labels={"env": "prod"}),
        enforcement=cost_pb2.BUDGET_ENFORCEMENT_HARD,
        alert_percents=[80],
        etag="e1",
    )
    return cost_pb2.BudgetStatus(
        budget=budget,
        window=span("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        spent=usd(40 * 10**9),
        reserved=usd(10**9),
        remaining=usd(9 * 10**9),
        spent_tokens=77,
        reached_percent=80,
    )


def test_budgets_are_listed_and_shown(platform: Platform, target: str) -> None:
    """What is spent, held and left comes in the units that the budget limits."""
    platform.costs.will_answer(cost_pb2.ListBudgetsResponse(statuses=[status()]))
    platform.costs.will_answer(cost_pb2.GetBudgetResponse(status=status()))
    ran = ep("costs", "budgets", "list", "--tenant", "acme", "-t", target)
    assert ran.output == (
        "team\ttenant=acme label.env=prod\tUSD 50\tmonth\tUSD 40\tUSD 1\tUSD 9\t2026-12-01 00:00\thard\n"
    )
    assert platform.costs.requests[-1].tenant == "acme"
    shown = dict(line.split("\t") for line in ep("costs", "budgets", "show", "team", "-t", target).output.splitlines())
    assert shown == {
        "scope": "tenant=acme label.env=prod",
        "limit": "USD 50",
        "window": "2026-11-01 00:00 to 2026-12-01 00:00 (UTC)",
        "spent": "USD 40",
        "held": "USD 1",
        "left": "USD 9",
        "reached": "80 %",
        "enforcement": "hard",
        "alerts at": "80 %",
    }


def test_an_update_changes_what_is_given_and_hands_back_the_etag(platform: Platform, target: str) -> None:
    """What is not given stays as it was read, and the etag of that reading goes along."""
    platform.costs.will_answer(cost_pb2.GetBudgetResponse(status=status()))
    assert ep("costs", "budgets", "update", "team", "--limit", "75", "-t", target).exit_code == 0
    expected = status().budget
    expected.limit.nanos = 75 * 10**9
    assert platform.costs.requests[-1].budget == expected


def test_a_budget_is_deleted_by_its_id(platform: Platform, target: str) -> None:
    """The id is sent, and what was done is said on standard error."""
    ran = ep("costs", "budgets", "delete", "team", "-t", target)
    assert (ran.stdout, ran.stderr) == ("", "budget team is deleted\n")
    assert platform.costs.requests[-1].id == "team"


def test_a_scope_that_is_none_is_wrong_usage(target: str) -> None:
    """A name that no scope has ends with 2 and lists those that there are."""
    ran = ep("costs", "budgets", "create", "x", "--limit", "1", "-s", "team=x", "-t", target)
    assert ran.exit_code == 2
    assert "label.KEY=" in ran.stderr


def test_alerts_are_followed_until_the_server_ends(platform: Platform, target: str) -> None:
    """Each alert is a line as it comes; a message without one is passed over."""
    alert = cost_pb2.Alert(
        id="1", kind=cost_pb2.ALERT_KIND_BUDGET_EXCEEDED, title="no room", create_time=at("2026-11-21T10:00:00Z")
    )
    platform.costs.will_answer(cost_pb2.WatchBudgetAlertsResponse(), cost_pb2.WatchBudgetAlertsResponse(alerts=[alert]))
    ran = ep("costs", "alerts", "--kind", "budget-exceeded", "--after", "0", "-t", target)
    assert ran.stdout == "1\t2026-11-21 10:00\tbudget exceeded\tno room\n"
    assert ran.exit_code == 0
    sent = platform.costs.requests[-1]
    assert (list(sent.kinds), sent.after_id) == ([cost_pb2.ALERT_KIND_BUDGET_EXCEEDED], "0")


def test_prices_are_listed_by_what_they_are_for(platform: Platform, target: str) -> None:
    """Kind, lifetime, tier of the prompt and fee of a request are told in words."""
    kind = usage_pb2.USAGE_KIND_CACHE_WRITE
    item = usage_pb2.UsageItem(kind=kind)
    item.cache_ttl.FromSeconds(3600)
    price = cost_pb2.ModelPrice(provider="p", model="m", version="v1", service_tier="batch")
    price.components.add(item=item, price=usd(5 * 10**9), per_quantity=10**6, above_prompt_tokens=200_000)
    price.components.add(price=usd(10**7), per_quantity=1, per_request=True)
    platform.costs.will_answer(cost_pb2.ListPricesResponse(prices=[price]))
    ran = ep("costs", "prices", "p", "m", "-t", target)
    assert ran.output == (
        "p/m\tbatch\tcache write for 3600 s above 200000 tokens of prompt\tUSD 5\t1000000\tv1\n"
        "p/m\tbatch\teach request\tUSD 0.01\t1\tv1\n"
    )
    sent = platform.costs.requests[-1]
    assert (sent.provider, sent.model) == ("p", "m")


def test_an_estimate_tells_what_is_not_known(platform: Platform, target: str) -> None:
    """A route without a price says so instead of nothing."""
    priced = usage_pb2.Cost(status=usage_pb2.COST_STATUS_ESTIMATED, lines=[usage_pb2.CostLine(amount=usd(3_000))])
    unpriced = usage_pb2.Cost(status=usage_pb2.COST_STATUS_UNPRICED)
    routes = [
        cost_pb2.RouteEstimate(
            route=chat_pb2.Route(provider="p", model=model), expected=cost, most=cost, expected_output_tokens=5
        )
        for model, cost in (("a", priced), ("b", unpriced))
    ]
    platform.costs.will_answer(cost_pb2.EstimateCostResponse(routes=routes, input_tokens=2))
    ran = ep("costs", "estimate", "-m", "p/a", "--fallback", "p/b", "--max-tokens", "9", "Hello", "-t", target)
    assert ran.stdout == "p/a\tUSD 0.000003\tUSD 0.000003\t5\t0\np/b\tnot known\tnot known\t5\t0\n"
    sent = platform.costs.requests[-1].chat
    assert (sent.model, sent.sampling.max_output_tokens, list(sent.routing.fallback_models)) == ("p/a", 9, ["p/b"])


def test_repricing_tells_what_it_did(platform: Platform, target: str) -> None:
    """A dry run says what would be done, and models that still lack a price are named."""
    done = cost_pb2.RepriceUsageResponse(
        examined=9, corrected=3, still_unpriced=1, difference=[usd(7)], unpriced_models=["p/m"]
    )
    platform.costs.will_answer(done)
    ran = ep("costs", "reprice", "--dry-run", "--since", "2026-11-01", "-t", target)
    assert ran.output == (
        "examined\t9\nwould be corrected\t3\ndifference\tUSD 0.000000007\nstill without a price\t1\nno price for\tp/m\n"
    )
    assert platform.costs.requests[-1].dry_run
    assert json.loads(ep("costs", "reprice", "--priced-too", "--json", "-t", target).output)["corrected"] == "3"
    assert platform.costs.requests[-1].priced_too


def test_a_report_is_written_in_the_form_of_its_name(platform: Platform, target: str, tmp_path: Path) -> None:
    """The file's name decides the format unless an option does, and what the server made is in it."""
    platform.costs.will_answer(cost_pb2.RenderReportResponse(data=b"a,b\n"))
    out = tmp_path / "october.csv"
    ran = ep("costs", "report", "--kind", "chargeback", "-o", str(out), "-t", target)
    assert (ran.exit_code, out.read_bytes()) == (0, b"a,b\n")
    sent = platform.costs.requests[-1]
    assert (sent.kind, sent.format) == (cost_pb2.REPORT_KIND_CHARGEBACK, cost_pb2.REPORT_FORMAT_CSV)
    assert not sent.filter.HasField("time_range")


def test_an_export_is_whole_or_not_there(platform: Platform, target: str, tmp_path: Path) -> None:
    """The pieces in order are the file; rows are told; a folder that is not there is one line of complaint."""
    pieces = [cost_pb2.ExportUsageResponse(data=b"a"), cost_pb2.ExportUsageResponse(data=b"b", rows=2)]
    platform.costs.will_answer(*pieces)
    out = tmp_path / "usage.parquet"
    ran = ep("costs", "export", "-o", str(out), "-t", target)
    assert (ran.exit_code, ran.stderr, out.read_bytes()) == (0, "2 rows\n", b"ab")
    assert platform.costs.requests[-1].format == cost_pb2.EXPORT_FORMAT_PARQUET
    assert [each.name for each in tmp_path.iterdir()] == ["usage.parquet"]
    ran = ep("costs", "export", "-o", str(tmp_path / "none" / "usage.csv"), "-t", target)
    assert (ran.exit_code, len(ran.stderr.splitlines())) == (1, 1)
