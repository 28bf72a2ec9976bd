"""The tests of the pages notice what is wrong in a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.following import PageFollower
from tests.docs.pages import Block
from tests.e2e.processes import eventually


def follow(folder: Path, *blocks: tuple[str, str, str]) -> PageFollower:
    """Follow a page of blocks, each given by its language, mark and code."""
    follower = PageFollower(folder, "127.0.0.1:1", 2)
    for language, mark, code in blocks:
        kind, _, said = mark.partition(": ")
        follower.follow(Block(Path(__file__), 1, language, code, kind, said))
    return follower


def test_a_failing_command_fails_the_page(tmp_path: Path) -> None:
    """A command that ends with another status than 0 is told with its output, also in the middle of a block."""
    with pytest.raises(AssertionError, match=r"status 3 of(.|\n)*heard"):
        follow(tmp_path, ("sh", "", "echo heard\n(exit 3)\necho on\n"))


def test_failing_python_fails_the_page(tmp_path: Path) -> None:
    """What a Python block raises comes out, and later blocks see the names of earlier ones."""
    with pytest.raises(ZeroDivisionError):
        follow(tmp_path, ("python", "", "zero = 0\n"), ("python", "", "1 / zero\n"))


def test_other_output_fails_the_page(tmp_path: Path) -> None:
    """Output that differs from the page's is refused, whatever its line breaks; dots stand for anything."""
    said = ("python", "", "print('one', 2, 'three')\n")
    follow(tmp_path, said, ("text", "output", "one\n... three\n"))
    with pytest.raises(AssertionError, match="what was printed is"):
        follow(tmp_path, said, ("text", "output", "one ... four\n"))


def test_what_is_left_running_fails_the_page(tmp_path: Path) -> None:
    """A block that leaves a process behind is refused, and the process is ended."""
    with pytest.raises(AssertionError, match="left running"):
        follow(tmp_path, ("sh", "", "sleep 600 & echo $! > pid\n"))
    left = Path("/proc", (tmp_path / "pid").read_text().strip(), "cmdline")
    eventually(
        lambda: not left.exists() or not left.read_bytes(), "the process to end"
    )  # what has ended has no arguments


def test_addresses_are_those_of_the_tests(tmp_path: Path) -> None:
    """Port 50051 in a block stands for the tests' server, also where the client's default would be taken."""
    code = "class ExecutionPlatformClient:\n    def __init__(self, target): print(target)\nExecutionPlatformClient()\n"
    follow(tmp_path, ("python", "", code), ("text", "output", "127.0.0.1:1\n"))
    follow(
        tmp_path, ("sh", "", "echo 127.0.0.1:50051 :50052 $EP_TARGET"), ("text", "output", "127.0.0.1:1 :2 127.0.0.1:1")
    )


def test_a_missing_program_leaves_its_block_out(tmp_path: Path) -> None:
    """A block that needs a program which is not installed is told as left out, and its output is not compared."""
    follower = follow(tmp_path, ("sh", "needs: no-such-program", "no-such-program\n"), ("text", "output", "never\n"))
    assert list(follower.left_out) == ["no-such-program"]
