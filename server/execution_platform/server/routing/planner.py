"""Makes the plan of a chat, and tells why it is so. Asks nobody and spends nothing.

Who decides, in this order: the request's model, its persona, EP_DEFAULT_MODEL, the credentials that are there. What was
named is then judged by the rules of request and persona, and put into the order of the persona's strategy. A plan
depends on nothing but the request with its id, the configuration, the credentials, and what latencies and prices say.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from execution_platform.adapters.capabilities import Set, name_of
from execution_platform.adapters.errors import NotConfiguredError, UnsupportedOptionError
from execution_platform.server.config.personas import MidStream, PlatformConfiguration, Strategy
from execution_platform.server.errors import PersonaNotFoundError
from execution_platform.server.routing.capabilities import MEDIA, Facts, facts_of, fitted, used_by
from execution_platform.server.routing.named import Named, Naming, named_by, named_for
from execution_platform.server.routing.persona import Persona, title_of
from execution_platform.server.routing.plan import Candidate, Leg, Plan
from execution_platform.server.routing.providers import Providers
from execution_platform.server.routing.router import Router
from execution_platform.server.routing.rules import Refusal, Rules, nobody_left, rules_for
from execution_platform.server.routing.strategies import Inputs, KnowsLatencies, KnowsPrices, Option, ordered
from execution_platform.server.routing.whereabouts import Whereabouts, whereabouts_of
from execution_platform.v1 import catalog_pb2, chat_pb2

__all__ = ["Planner"]

#: Models whose facts are remembered. Callers may name any model, so there has to be an end.
_REMEMBERED = 1_024

_MID_STREAM = {
    chat_pb2.MID_STREAM_POLICY_NEVER: MidStream.NEVER,
    chat_pb2.MID_STREAM_POLICY_RESTART: MidStream.RESTART,
    chat_pb2.MID_STREAM_POLICY_CONTINUE: MidStream.CONTINUE,
}


class Planner:
    """Makes plans.

    Args:
        router: resolves names of models.
        providers: who can be asked.
        configuration: gives the configuration in force.
        latencies: how soon models have begun to answer.
        prices: what models cost.
    """

    def __init__(
        self,
        router: Router,
        providers: Providers,
        configuration: Callable[[], PlatformConfiguration],
        latencies: KnowsLatencies,
        prices: KnowsPrices,
    ) -> None:
        self._router = router
        self._providers = providers
        self._configuration = configuration
        self._latencies = latencies
        self._prices = prices
        self._known = _Known(configuration())

    def plan(self, request: chat_pb2.ChatRequest, request_id: str) -> Plan:
        """Make the plan of a chat.

        Args:
            request: the chat, validated; never changed.
            request_id: its id, also where the caller gave none.

        Raises:
            PersonaNotFoundError: the request names a persona that the configuration does not have.
            ProviderNotFoundError: it names a provider that is not known.
            ModelNotFoundError: it names something that is no model.
            InvalidRequestError: it allows providers or regions that are not known.
            NotAllowedError: its tools, or all routes, are not allowed.
            CapabilityMissingError: no route can do what is required.
            UnsupportedOptionError: no route can honour its options, and it wants that refused.
            NotConfiguredError: no route that may be asked has credentials.
        """
        plan = self._made(request, request_id)
        if plan.error is not None:
            raise plan.error
        return plan

    def considered(self, request: chat_pb2.ChatRequest, request_id: str) -> Plan:
        """Make the plan of a chat, also where nobody can be asked: `candidates` tell who was named, `error` why not.

        Raises what :meth:`plan` raises where the request itself is wrong.
        """
        return self._made(request, request_id)

    def explain(self, request: chat_pb2.ChatRequest, request_id: str) -> Plan:
        """Make the plan of a chat and tell of every provider why it is asked or not; `error` says why nobody is left.

        Raises what :meth:`plan` raises where the request itself is wrong.
        """
        plan = self._made(request, request_id)
        seen = {candidate.leg.provider for candidate in plan.candidates}
        rest = (name for name in self._providers.names() if name not in seen)
        return replace(plan, candidates=(*plan.candidates, *(self._bystander(name, plan) for name in rest)))

    def persona(self, name: str, field: str = "persona") -> Persona:
        """Return the persona of a name. Raises PersonaNotFoundError, also where the configuration has none at all."""
        if not self._configuration().personas:
            raise PersonaNotFoundError(f"{field}: the configuration has no personas", field=field)
        return self._known_now().persona(name, field)

    def models_of(self, name: str) -> list[str]:
        """Return whom a persona names as ``provider/model``, in order. Raises PersonaNotFoundError."""
        return [each.name for each in named_by(self.persona(name), self._router, self._providers)]

    def providers(self) -> set[str]:
        """Return the providers that the default, an alias or a persona names."""
        known, names = self._known_now(), ("", *self._configuration().personas)
        personas = [known.persona(name, "persona") for name in names]
        named = [named_by(persona, self._router, self._providers) for persona in personas]
        return self._router.providers().union(each.provider for those in named for each in those)

    def facts(self, provider: str, model: str) -> Facts:
        """Return what is known of a model. Raises ProviderNotFoundError."""
        return self._known_now().facts(self._providers, provider, model)

    def _made(self, request: chat_pb2.ChatRequest, request_id: str) -> Plan:
        known = self._known_now()
        persona = known.persona(request.persona)
        filled = persona.applied(request)
        rules = rules_for(request, persona, known.configuration, self._providers)
        plan = _plan_of(filled, persona)
        try:
            naming = named_for(request, persona, self._router, self._providers)
        except NotConfiguredError as error:
            return replace(plan, decided_by="the credentials that are there", error=error)
        judged = _Judged(known, self._providers, rules, filled)
        judged.take(naming)
        return self._ordered(plan, naming, judged, Inputs(filled, request_id, self._latencies, self._prices))

    def _ordered(self, plan: Plan, naming: Naming, judged: _Judged, inputs: Inputs) -> Plan:
        """Put who is left into order."""
        wanted = Strategy.PRIORITY if naming.in_turn else plan.strategy
        options = [Option(each.leg.provider, each.leg.model, each.weight) for each in judged.left]
        order = ordered(wanted, options, inputs)
        left = [judged.left[index].because(order.reasons[index]) for index in order.options]
        left.sort(key=lambda each: bool(each.lacks))  # stable: those that lack something come after those that do not
        asked = [*judged.pinned, *left]
        over: list[_Open] = []
        if plan.retries is None:
            asked, over = asked[:1], asked[1:]
        refused = tuple(judged.refused)
        error = None if asked else judged.error or nobody_left(refused, judged.rules, _field_of(naming))
        return replace(
            plan,
            legs=tuple(each.leg for each in asked),
            candidates=(
                *(Candidate(each.leg, catalog_pb2.ROUTE_VERDICT_CHOSEN, each.reasons) for each in asked),
                *(_not_needed(each.leg, each.reasons, "the request wants no fallback") for each in over),
                *refused,
                *(_not_needed(Leg(each.provider, each.model), (each.why,), why) for each, why in naming.passed_over),
            ),
            strategy=order.strategy if left else Strategy.PRIORITY,
            decided_by=naming.decided_by,
            notice=_not_the_first(naming, order.strategy, refused, asked)
            or naming.notice
            or _no_session(plan, wanted, order.strategy, asked),
            error=error,
        )

    def _bystander(self, provider: str, plan: Plan) -> Candidate:
        """Return a provider that nobody named."""
        leg = Leg(provider, self._providers.spec(provider).default_model)
        missing = self._providers.missing(provider)
        if missing:
            return Candidate(leg, catalog_pb2.ROUTE_VERDICT_NOT_CONFIGURED, (missing,))
        return _not_needed(leg, (), f"{plan.decided_by} decided" if plan.decided_by else "nobody named it")

    def _known_now(self) -> _Known:
        configuration = self._configuration()
        if configuration is not self._known.configuration:
            self._known = _Known(configuration)
        return self._known


@dataclass(slots=True)
class _Known:
    """What follows from one configuration and is remembered while it is in force."""

    configuration: PlatformConfiguration
    _personas: dict[str, Persona] = field(default_factory=dict)
    _facts: dict[tuple[str, str], Facts] = field(default_factory=dict)
    _where: dict[tuple[str, str], Whereabouts] = field(default_factory=dict)

    def persona(self, name: str, field: str = "persona") -> Persona:
        """Return the persona of that name; without one, or without any in the configuration, what the defaults say."""
        personas = self.configuration.personas
        if not personas:
            name = ""
        if name and name not in personas:
            near = difflib.get_close_matches(name, personas, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(personas)[:20])}"
            raise PersonaNotFoundError(f"{field}: the configuration has no {name!r}; {hint}", field=field)
        persona = self._personas.get(name)
        if persona is None:
            settings = personas[name] if name else self.configuration.defaults
            persona = self._personas[name] = Persona(name, settings)
        return persona

    def facts(self, providers: Providers, provider: str, model: str) -> Facts:
        """Return what is known of a model."""
        facts = self._facts.get((provider, model))
        if facts is None:
            facts = self._facts[provider, model] = facts_of(providers.spec(provider), model, self.configuration)
            if len(self._facts) > _REMEMBERED:
                del self._facts[next(iter(self._facts))]
        return facts

    def where(self, providers: Providers, provider: str, model: str) -> Whereabouts:
        """Return where a model runs."""
        where = self._where.get((provider, model))
        if where is None:
            where = self._where[provider, model] = whereabouts_of(self.configuration, providers, provider, model)
            if len(self._where) > _REMEMBERED:
                del self._where[next(iter(self._where))]
        return where


@dataclass(frozen=True, slots=True)
class _Open:
    """One that may be asked."""

    leg: Leg
    weight: float
    facts: Facts
    reasons: tuple[str, ...]
    lacks: Set = frozenset()

    def because(self, reason: str) -> _Open:
        """Return it with one more reason."""
        return replace(self, reasons=(*self.reasons, reason)) if reason else self


@dataclass(slots=True)
class _Judged:
    """Who is named, judged: who may be asked, and who not."""

    known: _Known
    providers: Providers
    rules: Rules
    request: chat_pb2.ChatRequest
    pinned: list[_Open] = field(default_factory=list)
    left: list[_Open] = field(default_factory=list)
    refused: list[Candidate] = field(default_factory=list)
    error: UnsupportedOptionError | None = None

    def take(self, naming: Naming) -> None:
        """Judge all that are named."""
        self.pinned = list(self._judge([] if naming.pinned is None else [naming.pinned]))
        self.left = list(self._judge(naming.others))
        if len(self.left) > 1 or (self.left and self.pinned):
            self._prefer_able()

    def _judge(self, named: Iterable[Named]) -> Iterator[_Open]:
        for each in named:
            where = self.known.where(self.providers, each.provider, each.model)
            leg = Leg(each.provider, each.model, where.region)
            found = self._refusal(each, where) or self._fitting(each, leg)
            if isinstance(found, _Open):
                yield found
            else:
                self.refused.append(Candidate(leg, found[0], (each.why, found[1])))

    def _refusal(self, named: Named, where: Whereabouts) -> Refusal | None:
        """Return why one may not or cannot be asked; None: it may."""
        refusal = self.rules.forbids(named.provider, where)
        if refusal is not None:
            return refusal
        missing = named.problem or self.providers.missing(named.provider)
        return (catalog_pb2.ROUTE_VERDICT_NOT_CONFIGURED, missing) if missing else None

    def _fitting(self, named: Named, leg: Leg) -> _Open | Refusal:
        """Return one with the request as it can take it, or why it cannot take it at all."""
        facts = self.known.facts(self.providers, leg.provider, leg.model)
        lacking = self.rules.lacking(facts)
        if lacking is not None:
            return lacking
        try:
            request, notices = fitted(self.request, facts)
        except UnsupportedOptionError as error:
            self.error = self.error or error
            return catalog_pb2.ROUTE_VERDICT_CAPABILITY_MISSING, error.message
        leg = replace(leg, request=request, notices=notices)
        return _Open(leg, named.weight, facts, (named.why,))

    def _prefer_able(self) -> None:
        """Mark who lacks what the request uses; whoever cannot take its media is out where somebody else can."""
        used = used_by(self.request)
        if not used:
            return
        able = [each for each in (*self.pinned, *self.left) if not _lacked(each, used & MEDIA)]
        kept: list[_Open] = []
        for each in self.left:
            lacks = _lacked(each, used)
            if lacks & MEDIA and able:
                why = f"lacks {_list(lacks & MEDIA)}, which the request uses"
                verdict = catalog_pb2.ROUTE_VERDICT_CAPABILITY_MISSING
                self.refused.append(Candidate(each.leg, verdict, (*each.reasons, why)))
            elif lacks:
                why = f"lacks {_list(lacks)}, which the request uses: after those that do not"
                kept.append(replace(each.because(why), lacks=lacks))
            else:
                kept.append(each)
        self.left = kept


def _plan_of(request: chat_pb2.ChatRequest, persona: Persona) -> Plan:
    """Return what a plan has from persona and request before anybody is chosen."""
    settings, routing = persona.settings, request.routing
    retries = not routing.HasField("retries") or routing.retries
    return Plan(
        request,
        persona=persona.name,
        strategy=settings.strategy,
        limits=settings.limits,
        retries=settings.retries if retries else None,
        hedging=settings.hedging if retries else None,
        mid_stream=_MID_STREAM.get(routing.mid_stream, settings.mid_stream) if retries else MidStream.NEVER,
        first_token=_seconds(routing, "first_token_timeout", settings.timeouts.first_token),
        idle=_seconds(routing, "idle_timeout", settings.timeouts.idle),
        total=settings.timeouts.total,
        track_reasons=settings.fallback_reason_tracking,
    )


def _seconds(routing: chat_pb2.Routing, name: str, default: float | None) -> float | None:
    if not routing.HasField(name):  # type: ignore[arg-type]  # the names are this message's own
        return default
    return float(getattr(routing, name).ToTimedelta().total_seconds())


def _not_needed(leg: Leg, reasons: Sequence[str], why: str) -> Candidate:
    return Candidate(leg, catalog_pb2.ROUTE_VERDICT_NOT_NEEDED, (*reasons, why))


def _field_of(naming: Naming) -> str:
    return naming.others[0].field if naming.pinned is None else naming.pinned.field


def _not_the_first(
    naming: Naming, strategy: Strategy, refused: Sequence[Candidate], asked: Sequence[_Open]
) -> chat_pb2.Notice | None:
    """Return what to tell a caller whose first choice cannot be asked at all; None: it can, or nobody comes first."""
    first = naming.pinned
    if first is None and strategy is Strategy.PRIORITY:
        first = naming.others[0]
    why = [each.reasons[-1] for each in refused if first is not None and first.is_leg(each.leg)]
    if first is None or not why or not asked:
        return None
    return chat_pb2.Notice(
        code=chat_pb2.NOTICE_CODE_FALLBACK_USED,
        field=first.field,
        message=f"{asked[0].leg.name} is asked in place of {first.name}: {why[0]}",
    )


def _no_session(plan: Plan, wanted: Strategy, used: Strategy, asked: Sequence[_Open]) -> chat_pb2.Notice | None:
    """Return what to tell a caller whose chat cannot stick to a provider."""
    if wanted is used or len(asked) < 2:
        return None
    return chat_pb2.Notice(
        code=chat_pb2.NOTICE_CODE_ROUTE_CHOSEN,
        field="context.session_id",
        message=f"{title_of(plan.persona)} keeps a session with one provider, and the request names no session: "
        "routes are asked in the order of their list",
    )


def _lacked(each: _Open, used: Set) -> Set:
    return used & each.facts.unsupported


def _list(capabilities: Set) -> str:
    return ", ".join(name_of(each) for each in sorted(capabilities))
