"""The tables of the providers' pages that say what maps where.

A table's first head says what it is about:

``asked with``   fields of a chat, what they become on the wire (paths in the body), notices where they do not
``ended with``   the provider's words for the end of an answer, and the contract's reasons
``used``         places in the provider's usage, and the kinds of usage items whose quantity they change
``failed with``  statuses and codes of errors (words of the message in quotes), and the contract's reasons

Code that is JSON, such as ``"auto"`` or ``{"type": "text"}``, is shown only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.docs.asked import SAMPLES, request_of
from tests.docs.askers import Asker

__all__ = ["codes_in", "covering", "disagreements", "rows_of", "unheard"]

_NOTICE = re.compile(r"\b(?:PARAM|STATE|BLOCK)_[A-Z]+\b")
_PATH = re.compile(r"[A-Za-z_]\w*(?:\[\])?(?:\.[A-Za-z_]\w*(?:\[\])?)*")


def rows_of(page: Path, head: str) -> list[list[str]]:
    """Return the rows of a page's tables whose first head is this."""
    rows: list[list[str]] = []
    inside = False
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == head:
            inside = True
        elif inside and set(cells[0]) != {"-"}:
            rows.append(cells)
    return rows


def codes_in(cell: str) -> list[str]:
    """Return what is marked as code."""
    return re.findall(r"`([^`]+)`", cell)


def covering(rows: Iterable[list[str]], field: str) -> int | None:
    """Return which row is about a field: the one that names it, or the nearest of what it is part of."""
    named = {path: number for number, row in enumerate(rows) for path in codes_in(row[0])}
    parts = field.split(".")
    return next(
        (named[path] for path in (".".join(parts[:end]) for end in range(len(parts), 0, -1)) if path in named), None
    )


def disagreements(rows: list[list[str]], askers: list[Asker]) -> Iterator[str]:
    """Yield what the rows say and requests do not, or the other way round."""
    told: list[tuple[set[str], set[str]]] = [(set(), set()) for _ in rows]
    for field in SAMPLES:
        number = covering(rows, field)
        if number is not None:
            for asker in askers:
                _observe(field, asker, *told[number])
    for (places, notices), row in zip(told, rows, strict=True):
        said = set(_NOTICE.findall(" ".join(row[1:])))
        if said != notices:
            yield f"{row[0]}: the page says {sorted(said) or 'no notice'}, there is {sorted(notices) or 'none'}"
        for path in codes_in(row[1]):
            if _PATH.fullmatch(path) and not any(_lies_in(path, place) for place in places):
                yield f"{row[0]}: nothing is sent in {path}, only in {sorted(places)}"


def unheard(askers: list[Asker]) -> Iterator[str]:
    """Yield the fields that change nothing, whoever is asked: neither what is sent nor the notices."""
    for field in SAMPLES:
        places: set[str] = set()
        notices: set[str] = set()
        for asker in askers:
            _observe(field, asker, places, notices)
        if SAMPLES[field] and not places and not notices:
            yield field


def _observe(field: str, asker: Asker, places: set[str], notices: set[str]) -> None:
    """Add where a field shows in the body, and what notices it gets or spares."""
    for without, having in SAMPLES[field]:
        before = asker.ask(request_of(without, asker.family))
        after = asker.ask(request_of(having, asker.family))
        if before is not None and after is not None:
            places.update(place for place, _ in Counter(_leaves(after.body)) - Counter(_leaves(before.body)))
            notices.update(code for code, _ in after.notices ^ before.notices)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    else:
        yield path, repr(value)


def _lies_in(path: str, place: str) -> bool:
    """Tell whether a path is that place, a part of it, or what it lies in."""
    return f".{path.replace('[]', '')}." in f".{place.replace('[]', '')}."
