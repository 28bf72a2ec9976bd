"""What request and persona demand of whoever answers, and what is said where nobody meets it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from execution_platform.adapters.capabilities import Set, name_of
from execution_platform.adapters.errors import AdapterError, InvalidRequestError, NotConfiguredError
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.errors import CapabilityMissingError, NotAllowedError
from execution_platform.server.routing.capabilities import Facts, by_name, missing
from execution_platform.server.routing.persona import Persona
from execution_platform.server.routing.plan import Candidate
from execution_platform.server.routing.providers import Providers
from execution_platform.server.routing.whereabouts import Whereabouts, regions_known
from execution_platform.v1 import catalog_pb2, chat_pb2

__all__ = ["NOT_ALLOWED", "Refusal", "Rules", "nobody_left", "rules_for"]

NOT_ALLOWED = frozenset({catalog_pb2.ROUTE_VERDICT_PROVIDER_NOT_ALLOWED, catalog_pb2.ROUTE_VERDICT_REGION_NOT_ALLOWED})

#: Known names that an error lists.
_LISTED = 20

Refusal = tuple[catalog_pb2.RouteVerdict.ValueType, str]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is demanded.

    Attributes:
        providers: who may be asked, by whose list it is; an empty mapping: anybody.
        regions: where it may run, by whose list it is.
        required: what whoever answers must be able to do.
    """

    providers: Mapping[str, frozenset[str]]
    regions: Mapping[str, frozenset[str]]
    required: Set

    def forbids(self, provider: str, where: Whereabouts) -> Refusal | None:
        """Return why a route may not be asked; None: it may."""
        for whose, names in self.providers.items():
            if provider not in names:
                return catalog_pb2.ROUTE_VERDICT_PROVIDER_NOT_ALLOWED, f"{whose} allows only {_list(names)}"
        for whose, names in self.regions.items():
            if names.isdisjoint(where.names):
                why = f"{where}; {whose} allows only {_list(names)}"
                return catalog_pb2.ROUTE_VERDICT_REGION_NOT_ALLOWED, why
        return None

    def lacking(self, facts: Facts) -> Refusal | None:
        """Return what a model lacks of what is required; None: nothing."""
        lacks = missing(self.required, facts) if self.required else []
        return (catalog_pb2.ROUTE_VERDICT_CAPABILITY_MISSING, "; ".join(lacks)) if lacks else None


def rules_for(
    request: chat_pb2.ChatRequest, persona: Persona, configuration: PlatformConfiguration, providers: Providers
) -> Rules:
    """Return what a request and its persona demand together.

    Raises:
        InvalidRequestError: the request names a provider or a region that this server does not know.
    """
    routing, settings = request.routing, persona.settings
    for index, name in enumerate(routing.allowed_providers):
        if not providers.knows(name):
            _unknown(f"routing.allowed_providers[{index}]", name, "provider", providers.names())
    if routing.allowed_regions:
        regions = regions_known(configuration, providers)
        for index, name in enumerate(routing.allowed_regions):
            if name not in regions:
                _unknown(f"routing.allowed_regions[{index}]", name, "region", sorted(regions))
    required = by_name(settings.requires) if settings.requires else frozenset()
    return Rules(
        _lists(persona, settings.allowed_providers, routing.allowed_providers),
        _lists(persona, settings.allowed_regions, routing.allowed_regions),
        required | frozenset(routing.required_capabilities) if routing.required_capabilities else required,
    )


def nobody_left(refused: Sequence[Candidate], rules: Rules, field: str) -> AdapterError:
    """Return the error that tells why nobody is left to ask.

    It is of the kind of whoever came nearest: lacks something > has no credentials > is not allowed.

    Args:
        refused: all that are named; at least one.
        rules: what is demanded.
        field: path of the request's field that named them.
    """
    verdicts = {candidate.verdict for candidate in refused}
    told = "; ".join(f"{candidate.leg.name}: {candidate.reasons[-1]}" for candidate in refused)
    error: AdapterError
    if catalog_pb2.ROUTE_VERDICT_CAPABILITY_MISSING in verdicts:
        needed = ", ".join(name_of(each) for each in sorted(rules.required))
        error = CapabilityMissingError(f"no route can do what is required ({needed}): {told}", field=field)
    elif catalog_pb2.ROUTE_VERDICT_NOT_CONFIGURED not in verdicts:
        error = NotAllowedError(f"no route is allowed: {told}", field=field)
    elif len(refused) == 1:
        [only] = refused
        message = f"provider {only.leg.provider} is not configured: {only.reasons[-1]}"
        error = NotConfiguredError(message, field=field)
    else:
        error = NotConfiguredError(f"no route can be used: {told}", field=field)
    if len(refused) == 1:
        error.provider, error.model = refused[0].leg.provider, refused[0].leg.model
    return error


def _lists(persona: Persona, own: Iterable[str], given: Iterable[str]) -> dict[str, frozenset[str]]:
    lists = {persona.title: frozenset(own), "the request": frozenset(given)}
    return {whose: names for whose, names in lists.items() if names}


def _unknown(field: str, name: str, what: str, known: Sequence[str]) -> None:
    near = difflib.get_close_matches(name, known, n=1)
    have = (
        f"known: {', '.join(known[:_LISTED])}{' and more' if len(known) > _LISTED else ''}"
        if known
        else "there is none"
    )
    hint = f"did you mean {near[0]!r}?" if near else have
    raise InvalidRequestError(f"{field}: no {what} is named {name[:128]!r}; {hint}", field=field)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
