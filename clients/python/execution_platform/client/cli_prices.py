"""The commands `costs prices`, `costs estimate` and `costs reprice`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
    reporting_errors,
)
from execution_platform.client.cli_cost_options import (
    SinceOption,
    UntilOption,
    WhereOption,
    ZoneOption,
    money,
    moneys,
    usage_filter,
    word,
)
from execution_platform.client.cli_interrupts import interruptible
from execution_platform.client.cli_terminal import Terminal, amount
from execution_platform.client.options import DEFAULT_TARGET
from execution_platform.client.requests import ChatFields
from execution_platform.v1 import content_pb2, cost_pb2, usage_pb2

__all__ = ["estimate", "prices", "reprice"]


def prices(  # noqa: PLR0913 - one argument for each option
    provider: Annotated[str, typer.Argument(help="Only of this provider.")] = "",
    model: Annotated[str, typer.Argument(help="Only of this model, in the provider's word.")] = "",
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """List the prices that the server knows, in US dollars for a million tokens unless it says otherwise.

    Not on a terminal: provider/model, tier of service or region, what it is for, price, for how many, and who says so,
    with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(lambda: list(client.costs.prices(provider, model)))
    if as_json:
        terminal.json(found)
        return
    head = ("model", "tier", "for", "price", "per", "source")
    terminal.table(head, (row for price in found for row in _price_rows(price)))


def _price_rows(price: cost_pb2.ModelPrice) -> Iterator[tuple[str, ...]]:
    for component in price.components:
        yield (
            f"{price.provider}/{price.model}",
            " ".join(filter(None, (price.service_tier, price.region))) or "-",
            _component(component),
            money(component.price),
            str(component.per_quantity),
            price.version,
        )


def _component(component: cost_pb2.PriceComponent) -> str:
    if component.per_request:
        return "each request"
    item = component.item
    said = [word(usage_pb2.UsageKind.DESCRIPTOR, item.kind), item.tool]
    if item.modality not in {content_pb2.MODALITY_UNSPECIFIED, content_pb2.MODALITY_TEXT}:
        said.append(word(content_pb2.Modality.DESCRIPTOR, item.modality))
    if item.HasField("cache_ttl"):
        said.append(f"for {item.cache_ttl.seconds} s")
    if component.above_prompt_tokens:
        said.append(f"above {component.above_prompt_tokens} tokens of prompt")
    return " ".join(filter(None, said))


def estimate(  # noqa: PLR0913 - one argument for each option
    message: Annotated[list[str] | None, typer.Argument(help="What would be said.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="provider/model, alias or provider.")] = "",
    persona: Annotated[str, typer.Option(help="Who asks.")] = "",
    fallback: Annotated[list[str] | None, typer.Option(help="Model to ask next; may be given again.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens to generate.")] = None,
    output_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens of the answer to reckon with.")] = None,
    *,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Tell what a chat would cost with each model that may be asked. Asks no provider.

    Not on a terminal: route, what is expected, at most, and the tokens of these answers, with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    fields: ChatFields = {"model": model, "persona": persona, "fallback_models": fallback or []}
    if max_tokens is not None:
        fields["max_output_tokens"] = max_tokens
    with server.connect(timeout) as client, reporting_errors(server):
        found = interruptible(
            lambda: client.costs.estimate(" ".join(message or []) or (), output_tokens=output_tokens, **fields)
        )
    if as_json:
        terminal.json([found])
        return
    head = ("route", "expected", "at most", "expected out", "most out")
    terminal.table(head, map(_estimate_row, found.routes))
    for each in found.routes:
        if each.missing:
            terminal.remark(f"note: {each.route.provider}/{each.route.model} cannot be asked now: {each.missing}")
    terminal.remark(f"tokens of prompt: about {found.input_tokens}")


def _estimate_row(each: cost_pb2.RouteEstimate) -> tuple[str, ...]:
    return (
        f"{each.route.provider}/{each.route.model}",
        _cost(each.expected),
        _cost(each.most),
        str(each.expected_output_tokens),
        str(each.most_output_tokens),
    )


def _cost(cost: usage_pb2.Cost) -> str:
    if cost.status == usage_pb2.COST_STATUS_UNPRICED or not cost.lines:
        return "not known"
    return f"USD {amount(sum(line.amount.nanos for line in cost.lines))}"


def reprice(  # noqa: PLR0913 - one argument for each option
    where: WhereOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    time_zone: ZoneOption = "",
    *,
    priced_too: Annotated[
        bool, typer.Option("--priced-too", help="Also where another price is known now for that time.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and write nothing.")] = False,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Price records that had no known price, with records that correct them. Nothing is corrected twice.

    Not on a terminal: names and values, with tabs between.
    """
    server = Server(target, tls, ca, cert, key)
    terminal = Terminal(sys.stdout, sys.stderr)
    request = cost_pb2.RepriceUsageRequest(
        filter=usage_filter(where, since, until, time_zone), priced_too=priced_too, dry_run=dry_run
    )
    with server.connect(timeout) as client, reporting_errors(server):
        done = interruptible(lambda: client.costs.reprice(request))
    if as_json:
        terminal.json([done])
        return
    rows = [
        ("examined", str(done.examined)),
        ("would be corrected" if dry_run else "corrected", str(done.corrected)),
        ("difference", moneys(done.difference)),
        ("still without a price", str(done.still_unpriced)),
    ]
    rows += [("no price for", name) for name in done.unpriced_models]
    terminal.table(("repriced", ""), rows)
