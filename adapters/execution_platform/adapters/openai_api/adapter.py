"""The network side of every provider that speaks OpenAI's formats: the only file of theirs that does I/O.

The official SDK carries the request; the answer is read as raw bytes. ``AsyncAzureOpenAI`` is not used: it finds the
deployment in the decoded body, which is bytes here, and Azure's addresses are a few lines (``_Address``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncGenerator
from typing import Any, Self
from urllib.parse import quote

import httpx2
import msgspec
import openai

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.openai_api.answer import provider_request_id
from execution_platform.adapters.openai_api.chat.request import build_chat
from execution_platform.adapters.openai_api.chat.stream import ChatTranslation
from execution_platform.adapters.openai_api.dialect import Api, Dialect, WireRequest
from execution_platform.adapters.openai_api.errors import finished_instead, map_error
from execution_platform.adapters.openai_api.responses.request import build_count, build_responses
from execution_platform.adapters.openai_api.responses.stream import ResponsesTranslation
from execution_platform.adapters.spi import Call, Events, ProviderConfig, TokenCount
from execution_platform.adapters.transport import http_client, read_stream, read_whole, transport_errors
from execution_platform.adapters.wire import decode_json
from execution_platform.v1 import catalog_pb2, chat_pb2

__all__ = ["CountingOpenAIAdapter", "OpenAIAdapter"]

#: Options of a provider that become headers, where its spec has them.
_HEADERS_OF_OPTIONS = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}

#: Where servers tell the size of a model's context, and of its longest answer.
_CONTEXT_KEYS = ("context_length", "context_window", "max_context_length", "max_model_len")
_OUTPUT_KEYS = ("max_output_tokens", "max_output_length", "max_completion_tokens")

_Headers = dict[str, str | openai.Omit]


@dataclasses.dataclass(frozen=True, slots=True)
class _Address:
    """Where a server is.

    Attributes:
        base_url: what paths are appended to.
        version: value of ``api-version``; empty: none is sent.
        deployments: Chat Completions is below the model's deployment.
    """

    base_url: str
    version: str = ""
    deployments: bool = False

    @classmethod
    def of(cls, dialect: Dialect, config: ProviderConfig) -> Self:
        """Return the address: as configured, or made of an Azure resource's.

        Azure has three shapes: ``/openai/v1`` (no version), ``/openai/deployments/...`` with a version, and
        ``/models`` with a version. Which one is told by the address, else by whether there is a version.
        """
        url = config.base_url.rstrip("/")
        if dialect.address == "plain":
            return cls(url)
        # The address of version 1 names it; nothing else needs to.
        version = config.options.get("api_version", "").removeprefix("v1")
        if url.endswith(("/v1", "/models")):
            return cls(url, version)
        if not version:
            return cls(f"{url.removesuffix('/openai')}/openai/v1")
        return cls(f"{url.removesuffix('/openai')}/openai", version, deployments=True)

    def path(self, wire: WireRequest, model: str) -> str:
        """Return the path of a request."""
        if self.deployments and wire.path.startswith("/chat/"):
            return f"/deployments/{quote(model, safe='')}{wire.path}"
        return wire.path


class _Client(openai.AsyncOpenAI):
    """The SDK's client, sending no header that the process environment (OPENAI_CUSTOM_HEADERS, ...) names."""

    @property
    def default_headers(self) -> dict[str, str | openai.Omit]:
        return {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"AsyncOpenAI/Python {openai.__version__}",
            **self.platform_headers(),
        }


class OpenAIAdapter:
    """Speaks Chat Completions and Responses with one server.

    Args:
        dialect: how the server speaks them. Which of the two a model gets is the dialect's, by its rules; the
            provider's option ``api`` (``auto``, ``chat``, ``responses``), where it has one, overrides that for all.
        config: key, address and options of the provider.
    """

    def __init__(self, dialect: Dialect, config: ProviderConfig) -> None:
        self._dialect = dialect
        # Models are named by callers: bounded.
        self._dialect_for = functools.lru_cache(maxsize=256)(dialect.for_model)
        self._address = _Address.of(dialect, config)
        self._api: Api | None = _api(config.options.get("api", ""))
        self._http = http_client(config.timeouts, self._address.base_url)
        key = config.api_key.get_secret_value() if config.api_key else ""
        self._headers = _headers(dialect, config, key)
        self._client = _Client(
            # Never None, for which the SDK would look into the environment.
            api_key=key or "none",
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            base_url=self._address.base_url,
            default_query={"api-version": self._address.version} if self._address.version else {},
            timeout=self._http.timeout,
            max_retries=0,
            http_client=self._http,
        )
        self._closed = False

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt. Raises AdapterError."""
        dialect = self._dialect_for(call.model)
        chat = (self._api or dialect.api) == "chat"
        wire = build_chat(call, dialect) if chat else build_responses(call, dialect)
        try:
            response = await self._post(wire, call.model)
        except openai.APIStatusError as error:
            if not call.unary and _cannot_stream(error):
                async with contextlib.aclosing(self.stream(dataclasses.replace(call, unary=True))) as whole:
                    async for events in whole:
                        yield events
                return
            ended = finished_instead(error.status_code, error.response.content)
            if ended is None:
                raise map_error(error) from error
            yield _ended(ended, call, dialect, wire, error.response.headers)
            return
        except Exception as error:
            raise map_error(error) from error
        try:
            translate = ChatTranslation if chat else ResponsesTranslation
            translation = translate(dialect, call, response.headers, wire.notices)
            if _is_whole(response, call):
                yield await read_whole(response, translation)
                return
            async with contextlib.aclosing(read_stream(response, translation)) as batches:
                async for events in batches:
                    yield events
        finally:
            await response.aclose()

    async def list_models(self) -> list[catalog_pb2.Model]:
        """List the server's models, with sizes where it tells them. Raises AdapterError."""
        body = await self._get("/models")
        answer = decode_json(body)
        # Together answers with the list alone.
        rows = answer.get("data") if isinstance(answer, dict) else answer
        if not isinstance(rows, list):
            raise ProtocolError("the provider's list of models is not a list", provider_status=200)
        raw = _raw_rows(body)
        told = (_model(self._dialect.provider, row, raw[at]) for at, row in enumerate(rows) if isinstance(row, dict))
        return [model for model in told if model.model]

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        if not self._closed:
            self._closed = True
            await self._client.close()

    async def _post(self, wire: WireRequest, model: str) -> httpx2.Response:
        headers: _Headers = {**self._headers, **wire.headers, "X-Stainless-Raw-Response": "stream"}
        return await self._client.post(
            self._address.path(wire, model),
            content=wire.body,
            cast_to=httpx2.Response,
            options={"headers": headers},
        )

    async def _get(self, path: str) -> bytes:
        headers: _Headers = {**self._headers, "X-Stainless-Raw-Response": "stream"}
        try:
            response = await self._client.get(path, cast_to=httpx2.Response, options={"headers": headers})
        except Exception as error:
            raise map_error(error) from error
        return await _body_of(response)


class CountingOpenAIAdapter(OpenAIAdapter):
    """The same for servers that count tokens at ``/responses/input_tokens``."""

    async def count_tokens(self, call: Call) -> TokenCount:
        """Count the input tokens of a chat, as Responses would take it. Raises AdapterError."""
        wire = build_count(call, self._dialect_for(call.model))
        try:
            response = await self._post(wire, call.model)
        except Exception as error:
            raise map_error(error) from error
        body = await _body_of(response)
        answer = decode_json(body)
        count = answer.get("input_tokens") if isinstance(answer, dict) else None
        if not isinstance(count, int):
            raise ProtocolError("the provider's count of tokens has no number", provider_status=200)
        return TokenCount(count, body.decode("utf-8", "replace"), wire.notices)


def _cannot_stream(error: openai.APIStatusError) -> bool:
    """Return whether a server refused to stream a model: which ones it cannot (o1-pro; Azure's o1) only it knows."""
    return error.status_code == httpx2.codes.BAD_REQUEST and error.param == "stream"


def _api(option: str) -> Api | None:
    if option == "chat":
        return "chat"
    return "responses" if option == "responses" else None


def _headers(dialect: Dialect, config: ProviderConfig, key: str) -> _Headers:
    headers: _Headers = {**dialect.headers}
    headers |= {
        header: config.options[option] for option, header in _HEADERS_OF_OPTIONS.items() if config.options.get(option)
    }
    if not key:
        return headers | {"Authorization": openai.Omit()}
    if dialect.auth == "api-key":
        return headers | {"Authorization": openai.Omit(), "api-key": key}
    return headers


def _is_whole(response: httpx2.Response, call: Call) -> bool:
    """Tell whether the answer is one body: some servers stream unasked, others do not when asked."""
    content_type = response.headers.get("content-type", "")
    if content_type.startswith("text/event-stream"):
        return False
    return call.unary or content_type.startswith("application/json")


def _ended(
    finished: chat_pb2.Finished, call: Call, dialect: Dialect, wire: WireRequest, headers: httpx2.Headers
) -> Events:
    """Return an answer that ended before it began: a filter stopped the prompt."""
    started = chat_pb2.Started(
        request_id=call.request_id,
        route=chat_pb2.Route(provider=dialect.provider, model=call.model),
        provider_request_id=provider_request_id(headers),
    )
    notices = [chat_pb2.ChatEvent(notice=notice) for notice in wire.notices]
    return [chat_pb2.ChatEvent(started=started), *notices, chat_pb2.ChatEvent(finished=finished)]


async def _body_of(response: httpx2.Response) -> bytes:
    try:
        with transport_errors(answering=True):
            return await response.aread()
    finally:
        await response.aclose()


def _raw_rows(body: bytes) -> list[str]:
    """Return the rows of a list of models as they stand."""
    value: Any = msgspec.json.decode(body, type=msgspec.Raw)
    if not bytes(value).lstrip().startswith(b"["):
        value = msgspec.json.decode(body, type=dict[str, msgspec.Raw])["data"]
    rows = msgspec.json.decode(value, type=list[msgspec.Raw])
    return [bytes(row).decode("utf-8", "replace") for row in rows]


def _model(provider: str, row: dict[str, Any], raw: str) -> catalog_pb2.Model:
    name = str(row.get("id") or "")
    display_name = row.get("display_name") or row.get("name")
    return catalog_pb2.Model(
        name=f"{provider}/{name}",
        provider=provider,
        model=name,
        display_name=display_name if isinstance(display_name, str) and display_name != name else "",
        context_window=_size(row, _CONTEXT_KEYS),
        max_output_tokens=_size(row, _OUTPUT_KEYS),
        provider_metadata_json=raw,
    )


def _size(row: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    sizes = (row.get(key) for key in keys)
    return next((size for size in sizes if isinstance(size, int) and 0 < size < 2**62), None)
