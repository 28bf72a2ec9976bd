"""The Anthropic provider: the only file here that talks to the network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import httpx2
import msgspec

from execution_platform.adapters.anthropic.errors import error_from_sdk, request_id_of
from execution_platform.adapters.anthropic.limits import rate_limits
from execution_platform.adapters.anthropic.models import DEFAULT_BASE_URL
from execution_platform.adapters.anthropic.request import WireRequest, build_count, build_request
from execution_platform.adapters.anthropic.stream import AnswerContext, MessagesTranslation
from execution_platform.adapters.errors import AdapterError, ProtocolError
from execution_platform.adapters.fields import clean_text, elements_if_any, fields_of, int_of, json_of
from execution_platform.adapters.spi import Call, Events, ProviderConfig, TokenCount
from execution_platform.adapters.transport import (
    http_client,
    read_stream,
    read_whole,
    transport_errors,
    with_request_id,
)
from execution_platform.v1 import catalog_pb2

__all__ = ["API_VERSION", "AnthropicAdapter"]


API_VERSION = "2023-06-01"
"""Pinned. The SDK's own 2026-10-21 refuses temperature, top_p and top_k for every model, older ones too; answers are
the same. Source: https://platform.claude.com/docs/en/api/versioning."""

_RAW = {"X-Stainless-Raw-Response": "stream"}
_SECONDS_TO_DRAIN = 1.0
_MOST_PAGES = 20
_PAGE_SIZE = 1000


class _Client(anthropic.AsyncAnthropic):
    """The SDK's client with what the configuration says, and nothing from the process environment."""

    def __init__(self, config: ProviderConfig, http: httpx2.AsyncClient) -> None:
        super().__init__(
            # Empty rather than None, which would make the SDK look for credentials in the environment.
            api_key=config.api_key.get_secret_value() if config.api_key else "",
            base_url=_base_url(config.base_url),
            timeout=http.timeout,
            max_retries=0,
            http_client=http,
            open_telemetry=False,
        )
        self._custom_headers = {}  # those of ANTHROPIC_CUSTOM_HEADERS

    @property
    def default_headers(self) -> dict[str, str | anthropic.Omit]:
        # One credential header only: the API refuses requests that carry two.
        without_key = {} if self.api_key else {"Authorization": anthropic.Omit()}
        return {**super().default_headers, **without_key, "anthropic-version": API_VERSION}


class AnthropicAdapter:
    """Speaks the Messages API, with Anthropic or with another server of that format.

    Args:
        config: key, address and options of the provider. Without a key no credential is sent.
    """

    def __init__(self, config: ProviderConfig) -> None:
        self._name = config.name
        self._betas = tuple(beta.strip() for beta in config.options.get("betas", "").split(",") if beta.strip())
        self._client = _Client(config, http_client(config.timeouts, _base_url(config.base_url)))

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt. Raises AdapterError."""
        wire = build_request(call, self._name)
        try:
            response = await self._post("/v1/messages", wire)
        except anthropic.APIStatusError as error:
            events = self._blocked(call, wire, error)
            if not events:
                raise error_from_sdk(error) from error
            yield events
            return
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

    async def count_tokens(self, call: Call) -> TokenCount:
        """Count the input tokens of a call. Raises AdapterError."""
        wire = build_count(call, self._name)
        body = await self._json(self._post("/v1/messages/count_tokens", wire))
        tokens = int_of(fields_of(body).get("input_tokens"))
        if tokens is None:
            raise ProtocolError("the provider's token count has no input_tokens")
        return TokenCount(tokens, body.decode("utf-8", "replace"), wire.notices)

    async def list_models(self) -> list[catalog_pb2.Model]:
        """List the models. Raises AdapterError."""
        models: list[catalog_pb2.Model] = []
        params: dict[str, Any] = {"limit": _PAGE_SIZE}
        for _ in range(_MOST_PAGES):
            request = self._client.get(
                "/v1/models", cast_to=httpx2.Response, options={"params": params, "headers": _RAW}
            )
            page = fields_of(await self._json(request))
            models += [self._model(element) for element in elements_if_any(page.get("data"))]
            last = clean_text(page.get("last_id"))
            if bytes(page.get("has_more", b"")) != b"true" or not last:
                break
            params = {"limit": _PAGE_SIZE, "after_id": last}
        return models

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        await self._client.close()

    async def _post(self, path: str, wire: WireRequest) -> httpx2.Response:
        headers: dict[str, str | anthropic.Omit] = dict(_RAW)
        betas = dict.fromkeys([*self._betas, *wire.betas])
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        try:
            return await self._client.post(
                path, content=wire.body, cast_to=httpx2.Response, options={"headers": headers}
            )
        except anthropic.APIStatusError:
            raise
        except anthropic.AnthropicError as error:
            raise error_from_sdk(error) from error

    async def _json(self, request: Any) -> bytes:
        """Return the body of an answer that is no chat."""
        try:
            response: httpx2.Response = await request
        except anthropic.AnthropicError as error:
            raise error_from_sdk(error) from error
        try:
            with transport_errors(answering=True):
                return await response.aread()
        finally:
            await response.aclose()

    def _blocked(self, call: Call, wire: WireRequest, error: anthropic.APIStatusError) -> Events:
        """Return the answer's end where an error status says that a filter stopped it; else nothing."""
        translation = MessagesTranslation(self._context(call, wire, error.response.headers))
        return translation.blocked(error.response.content)

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

    def _model(self, raw: msgspec.Raw) -> catalog_pb2.Model:
        fields = fields_of(raw)
        name = clean_text(fields.get("id"))
        model = catalog_pb2.Model(
            name=f"{self._name}/{name}",
            provider=self._name,
            model=name,
            display_name=clean_text(fields.get("display_name")),
            provider_metadata_json=json_of(raw),
        )
        context, output = int_of(fields.get("max_input_tokens")), int_of(fields.get("max_tokens"))
        if context:
            model.context_window = context
        if output:
            model.max_output_tokens = output
        return model


async def _read(response: httpx2.Response, translation: MessagesTranslation) -> AsyncGenerator[Events, None]:
    """Translate a stream; its errors tell the request's id and status."""
    try:
        async with contextlib.aclosing(read_stream(response, translation)) as batches:
            async for events in batches:
                yield events
    except AdapterError as error:
        with_request_id(error, request_id_of(response.headers))
        error.provider_status = error.provider_status or response.status_code
        raise


def _is_json(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("application/json")


def _base_url(configured: str) -> str:
    """Return the address without the version, which the paths bring along."""
    return (configured or DEFAULT_BASE_URL).rstrip("/").removesuffix("/v1")
