"""Who is named for a chat, by whom: the request first, then its persona, then what this server has credentials for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.config.personas import RouteTarget
from execution_platform.server.routing.persona import Persona
from execution_platform.server.routing.plan import Leg
from execution_platform.server.routing.providers import Providers
from execution_platform.server.routing.router import Router, Target
from execution_platform.v1 import chat_pb2

__all__ = ["Named", "Naming", "named_by", "named_for"]


@dataclass(frozen=True, slots=True)
class Named:
    """One that is named.

    Attributes:
        provider: its name.
        model: the provider's name of the model; empty: the provider has no default, or is not there.
        why: by whom, for people.
        field: path of the request's field that names it.
        weight: share of the chats.
        problem: why it cannot be asked at all; empty: it can as far as its name goes.
    """

    provider: str
    model: str
    why: str
    field: str
    weight: float = 1.0
    problem: str = ""

    @property
    def name(self) -> str:
        """``provider/model``."""
        return f"{self.provider}/{self.model}" if self.model else self.provider

    def is_leg(self, leg: Leg) -> bool:
        """Return whether a leg stands for it."""
        return (leg.provider, leg.model) == (self.provider, self.model)


@dataclass(frozen=True, slots=True)
class Naming:
    """All that are named.

    Attributes:
        pinned: the request's own model, which is asked first whatever the strategy; None: it names none.
        others: the rest, each once.
        passed_over: who is named but does not count, each with the reason.
        decided_by: who decided, for people.
        in_turn: the order is the request's own.
        notice: what to tell the caller about the choice; None: the caller or a persona chose.
    """

    pinned: Named | None
    others: tuple[Named, ...]
    passed_over: tuple[tuple[Named, str], ...]
    decided_by: str
    in_turn: bool = False
    notice: chat_pb2.Notice | None = None


def named_for(request: chat_pb2.ChatRequest, persona: Persona, router: Router, providers: Providers) -> Naming:
    """Return who is named for a chat.

    Raises:
        ProviderNotFoundError: the request names a provider that is not known.
        ModelNotFoundError: the request names something that is no model.
        NotConfiguredError: nobody names anybody, and no provider can be used.
    """
    names = _Names(persona, router, providers)
    own = names.of_persona()
    if request.routing.fallback_models:
        fallbacks = names.of_request(request.routing.fallback_models)
        replaced = "the request names its own fallbacks"
    else:
        fallbacks, replaced = names.fallbacks(), ""
    passed = [(each, replaced) for each in names.fallbacks()] if replaced else []
    if request.model:
        pinned = names.asked_for(request.model, "model", "the request's model")
        passed += [(each, "the request names another model") for each in own]
        naming = Naming(pinned, fallbacks, tuple(passed), "the request's model", bool(replaced))
    elif own:
        naming = Naming(None, (*own, *fallbacks), tuple(passed), persona.title, bool(replaced))
    else:
        naming = _by_server(names, router, fallbacks, tuple(passed), in_turn=bool(replaced))
    return _each_once(naming)


def named_by(persona: Persona, router: Router, providers: Providers) -> list[Named]:
    """Return whom a persona names, in order."""
    names = _Names(persona, router, providers)
    return [*names.of_persona(), *names.fallbacks()]


def _by_server(
    names: _Names,
    router: Router,
    fallbacks: tuple[Named, ...],
    passed_over: tuple[tuple[Named, str], ...],
    *,
    in_turn: bool,
) -> Naming:
    """Return who is named where neither request nor persona names a model."""
    target = router.resolve("")
    decided = "the credentials that are there" if router.is_automatic() else "EP_DEFAULT_MODEL"
    others = [_named(target, decided)]
    if router.is_automatic() and not fallbacks:
        others += [_named(each, decided) for each in router.next_automatic(target.provider)]
    naming = Naming(None, (*others, *fallbacks), passed_over, decided, in_turn, target.notice)
    return naming if not names.persona.name else _with_persona(naming, names.persona)


def _with_persona(naming: Naming, persona: Persona) -> Naming:
    decided = f"{naming.decided_by}, for {persona.title} names no provider"
    return Naming(naming.pinned, naming.others, naming.passed_over, decided, naming.in_turn, naming.notice)


def _each_once(naming: Naming) -> Naming:
    seen = set() if naming.pinned is None else {naming.pinned.name}
    others: list[Named] = []
    for each in naming.others:
        if each.name not in seen:
            seen.add(each.name)
            others.append(each)
    passed: list[tuple[Named, str]] = []
    for each, why in naming.passed_over:
        if each.name not in seen:
            seen.add(each.name)
            passed.append((each, why))
    return Naming(naming.pinned, tuple(others), tuple(passed), naming.decided_by, naming.in_turn, naming.notice)


def _named(target: Target, why: str) -> Named:
    return Named(target.provider, target.model, why, "model")


@dataclass(frozen=True, slots=True)
class _Names:
    """Looks up names."""

    persona: Persona
    router: Router
    providers: Providers

    def asked_for(self, model: str, field: str, why: str) -> Named:
        """Return what the request names. Raises AdapterError if that is nothing."""
        target = self.router.resolve(model, field)
        return Named(target.provider, target.model, why, field)

    def of_request(self, models: Iterable[str]) -> tuple[Named, ...]:
        """Return the request's fallbacks. Raises AdapterError."""
        fields = ((f"routing.fallback_models[{index}]", model) for index, model in enumerate(models))
        return tuple(self.asked_for(model, field, f"the request's {field}") for field, model in fields)

    def of_persona(self) -> tuple[Named, ...]:
        """Return the persona's own model; nothing if it names none."""
        settings, why = self.persona.settings, f"the model of {self.persona.title}"
        if settings.provider:
            return (self._configured(settings.provider, settings.model, settings.weight, why),)
        if not settings.model:
            return ()
        try:
            target = self.router.resolve(settings.model, "persona")
        except AdapterError as error:
            return (Named(settings.model, "", why, "persona", settings.weight, error.message),)
        return (Named(target.provider, target.model, why, "persona", settings.weight),)

    def fallbacks(self) -> tuple[Named, ...]:
        """Return the persona's fallbacks."""
        return tuple(
            self._target(target, f"fallback {index} of {self.persona.title}")
            for index, target in enumerate(self.persona.settings.fallback, 1)
        )

    def _target(self, target: RouteTarget, why: str) -> Named:
        return self._configured(target.provider, target.model, target.weight, why)

    def _configured(self, provider: str, model: str, weight: float, why: str) -> Named:
        problem = ""
        if not self.providers.knows(provider):
            problem = "there is no provider of this name"
        else:
            model = model or self.providers.spec(provider).default_model
            if not model:
                problem = "has no default model; name one in the configuration"
        return Named(provider, model, why, "persona", weight, problem)
