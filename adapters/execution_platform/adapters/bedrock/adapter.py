"""The Bedrock provider: the only file here that talks to Bedrock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple

import httpx2

from execution_platform.adapters.bedrock.catalog import list_models
from execution_platform.adapters.bedrock.credentials import CredentialSource, bearer_key
from execution_platform.adapters.bedrock.endpoints import control_url, count_path, runtime_url
from execution_platform.adapters.bedrock.errors import error_from_answer, request_id_of
from execution_platform.adapters.bedrock.regions import is_region
from execution_platform.adapters.bedrock.request import WireRequest, build_request
from execution_platform.adapters.bedrock.signing import Keys, signature_headers
from execution_platform.adapters.bedrock.stream import AnswerContext, ConverseTranslation
from execution_platform.adapters.errors import AdapterError, CredentialsError, NotConfiguredError, ProtocolError
from execution_platform.adapters.fields import fields_of, int_of
from execution_platform.adapters.spi import Call, Events, ProviderConfig, TokenCount
from execution_platform.adapters.transport import (
    http_client,
    read_stream,
    read_whole,
    transport_errors,
    with_request_id,
)
from execution_platform.adapters.wire import encode_json
from execution_platform.v1 import catalog_pb2

__all__ = ["BedrockAdapter"]

#: What of a request counts tokens. Source: `ConverseTokensRequest` of botocore's service model.
_COUNTED = ("messages", "system", "toolConfig", "additionalModelRequestFields")


class _Asked(NamedTuple):
    """An answer, and who signed for it; None: an API key was sent."""

    response: httpx2.Response
    keys: Keys | None


class BedrockAdapter:
    """Speaks Converse and ConverseStream. See spi.Adapter for what it promises.

    Args:
        config: API key or whose credentials sign, region and address of the provider.
    """

    def __init__(self, config: ProviderConfig) -> None:
        self._name = config.name
        self._base_url = config.base_url
        self._region = config.options.get("region", "")
        self._key = bearer_key(config)
        self._credentials = CredentialSource(config, self._region)
        self._http = http_client(config.timeouts, config.base_url)

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt. Raises AdapterError."""
        wire = build_request(call, self._name, self._region)
        asked = await self._post(wire, wire.path, wire.body)
        response = asked.response
        try:
            translation = ConverseTranslation(self._context(call, wire, response.headers))
            if response.status_code != httpx2.codes.OK:
                yield await self._blocked_or_raise(asked, translation)
            elif call.unary or _is_json(response):
                yield await read_whole(response, translation)
            else:
                async with contextlib.aclosing(_read(response, translation)) as batches:
                    async for events in batches:
                        yield events
        finally:
            await response.aclose()

    async def count_tokens(self, call: Call) -> TokenCount:
        """Count the input tokens of a call. Raises AdapterError."""
        wire = build_request(call, self._name, self._region)
        given = fields_of(wire.body)
        counted = {name: given[name] for name in _COUNTED if name in given}
        asking = encode_json({"input": {"converse": counted}})
        body = await self._body(await self._post(wire, count_path(call.model), asking))
        tokens = int_of(fields_of(body).get("inputTokens"))
        if tokens is None:
            raise ProtocolError("the provider's token count has no inputTokens")
        return TokenCount(tokens, body.decode("utf-8", "replace"), wire.notices)

    async def list_models(self) -> list[catalog_pb2.Model]:
        """List models and inference profiles of the configured region. Raises AdapterError."""
        if not is_region(self._region):
            raise NotConfiguredError("set EP_BEDROCK_REGION (or AWS_REGION)")
        return await list_models(self._get, self._name)

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        await self._credentials.aclose()
        await self._http.aclose()

    async def _post(self, wire: WireRequest, path: str, body: bytes) -> _Asked:
        url = runtime_url(self._base_url, wire.region) + path
        return await self._ask("POST", url, wire.region, wire.headers, body)

    async def _get(self, path: str) -> bytes:
        url = control_url(self._base_url, self._region) + path
        return await self._body(await self._ask("GET", url, self._region, {}, b""))

    async def _ask(self, method: str, url: str, region: str, headers: Mapping[str, str], body: bytes) -> _Asked:
        """Send a request; its answer is there, whatever its status, and not read. Raises AdapterError."""
        keys = None if self._key else await self._credentials.current()
        with transport_errors():
            request = self._http.build_request(method, url, headers=headers, content=body)
            request.headers.update(self._authorization(request, region, keys))
            return _Asked(await self._http.send(request, stream=True), keys)

    def _authorization(self, request: httpx2.Request, region: str, keys: Keys | None) -> Mapping[str, str]:
        if keys is None:
            return {"authorization": f"Bearer {self._key}"}
        return signature_headers(
            keys,
            region,
            method=request.method,
            url=_as_sent(request.url),
            headers=request.headers,
            body=request.content,
        )

    async def _body(self, asked: _Asked) -> bytes:
        """Return the body of an answer that is no chat."""
        response = asked.response
        try:
            if response.status_code != httpx2.codes.OK:
                raise self._refusal(asked, await _explanation(response))
            with transport_errors(answering=True):
                return await response.aread()
        finally:
            await response.aclose()

    async def _blocked_or_raise(self, asked: _Asked, translation: ConverseTranslation) -> Events:
        """Return the events of an answer whose error says that a filter stopped it; raise any other error."""
        body = await _explanation(asked.response)
        events = translation.blocked(asked.response.headers, body)
        if not events:
            raise self._refusal(asked, body)
        return events

    def _refusal(self, asked: _Asked, body: bytes) -> AdapterError:
        """Return the error of an answer. Where other credentials may help, asking again makes sense."""
        response, keys = asked
        error = error_from_answer(response.status_code, response.headers, body)
        if keys is not None and isinstance(error, CredentialsError) and self._credentials.refused(keys):
            error.told = error.retryable = True
        return error

    def _context(self, call: Call, wire: WireRequest, headers: httpx2.Headers) -> AnswerContext:
        return AnswerContext(
            provider=self._name,
            model=call.model,
            request_id=call.request_id,
            provider_request_id=request_id_of(headers),
            notices=wire.notices,
            provider_events=call.request.stream_options.provider_events,
            region=wire.region,
        )


async def _read(response: httpx2.Response, translation: ConverseTranslation) -> AsyncGenerator[Events, None]:
    """Translate a stream; its errors tell the request's id and status."""
    try:
        async with contextlib.aclosing(read_stream(response, translation)) as batches:
            async for events in batches:
                yield events
    except AdapterError as error:
        with_request_id(error, request_id_of(response.headers))
        error.provider_status = error.provider_status or response.status_code
        raise


async def _explanation(response: httpx2.Response) -> bytes:
    """Return the body of an error; nothing where it breaks: status and headers tell enough."""
    with contextlib.suppress(AdapterError), transport_errors(answering=True):
        return await response.aread()
    return b""


def _is_json(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("application/json")


def _as_sent(url: httpx2.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"
