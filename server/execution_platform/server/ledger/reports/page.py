"""A report as one HTML page: opens without a network, runs no script, and loads nothing.

Everything that comes from outside goes through Markup.format, which escapes it. The page's own policy lets it apply its
own style, known by its digest, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

from markupsafe import Markup, escape

from execution_platform.server.ledger.reports.charts import chart, share_bar
from execution_platform.server.ledger.reports.document import Cell, Chart, Document, Facts, Note, Table

__all__ = ["as_html"]

_STYLE: Final = Markup("""
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6472; --paper: #fff; --line: #d9dde4; --bar: #2f6fb5;
  --ahead: #9dc1e8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #a2abba; --paper: #14181f; --line: #353c48;
  --bar: #6aa7e8; --ahead: #35597f; } }
@media print { :root { --ink: #000; --soft: #333; --paper: #fff; --line: #bbb; --bar: #2f6fb5; --ahead: #9dc1e8; }
  section, figure { break-inside: avoid; } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.about, figcaption, .empty { color: var(--soft); } .about { margin: 0; }
dl { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: .5rem 0; } dt { color: var(--soft); }
dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.total td { font-weight: 600; border-top: 2px solid var(--line); } .rest td { color: var(--soft); }
figure { margin: .5rem 0; } svg { width: 100%; height: auto; } .share { width: 6rem; height: .5rem; }
.bar { fill: var(--bar); } .forecast { fill: var(--ahead); } .rail { fill: var(--line); }
.grid { stroke: var(--line); } .interval { stroke: var(--ink); stroke-width: 2; }
text { fill: var(--soft); font-size: 11px; } .scale { text-anchor: end; } .label { text-anchor: middle; }
""")

_HEAD: Final = Markup("<th>{}</th>")
_NUMBER_HEAD: Final = Markup('<th class="number">{}</th>')
_TEXT: Final = Markup("<td>{}</td>")
_NUMBER: Final = Markup('<td class="number">{}</td>')

_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'"
)

_PAGE: Final = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{about}
{sections}
</body>
</html>
""")


def as_html(document: Document) -> bytes:
    """Set a report."""
    about = Markup("\n").join(Markup('<p class="about">{}</p>').format(line) for line in document.about)
    sections = Markup("\n").join(
        Markup("<section>\n<h2>{}</h2>\n{}\n</section>").format(
            section.heading, Markup("\n").join(_part(part) for part in section.parts)
        )
        for section in document.sections
    )
    page = _PAGE.format(policy=_POLICY, title=document.title, style=_STYLE, about=about, sections=sections)
    # What a protobuf string may hold and a page may not.
    return page.replace("\0", "\ufffd").encode()


def _part(part: Table | Chart | Facts | Note) -> Markup:
    if isinstance(part, Note):
        return Markup("<p>{}</p>").format(part.text)
    if isinstance(part, Facts):
        pairs = (Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(what, amount) for what, amount in part.pairs)
        return Markup("<dl>{}</dl>").format(Markup("").join(pairs))
    if isinstance(part, Chart):
        return chart(part) if part.bars else Markup("")
    return _table(part)


def _table(table: Table) -> Markup:
    if not table.lines:
        return Markup('<p class="empty">{}</p>').format(table.empty)
    right = [cell.number for cell in table.lines[0].cells[: table.shown]]
    heads = (
        (_NUMBER_HEAD if number else _HEAD).format(head)
        for head, number in zip(table.columns[: table.shown], right, strict=True)
    )
    lines = Markup("\n").join(_lines(table))
    return Markup(
        '<div class="wide"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table></div>'
    ).format(Markup("").join(heads), lines)


def _lines(table: Table) -> Iterator[Markup]:
    for line in table.lines:
        yield Markup('<tr class="{}">{}</tr>').format(
            line.weight.name.lower(), Markup("").join(_cell(cell) for cell in line.cells[: table.shown])
        )


def _cell(cell: Cell) -> Markup:
    # A name may be written from right to left, and must not turn round what stands beside it.
    text = Markup("<bdi>{}</bdi>").format(cell.text) if cell.name else escape(cell.text)
    if cell.share is not None:
        text = Markup("{} {}").format(share_bar(cell.share), text)
    return (_NUMBER if cell.number else _TEXT).format(text)
