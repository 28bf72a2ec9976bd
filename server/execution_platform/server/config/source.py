"""The configuration of personas and routes that is in force now, and how another one takes its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from execution_platform.server.config.known import KnownNames
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.config.read import Content, PlatformError, Reading, contents_of, read_platform

__all__ = ["PlatformSource", "PlatformStatus", "Reload"]


@dataclass(frozen=True, slots=True)
class PlatformStatus:
    """What is in force, and how it was last tried to change it. Times are seconds since the epoch.

    Attributes:
        files: that it was read from.
        loaded_time: when that was.
        digest: SHA-256 of their bytes, one after the other.
        personas: how many there are.
        last_reload_time: when it was last tried to read them anew; None: never.
        problems: what was wrong with them then.
    """

    files: tuple[str, ...]
    loaded_time: float
    digest: str
    personas: int
    last_reload_time: float | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of reading the files anew.

    Attributes:
        problems: why what was in force stays so; empty: what the files say now is in force.
        warnings: what somebody should look at.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the files are in force."""
        return not self.problems


class PlatformSource:
    """Holds the configuration in force. Whoever needs several values of it takes `current` once.

    Args:
        current: the configuration, where it comes from no file.
        files: where it comes from, each with whether it holds personas only.
        known: names that the files may use.
        clock: seconds since the epoch.

    Raises:
        PlatformError: the files are wrong; it names everything that is.
    """

    def __init__(
        self,
        current: PlatformConfiguration | None = None,
        *,
        files: Sequence[tuple[str, bool]] = (),
        known: KnownNames | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._files = tuple(files)
        self._known = known or KnownNames()
        self._clock = clock
        self._turn = asyncio.Lock()
        self._on_change: list[Callable[[], None]] = []
        self._contents = contents_of(self._files)
        self._reading = Reading(current or PlatformConfiguration())
        if self._files:
            self._reading = read_platform(self._contents, self._known)
        self._loaded = clock()
        self._last_reload: float | None = None
        self._problems: tuple[str, ...] = ()

    @property
    def current(self) -> PlatformConfiguration:
        """The configuration in force; replaced as a whole, never changed."""
        return self._reading.configuration

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should look at in the configuration in force, one line each."""
        return self._reading.warnings

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it is read from."""
        return tuple(file for file, _ in self._files)

    @property
    def status(self) -> PlatformStatus | None:
        """What is in force and how it was last tried to change it; None: it comes from no file."""
        if not self._files:
            return None
        reading = self._reading
        personas = len(reading.configuration.personas)
        return PlatformStatus(reading.files, self._loaded, reading.digest, personas, self._last_reload, self._problems)

    def place_of(self, persona: str) -> str:
        """Return file and line of a persona in force; empty: it comes from no file."""
        return self._reading.sources.get(persona, "")

    def place_of_budget(self, budget: str) -> str:
        """Return file and line of a budget in force; empty: it is of no file."""
        return self._reading.budget_sources.get(budget, "")

    def on_change(self, call: Callable[[], None]) -> None:
        """Have something called each time that another configuration is in force. It must not fail, nor wait."""
        self._on_change.append(call)

    async def reload(self, *, if_changed: bool = False) -> Reload | None:
        """Read the files anew and put what they say in force, as a whole or not at all.

        Args:
            if_changed: do nothing if the files are as they were when they were last read, right or wrong.

        Returns:
            What came of it; None: nothing was to do.
        """
        async with self._turn:
            contents = await asyncio.to_thread(contents_of, self._files)
            if if_changed and contents == self._contents:
                return None
            reload = await self._read(contents)
            self._contents = contents
            self._last_reload = self._clock()
            self._problems = reload.problems
            return reload

    async def _read(self, contents: Sequence[Content]) -> Reload:
        try:
            # In a thread: a large file takes longer than chats should wait.
            reading = await asyncio.to_thread(read_platform, contents, self._known)
        except PlatformError as error:
            return Reload(error.problems)
        self._reading = reading
        self._loaded = self._clock()
        for call in self._on_change:
            call()
        return Reload(warnings=reading.warnings)
