"""How answers, tables and remarks look: colours only on a terminal, and no control characters of a model ever."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TextIO

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from execution_platform.client.enums import short_name
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["Terminal", "amount", "usage_line"]

# A model's words must not move the cursor, retitle the window or write the clipboard.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Terminal:
    """Writes what was asked for to `out`, and remarks about it to `err`.

    Args:
        out: standard output.
        err: standard error.
        environment: where NO_COLOR and TERM are looked up; default: the process's.
    """

    def __init__(self, out: TextIO, err: TextIO, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._out = _console(out, environment)
        self._err = _console(err, environment)
        self._open: list[Console] = []  # whose last line is not ended
        self._held: list[str] | None = None  # pieces of an answer that may yet become void

    @property
    def is_terminal(self) -> bool:
        """Whether somebody reads along: both outputs are terminals."""
        return self._out.file.isatty() and self._err.file.isatty()

    def hold(self) -> None:
        """Keep the pieces of an answer until :meth:`release`, unless somebody reads along: files take nothing back."""
        if not self._out.file.isatty():
            self._held = []

    def take_back(self) -> None:
        """Say that the pieces of the answer so far are void."""
        self.end_line()
        if self._held is not None:
            self._held.clear()

    def release(self) -> None:
        """Write the pieces that were kept."""
        held, self._held = self._held or [], None
        self.write("".join(held))

    def write(self, text: str) -> None:
        """Write a piece of an answer."""
        if self._held is None:
            self._piece(self._out, text, "")
        elif text:
            self._held.append(text)

    def aside(self, text: str) -> None:
        """Write a piece of what goes along with an answer, dimmed: reasoning, tool calls."""
        self._piece(self._err, text, "dim")

    def end_line(self) -> None:
        """End the lines that pieces left open."""
        self._end(*self._open)
        if self._held and not self._held[-1].endswith("\n"):
            self._held.append("\n")

    def line(self, text: str) -> None:
        """Write a line as it is."""
        self._out.file.write(f"{text}\n")
        self._out.file.flush()

    def json(self, messages: Iterable[Message]) -> None:
        """Write messages as JSON, one a line."""
        for message in messages:
            self.line(MessageToJson(message, indent=None))

    def remark(self, text: str, style: str = "dim") -> None:
        """Write a line about the answer."""
        self._end(self._err, *(self._open if self.is_terminal else ()))
        self._print(self._err, f"{text}\n", style)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write rows: as a table on a terminal, otherwise as lines with tabs between, without a head."""
        if not self._out.file.isatty():
            for row in rows:
                self.line("\t".join(row))
            return
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", cell), overflow="fold") for cell in row))
        self._out.print(table)

    def _piece(self, console: Console, text: str, style: str) -> None:
        if not text:
            return
        if self.is_terminal:  # where both outputs share one screen
            self._end(*(each for each in self._open if each is not console))
        self._print(console, text, style)
        if text.endswith("\n"):
            self._open = [each for each in self._open if each is not console]
        elif console not in self._open:
            self._open.append(console)

    def _end(self, *consoles: Console) -> None:
        for console in [each for each in self._open if each in consoles]:
            self._open.remove(console)
            console.file.write("\n")
            console.file.flush()

    def _print(self, console: Console, text: str, style: str) -> None:
        if not console.file.isatty():
            console.file.write(text)
        else:
            shown = Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), style=style)
            console.print(shown, end="", soft_wrap=True)
        console.file.flush()


def usage_line(finished: chat_pb2.Finished) -> str:
    """Return who answered, what was used, what it costs, how long it took and why it ended, in one line."""
    route = finished.route
    parts = [f"{route.provider}/{route.served_model or route.model}" if route.provider else ""]
    parts += _quantities(finished.usage)
    parts.append(_costs(finished.cost))
    if finished.timing.HasField("total"):
        parts.append(_times(finished.timing))
    reason = short_name(chat_pb2.FinishReason.DESCRIPTOR, finished.reason).lower()
    parts.append(reason.replace("_", " "))
    return " · ".join(filter(None, parts))


def _times(timing: chat_pb2.Timing) -> str:
    """Return how long it took, and how much of that was the start of a process of the provider's own."""
    total = f"{timing.total.ToTimedelta().total_seconds():.1f} s"
    startup = timing.startup.ToTimedelta().total_seconds()
    return f"{total} ({startup:.1f} s to start)" if timing.HasField("startup") else total


def amount(nanos: int) -> str:
    """Return an amount of money in units of its currency, exactly."""
    return f"{Decimal(nanos).scaleb(-9).normalize():f}"


def _quantities(usage: usage_pb2.Usage) -> list[str]:
    def tokens(*kinds: usage_pb2.UsageKind.ValueType) -> int:
        token = usage_pb2.USAGE_UNIT_TOKEN
        return sum(item.quantity for item in usage.items if item.kind in kinds and item.unit == token)

    cached, thought = tokens(usage_pb2.USAGE_KIND_CACHE_READ), tokens(usage_pb2.USAGE_KIND_REASONING)
    asked = cached + tokens(
        usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_CACHE_WRITE, usage_pb2.USAGE_KIND_TOOL_INPUT
    )
    answered = thought + tokens(usage_pb2.USAGE_KIND_OUTPUT, usage_pb2.USAGE_KIND_PREDICTION_ACCEPTED)
    said = [
        f"{asked} in" + (f" ({cached} cached)" if cached else ""),
        f"{answered} out" + (f" ({thought} reasoning)" if thought else ""),
    ]
    calls = [item for item in usage.items if item.kind == usage_pb2.USAGE_KIND_SERVER_TOOL_CALL]
    return (said if usage.items else []) + [f"{item.quantity} {item.tool or 'tool calls'}" for item in calls]


#: How well a sum is known. Of a chat without a price some parts may have one.
_ABOUT = {usage_pb2.COST_STATUS_ESTIMATED: "about ", usage_pb2.COST_STATUS_UNPRICED: "at least "}


def _costs(cost: usage_pb2.Cost) -> str:
    if not cost.lines:
        return "cost not known"
    sums: dict[str, int] = {}
    for line in cost.lines:
        sums[line.amount.currency_code] = sums.get(line.amount.currency_code, 0) + line.amount.nanos
    about = _ABOUT.get(cost.status, "")
    return about + " + ".join(f"{currency} {amount(nanos)}" for currency, nanos in sums.items())


def _console(file: TextIO, environment: Mapping[str, str]) -> Console:
    plain = not file.isatty() or bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
    return Console(file=file, color_system=None if plain else "auto", highlight=False, markup=False, emoji=False)
