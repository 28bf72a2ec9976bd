"""Chats of a server whose personas come from files."""

from __future__ import annotations

from pathlib import Path

from tests.server.conftest import Serve, chat_request, error_info, events_of, failed_stream
from tests.server.personas.reading import LAME
from tests.server.personas.test_forms import SIMPLE

from execution_platform.v1 import catalog_pb2


async def test_the_simple_map_serves_chats(serve: Serve, tmp_path: Path) -> None:
    """A persona of the map is asked of its provider and model, and the catalog tells file and line of it."""
    file = tmp_path / "map.json"
    file.write_text('{"architect": {"provider": "scripted", "model": "echo"},\n "reviewer": {"provider": "lame"}}')
    async with serve({"EP_PERSONA_PROVIDER_MAP_PATH": str(file)}, [LAME]) as served:
        events = await events_of(served.chat.Chat(chat_request(model="", persona="architect")))
        persona = await served.catalog.GetPersona(catalog_pb2.GetPersonaRequest(name="reviewer"))
    route = events[-1].finished.route
    assert (route.provider, route.model) == ("scripted", "echo")
    assert persona.persona.source == f"{file}:2"


async def test_a_provider_that_lacks_something_is_told(serve: Serve, tmp_path: Path) -> None:
    """A chat whose persona has nobody who can be asked fails with PROVIDER_NOT_CONFIGURED, which says why."""
    file = tmp_path / "map.json"
    file.write_text(SIMPLE.replace("openai", "scripted").replace("claude_agent", "lame"))
    async with serve({"EP_PERSONA_PROVIDER_MAP_PATH": str(file)}, [LAME]) as served:
        _, error = await failed_stream(served.chat.Chat(chat_request(model="", persona="reviewer")))
    assert error_info(error).reason == "PROVIDER_NOT_CONFIGURED"
    assert "install execution-platform[lame]" in (error.details() or "")


async def test_a_provider_that_lacks_something_is_passed_over(serve: Serve, tmp_path: Path) -> None:
    """With a fallback the chat is answered by it, without a failure in between."""
    file = tmp_path / "personas.yaml"
    file.write_text("reviewer: {provider: lame, fallback: [scripted]}\n")
    async with serve({"EP_CONFIG_PATH": str(file)}, [LAME]) as served:
        events = await events_of(served.chat.Chat(chat_request(model="", persona="reviewer")))
    assert events[-1].finished.route.provider == "scripted"


async def test_a_request_may_not_name_who_lacks_something_either(serve: Serve) -> None:
    """A request for such a provider is told what is missing, rather than that nobody knows the provider."""
    async with serve(specs=[LAME]) as served:
        _, error = await failed_stream(served.chat.Chat(chat_request(model="lame/claude")))
    assert error_info(error).reason == "PROVIDER_NOT_CONFIGURED"
    assert "install execution-platform[lame]" in (error.details() or "")
