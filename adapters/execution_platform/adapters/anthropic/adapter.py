"""The Anthropic provider: the only file here that talks to the network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import anthropic
import httpx2

from execution_platform.adapters.anthropic.errors import error_from_sdk, request_id_of
from execution_platform.adapters.anthropic.limits import rate_limits
from execution_platform.adapters.anthropic.request import WireRequest, build_request
from execution_platform.adapters.anthropic.stream import AnswerContext, MessagesTranslation
from execution_platform.adapters.spi import Call, Events, ProviderConfig
from execution_platform.adapters.transport import http_client, read_whole, transport_errors

__all__ = ["API_VERSION", "DEFAULT_BASE_URL", "AnthropicAdapter"]

DEFAULT_BASE_URL = "https://api.anthropic.com"

API_VERSION = "2023-06-01"
"""Pinned: the newer 2026-10-21 refuses temperature, top_p and top_k for every model, and answers are the same."""


class _Client(anthropic.AsyncAnthropic):
    """The SDK's client, sending no header that the process environment (ANTHROPIC_CUSTOM_HEADERS) names."""

    @property
    def default_headers(self) -> dict[str, str | anthropic.Omit]:
        return {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": self.user_agent,
            **self.platform_headers(),
            **(self.auth_headers if self.api_key else {"Authorization": anthropic.Omit()}),
            "anthropic-version": API_VERSION,
        }


class AnthropicAdapter:
    """Speaks the Messages API, with Anthropic or with another server that speaks it.

    Args:
        config: key, address and options of the provider.
    """

    def __init__(self, config: ProviderConfig) -> None:
        self._name = config.name
        self._http = http_client(config.timeouts)
        self._client = _Client(
            # Empty rather than None: the SDK would look for credentials in the environment.
            api_key=config.api_key.get_secret_value() if config.api_key else "",
            base_url=_base_url(config.base_url),
            timeout=self._http.timeout,
            max_retries=0,
            http_client=self._http,
            open_telemetry=False,
        )
        self._closed = False

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt. Raises AdapterError."""
        wire = build_request(call, self._name)
        response = await self._post("/v1/messages", wire)
        try:
            translation = MessagesTranslation(self._context(call, wire, response.headers))
            if call.unary or _is_json(response):
                yield await read_whole(response, translation)
                return
            async with contextlib.aclosing(_read(response, translation)) as batches:
                async for events in batches:
                    yield events
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        if not self._closed:
            self._closed = True
            await self._client.close()

    async def _post(self, path: str, wire: WireRequest) -> httpx2.Response:
        headers = {"X-Stainless-Raw-Response": "stream"}
        try:
            return await self._client.post(
                path, content=wire.body, cast_to=httpx2.Response, options={"headers": headers}
            )
        except anthropic.AnthropicError as error:
            raise error_from_sdk(error) from error

    def _context(self, call: Call, wire: WireRequest, headers: httpx2.Headers) -> AnswerContext:
        return AnswerContext(
            provider=self._name,
            model=call.model,
            request_id=call.request_id,
            provider_request_id=request_id_of(headers),
            notices=wire.notices,
            rate_limits=rate_limits(headers),
            provider_events=call.request.stream_options.provider_events,
        )


async def _read(response: httpx2.Response, translation: MessagesTranslation) -> AsyncIterator[Events]:
    with transport_errors():
        async for data in response.aiter_bytes():
            events = translation.feed(data)
            if events:
                yield events
    events = translation.end()
    if events:
        yield events


def _is_json(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("application/json")


def _base_url(configured: str) -> str:
    """Return the address without the version, which the paths bring along."""
    return (configured or DEFAULT_BASE_URL).rstrip("/").removesuffix("/v1")
