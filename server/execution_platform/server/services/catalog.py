"""CatalogService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import grpc
import grpc.aio
from google.protobuf import timestamp_pb2

from execution_platform.adapters.errors import (
    AdapterError,
    InvalidRequestError,
    ModelNotFoundError,
    ProviderTimeoutError,
)
from execution_platform.adapters.spi import ListsModels
from execution_platform.server.chat.admission import Admission
from execution_platform.server.config.personas import ModelFacts
from execution_platform.server.config.source import PlatformSource, PlatformStatus
from execution_platform.server.errors import InternalError
from execution_platform.server.limits.throttles import Throttles
from execution_platform.server.resilience.circuit import Circuit
from execution_platform.server.resilience.circuits import Circuits
from execution_platform.server.routing.capabilities import facts_of
from execution_platform.server.routing.providers import Providers
from execution_platform.server.routing.router import Router
from execution_platform.server.services.call import CONTRACT_VERSION, abort, time_left
from execution_platform.server.services.paging import Page
from execution_platform.server.services.personas import Personas
from execution_platform.server.services.routes import RouteExplainer
from execution_platform.server.status import error_detail
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import catalog_pb2, catalog_pb2_grpc, error_pb2

__all__ = ["CatalogService"]

#: Problems of a configuration that are told; its check tells all.
_MOST_PROBLEMS = 100

#: Seconds that a provider may take to list its models.
_LIST_SECONDS = 10.0


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    """Tells what this server offers.

    Args:
        providers: what is there.
        router: aliases and the default.
        admission: whether the server drains, and how many chats run.
        circuits: which models are not asked now.
        throttles: who is asked more slowly, because it said so.
        platform: personas and routes that are in force.
        personas: tells of them.
        routes: explains where a chat would go.
        version: the server's version.
        started: when the process started, seconds since the epoch.
        max_receive_bytes: largest message that the server takes.
        logger: for faults of adapters.
    """

    def __init__(  # noqa: PLR0913 - it tells of everything that there is
        self,
        providers: Providers,
        router: Router,
        admission: Admission,
        circuits: Circuits,
        throttles: Throttles,
        *,
        platform: PlatformSource,
        personas: Personas,
        routes: RouteExplainer,
        version: str,
        started: float,
        max_receive_bytes: int,
        logger: Logger,
    ) -> None:
        self._providers = providers
        self._router = router
        self._admission = admission
        self._circuits = circuits
        self._throttles = throttles
        self._platform = platform
        self._personas = personas
        self._routes = routes
        self._version = version
        self._started = started
        self._max_receive_bytes = max_receive_bytes
        self._logger = logger

    async def ListModels(
        self,
        request: catalog_pb2.ListModelsRequest,
        context: grpc.aio.ServicerContext[catalog_pb2.ListModelsRequest, catalog_pb2.ListModelsResponse],
    ) -> catalog_pb2.ListModelsResponse:
        """List models, a page at a time."""
        try:
            names = [request.provider] if request.provider else self._providers.names()
            for name in names:
                self._providers.spec(name)
            page = Page(request.page_size, request.page_token, f"models of {request.provider}")
            page.after()  # before providers are asked
            models, errors = await self._models(names, min(_LIST_SECONDS, time_left(context, _LIST_SECONDS)))
        except AdapterError as error:
            await abort(context, error)
        found, token = page.of(models, lambda model: model.name)
        return catalog_pb2.ListModelsResponse(models=found, next_page_token=token, errors=errors)

    async def GetModel(
        self,
        request: catalog_pb2.GetModelRequest,
        context: grpc.aio.ServicerContext[catalog_pb2.GetModelRequest, catalog_pb2.GetModelResponse],
    ) -> catalog_pb2.GetModelResponse:
        """Tell about one model."""
        try:
            if not request.name:
                raise InvalidRequestError("name: must be provider/model or an alias", field="name")
            target = self._router.resolve(request.name)
            limit = min(_LIST_SECONDS, time_left(context, _LIST_SECONDS))
            models, errors = await self._models([target.provider], limit)
            wanted = f"{target.provider}/{target.model}"
            for model in models:
                if model.name == wanted:
                    return catalog_pb2.GetModelResponse(model=model)
            why = f" (its list could not be had: {errors[0].message})" if errors else ""
            raise ModelNotFoundError(f"name: {target.provider} lists no model {target.model!r}{why}", field="name")
        except AdapterError as error:
            await abort(context, error)

    async def ListProviders(
        self,
        request: catalog_pb2.ListProvidersRequest,  # noqa: ARG002 - it has no fields
        context: grpc.aio.ServicerContext[catalog_pb2.ListProvidersRequest, catalog_pb2.ListProvidersResponse],  # noqa: ARG002
    ) -> catalog_pb2.ListProvidersResponse:
        """List all providers."""
        return catalog_pb2.ListProvidersResponse(providers=[self._provider(name) for name in self._providers.names()])

    async def GetProviderStatus(
        self,
        request: catalog_pb2.GetProviderStatusRequest,
        context: grpc.aio.ServicerContext[catalog_pb2.GetProviderStatusRequest, catalog_pb2.GetProviderStatusResponse],
    ) -> catalog_pb2.GetProviderStatusResponse:
        """Tell how a provider has answered lately."""
        try:
            if not request.provider:
                raise InvalidRequestError("provider: must name a provider", field="provider")
            record = self._providers.record(request.provider)
        except AdapterError as error:
            error.field = "provider"
            await abort(context, error)
        response = catalog_pb2.GetProviderStatusResponse(
            provider=request.provider,
            state=record.state(),
            finished_chats=record.finished,
            failed_chats=record.failed,
            running_chats=record.running,
            circuits=[_circuit(circuit) for circuit in self._circuits.failed(request.provider)],
        )
        if self._providers.missing(request.provider):
            response.state = catalog_pb2.PROVIDER_STATE_NOT_CONFIGURED
        if record.last_success is not None:
            response.last_success_time.CopyFrom(_timestamp(record.last_success))
        if record.last_failure is not None:
            response.last_failure_time.CopyFrom(_timestamp(record.last_failure))
        if record.last_error is not None:
            response.last_error.CopyFrom(record.last_error)
        throttled_until = self._throttles.until(request.provider)
        if throttled_until is not None:
            response.throttled_until.CopyFrom(_timestamp(throttled_until))
        return response

    async def ListPersonas(
        self,
        request: catalog_pb2.ListPersonasRequest,
        context: grpc.aio.ServicerContext[catalog_pb2.ListPersonasRequest, catalog_pb2.ListPersonasResponse],
    ) -> catalog_pb2.ListPersonasResponse:
        """List personas, a page at a time."""
        try:
            return self._personas.page(request)
        except AdapterError as error:
            await abort(context, error)

    async def GetPersona(
        self,
        request: catalog_pb2.GetPersonaRequest,
        context: grpc.aio.ServicerContext[catalog_pb2.GetPersonaRequest, catalog_pb2.GetPersonaResponse],
    ) -> catalog_pb2.GetPersonaResponse:
        """Tell about one persona."""
        try:
            return self._personas.one(request)
        except AdapterError as error:
            await abort(context, error)

    async def ExplainRoute(
        self,
        request: catalog_pb2.ExplainRouteRequest,
        context: grpc.aio.ServicerContext[catalog_pb2.ExplainRouteRequest, catalog_pb2.ExplainRouteResponse],
    ) -> catalog_pb2.ExplainRouteResponse:
        """Tell where a chat would go now, and why."""
        try:
            return self._routes.explain(request)
        except AdapterError as error:
            await abort(context, error, within="" if error.field == "chat" else "chat")

    async def GetServerInfo(
        self,
        request: catalog_pb2.GetServerInfoRequest,  # noqa: ARG002 - it has no fields
        context: grpc.aio.ServicerContext[catalog_pb2.GetServerInfoRequest, catalog_pb2.GetServerInfoResponse],
    ) -> catalog_pb2.GetServerInfoResponse:
        """Tell about this server."""
        try:
            default_provider = self._router.default_provider()
        except AdapterError as error:
            await abort(context, error)
        return catalog_pb2.GetServerInfoResponse(
            version=self._version,
            contract_version=CONTRACT_VERSION,
            start_time=_timestamp(self._started),
            draining=self._admission.draining,
            max_receive_bytes=self._max_receive_bytes,
            default_provider=default_provider,
            running_chats=self._admission.running,
            configuration=_configuration(self._platform.status),
        )

    def _provider(self, name: str) -> catalog_pb2.Provider:
        spec = self._providers.spec(name)
        missing = self._providers.missing(name)
        return catalog_pb2.Provider(
            name=name,
            display_name=spec.display_name,
            configured=not missing,
            missing=missing,
            default_model=spec.default_model,
            family=spec.family,
        )

    async def _models(
        self, names: Iterable[str], limit: float
    ) -> tuple[list[catalog_pb2.Model], list[error_pb2.ErrorDetail]]:
        """Return the models of some providers by name, and who did not tell theirs in `limit` seconds."""
        found: dict[str, catalog_pb2.Model] = {}
        errors: list[error_pb2.ErrorDetail] = []
        names = list(names)
        answers = await asyncio.gather(*(self._ask(name, limit) for name in names))
        for name, answer in zip(names, answers, strict=True):
            for model in self._known(name):
                found[model.name] = model
            if isinstance(answer, AdapterError):
                self._providers.without_secrets(name, answer)
                errors.append(error_detail(answer, name))
                continue
            for listed in answer:
                full_name = f"{name}/{listed.model}"
                model = found.setdefault(full_name, catalog_pb2.Model())
                model.MergeFrom(listed)
                model.name, model.provider = full_name, name
        for model in found.values():
            del model.aliases[:]
            model.aliases.extend(self._router.aliases_of(model.name))
            self._add_facts(model)
        return sorted(found.values(), key=lambda model: model.name), errors

    def _add_facts(self, model: catalog_pb2.Model) -> None:
        """Tell what is known here of a model. Sizes are what the configuration, the provider or the data says."""
        spec, configuration = self._providers.spec(model.provider), self._platform.current
        model.is_default = model.model == spec.default_model
        facts = facts_of(spec, model.model, configuration)
        model.capabilities.CopyFrom(facts.message())
        declared = configuration.models.get(model.name, ModelFacts())
        if facts.context_window is not None and (declared.context_window or not model.HasField("context_window")):
            model.context_window = facts.context_window
        if facts.max_output_tokens is not None and (
            declared.max_output_tokens or not model.HasField("max_output_tokens")
        ):
            model.max_output_tokens = facts.max_output_tokens

    async def _ask(self, name: str, limit: float) -> list[catalog_pb2.Model] | AdapterError:
        if self._providers.missing(name):
            return []
        try:
            adapter = await self._providers.ready(name)
            if not isinstance(adapter, ListsModels):
                return []
            async with asyncio.timeout(limit):
                return await adapter.list_models()
        except TimeoutError:
            return ProviderTimeoutError(f"{name} did not list its models in {limit:g} s")
        except AdapterError as error:
            return error
        except Exception:
            self._logger.exception("list_models_fault", provider=name)
            return InternalError("an unexpected fault of the platform; see its log")

    def _known(self, name: str) -> list[catalog_pb2.Model]:
        spec = self._providers.spec(name)
        models = []
        for known in spec.models:
            model = catalog_pb2.Model(
                name=f"{name}/{known.name}", provider=name, model=known.name, display_name=known.display_name
            )
            if known.context_window is not None:
                model.context_window = known.context_window
            if known.max_output_tokens is not None:
                model.max_output_tokens = known.max_output_tokens
            models.append(model)
        return models


def _circuit(circuit: Circuit) -> catalog_pb2.ModelCircuit:
    storage = circuit.storage
    told = catalog_pb2.ModelCircuit(
        model=circuit.model, state=circuit.state, consecutive_failures=min(storage.failures, 2**31 - 1)
    )
    if storage.opened_at is not None:
        told.opened_time.CopyFrom(_timestamp(storage.opened_at.timestamp()))
    if told.state == catalog_pb2.CIRCUIT_STATE_OPEN:
        told.probe_time.CopyFrom(_timestamp(time.time() + circuit.wait()))
    return told


def _configuration(status: PlatformStatus | None) -> catalog_pb2.ConfigurationStatus | None:
    if status is None:
        return None
    last_reload = status.last_reload_time
    return catalog_pb2.ConfigurationStatus(
        files=status.files,
        loaded_time=_timestamp(status.loaded_time),
        digest=status.digest,
        personas=status.personas,
        last_reload_time=None if last_reload is None else _timestamp(last_reload),
        problems=status.problems[:_MOST_PROBLEMS],
    )


def _timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    timestamp = timestamp_pb2.Timestamp()
    timestamp.FromMilliseconds(int(seconds * 1000))
    return timestamp
