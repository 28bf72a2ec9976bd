"""All tests are run although two processes share them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.side_by_side import run, shares


def test_everything_is_in_one_share(tmp_path: Path) -> None:
    """A new folder or file of tests is in one of the shares without being named, and what holds no tests in none."""
    for name in ("adapters", "e2e", "new", ".hidden", "__pycache__"):
        (tmp_path / name).mkdir()
    for name in ("test_new.py", "conftest.py"):
        (tmp_path / name).touch()
    waiting, working = shares(tmp_path)
    assert [each.name for each in waiting] == ["e2e"]
    assert [each.name for each in working] == ["adapters", "new", "test_new.py"]


def test_what_fails_in_one_process_fails_the_run(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """All that both say comes out, not mixed, and a status other than 0 of either one is the status of both."""

    def saying(word: str, status: int) -> list[str]:
        return [sys.executable, "-c", f"for _ in range(100): print('{word}', flush=True)\nraise SystemExit({status})"]

    assert run([saying("one", 0), saying("two", 0)]) == 0
    assert capfdbinary.readouterr().out == b"one\n" * 100 + b"two\n" * 100
    assert run([saying("one", 0), saying("two", 3)]) == 3
    assert run([saying("one", 4), saying("two", 0)]) == 4
