"""Lets the official SDK prepare requests: address, credentials and headers are its affair, sending them is ours.

The SDK has no public way to an answer's raw bytes. It does take a client to send through (``HttpOptions``), so it is
given one whose transport keeps the request and answers an empty object; the adapter then sends what was prepared. See
docs/decisions/2026-11-21-gemini-raw-stream.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import httpx2
from google import genai
from google.genai import types
from google.genai.client import AsyncClient, DebugConfig

from execution_platform.adapters.errors import InvalidRequestError, NotConfiguredError

__all__ = ["Preparation", "Prepared"]

#: Models whose requests are kept; names come from callers, so there is an end to it.
_MOST_KEPT = 256

#: The call of a model that the SDK is asked to prepare; its siblings differ in the last word of the path.
_ASKED = ":countTokens"

#: What the client that sends a request adds by itself.
_FROM_THE_CLIENT = frozenset({"host", "content-length", "accept-encoding", "connection", "transfer-encoding"})

#: An address and the headers for it.
Prepared = tuple[str, list[tuple[str, str]]]


class _Keeper(httpx2.AsyncBaseTransport):
    """Keeps the request that it is given and answers an empty object. Nothing is sent."""

    def __init__(self) -> None:
        self._kept: httpx2.Request | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Keep a request."""
        self._kept = request
        return httpx2.Response(200, json={})

    def take(self) -> httpx2.Request | None:
        """Return the request that was kept, and forget it."""
        kept, self._kept = self._kept, None
        return kept


class _Nobody(httpx2.BaseTransport):
    """Stands where the SDK would make a client for calls that block; there are none."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Refuse."""
        raise httpx2.UnsupportedProtocol("there are no blocking calls", request=request)


class Preparation:
    """Requests as the SDK prepares them. Made without I/O; the SDK's client is made with the first request.

    What an API key signs does not change, so each model's request is prepared once.

    Args:
        api_key: the key; empty: none.
        base_url: address of the API.
        api_version: the version that its paths begin with.
    """

    def __init__(self, api_key: str, base_url: str, api_version: str) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._api_version = api_version
        self._keeper = _Keeper()
        self._http: tuple[httpx2.AsyncClient, httpx2.Client] | None = None
        self._client: AsyncClient | None = None
        self._lock = asyncio.Lock()
        self._prepared: dict[str, Prepared] = {}

    async def method(self, model: str, name: str) -> Prepared:
        """Return address and headers for a method of a model, such as ``generateContent``.

        Raises:
            InvalidRequestError: the SDK finds that the model's name cannot be one.
            NotConfiguredError: the SDK cannot use the key.
        """
        prepared = self._prepared.get(model)
        if prepared is None:
            prepared = await self._prepare(lambda client: client.models.count_tokens(model=model, contents="-"))
            if not prepared[0].endswith(_ASKED):
                raise InvalidRequestError(f"{model!r} cannot be the name of a model", field="model")
            if len(self._prepared) >= _MOST_KEPT:
                self._prepared.clear()
            prepared = self._prepared[model] = (prepared[0].removesuffix(_ASKED), prepared[1])
        url, headers = prepared
        return f"{url}:{name}", headers

    async def models(self) -> Prepared:
        """Return address and headers of the list of models. Raises like method."""
        return await self._prepare(lambda client: client.models.list(config={"page_size": 1000}))

    async def _prepare(self, ask: Callable[[AsyncClient], Awaitable[object]]) -> Prepared:
        async with self._lock:
            try:
                await ask(self._sdk())
            except (ValueError, httpx2.InvalidURL) as error:
                raise InvalidRequestError(f"the Gemini SDK refuses the model's name: {error}", field="model") from error
            request = self._keeper.take()
        if request is None:
            raise NotConfiguredError("the Gemini SDK sent nothing")
        headers = [(name, value) for name, value in request.headers.multi_items() if name not in _FROM_THE_CLIENT]
        return str(request.url), headers

    def _sdk(self) -> AsyncClient:
        if self._client is None:
            if not self._api_key:
                raise NotConfiguredError("no key for Gemini: set EP_GEMINI_API_KEY")
            if self._api_key.startswith("auth_tokens/"):
                raise NotConfiguredError("EP_GEMINI_API_KEY is an ephemeral token, which only the Live API takes")
            # Not of the environment: a proxy named there would be given the request instead of the transport.
            sending = httpx2.AsyncClient(transport=self._keeper, trust_env=False)
            blocking = httpx2.Client(transport=_Nobody(), trust_env=False)
            self._http = (sending, blocking)
            # Everything is said here, so that no GOOGLE_* or GEMINI_* variable of the process counts.
            client = genai.Client(
                vertexai=False,
                api_key=self._api_key,
                debug_config=DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
                http_options=types.HttpOptions(
                    base_url=self._base_url,
                    api_version=self._api_version,
                    httpx_async_client=sending,
                    httpx_client=blocking,
                ),
            )
            self._client = client.aio
        return self._client

    async def aclose(self) -> None:
        """Let go of the SDK's client. Idempotent."""
        if self._http is not None:
            sending, blocking = self._http
            self._http = None
            self._client = None
            with contextlib.suppress(RuntimeError):
                await sending.aclose()
            blocking.close()
