"""Follows a page: runs its blocks in order, against a server that stands for the one on port 50051."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.docs.pages import ROOT, Block
from tests.e2e.processes import environment

__all__ = ["PageFollower", "readable"]

PATIENCE = 120.0
"""Seconds after which a command counts as hanging. No test asserts how fast anything is."""

#: A client that is made without an address takes the default one, which the tests cannot have.
_WITHOUT_TARGET = re.compile(r"(ExecutionPlatformClient\()(?=\)|\w+=)")


class PageFollower:
    """Runs the blocks of one page.

    Args:
        folder: where its commands run and its files go.
        address: the server that it talks to, instead of 127.0.0.1:50051.
        spare_port: stands for port 50052, where pages start servers of their own.

    Attributes:
        left_out: programs that are not installed here, with the first block that needs them.
    """

    def __init__(self, folder: Path, address: str, spare_port: int) -> None:
        self._folder = folder
        self._address = address
        self._spare_port = spare_port
        self._printed: str | None = ""
        self._namespace: dict[str, Any] = {"__name__": "__page__"}
        self.left_out: dict[str, Block] = {}

    def follow(self, block: Block) -> None:
        """Do what a reader does with a block. Raises AssertionError if the page is wrong."""
        if block.mark == "not run":
            return
        if block.mark == "needs" and shutil.which(block.said) is None:
            self.left_out.setdefault(block.said, block)
            self._printed = None
        elif block.mark == "file":
            self._write(block)
        elif block.mark == "output":
            self._compare(block)
        elif block.language == "sh":
            self._printed = self._shell(block)
        elif block.language == "python":
            self._printed = self._python(block)
        elif block.language == "json":
            json.loads(block.code)
        elif block.language == "toml":
            tomllib.loads(block.code)
        elif block.language == "yaml":
            yaml.safe_load(block.code)

    def _write(self, block: Block) -> None:
        path = self._folder / block.said
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.code)
        if path.name == "pyproject.toml":
            self._declare(tomllib.loads(block.code)["project"], path.parent)

    def _declare(self, project: dict[str, Any], source: Path) -> None:
        """Make a package's entry points known as installing it does, without a package index."""
        installed = source / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
        lines: list[str] = []
        for group, points in project["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def _here(self, code: str) -> str:
        code = _WITHOUT_TARGET.sub(rf'\1"{self._address}", ', code)
        return code.replace("127.0.0.1:50051", self._address).replace("50052", str(self._spare_port))

    def _shell(self, block: Block) -> str:
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
        packages = os.pathsep.join(str(made.parent) for made in self._folder.glob("*/*.dist-info"))
        settings = {"PATH": path, "EP_TARGET": self._address, "PYTHONPATH": packages, "HOME": str(self._folder)}
        # Into files: what a block leaves running would hold a pipe open.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self._here(block.code)],  # noqa: S607 - where it is, differs
                cwd=self._folder,
                env=environment({"XDG_STATE_HOME": str(self._folder / "state"), **settings}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                status = process.wait(PATIENCE)
            finally:
                left = _end_session(process)
            out.seek(0)
            err.seek(0)
            printed, complaints = out.read(), err.read()
        said = f"{block}:\n{block.code}\n{printed}\n{complaints}"
        assert status == 0, f"status {status} of {said}"
        assert not left, f"something is left running by {said}"
        return printed

    def _python(self, block: Block) -> str:
        # Empty lines before it, so that a traceback tells the page's line.
        source = "\n" * (block.line - 1) + self._here(block.code)
        code = compile(source, str(block.page), "exec", dont_inherit=True)  # none of this file's future imports
        printed = io.StringIO()
        with contextlib.chdir(self._folder), contextlib.redirect_stdout(printed):
            exec(code, self._namespace)  # noqa: S102 - the page is ours
        return printed.getvalue()

    def _compare(self, block: Block) -> None:
        if self._printed is None:
            return
        parts = [re.escape(" ".join(part.split())) for part in re.split(r"\.\.\.", block.code)]
        printed = " ".join(self._printed.split())
        assert re.fullmatch(r" ?.*? ?".join(parts), printed), f"{block}: what was printed is\n{self._printed}"


def _end_session(process: subprocess.Popen[bytes]) -> bool:
    """End what is left of a block's own session; tell whether there was anything."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return True


def readable(left_out: dict[str, Block]) -> Iterator[str]:
    """Yield a line for each program that is not installed."""
    for program, block in left_out.items():
        yield f"{block.page.relative_to(ROOT)}:{block.line} needs {program}"
