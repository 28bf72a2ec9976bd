"""A server follows its files of personas and routes, however they are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import Serve, until
from tests.server.personas.reading import KNOWN
from tests.server.test_metrics import METERED, scrape, value

from execution_platform.server.config.reloading import Reloading, links_of
from execution_platform.server.config.settings import Watch
from execution_platform.server.config.source import PlatformSource
from execution_platform.server.metrics import Metrics
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import catalog_pb2


class Followed:
    """A source whose files are followed, with the log of it."""

    def __init__(self, *files: Path, watch: Watch = "auto", interval: float = 0.1) -> None:
        self.source = PlatformSource(files=[(str(path), False) for path in files], known=KNOWN)
        self._log = io.StringIO()
        self.reloading = Reloading(
            self.source, Metrics(), make_logger("info", "json", self._log), watch=watch, interval=interval
        )

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return the logged lines of an event."""
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def has(self, persona: str) -> bool:
        """Return whether a persona is in force."""
        return persona in self.source.current.personas

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Followed]:
        """Follow the files while the context is entered."""
        task = asyncio.create_task(self.reloading.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


def personas(name: str) -> str:
    """Return a file with one persona."""
    return f"{name}: {{provider: openai}}\n"


def config_map(folder: Path, name: str, text: str) -> None:
    """Put a file into a folder as Kubernetes does, and swap the whole at once where there is one already."""
    version = folder / f"..{name}"
    version.mkdir(parents=True)
    (version / "personas.yaml").write_text(text)
    fresh = folder / "..data_tmp"
    fresh.symlink_to(version.name)
    fresh.rename(folder / "..data")
    link = folder / "personas.yaml"
    if not link.is_symlink():
        link.symlink_to("..data/personas.yaml")


def written_anew(path: Path, text: str) -> None:
    """Write a file in its place."""
    path.write_text(text)


def renamed(path: Path, text: str) -> None:
    """Write another file and rename it, as most tools do."""
    fresh = path.with_name("personas.new")
    fresh.write_text(text)
    fresh.rename(path)


def backed_up(path: Path, text: str) -> None:
    """Rename the file, and write another one of its name, as some editors do."""
    path.rename(path.with_name("personas.yaml~"))
    path.write_text(text)


async def noticed(followed: Followed, write: Callable[[str], None]) -> None:
    """Write until it is noticed: what happens before the watch has begun is nobody's to tell."""
    for number in itertools.count():
        write(f"start{number}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await until(partial(followed.has, f"start{number}"))
                return


@pytest.mark.parametrize("write", [written_anew, renamed, backed_up])
async def test_a_file_is_followed_however_it_is_written(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    """Changes are noticed by the folder's notices alone, again and again, whichever way an editor writes."""
    file = tmp_path / "personas.yaml"
    file.write_text(personas("old"))
    # The interval is an hour: only what the system tells of the folder can bring a change in.
    async with Followed(file, interval=3_600).running() as followed:
        await noticed(followed, lambda name: write(file, personas(name)))
        for name in ("first", "second", "third"):
            write(file, personas(name))
            await until(partial(followed.has, name))
    assert followed.records("configuration_refused") == []


async def test_a_config_map_is_followed(tmp_path: Path) -> None:
    """Kubernetes swaps a link between the name and the file, again and again: each version comes into force."""
    folder = tmp_path / "mounted"
    config_map(folder, "v0", personas("v0"))
    async with Followed(folder / "personas.yaml").running() as followed:
        for number in range(1, 5):
            config_map(folder, f"v{number}", personas(f"v{number}"))
            await until(partial(followed.has, f"v{number}"))
    assert followed.records("configuration_refused") == []


async def test_a_folder_behind_a_link_is_followed(tmp_path: Path) -> None:
    """Where a folder on the way is a link that is led elsewhere, what is there comes into force."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "personas.yaml").write_text(personas(name))
    current = tmp_path / "current"
    current.symlink_to("old")
    async with Followed(current / "personas.yaml").running() as followed:
        fresh = tmp_path / "fresh"
        fresh.symlink_to("new")
        fresh.rename(current)
        await until(partial(followed.has, "new"))


def test_every_link_on_the_way_counts(tmp_path: Path) -> None:
    """What may change a file is it and each link that leads to it, also one that leads in a circle."""
    config_map(tmp_path, "v0", personas("a"))
    (tmp_path / "round").symlink_to("round")
    assert links_of([str(tmp_path / "personas.yaml")]) == {
        tmp_path / "personas.yaml",
        tmp_path / "..data",
        tmp_path / "..v0" / "personas.yaml",
    }
    assert tmp_path / "round" in links_of([str(tmp_path / "round")])


async def test_files_can_be_polled(tmp_path: Path) -> None:
    """Without the system's notices the files' times tell of changes, and of files that are gone and come back."""
    file = tmp_path / "personas.yaml"
    file.write_text(personas("old"))
    async with Followed(file, watch="poll").running() as followed:
        renamed(file, personas("new"))
        await until(partial(followed.has, "new"))
        file.unlink()
        await until(lambda: len(followed.records("configuration_refused")) == 1)
        assert followed.has("new")
        file.write_text(personas("back"))
        await until(partial(followed.has, "back"))
    [refused] = followed.records("configuration_refused")
    assert refused["problems"] == [f"{file}: cannot be read: no such file or directory"]


async def test_files_are_read_when_asked(tmp_path: Path) -> None:
    """With the watch off nothing is read until somebody asks; then it is, also where nothing has changed."""
    file = tmp_path / "personas.yaml"
    file.write_text(personas("old"))
    async with Followed(file, watch="off").running() as followed:
        file.write_text(personas("new"))
        followed.reloading.ask()
        await until(lambda: len(followed.records("configuration_reloaded")) == 1)
        assert followed.has("new")
        followed.reloading.ask()
        await until(lambda: len(followed.records("configuration_reloaded")) == 2)
    assert {record["cause"] for record in followed.records("configuration_reloaded")} == {"asked"}


async def test_what_came_of_it_is_logged(tmp_path: Path) -> None:
    """A refused file is an error with its problems and what stays in force, a taken one tells its warnings."""
    file = tmp_path / "personas.yaml"
    file.write_text(personas("old"))
    async with Followed(file, watch="off").running() as followed:
        before = followed.source.status
        file.write_text("".join(f"p{number}: {{provider: opnai}}\n" for number in range(30)))
        followed.reloading.ask()
        await until(lambda: bool(followed.records("configuration_refused")))
        file.write_text("new: {provider: lame}\n")
        followed.reloading.ask()
        await until(lambda: bool(followed.records("configuration")))
    [refused] = followed.records("configuration_refused")
    assert before is not None
    assert (refused["level"], refused["count"], len(refused["problems"])) == ("error", 30, 20)
    assert refused["problems"][0] == f"{file}:1: p0.provider: no provider 'opnai'; did you mean 'openai'?"
    assert (refused["digest"], refused["personas"]) == (before.digest, 1)
    [warning] = followed.records("configuration")
    assert warning["message"].startswith(f"{file}:1: new.provider: lame cannot be asked and is passed over: install")


async def test_a_folder_that_cannot_be_watched_is_polled(tmp_path: Path) -> None:
    """A folder that is gone is told once, and its file is found again when it is back."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "personas.yaml"
    file.write_text(personas("old"))
    followed = Followed(file)
    file.unlink()
    folder.rmdir()
    async with followed.running():
        await until(lambda: bool(followed.records("configuration_refused")))
        folder.mkdir()
        file.write_text(personas("back"))
        await until(partial(followed.has, "back"))
    [failed] = followed.records("configuration_watch_failed")
    assert failed["level"] == "warning"


async def test_a_server_tells_what_is_in_force(serve: Serve, tmp_path: Path) -> None:
    """GetServerInfo and the metrics tell of good and refused reloads, and the server goes on with what it had."""
    file = tmp_path / "personas.yaml"
    file.write_text("personas:\n  a: {provider: scripted}\n")
    environ = {**METERED, "EP_CONFIG_PATH": str(file), "EP_CONFIG_WATCH": "poll"}
    async with serve(environ) as served:

        async def status() -> catalog_pb2.ConfigurationStatus:
            return (await served.catalog.GetServerInfo(catalog_pb2.GetServerInfoRequest())).configuration

        first = await status()
        assert (list(first.files), first.personas, list(first.problems)) == ([str(file)], 1, [])
        assert not first.HasField("last_reload_time")
        renamed(file, "personas:\n  a: {provider: scripted}\n  b: {}\n")
        await until(lambda: len(served.log_lines("configuration_reloaded")) == 1)
        second = await status()
        assert (second.personas, second.digest != first.digest) == (2, True)
        assert second.HasField("last_reload_time")
        renamed(file, "personas:\n  a: {provider: scriptd}\n")
        await until(lambda: len(served.log_lines("configuration_refused")) == 1)
        third = await status()
        problem = f"{file}:2: personas.a.provider: no provider 'scriptd'; did you mean 'scripted'?"
        assert (third.personas, third.digest, list(third.problems)) == (2, second.digest, [problem])
        samples = await scrape(served.app.metrics_endpoint)
        assert value(samples, "ep_configuration_reloads_total", result="ok") == 1
        assert value(samples, "ep_configuration_reloads_total", result="refused") == 1


async def test_without_files_there_is_no_status(serve: Serve) -> None:
    """A server that was given no file tells of no configuration, and watches nothing."""
    async with serve() as served:
        info = await served.catalog.GetServerInfo(catalog_pb2.GetServerInfoRequest())
        assert not info.HasField("configuration")
