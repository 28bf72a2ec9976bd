"""Whoever follows a page succeeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.following import PageFollower, readable
from tests.docs.pages import LANGUAGES, PAGES, ROOT, Block, blocks_of
from tests.e2e.processes import Server

MARKS = {"", "not run", "needs", "file", "output"}
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def name_of(page: Path) -> str:
    """Return a page's name for the report."""
    return str(page.relative_to(ROOT))


@pytest.mark.unmeasured
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks_of(page))], ids=name_of)
def test_every_command_of_a_page_works(page: Path, pages_server: Server, spare_port: int, tmp_path: Path) -> None:
    """Each block of the page, run in order, succeeds and prints what the page says it prints."""
    follower = PageFollower(tmp_path, pages_server.address(), spare_port)
    for block in blocks_of(page):
        follower.follow(block)
    if follower.left_out:
        pytest.skip("all else ran; " + "; ".join(readable(follower.left_out)))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_block_evades_the_tests(page: Path) -> None:
    """Every fence of the page belongs to a block that the tests see, in a language that they know how to treat."""
    fences = page.read_text().count("```")
    blocks = list(blocks_of(page))
    assert fences == 2 * len(blocks)
    assert [str(block) for block in blocks if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.mark], ids=str)
def test_every_mark_is_known_and_says_why(block: Block) -> None:
    """A comment above a block is one that the tests know, and a block that is not run has a reason of some words."""
    assert block.mark in MARKS
    words = block.said.split()
    assert {"not run": len(words) >= 3, "needs": len(words) == 1, "file": len(words) == 1}.get(block.mark, not words)
    if block.mark == "needs":
        assert block.language == "sh"
