"""Reads the configuration anew when its files change, or when it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path

from watchfiles import Change, awatch

from execution_platform.server.config.settings import Watch
from execution_platform.server.config.source import PlatformSource
from execution_platform.server.metrics import Metrics
from execution_platform.server.telemetry import Logger

__all__ = ["Reloading", "links_of"]

#: Problems that one line of the log tells; the status has all.
_LOGGED = 20

#: Symbolic links that a path may go through.
_MOST_LINKS = 40

#: Looks at the files between two attempts to watch their folders, where that has failed.
_LOOKS = 60

Stamp = tuple[int, int, int] | None


def links_of(files: Iterable[str]) -> frozenset[Path]:
    """Return every path whose change may change what is in these files: they, and the links that lead to them.

    Kubernetes swaps a ConfigMap by one link in the middle of the way: ``personas.yaml -> ..data/personas.yaml``,
    ``..data -> ..2026_11_21``.
    """
    found: set[Path] = set()
    for file in files:
        path = Path(file).absolute()
        for _ in range(_MOST_LINKS):
            link = next((each for each in (*reversed(path.parents), path) if each.is_symlink()), None)
            if link is None:
                break
            found.add(link)
            path = link.parent / link.readlink() / path.relative_to(link)
        found.add(path)
    return frozenset(found)


def _stamp_of(file: str) -> Stamp:
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


class Reloading:
    """Keeps the configuration as its files are.

    A watched folder only says when to look: what it misses, on network file systems for example, is found by looking
    at the files' times once in a while.

    Args:
        source: what to reload.
        metrics: count reloads.
        logger: for what came of them.
        watch: how to notice that files have changed.
        interval: seconds between two looks at the files' times.
    """

    def __init__(
        self, source: PlatformSource, metrics: Metrics, logger: Logger, *, watch: Watch = "auto", interval: float = 1.0
    ) -> None:
        self._source = source
        self._metrics = metrics
        self._logger = logger
        self._how = watch
        self._interval = interval
        self._asked = asyncio.Event()
        self._stamps: list[Stamp] = []  # so that the first look finds what has changed since the files were read

    def ask(self) -> None:
        """Have the files read anew soon, also if they seem not to have changed."""
        self._asked.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._obey())
            if self._how != "off":
                tasks.create_task(self._watch())

    async def _obey(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._reload("asked")

    async def _watch(self) -> None:
        told = ""
        while True:
            if self._how == "auto":
                try:
                    await self._watch_folders()
                    continue
                except (OSError, RuntimeError) as error:
                    # Such as too many watches on this machine, or a folder that is just being replaced.
                    if str(error) != told:
                        self._logger.warning("configuration_watch_failed", error=str(error))
                    told = str(error)
            for _ in range(_LOOKS):
                await asyncio.sleep(self._interval)
                await self._look_again(told=False)

    async def _watch_folders(self) -> None:
        """Watch until the way to the files is another one. Raises OSError or RuntimeError if that cannot be done."""
        paths = links_of(self._source.files)

        def concerns(_: Change, path: str) -> bool:
            return Path(path) in paths

        changes = awatch(
            *{path.parent for path in paths},
            watch_filter=concerns,
            # Milliseconds: until nothing has happened for the first, but no longer than the second.
            step=50,
            debounce=1_000,
            rust_timeout=int(self._interval * 1_000),
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=False,  # polling can do what this cannot
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                await self._look_again(told=bool(change))
                if links_of(self._source.files) != paths:
                    return

    async def _look_again(self, *, told: bool) -> None:
        """Reload if the files may have changed: because that was told, or by their times."""
        stamps = self._look()
        if told and None in stamps:
            return  # between two renames of an editor; if it stays so, the next look tells
        if told or stamps != self._stamps:
            self._stamps = stamps
            await self._reload("changed", if_changed=True)

    def _look(self) -> list[Stamp]:
        return [_stamp_of(file) for file in self._source.files]

    async def _reload(self, cause: str, *, if_changed: bool = False) -> None:
        try:
            reload = await self._source.reload(if_changed=if_changed)
        except Exception:
            self._logger.exception("configuration_fault")
            return
        status = self._source.status
        if reload is None or status is None:
            return
        self._metrics.reload(ok=reload.ok)
        told = {"cause": cause, "files": status.files, "digest": status.digest, "personas": status.personas}
        if not reload.ok:
            problems = reload.problems
            self._logger.error("configuration_refused", **told, count=len(problems), problems=problems[:_LOGGED])
            return
        self._logger.info("configuration_reloaded", **told)
        for warning in reload.warnings[:_LOGGED]:
            self._logger.warning("configuration", message=warning)
