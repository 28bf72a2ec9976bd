"""The adapter for the Gemini API: I/O only."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import httpx2

from execution_platform.adapters import transport
from execution_platform.adapters.errors import InvalidRequestError, ProtocolError
from execution_platform.adapters.gemini.catalog import read_models
from execution_platform.adapters.gemini.errors import blocked_prompt, error_of, failure_of
from execution_platform.adapters.gemini.models import DEFAULT_API_VERSION, DEFAULT_BASE_URL
from execution_platform.adapters.gemini.preparation import Preparation, Prepared
from execution_platform.adapters.gemini.request import WireRequest, build_count, build_request
from execution_platform.adapters.gemini.stream import GeminiTranslation
from execution_platform.adapters.spi import Call, Events, ProviderConfig, TokenCount
from execution_platform.adapters.wire import decode_json
from execution_platform.v1 import catalog_pb2

__all__ = ["GeminiAdapter"]


#: Pages of models that are read at most.
_MOST_PAGES = 20


class GeminiAdapter:
    """Google's models through generateContent. See spi.Adapter for what it promises.

    Args:
        config: key, address and ``api_version``.
    """

    def __init__(self, config: ProviderConfig) -> None:
        key = config.api_key.get_secret_value().strip() if config.api_key else ""
        base_url = config.base_url or DEFAULT_BASE_URL
        version = config.options.get("api_version") or DEFAULT_API_VERSION
        self._key = key
        self._preparation = Preparation(key, base_url, version)
        self._files_url = f"{base_url.rstrip('/')}/{version}/"
        self._http = transport.http_client(config.timeouts, base_url)

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt. Raises AdapterError."""
        wire = build_request(call, files_url=self._files_url)
        async with self._sent(wire, call.model) as response:
            translation = _translation(call, wire, response)
            if response.status_code != httpx2.codes.OK:
                yield await self._blocked_or_raise(response, translation)
            elif call.unary:
                yield await transport.read_whole(response, translation)
            else:
                async with contextlib.aclosing(transport.read_stream(response, translation)) as lists:
                    async for events in lists:
                        yield events

    async def count_tokens(self, call: Call) -> TokenCount:
        """Count the tokens of a prompt, system and tools included. Raises AdapterError."""
        wire = build_count(call, files_url=self._files_url)
        async with self._sent(wire, call.model) as response:
            body = await self._body(response)
        counted = decode_json(body)
        total = counted.get("totalTokens", 0) if isinstance(counted, dict) else None
        if not isinstance(total, int):
            raise ProtocolError("the provider counted no tokens", provider_status=response.status_code)
        return TokenCount(total, body.decode("utf-8", "replace"), tuple(wire.notices.items))

    async def list_models(self) -> list[catalog_pb2.Model]:
        """List the models that generate content. Raises AdapterError."""
        url, headers = await self._preparation.models()
        found: list[catalog_pb2.Model] = []
        for _ in range(_MOST_PAGES):
            request = self._http.build_request("GET", url, headers=headers)
            async with self._answer(request) as response:
                models, next_page = read_models(await self._body(response))
            found += models
            if not next_page:
                break
            url = str(httpx2.URL(url).copy_merge_params({"pageToken": next_page}))
        return found

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        await self._preparation.aclose()
        await self._http.aclose()

    @contextlib.asynccontextmanager
    async def _sent(self, wire: WireRequest, model: str) -> AsyncIterator[httpx2.Response]:
        url, headers = await self._prepared(model, wire.method)
        if wire.query:
            url = f"{url}?{wire.query}"
        request = self._http.build_request("POST", url, headers=headers, content=wire.body)
        async with self._answer(request) as response:
            yield response

    async def _prepared(self, model: str, method: str) -> Prepared:
        if not model.isprintable() or set(model) & set("?#%\\ "):
            raise InvalidRequestError(f"{model!r} cannot be the name of a model", field="model")
        return await self._preparation.method(model, method)

    @contextlib.asynccontextmanager
    async def _answer(self, request: httpx2.Request) -> AsyncIterator[httpx2.Response]:
        """Send a request and close its answer, however it is left."""
        with transport.transport_errors():
            response = await self._http.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def _body(self, response: httpx2.Response) -> bytes:
        body = await self._read(response)
        if response.status_code != httpx2.codes.OK:
            raise error_of(failure_of(body, response.status_code), response.headers)
        return body

    async def _blocked_or_raise(self, response: httpx2.Response, translation: GeminiTranslation) -> Events:
        """Return the events of an answer whose error says that a filter stopped the prompt; raise any other error."""
        body = await self._read(response)
        failure = failure_of(body, response.status_code)
        if blocked_prompt(failure):
            return translation.blocked(failure.word, failure.message, body)
        raise error_of(failure, response.headers)

    async def _read(self, response: httpx2.Response) -> bytes:
        """Return a body that is told to people, without the key should it repeat it."""
        with transport.transport_errors(answering=True):
            body = await response.aread()
        return body.replace(self._key.encode(), b"***") if self._key else body


def _translation(call: Call, wire: WireRequest, response: httpx2.Response) -> GeminiTranslation:
    return GeminiTranslation(
        call.model,
        wire.notices,
        request_id=call.request_id,
        provider_request_id=response.headers.get("x-request-id", ""),
        provider_events=call.request.stream_options.provider_events,
    )
