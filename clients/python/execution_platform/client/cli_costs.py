"""The commands `costs`: what was used, what it cost, and what it will come to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from execution_platform.client.cli_budgets import alerts, budgets_group
from execution_platform.client.cli_connection import (
    EXIT_FAILED,
    CaOption,
    CertOption,
    JsonOption,
    KeyOption,
    Server,
    TargetOption,
    TimeoutOption,
    TlsOption,
    described,
    reporting_errors,
)
from execution_platform.client.cli_cost_options import (
    SinceOption,
    UntilOption,
    WhereOption,
    ZoneOption,
    money,
    moneys,
    named,
    shown_time,
    usage_filter,
    word,
)
from execution_platform.client.cli_interrupts import interruptible
from execution_platform.client.cli_prices import estimate, prices, reprice
from execution_platform.client.cli_terminal import Terminal
from execution_platform.client.options import DEFAULT_TARGET
from execution_platform.client.sync import ExecutionPlatformClient
from execution_platform.v1 import chat_pb2, cost_pb2, usage_pb2

__all__ = ["costs_group"]

_SUMMARY_EXAMPLES = (
    "ep costs summary",
    "ep costs summary --by persona --by model --since 7d",
    "ep costs summary --by label.team --per day --since month -z Europe/Berlin --json",
)
_RECORDS_EXAMPLES = (
    "ep costs records --since 24h -w persona=reviewer",
    "ep costs records -w status=unpriced --json | jq -r .id",
)
_RECORD_EXAMPLES = ("ep costs record 019a8f3c5b7e7c1d8e2f3a4b5c6d7e8f", "ep costs record --request REQUEST_ID --json")
_FORECAST_EXAMPLES = ("ep costs forecast", "ep costs forecast -w tenant=acme --days 14 --confidence 0.9")
_ALERTS_EXAMPLES = ("ep costs alerts", "ep costs alerts --kind threshold --json | jq -r .title")
_PRICES_EXAMPLES = ("ep costs prices anthropic", "ep costs prices openai gpt-5-mini --json")
_ESTIMATE_EXAMPLES = ("ep costs estimate -m openai/gpt-5-mini Why is the sky blue?",)
_REPRICE_EXAMPLES = ("ep costs reprice --dry-run", "ep costs reprice -w model=new-model --since month")
_REPORT_EXAMPLES = (
    "ep costs report -o costs.html",
    "ep costs report --kind chargeback --format csv --since 2026-10-01 --until 2026-11-01 -o october.csv",
)
_EXPORT_EXAMPLES = ("ep costs export --since month -o usage.csv", "ep costs export --format parquet -o usage.parquet")

_FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "json_lines", ".html": "html", ".txt": "text"}

OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="File to write. [default: standard output]")]


def costs_group() -> typer.Typer:
    """Return the group of commands about costs."""
    group = typer.Typer(
        name="costs",
        help="The ledger: what was used, what it cost, what may be spent and what it will come to.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    group.command("summary", help=described(summary, _SUMMARY_EXAMPLES))(summary)
    group.command("records", help=described(records, _RECORDS_EXAMPLES))(records)
    group.command("record", help=described(record, _RECORD_EXAMPLES))(record)
    group.command("forecast", help=described(forecast, _FORECAST_EXAMPLES))(forecast)
    group.add_typer(budgets_group())
    group.command("alerts", help=described(alerts, _ALERTS_EXAMPLES))(alerts)
    group.command("prices", help=described(prices, _PRICES_EXAMPLES))(prices)
    group.command("estimate", help=described(estimate, _ESTIMATE_EXAMPLES))(estimate)
    group.command("reprice", help=described(reprice, _REPRICE_EXAMPLES))(reprice)
    group.command("report", help=described(report, _REPORT_EXAMPLES))(report)
    group.command("export", help=described(export, _EXPORT_EXAMPLES))(export)
    return group


def summary(  # noqa: PLR0913 - one argument for each option
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="tenant, project, persona, user, session, provider, model, outcome or label.KEY; may be given again."
        ),
    ] = None,
    per: Annotated[str, typer.Option(help="hour, day, week or month.")] = "",
    where: WhereOption = None,
    since: SinceOption = "month",
    until: UntilOption = "",
    time_zone: ZoneOption = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most rows.")] = 10_000,
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Sum what was used and what it cost.

    Not on a terminal: span of time, a column for each --by, costs, attempts without a price, chats, tokens in and out,
    with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    request = cost_pb2.SummarizeUsageRequest(
        filter=usage_filter(where, since, until, time_zone), time_zone=time_zone, limit=limit
    )
    for name in by or ():
        _add_dimension(request, name)
    if per:
        request.granularity = cost_pb2.Granularity.ValueType(named(cost_pb2.Granularity.DESCRIPTOR, per, "--per"))
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(lambda: client.costs.summarize(request))
    if as_json:
        terminal.json([found])
        return
    columns = [*(["time"] if per else []), *(by or []), "cost", "unpriced", "chats", "in", "out"]
    rows = [_sum_row(each, time_zone, per) for each in found.rows]
    if found.HasField("others"):
        rows.append(_named_row("(others)", found.others, per, by or []))
    if terminal.is_terminal and len(rows) > 1:
        rows.append(_named_row("(all)", found.total, per, by or []))
    terminal.table(columns, rows)


def _add_dimension(request: cost_pb2.SummarizeUsageRequest, name: str) -> None:
    if name.startswith("label."):
        request.dimensions.append(cost_pb2.USAGE_DIMENSION_LABEL)
        request.label_keys.append(name.removeprefix("label."))
        return
    known = cost_pb2.UsageDimension.DESCRIPTOR
    number = named(known, "end_user" if name == "user" else name, "--by")
    if number == cost_pb2.USAGE_DIMENSION_LABEL:
        raise typer.BadParameter("name the label: label.team", param_hint="--by")
    request.dimensions.append(cost_pb2.UsageDimension.ValueType(number))


def _sum_row(each: cost_pb2.UsageSum, zone: str, per: str) -> tuple[str, ...]:
    time = [shown_time(each.time_range.start_time.ToDatetime(), zone)] if per else []
    return (*time, *(value or "-" for value in each.values), *_figures(each))


def _named_row(name: str, each: cost_pb2.UsageSum, per: str, by: list[str]) -> tuple[str, ...]:
    before = len(by) + bool(per)
    return (*([name, *[""] * (before - 1)] if before else []), *_figures(each))


def _figures(each: cost_pb2.UsageSum) -> tuple[str, ...]:
    asked = each.input_tokens + each.cache_read_tokens + each.cache_write_tokens
    answered = each.output_tokens + each.reasoning_tokens
    return moneys(each.costs), str(each.unpriced), str(each.records), str(asked), str(answered)


def records(  # noqa: PLR0913 - one argument for each option
    where: WhereOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    time_zone: ZoneOption = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most records.")] = 50,
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """List records, the newest first.

    Not on a terminal: id, time, persona, route, outcome, tokens in and out, cost and its status, with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    which = usage_filter(where, since, until, time_zone)
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(lambda: list(islice(client.costs.records(which), limit)))
    if as_json:
        terminal.json(found)
        return
    head = ("id", "time", "persona", "route", "outcome", "in", "out", "cost", "")
    terminal.table(head, (_record_row(each, time_zone) for each in found))


def _record_row(each: cost_pb2.UsageRecord, zone: str) -> tuple[str, ...]:
    corrects = each.kind == cost_pb2.USAGE_RECORD_KIND_CORRECTION
    outcome = f"corrects {each.corrects}" if corrects else word(cost_pb2.UsageOutcome.DESCRIPTOR, each.outcome)
    return (
        each.id,
        shown_time(each.start_time.ToDatetime(), zone),
        each.persona,
        _route(each.route),
        outcome,
        str(each.input_tokens),
        str(each.output_tokens),
        moneys(each.totals),
        word(usage_pb2.CostStatus.DESCRIPTOR, each.cost.status),
    )


def _route(route: chat_pb2.Route) -> str:
    return f"{route.provider}/{route.model}" if route.provider else ""


def record(  # noqa: PLR0913 - one argument for each option
    record_id: Annotated[str, typer.Argument(help="Id of the record.")] = "",
    request: Annotated[str, typer.Option(help="Id of its request, in place of its own.")] = "",
    time_zone: ZoneOption = "",
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Show one record: each attempt with the lines of its cost, and what corrects it.

    Not on a terminal: names and values, with tabs between.
    """
    if bool(record_id) == bool(request):
        raise typer.BadParameter("give the id of a record, or --request with that of a request")
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(lambda: client.costs.get(record_id, request_id=request))
    if as_json:
        terminal.json([found])
    else:
        terminal.table((found.record.id, ""), _detail_rows(found, time_zone))


def _detail_rows(found: cost_pb2.GetUsageRecordResponse, zone: str) -> Iterator[tuple[str, str]]:
    each = found.record
    whose = (
        ("tenant", each.tenant),
        ("project", each.project),
        ("persona", each.persona),
        ("user", each.end_user_id),
        ("session", each.session_id),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(each.labels.items()))),
        ("note", each.note),
    )
    yield "request", each.request_id
    yield "began", shown_time(each.start_time.ToDatetime(), zone)
    yield "outcome", word(cost_pb2.UsageOutcome.DESCRIPTOR, each.outcome)
    yield from ((name, value) for name, value in whose if value)
    for number, attempt in enumerate(each.attempts, 1):
        outcome = word(chat_pb2.AttemptOutcome.DESCRIPTOR, attempt.outcome)
        yield f"attempt {number}", f"{attempt.provider}/{attempt.model}, {outcome}"
        for line in attempt.cost.lines:
            yield f"  {line.description or 'as stated'}", _line(line)
    for correction in found.corrections:
        yield f"corrected {shown_time(correction.end_time.ToDatetime(), zone)}", moneys(correction.totals)
    yield "cost", f"{moneys(found.totals)} ({word(usage_pb2.CostStatus.DESCRIPTOR, found.cost_status)})"
    if each.cost.price_version:
        yield "prices", each.cost.price_version


def _line(line: usage_pb2.CostLine) -> str:
    if not line.per_quantity:
        return money(line.amount)
    return f"{money(line.amount)} = {line.quantity} at {money(line.price)} per {line.per_quantity}"


def forecast(  # noqa: PLR0913 - one argument for each option
    where: WhereOption = None,
    days: Annotated[
        int, typer.Option(min=0, max=366, help="Days ahead. [default: to the end of the month, at least 7]")
    ] = 0,
    confidence: Annotated[float, typer.Option(min=0.01, max=0.99, help="How sure the intervals are.")] = 0.8,
    time_zone: ZoneOption = "",
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Tell what will have been spent by the end of today, of the month and of each day, and whether budgets will hold.

    Not on a terminal: what, expected, low and high, with tabs between; then a line for each budget.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    request = cost_pb2.ForecastCostRequest(
        filter=usage_filter(where), time_zone=time_zone, confidence=confidence, days=days
    )
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(lambda: client.costs.forecast(request))
    if as_json:
        terminal.json([found])
        return
    rows = [_interval_row("today", found.day_end), _interval_row("this month", found.month_end)]
    rows += [
        _interval_row(shown_time(point.time_range.start_time.ToDatetime(), time_zone)[:10], point.cost)
        for point in found.points
    ]
    terminal.table(("by the end of", "expected", "low", "high"), rows)
    because = f": {found.method_reason}" if found.method_reason else ""
    terminal.remark(f"spent today {money(found.spent_today)}, this month {money(found.spent_this_month)}")
    terminal.remark(f"method {found.method}{because}")
    if found.unpriced:
        terminal.remark(f"note: {found.unpriced} attempts without a known price are not in it; see `ep costs reprice`")
    if found.budgets:
        head = ("budget", "limit", "outlook", "breaks", "at its end")
        terminal.table(head, (_outlook_row(each, time_zone) for each in found.budgets))


def _interval_row(name: str, interval: cost_pb2.ForecastInterval) -> tuple[str, ...]:
    return name, money(interval.expected), money(interval.low), money(interval.high)


def _outlook_row(each: cost_pb2.BudgetOutlook, zone: str) -> tuple[str, ...]:
    breaks = shown_time(each.break_time.ToDatetime(), zone) if each.HasField("break_time") else "-"
    outlook = word(cost_pb2.Outlook.DESCRIPTOR, each.outlook)
    in_money = each.HasField("limit")
    limit = [money(each.limit)] if in_money else []
    expected = [money(each.at_reset.expected)] if in_money else []
    if each.max_tokens:
        limit.append(f"{each.max_tokens} tokens")
        expected.append(f"{each.expected_tokens} tokens")
    return each.display_name or each.budget_id, ", ".join(limit), outlook, breaks, ", ".join(expected)


def report(  # noqa: PLR0913 - one argument for each option
    kind: Annotated[str, typer.Option(help="overview, chargeback or daily.")] = "overview",
    out: OutOption = None,
    file_format: Annotated[
        str, typer.Option("--format", "-f", help="html, csv or text. [default: by the file's name, else html]")
    ] = "",
    where: WhereOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    time_zone: ZoneOption = "",
    *,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Make a report: a page with charts that opens offline, a chargeback by tenant and project, or one day."""
    server = Server(target, tls, ca, cert, key)
    request = cost_pb2.RenderReportRequest(
        kind=cost_pb2.ReportKind.ValueType(named(cost_pb2.ReportKind.DESCRIPTOR, kind, "--kind")),
        format=cost_pb2.ReportFormat.ValueType(
            named(cost_pb2.ReportFormat.DESCRIPTOR, file_format or _format_of(out, "html"), "--format")
        ),
        filter=usage_filter(where, since, until, time_zone),
        time_zone=time_zone,
    )
    with server.connect(timeout) as client, reporting_errors(server):
        made = interruptible(lambda: client.costs.report(request))
    _write(out, iter([made.data]))


def export(  # noqa: PLR0913 - one argument for each option
    out: OutOption = None,
    file_format: Annotated[
        str, typer.Option("--format", "-f", help="csv, parquet or json-lines. [default: by the file's name, else csv]")
    ] = "",
    where: WhereOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    time_zone: ZoneOption = "",
    *,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Write records to a file, a row for each attempt. A file that exists is replaced once the new one is whole."""
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    request = cost_pb2.ExportUsageRequest(
        filter=usage_filter(where, since, until, time_zone),
        format=cost_pb2.ExportFormat.ValueType(
            named(cost_pb2.ExportFormat.DESCRIPTOR, file_format or _format_of(out, "csv"), "--format")
        ),
    )
    with server.connect(timeout) as client, reporting_errors(server):
        rows = interruptible(lambda: _export(client, request, out))
    terminal.remark(f"{rows} rows")


def _export(client: ExecutionPlatformClient, request: cost_pb2.ExportUsageRequest, out: Path | None) -> int:
    rows = 0

    def pieces() -> Iterator[bytes]:
        nonlocal rows
        with client.costs.export(request) as stream:
            for piece in stream:
                rows = piece.rows or rows
                yield piece.data

    _write(out, pieces())
    return rows


def _format_of(out: Path | None, usual: str) -> str:
    return _FORMATS.get(out.suffix.lower(), usual) if out is not None else usual


def _write(out: Path | None, pieces: Iterator[bytes]) -> None:
    """Write a file: a whole one, or none."""
    if out is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return
    unfinished = out.with_name(f"{out.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.writelines(pieces)
        unfinished.replace(out)
    except OSError as error:
        typer.echo(f"ep: cannot write {out}: {error.strerror}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    finally:
        unfinished.unlink(missing_ok=True)
