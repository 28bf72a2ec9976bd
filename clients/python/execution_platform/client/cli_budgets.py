"""The commands `costs budgets` and `costs alerts`: what may be spent, and what somebody should know."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from execution_platform.client.cli_connection import (
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
from execution_platform.client.cli_cost_options import ZoneOption, money, named, nanos_of, shown_time, word
from execution_platform.client.cli_interrupts import interruptible
from execution_platform.client.cli_terminal import Terminal
from execution_platform.client.options import DEFAULT_TARGET
from execution_platform.v1 import common_pb2, cost_pb2

__all__ = ["alerts", "budgets_group"]

_LIST_EXAMPLES = ("ep costs budgets list", "ep costs budgets list --tenant acme --json | jq -r .budget.id")
_SHOW_EXAMPLES = ("ep costs budgets show team",)
_CREATE_EXAMPLES = (
    "ep costs budgets create team --limit 50 --per month --scope tenant=acme --time-zone Europe/Berlin",
    "ep costs budgets create reviewer --max-tokens 100000 --per hour --scope persona=reviewer --soft",
)
_UPDATE_EXAMPLES = ("ep costs budgets update team --limit 75 --alert-at 80 --alert-at 100",)
_DELETE_EXAMPLES = ("ep costs budgets delete team",)

_SCOPES = {
    "tenant": "tenant",
    "project": "project",
    "persona": "persona",
    "user": "end_user_id",
    "provider": "provider",
    "model": "model",
}

NameOption = Annotated[str, typer.Option("--name", help="Name for people.")]
LimitOption = Annotated[str, typer.Option("--limit", help="Most that may be spent in a window, in US dollars.")]
TokensOption = Annotated[int, typer.Option("--max-tokens", min=0, help="Most tokens in a window.")]
PerOption = Annotated[str, typer.Option("--per", help="Its window: minute, hour, day, week or month.")]
ScopeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        "-s",
        help="What it counts: tenant=, project=, persona=, user=, provider=, model=, label.KEY=; may be given again. "
        "[default: all]",
    ),
]
SoftOption = Annotated[bool | None, typer.Option("--soft/--hard", help="Only alerts, or refusals too.")]
AlertOption = Annotated[
    list[int] | None, typer.Option("--alert-at", min=1, max=1000, help="Percent to alert at; may be given again.")
]
UnpricedOption = Annotated[str, typer.Option("--unpriced", help="Chats without a known price: allow or refuse.")]
BudgetArgument = Annotated[str, typer.Argument(help="Id of the budget.")]


def budgets_group() -> typer.Typer:
    """Return the group of commands about budgets."""
    group = typer.Typer(
        name="budgets",
        help="Budgets: what may be spent, on what, in which time.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    group.command("list", help=described(list_budgets, _LIST_EXAMPLES))(list_budgets)
    group.command("show", help=described(show, _SHOW_EXAMPLES))(show)
    group.command("create", help=described(create, _CREATE_EXAMPLES))(create)
    group.command("update", help=described(update, _UPDATE_EXAMPLES))(update)
    group.command("delete", help=described(delete, _DELETE_EXAMPLES))(delete)
    return group


def list_budgets(  # noqa: PLR0913 - one argument for each option
    tenant: Annotated[str, typer.Option(help="Only budgets of this tenant.")] = "",
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
    """List the budgets and how much of them is left.

    Not on a terminal: id, scope, limit, window, spent, held, left, when the next window begins and what happens then,
    with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(lambda: list(client.costs.budgets(tenant)))
    if as_json:
        terminal.json(found)
        return
    head = ("id", "scope", "limit", "per", "spent", "held", "left", "resets", "")
    terminal.table(head, (_row(each, time_zone) for each in found))


def show(  # noqa: PLR0913 - one argument for each option
    budget_id: BudgetArgument,
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
    """Show one budget and how much of it is left.

    Not on a terminal: names and values, with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    with server.connect(timeout) as client, reporting_errors(server):
        status = interruptible(lambda: client.costs.get_budget(budget_id))
    _tell(status, time_zone, as_json=as_json)


def create(  # noqa: PLR0913 - one argument for each option
    budget_id: Annotated[str, typer.Argument(help="Id of the budget; minted when left out.")] = "",
    name: NameOption = "",
    limit: LimitOption = "",
    max_tokens: TokensOption = 0,
    per: PerOption = "month",
    scope: ScopeOption = None,
    soft: SoftOption = None,
    *,
    alert_at: AlertOption = None,
    unpriced: UnpricedOption = "",
    time_zone: ZoneOption = "",
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Make a budget, of money, of tokens or both. It holds at once, and counts what its window has seen before."""
    server = Server(target, tls, ca, cert, key)
    budget = cost_pb2.Budget(id=budget_id)
    _change(budget, name, limit, max_tokens, per, scope, alert_at, time_zone, soft=soft, unpriced=unpriced)
    with server.connect(timeout) as client, reporting_errors(server):
        status = interruptible(lambda: client.costs.create_budget(budget))
    _tell(status, time_zone, as_json=as_json)


def update(  # noqa: PLR0913 - one argument for each option
    budget_id: BudgetArgument,
    name: NameOption = "",
    limit: LimitOption = "",
    max_tokens: TokensOption = 0,
    per: PerOption = "",
    scope: ScopeOption = None,
    soft: SoftOption = None,
    *,
    alert_at: AlertOption = None,
    unpriced: UnpricedOption = "",
    time_zone: ZoneOption = "",
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Change a budget: what is not given stays as it is. Refused if somebody else changes it at the same moment."""
    server = Server(target, tls, ca, cert, key)
    with server.connect(timeout) as client, reporting_errors(server):
        budget = interruptible(lambda: client.costs.get_budget(budget_id)).budget
        _change(budget, name, limit, max_tokens, per, scope, alert_at, time_zone, soft=soft, unpriced=unpriced)
        status = interruptible(lambda: client.costs.update_budget(budget))
    _tell(status, time_zone, as_json=as_json)


def delete(
    budget_id: BudgetArgument,
    *,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Delete a budget. What was spent stays in the ledger."""
    server = Server(target, tls, ca, cert, key)
    with server.connect(timeout) as client, reporting_errors(server):
        interruptible(lambda: client.costs.delete_budget(budget_id))
    Terminal(sys.stdout, sys.stderr).remark(f"budget {budget_id} is deleted")


def alerts(  # noqa: PLR0913 - one argument for each option
    after: Annotated[str, typer.Option(help="Id of the last alert that was seen: begin after it.")] = "",
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind, such as threshold; may be given again.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Only alerts of this tenant.")] = "",
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
    """Show alerts as they are raised, until Ctrl-C or the timeout."""
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    kinds = [cost_pb2.AlertKind.ValueType(named(cost_pb2.AlertKind.DESCRIPTOR, each, "--kind")) for each in kind or ()]
    request = cost_pb2.WatchBudgetAlertsRequest(after_id=after, kinds=kinds, tenant=tenant)
    with server.connect() as client, reporting_errors(server):
        stream = client.costs.alerts(request, timeout=timeout)

        def follow() -> None:
            for response in stream:
                if as_json:
                    terminal.json(response.alerts)
                    continue
                for each in response.alerts:
                    terminal.line(_alert_line(each, time_zone))

        with stream:
            interruptible(follow, stream.close)


def _alert_line(each: cost_pb2.Alert, zone: str) -> str:
    kind = word(cost_pb2.AlertKind.DESCRIPTOR, each.kind)
    return "\t".join((each.id, shown_time(each.create_time.ToDatetime(), zone), kind, each.title))


def _change(  # noqa: PLR0913 - one argument for each option
    budget: cost_pb2.Budget,
    name: str,
    limit: str,
    max_tokens: int,
    per: str,
    scope: Iterable[str] | None,
    alert_at: list[int] | None,
    time_zone: str,
    *,
    soft: bool | None,
    unpriced: str,
) -> None:
    """Put into a budget what the options say. Raises typer.BadParameter."""
    budget.display_name = name or budget.display_name
    budget.time_zone = time_zone or budget.time_zone
    budget.max_tokens = max_tokens or budget.max_tokens
    if limit:
        budget.limit.CopyFrom(common_pb2.Money(currency_code="USD", nanos=nanos_of(limit, "--limit")))
    if per:
        budget.period = cost_pb2.BudgetPeriod.ValueType(named(cost_pb2.BudgetPeriod.DESCRIPTOR, per, "--per"))
    if soft is not None:
        budget.enforcement = cost_pb2.BUDGET_ENFORCEMENT_SOFT if soft else cost_pb2.BUDGET_ENFORCEMENT_HARD
    if unpriced:
        number = named(cost_pb2.UnpricedPolicy.DESCRIPTOR, unpriced, "--unpriced")
        budget.unpriced = cost_pb2.UnpricedPolicy.ValueType(number)
    if alert_at:
        budget.alert_percents[:] = sorted(set(alert_at))
    if scope is not None:
        budget.scope.CopyFrom(_scope(scope))


def _scope(conditions: Iterable[str]) -> cost_pb2.BudgetScope:
    scope = cost_pb2.BudgetScope()
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals or not (name in _SCOPES or name.startswith("label.")):
            known = ", ".join(f"{each}=" for each in _SCOPES)
            raise typer.BadParameter(f"{condition!r}: write one of {known} or label.KEY=", param_hint="--scope")
        if name.startswith("label."):
            scope.labels[name.removeprefix("label.")] = value
        else:
            setattr(scope, _SCOPES[name], value)
    return scope


def _scope_words(scope: cost_pb2.BudgetScope) -> str:
    said = [f"{word_}={getattr(scope, field)}" for word_, field in _SCOPES.items() if getattr(scope, field)]
    said += [f"label.{key}={value}" for key, value in sorted(scope.labels.items())]
    return " ".join(said) or "all"


def _row(status: cost_pb2.BudgetStatus, zone: str) -> tuple[str, ...]:
    budget = status.budget
    enforcement = word(cost_pb2.BudgetEnforcement.DESCRIPTOR, budget.enforcement)
    return (
        budget.id,
        _scope_words(budget.scope),
        _both(budget.limit if budget.HasField("limit") else None, budget.max_tokens),
        word(cost_pb2.BudgetPeriod.DESCRIPTOR, budget.period),
        *_spending(status),
        shown_time(status.window.end_time.ToDatetime(), zone or budget.time_zone),
        f"{enforcement}, configured" if budget.configured else enforcement,
    )


def _spending(status: cost_pb2.BudgetStatus) -> tuple[str, str, str]:
    """Return what is spent, held and left, in the units that the budget limits."""
    budget = status.budget
    in_money, in_tokens = budget.HasField("limit"), bool(budget.max_tokens)
    return (
        _both(status.spent if in_money else None, status.spent_tokens, tokens=in_tokens),
        _both(status.reserved if in_money else None, status.reserved_tokens, tokens=in_tokens),
        _both(status.remaining if in_money else None, status.remaining_tokens, tokens=in_tokens),
    )


def _both(sum_: common_pb2.Money | None, count: int, *, tokens: bool | None = None) -> str:
    with_tokens = bool(count) if tokens is None else tokens
    said = [money(sum_) if sum_ is not None else "", f"{count} tokens" if with_tokens else ""]
    return ", ".join(filter(None, said))


def _tell(status: cost_pb2.BudgetStatus, zone: str, *, as_json: bool) -> None:
    terminal = Terminal(sys.stdout, sys.stderr)
    if as_json:
        terminal.json([status])
        return
    budget = status.budget
    spent, held, left = _spending(status)
    start, end = status.window.start_time.ToDatetime(), status.window.end_time.ToDatetime()
    zone = zone or budget.time_zone
    rows = [
        ("name", budget.display_name),
        ("scope", _scope_words(budget.scope)),
        ("limit", _both(budget.limit if budget.HasField("limit") else None, budget.max_tokens)),
        ("window", f"{shown_time(start, zone)} to {shown_time(end, zone)} ({budget.time_zone or 'UTC'})"),
        ("spent", spent),
        ("held", held),
        ("left", left),
        ("reached", f"{status.reached_percent} %" if status.reached_percent else ""),
        ("without a price", f"{status.unpriced} attempts" if status.unpriced else ""),
        ("enforcement", word(cost_pb2.BudgetEnforcement.DESCRIPTOR, budget.enforcement)),
        ("alerts at", ", ".join(f"{each} %" for each in budget.alert_percents)),
        ("from", "the server's configuration" if budget.configured else ""),
    ]
    terminal.table((budget.id, ""), [(name, value) for name, value in rows if value])
