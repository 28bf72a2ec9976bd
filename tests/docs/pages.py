"""The pages of the documentation, as their readers follow them: blocks of code, each with what is said of it.

An HTML comment directly above a block says what the tests do with it:

``<!-- not run: REASON -->``   it stays as it is
``<!-- needs: PROGRAM -->``    it is left out where that program is not installed
``<!-- file: PATH -->``        it is the content of that file, below the folder in which the page's commands run
``<!-- output -->``            it is what the block before it has printed; ``...`` stands for anything

Any other block of ``sh`` or ``python`` is run. ``json``, ``toml`` and ``yaml`` have to be valid, ``text`` is only
shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LANGUAGES", "PAGES", "ROOT", "Block", "blocks_of", "prose_of"]

ROOT = Path(__file__).resolve().parents[2]

LANGUAGES = ("sh", "python", "json", "toml", "yaml", "text")

#: All pages but the one that is generated whole.
PAGES = [
    ROOT / "README.md",
    ROOT / "clients/python/README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "contract.md"),
]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it stands.
        line: line of its first line of code, from 1.
        language: the word after the fence.
        code: what is in it.
        mark: kind of the comment above it, such as ``not run``; empty: there is none.
        said: what the comment says.
    """

    page: Path
    line: int
    language: str
    code: str
    mark: str
    said: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        mark, _, said = (found["mark"] or "").partition(":")
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(page, line, found["language"], found["code"], mark.strip(), said.strip())


def prose_of(page: Path) -> str:
    """Return a page without its blocks."""
    return _BLOCK.sub("", page.read_text())
