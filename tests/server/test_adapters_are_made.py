"""Providers' adapters, whose SDKs take their time to import, are made before a chat waits for them, or beside it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading

import pytest
from tests.server.conftest import Serve, chat_request, events_of, failed_stream, kinds, until

from execution_platform.adapters import scripted
from execution_platform.adapters.errors import NotConfiguredError
from execution_platform.adapters.registry import Registry
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Adapter, ProviderConfig, ProviderSpec
from execution_platform.server.routing.providers import Providers

_NAMES = ("defaulted", "aliased", "persona_first", "persona_next", "for_all", "nobodys")


class Making:
    """Makes adapters, which takes until it is let go, and notes how often and where."""

    def __init__(self, *, held: bool = False, broken: bool = False) -> None:
        self.threads: list[threading.Thread] = []
        self.go = threading.Event()
        self.broken = broken
        if not held:
            self.go.set()

    def __call__(self, _: ProviderConfig) -> Adapter:
        self.threads.append(threading.current_thread())
        assert self.go.wait(60)
        if self.broken:
            raise NotConfiguredError("its files are not there")
        return ScriptedAdapter()

    def spec(self, name: str = "slow") -> ProviderSpec:
        return dataclasses.replace(scripted.PROVIDERS[0], name=name, create=self, automatic_rank=None)


async def test_who_is_named_is_made_at_the_start(serve: Serve) -> None:
    """Default, aliases, personas with their fallbacks: their adapters are there before anybody asks; no other's is."""
    making = {name: Making() for name in _NAMES}
    environ = {"EP_DEFAULT_MODEL": "defaulted", "EP_MODEL_ALIASES": '{"short": "aliased/model"}'}
    platform = {
        "defaults": {"fallback": [{"provider": "for_all"}]},
        "personas": {
            "writer": {"provider": "persona_first", "fallback": [{"provider": "persona_next", "model": "m"}]},
            "reader": {"model": "short"},
        },
    }
    async with serve(environ, [made.spec(name) for name, made in making.items()], platform):
        at_start = {name for name, made in making.items() if made.threads}
    assert at_start == set(_NAMES) - {"nobodys"}


async def test_a_provider_that_cannot_be_made_keeps_no_server_from_its_start(serve: Serve) -> None:
    """Its persona's chats are told why; all others are served."""
    making = Making(broken=True)
    platform = {"personas": {"writer": {"provider": "slow"}}, "defaults": {"retries": {"most": 0}}}
    async with serve(specs=[making.spec()], platform=platform) as served:
        assert kinds(await events_of(served.chat.Chat(chat_request())))[-1] == "finished"
        events, error = await failed_stream(served.chat.Chat(chat_request(model="", persona="writer")))
    assert "its files are not there" in str(error.details())
    assert not events or kinds(events)[-1] == "failed"


async def test_other_chats_go_on_while_an_adapter_is_made(serve: Serve) -> None:
    """A provider that nobody has named is made in a thread at its first chat, once, and holds up none but its own."""
    making = Making(held=True)
    async with serve(specs=[making.spec()]) as served:
        waiting = [asyncio.create_task(events_of(served.chat.Chat(chat_request(model="slow")))) for _ in range(3)]
        others = await events_of(served.chat.Chat(chat_request()))
        assert not any(task.done() for task in waiting)
        making.go.set()
        answers = await asyncio.gather(*waiting)
    assert kinds(others)[-1] == "finished"
    assert [kinds(events)[-1] for events in answers] == ["finished"] * 3
    [thread] = making.threads
    assert thread is not threading.main_thread()


def providers(making: Making) -> Providers:
    registry = Registry([making.spec()])
    return Providers(registry, {"slow": ProviderConfig("slow")})


async def test_who_leaves_does_not_take_the_adapter_along() -> None:
    """A chat that is cancelled while its adapter is made leaves it to those that wait as well."""
    making = Making(held=True)
    them = providers(making)
    leaving, staying = asyncio.create_task(them.ready("slow")), asyncio.create_task(them.ready("slow"))
    await until(lambda: bool(making.threads))
    leaving.cancel()
    await asyncio.wait([leaving])
    making.go.set()
    assert await staying is them.adapter("slow")
    assert len(making.threads) == 1
    assert await them.aclose() == []


async def test_what_fails_once_is_tried_again() -> None:
    """An adapter that could not be made says why to whoever waits, and is made by the next."""
    making = Making(broken=True)
    them = providers(making)
    with pytest.raises(NotConfiguredError, match="its files"):
        await them.ready("slow")
    making.broken = False
    assert await them.ready("slow") is await them.ready("slow")
    assert len(making.threads) == 2
    assert await them.aclose() == []


async def test_closing_waits_for_what_is_being_made() -> None:
    """No adapter is made behind the back of those who close them all."""
    making = Making(held=True)
    them = providers(making)
    asking = asyncio.create_task(them.ready("slow"))
    await until(lambda: bool(making.threads))
    asking.cancel()
    closing = asyncio.create_task(them.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    making.go.set()
    assert await closing == []
