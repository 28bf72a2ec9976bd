"""The configuration in force is replaced as a whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from pathlib import Path

import pytest
from tests.server.personas.reading import KNOWN

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.config.read import PlatformError
from execution_platform.server.config.source import PlatformSource, Reload

RIGHT = "a: {provider: openai}\n"
WRONG = "a: {provider: opnai}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is right."""
    path = tmp_path / "personas.yaml"
    path.write_text(RIGHT)
    return path


def put(path: Path, text: str) -> None:
    """Write a file."""
    path.write_text(text)


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def digest_of(text: str) -> str:
    """Return the digest of a file with this text."""
    return hashlib.sha256(text.encode()).hexdigest()


def source_of(*files: Path) -> PlatformSource:
    """Return a source of files, the second of personas only, whose clock counts on with each look at it."""
    clock = itertools.count(1.0)
    return PlatformSource(
        files=[(str(path), place > 0) for place, path in enumerate(files)], known=KNOWN, clock=lambda: next(clock)
    )


async def test_a_right_file_takes_the_place_of_what_was(file: Path) -> None:
    """After a reload the new configuration is in force, with its time and digest, and the old one is as it was."""
    source = source_of(file)
    before, status = source.current, source.status
    assert status is not None
    assert (status.loaded_time, status.last_reload_time) == (1.0, None)
    put(file, "a: {provider: gemini}\nb: {}\n")
    assert await source.reload() == Reload()
    assert source.current.personas["a"].provider == "gemini"
    assert before.personas["a"].provider == "openai"
    assert source.place_of("b") == f"{file}:2"
    status = source.status
    assert status is not None
    assert (status.personas, status.loaded_time, status.last_reload_time) == (2, 2.0, 3.0)
    assert status.digest == digest_of("a: {provider: gemini}\nb: {}\n")
    assert status.files == (str(file),)


async def test_a_wrong_file_changes_nothing_but_the_status(file: Path) -> None:
    """A refused file leaves what is in force, with time and digest; the status has its problems until it is mended."""
    source = source_of(file)
    before, digest = source.current, digest_of(RIGHT)
    put(file, WRONG)
    problem = f"{file}:1: a.provider: no provider 'opnai'; did you mean 'openai'?"
    assert await source.reload() == Reload(problems=(problem,))
    status = source.status
    assert status is not None
    assert source.current is before
    assert (status.digest, status.loaded_time, status.last_reload_time) == (digest, 1.0, 2.0)
    assert status.problems == (problem,)
    put(file, RIGHT)
    assert (await source.reload()) == Reload()
    status = source.status
    assert status is not None
    assert (status.problems, status.last_reload_time) == ((), 4.0)


async def test_a_file_that_is_gone_changes_nothing(file: Path) -> None:
    """Without its file the configuration stays in force, and the status says that the file cannot be read."""
    source = source_of(file)
    remove(file)
    reload = await source.reload()
    assert reload is not None
    assert reload.problems == (f"{file}: cannot be read: no such file or directory",)
    assert source.current.personas["a"].provider == "openai"


async def test_one_wrong_file_of_two_changes_nothing(file: Path, tmp_path: Path) -> None:
    """Both files are one configuration: a mistake in one keeps the other's changes out too."""
    personas = tmp_path / "map.json"
    put(personas, '{"b": {"extends": "a"}}')
    source = source_of(file, personas)
    put(file, "c: {provider: gemini}\n")
    reload = await source.reload()
    assert reload is not None
    assert reload.problems == (f"{personas}:1: b.extends: no persona 'a'; there are: b, c",)
    assert list(source.current.personas) == ["a", "b"]


async def test_files_as_they_were_are_not_read_again(file: Path) -> None:
    """Asked to look for changes only, a source does nothing with bytes that it has read, right or wrong."""
    source = source_of(file)
    before = source.current
    assert await source.reload(if_changed=True) is None
    put(file, WRONG)
    assert await source.reload(if_changed=True) is not None
    assert await source.reload(if_changed=True) is None
    assert source.current is before
    assert await source.reload() is not None


async def test_reloads_at_once_come_one_after_the_other(file: Path) -> None:
    """However many reloads are asked for together, the last bytes are in force at the end."""
    source = source_of(file)
    put(file, "last: {}\n")
    reloads = await asyncio.gather(*(source.reload() for _ in range(20)))
    assert all(reload is not None and reload.ok for reload in reloads)
    assert list(source.current.personas) == ["last"]


def test_a_wrong_file_at_the_start_is_refused(file: Path) -> None:
    """There is no configuration to stay in force: a source of a wrong file cannot be made."""
    put(file, WRONG)
    with pytest.raises(PlatformError, match="opnai"):
        source_of(file)


async def test_without_files_there_is_nothing_to_tell() -> None:
    """A configuration of no file has no status, and reading it anew changes nothing."""
    configuration = PlatformConfiguration.model_validate({"personas": {"a": {}}})
    source = PlatformSource(configuration)
    assert source.status is None
    assert source.place_of("a") == ""
    assert source.current is configuration
