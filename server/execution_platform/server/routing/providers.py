"""The providers of this process: their adapters, made on first use, and how they have answered lately."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from execution_platform.adapters.errors import AdapterError, NotConfiguredError
from execution_platform.adapters.registry import Registry, UnknownProviderError
from execution_platform.adapters.spi import Adapter, PriceListing, ProviderConfig, ProviderSpec
from execution_platform.server.errors import ProviderNotFoundError
from execution_platform.v1 import catalog_pb2, chat_pb2, error_pb2

__all__ = ["ProviderRecord", "Providers"]

#: Failures that tell nothing about the provider's health: the request's own, or this server's.
_NOT_THE_PROVIDERS = frozenset(
    {
        error_pb2.ERROR_REASON_INVALID_REQUEST,
        error_pb2.ERROR_REASON_UNSUPPORTED_OPTION,
        error_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
        error_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
        error_pb2.ERROR_REASON_MODEL_NOT_FOUND,
        error_pb2.ERROR_REASON_NOT_FOUND,
        error_pb2.ERROR_REASON_NOT_SUPPORTED_BY_PROVIDER,
        error_pb2.ERROR_REASON_CANCELLED,
        error_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
        error_pb2.ERROR_REASON_DRAINING,
        error_pb2.ERROR_REASON_INTERNAL,
    }
)

#: Seconds that one adapter may take to close.
_CLOSE_SECONDS = 5.0

#: Characters below which a key is no secret but a stand-in such as "none", and may be a part of any word.
_SHORTEST_SECRET = 6


@dataclass(slots=True)
class ProviderRecord:
    """How one provider has answered this process. Times are seconds since the epoch."""

    running: int = 0
    finished: int = 0
    failed: int = 0
    last_success: float | None = None
    last_failure: float | None = None
    last_error: error_pb2.ErrorDetail | None = None

    def succeeded(self) -> None:
        """Count an answer."""
        self.finished += 1
        self.last_success = time.time()

    def failed_with(self, error: error_pb2.ErrorDetail) -> None:
        """Count a failure, if it is the provider's."""
        if error.reason in _NOT_THE_PROVIDERS:
            return
        self.failed += 1
        self.last_failure = time.time()
        self.last_error = error

    def state(self) -> catalog_pb2.ProviderState.ValueType:
        """Return what the last answer says."""
        if self.last_failure is None and self.last_success is None:
            return catalog_pb2.PROVIDER_STATE_UNKNOWN
        if self.last_failure is None or (self.last_success or 0.0) >= self.last_failure:
            return catalog_pb2.PROVIDER_STATE_HEALTHY
        return catalog_pb2.PROVIDER_STATE_FAILING


@dataclass(slots=True)
class _Entry:
    spec: ProviderSpec
    config: ProviderConfig
    adapter: Adapter | None = None
    making: asyncio.Task[None] | None = None
    record: ProviderRecord = field(default_factory=ProviderRecord)


class Providers:
    """All providers that the registry knows, with this server's configuration of them."""

    def __init__(self, registry: Registry, configs: Mapping[str, ProviderConfig]) -> None:
        self._entries = {spec.name: _Entry(spec, configs[spec.name]) for spec in registry.specs()}

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._entries)

    def knows(self, name: str) -> bool:
        """Return whether there is a provider of that name."""
        return name in self._entries

    def spec(self, name: str) -> ProviderSpec:
        """Return a provider's spec. Raises ProviderNotFoundError, naming the nearest."""
        return self._entry(name).spec

    def place(self, name: str, model: str) -> str:
        """Return the narrowest place that a provider's adapter knows a model to run in; empty: it knows none."""
        entry = self._entries.get(name)
        if entry is None or entry.spec.places is None:
            return ""
        return next(iter(entry.spec.places.of(entry.config, model)), "")

    def listings(self) -> dict[str, PriceListing]:
        """Return where the providers' published prices are, of those that publish any."""
        listed = {name: entry.spec.price_listing for name, entry in self._entries.items()}
        return {name: listing for name, listing in listed.items() if listing is not None}

    def config(self, name: str) -> ProviderConfig:
        """Return a provider's configuration. Raises ProviderNotFoundError."""
        return self._entry(name).config

    def record(self, name: str) -> ProviderRecord:
        """Return how a provider has answered lately. Raises ProviderNotFoundError."""
        return self._entry(name).record

    def missing(self, name: str) -> str:
        """Return what is missing to use a provider, naming the remedy; empty: nothing. Raises ProviderNotFoundError."""
        entry = self._entry(name)
        prefix = f"EP_{name.upper()}_"
        if entry.spec.needs_key and entry.config.api_key is None:
            return f"set {prefix}API_KEY"
        if entry.spec.needs_base_url and not entry.config.base_url:
            return f"set {prefix}BASE_URL"
        return entry.spec.missing(entry.config)

    def automatic(self) -> str | None:
        """Return the provider to use when nothing is named: the first by rank that can be used."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[str]:
        """Return the providers that may be used when nothing is named and that can be used, by rank."""
        ranked = [
            (entry.spec.automatic_rank, name)
            for name, entry in self._entries.items()
            if entry.spec.automatic_rank is not None and not self.missing(name)
        ]
        return [name for _, name in sorted(ranked)]

    def adapter(self, name: str) -> Adapter:
        """Return a provider's adapter.

        Raises:
            ProviderNotFoundError: there is none of that name.
            NotConfiguredError: something is missing to use it.
        """
        entry = self._entry(name)
        if entry.adapter is None:
            self._check(name)
            entry.adapter = entry.spec.create(entry.config)
        return entry.adapter

    async def ready(self, name: str) -> Adapter:
        """Return a provider's adapter, which is made in a thread where it is not there yet.

        Making one imports its provider's SDK: for up to a second no other chat would get a word.

        Raises:
            ProviderNotFoundError: there is none of that name.
            NotConfiguredError: something is missing to use it.
        """
        entry = self._entry(name)
        if entry.adapter is None:
            self._check(name)
            if entry.making is None:
                entry.making = asyncio.create_task(self._make(entry), name=f"adapter of {name}")
                # Its failure is told to those who wait; where nobody does any more, the next one tries again.
                entry.making.add_done_callback(lambda task: task.cancelled() or task.exception())
            # Shared by all who wait: one of them that leaves does not end it for the others.
            await asyncio.shield(entry.making)
        return self.adapter(name)

    def prepare(self, names: Collection[str]) -> None:
        """Make the adapters of these providers, and of those whose key is set, before a chat has to wait for it."""
        for name, entry in self._entries.items():
            if (name in names or entry.config.api_key is not None) and not self.missing(name):
                with contextlib.suppress(AdapterError):  # told to whoever asks it
                    self.adapter(name)

    def _check(self, name: str) -> None:
        if missing := self.missing(name):
            raise NotConfiguredError(f"provider {name} is not configured: {missing}", field="model")

    async def _make(self, entry: _Entry) -> None:
        try:
            adapter = await asyncio.to_thread(entry.spec.create, entry.config)
            if entry.adapter is None:
                entry.adapter = adapter
        finally:
            entry.making = None

    def without_secrets(self, name: str, error: AdapterError, request: chat_pb2.ChatRequest | None = None) -> None:
        """Take out of a provider's words this server's key and the caller's tokens, which some providers repeat."""
        key = self._entry(name).config.api_key
        secrets = [] if key is None else [key.get_secret_value()]
        if request is not None:
            secrets.extend(tool.mcp_server.authorization_token for tool in request.tools)
        for secret in secrets:
            if len(secret) < _SHORTEST_SECRET:
                continue
            error.message = error.message.replace(secret, "[secret]")
            error.provider_code = error.provider_code.replace(secret, "[secret]")
            error.provider_request_id = error.provider_request_id.replace(secret, "[secret]")

    async def aclose(self) -> list[str]:
        """Close all adapters, side by side and bounded. Returns the names of those that did not close in time."""
        making = [entry.making for entry in self._entries.values() if entry.making is not None]
        if making:
            await asyncio.wait(making, timeout=_CLOSE_SECONDS)
        adapters = {name: entry.adapter for name, entry in self._entries.items() if entry.adapter is not None}
        for entry in self._entries.values():
            entry.adapter = None
        results = await asyncio.gather(
            *(asyncio.wait_for(adapter.aclose(), _CLOSE_SECONDS) for adapter in adapters.values()),
            return_exceptions=True,
        )
        return [name for name, result in zip(adapters, results, strict=True) if isinstance(result, BaseException)]

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            unknown = UnknownProviderError(name, self._entries)
            raise ProviderNotFoundError(str(unknown), field="model")
        return entry
