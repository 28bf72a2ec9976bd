"""The adapter of the small model in this process: an engine, spoken to like any server of OpenAI's format."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx2
from pydantic import SecretStr

from execution_platform.adapters.errors import ModelNotFoundError, ProtocolError
from execution_platform.adapters.local.engine import Engine, Running
from execution_platform.adapters.local.settings import DEFAULT_MODEL, MODELS, settings_of
from execution_platform.adapters.openai_api.adapter import OpenAIAdapter
from execution_platform.adapters.openai_api.chat.request import build_chat
from execution_platform.adapters.openai_api.dialect import COMPATIBLE_PLACES, Dialect
from execution_platform.adapters.openai_api.errors import error_of_answer
from execution_platform.adapters.spi import Call, Events, ProviderConfig, TokenCount
from execution_platform.adapters.transport import http_client, transport_errors
from execution_platform.adapters.wire import decode_json
from execution_platform.v1 import catalog_pb2, chat_pb2

__all__ = ["DIALECT", "LocalAdapter"]

#: What llama.cpp's server makes of the format. Source: its tools/server/README.md, tried at the pinned version.
DIALECT = Dialect(
    provider="local",
    family="local",
    # After a streamed answer the server closes the connection without saying so; the next request would meet that.
    headers={"Connection": "close"},
    places={field: place for field, place in COMPATIBLE_PLACES.items() if field != "context.end_user_id"}
    | {"sampling.top_k": "top_k"},
    unsupported=frozenset({"reasoning.effort"}),
    media=frozenset(),
    named_roles=False,
    # The form that names a tool is taken as "auto".
    named_choice=False,
    cache_on={"cache_prompt": True},
    cache_off={"cache_prompt": False},
)


class LocalAdapter:
    """Runs the model on the first call that needs it, and stops it when it is closed.

    While the model is loaded, once, the process stands still for some tenths of a second: xllamacpp holds Python's
    lock meanwhile. After that nothing here keeps the event loop.

    Args:
        config: the provider's options and timeouts; it needs neither key nor address.
    """

    def __init__(self, config: ProviderConfig) -> None:
        self._config = config
        self._engine: Engine | None = None
        self._speaker: OpenAIAdapter | None = None
        self._http: httpx2.AsyncClient | None = None

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt. Raises AdapterError."""
        call = self._checked(call)
        speaker = self._spoken_to(await self._running())
        async with aclosing(speaker.stream(call)) as stream:
            async for events in stream:
                yield events

    async def count_tokens(self, call: Call) -> TokenCount:
        """Count the input tokens by the model's own tokenizer and template. Raises AdapterError."""
        wire = build_chat(dataclasses.replace(self._checked(call), unary=True), DIALECT)
        running = await self._running()
        self._http = self._http or http_client(self._config.timeouts, running.base_url)
        with transport_errors():
            response = await self._http.post(
                f"{running.base_url}/v1/chat/completions/input_tokens",
                content=wire.body,
                headers={"authorization": f"Bearer {running.key}", **DIALECT.headers},
            )
        if response.is_error:
            raise error_of_answer(response.status_code, response.content, response.headers)
        answer = decode_json(response.content)
        count = answer.get("input_tokens") if isinstance(answer, dict) else None
        if not isinstance(count, int):
            raise ProtocolError("the local model's count of tokens has no number")
        return TokenCount(count, response.text, wire.notices)

    async def list_models(self) -> list[catalog_pb2.Model]:
        """List the model that is run here; it need not be loaded for that. Raises NotConfiguredError."""
        settings = settings_of(self._config)
        shown = next((model.display_name for model in MODELS if model.name == settings.model_name), "")
        return [
            catalog_pb2.Model(
                provider="local",
                model=settings.model_name,
                display_name=shown,
                context_window=settings.context,
            )
        ]

    async def aclose(self) -> None:
        """Stop the model and close connections. Idempotent."""
        if self._speaker is not None:
            await self._speaker.aclose()
        if self._http is not None:
            await self._http.aclose()
        if self._engine is not None:
            await self._engine.aclose()

    def _checked(self, call: Call) -> Call:
        """Return the call as this model can take it. Raises ModelNotFoundError."""
        served = settings_of(self._config).model_name
        if call.model not in {served, DEFAULT_MODEL}:
            raise ModelNotFoundError(f"the local model is {served}, not {call.model[:64]!r}", field="model")
        if call.request.tool_choice.mode != chat_pb2.TOOL_CHOICE_MODE_NONE or not call.request.tools:
            return call
        # So small a model writes calls as text when it sees tools that it may not call.
        request = chat_pb2.ChatRequest()
        request.CopyFrom(call.request)
        request.ClearField("tools")
        request.ClearField("tool_choice")
        return dataclasses.replace(call, request=request)

    async def _running(self) -> Running:
        if self._engine is None:
            self._engine = Engine(settings_of(self._config))
        return await self._engine.running()

    def _spoken_to(self, running: Running) -> OpenAIAdapter:
        if self._speaker is None:
            reached = ProviderConfig(
                name="local",
                api_key=SecretStr(running.key),
                base_url=f"{running.base_url}/v1",
                timeouts=self._config.timeouts,
            )
            self._speaker = OpenAIAdapter(DIALECT, reached)
        return self._speaker
