"""Turns the model that a request names into a provider and that provider's model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from execution_platform.adapters.errors import AdapterError, ModelNotFoundError, NotConfiguredError
from execution_platform.server.routing.providers import Providers
from execution_platform.v1 import chat_pb2

__all__ = ["Router", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Who serves a request.

    Attributes:
        provider: its name.
        model: the provider's own name of the model.
        notice: what to tell the caller about the choice; None: the caller chose.
    """

    provider: str
    model: str
    notice: chat_pb2.Notice | None = None


class Router:
    """Resolves models: ``provider/model``, an alias, a provider's name, or nothing."""

    def __init__(self, providers: Providers, aliases: Mapping[str, str], default_model: str) -> None:
        self._providers = providers
        self._aliases = dict(aliases)
        self._default_model = default_model

    def aliases_of(self, name: str) -> list[str]:
        """Return the aliases that mean ``provider/model``, sorted."""
        return sorted(alias for alias, target in self._aliases.items() if target == name)

    def default_provider(self) -> str:
        """Return the provider of requests that name no model; empty: there is none."""
        if self._default_model:
            return self.resolve(self._default_model).provider
        return self._providers.automatic() or ""

    def providers(self) -> set[str]:
        """Return the providers of the default and of all aliases."""
        return {self.default_provider(), *(self.resolve(alias).provider for alias in self._aliases)} - {""}

    def resolve(self, model: str, field: str = "model") -> Target:
        """Resolve what a request names as its model.

        Args:
            model: ``provider/model``, an alias, a provider's name, or nothing.
            field: path of the request's field, for errors.

        Raises:
            ProviderNotFoundError: it names a provider that is not known.
            ModelNotFoundError: it is neither alias nor provider, or the provider has no default model.
            NotConfiguredError: nothing is named, and no provider can be used.
        """
        if not model:
            return self._choose()
        model = self._aliases.get(model, model)
        provider, slash, name = model.partition("/")
        try:
            if slash:
                self._providers.spec(provider)
                return Target(provider, name) if name else self._default_of(provider, field)
            if self._providers.knows(model):
                return self._default_of(model, field)
        except AdapterError as error:
            error.field = field
            raise
        raise ModelNotFoundError(
            f"{field}: {model!r} is neither provider/model, nor an alias, nor a provider{self._suggestion(model)}",
            field=field,
        )

    def next_automatic(self, chosen: str) -> list[Target]:
        """Return what follows when a provider was chosen by the credentials that are there: the others that have some.

        Those that need none, such as `scripted`, never answer in place of one that was to be paid for.
        """
        return [
            self._default_of(name)
            for name in self._providers.ranked()
            if name != chosen and self._has_credentials(name) and self._providers.spec(name).default_model
        ]

    def is_automatic(self) -> bool:
        """Return whether the credentials decide where no model is named, rather than EP_DEFAULT_MODEL."""
        return not self._default_model

    def _has_credentials(self, name: str) -> bool:
        return self._providers.spec(name).needs_key or self._providers.config(name).api_key is not None

    def _choose(self) -> Target:
        if self._default_model:
            target = self.resolve(self._default_model)
            return self._told(target, "the request names no model; EP_DEFAULT_MODEL says so")
        provider = self._providers.automatic()
        if provider is None:
            raise NotConfiguredError(
                "no model is named and no provider is configured: set a key such as EP_OPENAI_API_KEY, "
                "or name provider/model",
                field="model",
            )
        target = self._default_of(provider)
        why = "the request names no model; this is the first provider that has what it needs"
        if not self._has_credentials(provider):
            why = "the request names no model and no provider's key is set; this one runs without"
        return self._told(target, why)

    def _told(self, target: Target, why: str) -> Target:
        notice = chat_pb2.Notice(
            code=chat_pb2.NOTICE_CODE_ROUTE_CHOSEN,
            field="model",
            message=f"{target.provider}/{target.model} was chosen: {why}",
        )
        return Target(target.provider, target.model, notice)

    def _default_of(self, provider: str, field: str = "model") -> Target:
        spec = self._providers.spec(provider)
        if not spec.default_model:
            raise ModelNotFoundError(
                f"{field}: {provider} has no default model; name one as {provider}/model", field=field
            )
        return Target(provider, spec.default_model)

    def _suggestion(self, model: str) -> str:
        exact = [
            f"{name}/{model}"
            for name in self._providers.names()
            if any(known.name == model for known in self._providers.spec(name).models)
        ]
        near = exact or difflib.get_close_matches(model, [*self._aliases, *self._providers.names()], n=1)
        return f"; did you mean {near[0]!r}?" if near else "; name it as provider/model"
