"""The adapter whose answers are scripted. It talks to nobody; its only waiting is the script's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from execution_platform.adapters.errors import ModelNotFoundError, StreamBrokenError
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.scripted import models
from execution_platform.adapters.scripted.play import Player, count_words
from execution_platform.adapters.scripted.script import Script, Step, read_script, script_of
from execution_platform.adapters.spi import Call, Events, TokenCount
from execution_platform.v1 import catalog_pb2, chat_pb2

__all__ = ["ScriptedAdapter"]

#: Events that are sent together at most, so that a long script stays interruptible and its messages small.
_MOST_TOGETHER = 64


class ScriptedAdapter:
    """A provider that answers what a script says; see the module `script` for the steps, `models` for the models.

    The script comes with the request, in ``provider_options``; else from those that were given here; else the
    model makes one. All that is ready at the same moment is one list of events.

    Args:
        scripts: lists of steps, one for each call in order; the last one stays for all further calls.

    Attributes:
        open_streams: streams that run now.
        calls: streams that were begun.

    Raises:
        InvalidRequestError: one of the scripts is not a script.
    """

    def __init__(self, *scripts: Sequence[Mapping[str, Any]]) -> None:
        self._scripts = [script_of({"script": list(script)}) for script in scripts]
        self.open_streams = 0
        self.calls = 0

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Play the script of one call. Raises AdapterError where the script says so or is none."""
        self.calls += 1
        self.open_streams += 1
        try:
            script, notices = self._script(call)
            player = Player(call, notices.items, _input_words(call.request))
            played = _play(script, player)
            try:
                together: Events = []
                async for events in played:
                    if call.unary:
                        together += events
                    else:
                        yield events
                if together:
                    yield together
            finally:
                await played.aclose()
        finally:
            self.open_streams -= 1

    async def count_tokens(self, call: Call) -> TokenCount:
        """Count the words of the prompt. Raises ModelNotFoundError."""
        _check_model(call.model)
        words = _input_words(call.request)
        return TokenCount(words, f'{{"words":{words}}}')

    async def list_models(self) -> list[catalog_pb2.Model]:
        """List the scripted models."""
        return [
            catalog_pb2.Model(provider="scripted", model=model.name, display_name=model.display_name)
            for model in models.MODELS
        ]

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _script(self, call: Call) -> tuple[Script, Notices]:
        _check_model(call.model)
        notices = Notices(call.request)
        script = read_script(call.request)
        if script is None and self._scripts:
            script = self._scripts[min(self.calls, len(self._scripts)) - 1]
        return script or models.answer(call.model, call.request, notices), notices


async def _play(script: Script, player: Player) -> AsyncGenerator[Events, None]:
    together: Events = []
    last: Step | None = None
    for step in script.play():
        verb = step.verb
        if verb == "finish":
            last = step
            break
        if verb in {"pause_ms", "hang", "error", "break"}:
            if verb in {"error", "break"} and player.started:
                player.tell_usage()
                together += player.take()
            if together:
                yield together
                together = []
            await _pause_or_fail(step)
            continue
        player.step(step)
        together += player.take()
        if len(together) >= _MOST_TOGETHER:
            yield together
            together = []
            await asyncio.sleep(0)
    player.finish(last)
    yield together + player.take()


async def _pause_or_fail(step: Step) -> None:
    if step.error is not None:
        raise step.error.error()
    if step.break_:
        raise StreamBrokenError("the script breaks the stream here")
    if step.hang:
        await asyncio.Event().wait()
    await asyncio.sleep((step.pause_ms or 0) / 1000)


def _check_model(model: str) -> None:
    names = [known.name for known in models.MODELS]
    if model not in names:
        raise ModelNotFoundError(f"the scripted provider has {', '.join(names)}, not {model[:64]!r}", field="model")


def _input_words(request: chat_pb2.ChatRequest) -> int:
    words = count_words(request.system) + sum(count_words(message.content) for message in request.messages)
    for tool in request.tools:
        function = tool.function
        words += len(f"{function.name} {function.description} {function.parameters_json}".split())
    return words
