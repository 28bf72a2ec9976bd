"""The Claude Agent SDK as a provider: each chat is a run of its CLI, in a process tree and a cage of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from execution_platform.adapters.claude_agent import sessions
from execution_platform.adapters.claude_agent.environment import agent_environment
from execution_platform.adapters.claude_agent.options import read_options
from execution_platform.adapters.claude_agent.prompt import last_place
from execution_platform.adapters.claude_agent.request import BuiltRun, build_run
from execution_platform.adapters.claude_agent.runs import Running, Runs
from execution_platform.adapters.claude_agent.sandbox import Cage
from execution_platform.adapters.claude_agent.settings import settings_of
from execution_platform.adapters.claude_agent.slots import Slots
from execution_platform.adapters.claude_agent.stream import FAMILY, AnswerContext, RunTranslation
from execution_platform.adapters.claude_agent.workspace import Folders, new_session
from execution_platform.adapters.errors import AdapterError, RateLimitedError
from execution_platform.adapters.spi import Call, Events, ProviderConfig

__all__ = ["ClaudeAgentAdapter"]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A run, and the cage that it runs in."""

    built: BuiltRun
    cage: Cage


class ClaudeAgentAdapter:
    """Runs the agent.

    Args:
        config: key or token, address and options of the provider.
        clock: tells the time, in seconds since 1970.

    Raises:
        NotConfiguredError: a setting is not valid.
    """

    def __init__(self, config: ProviderConfig, clock: Callable[[], float] = time.time) -> None:
        self._name = config.name
        self._clock = clock
        self._settings = settings_of(config)
        slots = Slots(self._settings.config_dir / "slots", self._settings.most_runs)
        self._runs = Runs(self._settings.most_runs, self._settings.most_waiting, slots=slots)
        self._folders = Folders(
            self._settings.config_dir, self._settings.workspaces, shared=self._settings.api_key is None
        )

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt. Raises AdapterError."""
        prepared = await asyncio.to_thread(self._prepare, call)
        translation = RunTranslation(self._context(call, prepared.built))
        begun = self._runs.begin(prepared.built.run, prepared.cage, timeout=call.timeout, on_waiting=call.on_waiting)
        async with begun as running, contextlib.aclosing(_translated(running, translation, call.on_startup)) as batches:
            gathered: Events = []
            try:
                async for events in batches:
                    if not call.unary:
                        yield events
                    gathered += events if call.unary else ()
            except AdapterError as error:
                if gathered:
                    yield gathered
                raise self._with_wait(error, translation) from error.__cause__
            if gathered:
                yield gathered

    async def aclose(self) -> None:
        """End all runs. Bounded, idempotent."""
        await self._runs.aclose()

    def _prepare(self, call: Call) -> _Prepared:
        """Find the folders and the session of a run, and build it. Reads the disk."""
        options = read_options(call.request, {self._name, FAMILY})
        named = options.get("workspace", "")
        workspace = self._folders.workspace(named, options.paths["workspace"]) if named else None
        told = last_place(call.request, FAMILY)
        session_id = new_session(told[0].session_id if told else "")
        config_dir = self._folders.config(workspace, session_id)
        lost = told is not None and not sessions.exists(config_dir, told[0])
        built = build_run(
            call,
            options,
            session_id,
            resumed=None if lost else told,
            lost=lost,
            max_turns=self._settings.max_turns,
        )
        return _Prepared(built, self._cage(workspace, config_dir, built))

    def _cage(self, workspace: Path | None, config_dir: Path, built: BuiltRun) -> Cage:
        settings = self._settings
        environment = agent_environment(settings.api_key, settings.base_url, built.environment)
        return Cage(workspace, config_dir, settings.read_only, environment, login=settings.api_key is None)

    def _context(self, call: Call, built: BuiltRun) -> AnswerContext:
        return AnswerContext(
            provider=self._name,
            model=call.model,
            request_id=call.request_id,
            notices=built.notices,
            provider_events=call.request.stream_options.provider_events,
            resumed=built.resumed,
            structured=built.structured,
        )

    def _with_wait(self, error: AdapterError, translation: RunTranslation) -> AdapterError:
        """Tell how long a limit lasts, from when its window ends."""
        if isinstance(error, RateLimitedError) and error.retry_after is None:
            ends = [limit.reset_time.seconds for limit in translation.rate_limits if limit.status == "rejected"]
            if ends:
                error.retry_after = max(0.0, max(ends) - self._clock())
        return error


async def _translated(
    running: Running, translation: RunTranslation, on_startup: Callable[[float], None]
) -> AsyncGenerator[Events, None]:
    """Yield what a run says; before an error what was said before it."""
    told = False
    try:
        async with contextlib.aclosing(running.output()) as pieces:
            async for piece in pieces:
                if not told and running.startup_seconds is not None:
                    told = True
                    on_startup(running.startup_seconds)
                events = translation.feed(piece)
                if events:
                    yield events
        events = translation.end()
        if events:
            yield events
    except AdapterError as error:
        if error.events:
            yield error.events
        raise
