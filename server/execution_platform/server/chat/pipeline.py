"""One chat from admission to its end. Knows nothing of gRPC: events go to a `send` that is handed in."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn

from execution_platform.adapters.errors import AdapterError, NotSupportedError, ProviderTimeoutError
from execution_platform.adapters.spi import Call, CountsTokens, Events
from execution_platform.server.chat.accounts import Account
from execution_platform.server.chat.admission import Admission
from execution_platform.server.chat.keeping import Keeping
from execution_platform.server.chat.register import RequestRegister
from execution_platform.server.chat.sequencing import ChatClock, Sequencer
from execution_platform.server.chat.spending import spending
from execution_platform.server.chat.validation import check_chat, check_tool_choice
from execution_platform.server.errors import (
    DeadlineExceededError,
    DrainingError,
    InternalError,
    LimitReachedError,
    ServerOverloadedError,
)
from execution_platform.server.ledger.ledger import Ledger
from execution_platform.server.limits.limiter import SHOWN_OF_KEYS
from execution_platform.server.limits.limits import Limits
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.journal import Journal
from execution_platform.server.resilience.route import Routes
from execution_platform.server.routing.plan import Plan
from execution_platform.server.routing.planner import Planner
from execution_platform.server.routing.providers import Providers
from execution_platform.server.status import error_detail
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import chat_pb2, error_pb2, usage_pb2

__all__ = ["CallerGoneError", "ChatFailedError", "ChatPipeline", "Send"]

#: Seconds that a provider may take to end its connection once the answer is complete.
_SETTLE_SECONDS = 1.0

#: Seconds that a caller may take to read `failed`; the status tells the same to one that reads nothing.
_FAILED_SECONDS = 2.0

#: Most characters of each word of the caller's, and most labels, in a line of the log.
_LOGGED_CHARACTERS, _LOGGED_LABELS = 128, 32

#: Failures whose words may quote the request; once a provider has been asked they are its words, not ours.
_ABOUT_THE_REQUEST = frozenset(
    {
        error_pb2.ERROR_REASON_INVALID_REQUEST,
        error_pb2.ERROR_REASON_UNSUPPORTED_OPTION,
        error_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
        error_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
        error_pb2.ERROR_REASON_NOT_FOUND,
    }
)

Send = Callable[[list[chat_pb2.ChatEvent]], Awaitable[None]]


class ChatFailedError(Exception):
    """A chat failed; the caller has been sent `failed`, if there was a stream to send it on.

    Attributes:
        detail: why.
        request_id: of the chat.
        attempt: number of the failed attempt, 0 when nobody was asked.
        after_output: output had been sent.
        subject: whose limit is reached; empty: none of ours.
    """

    def __init__(
        self, detail: error_pb2.ErrorDetail, request_id: str, *, attempt: int, after_output: bool, subject: str = ""
    ) -> None:
        super().__init__(detail.message)
        self.detail = detail
        self.request_id = request_id
        self.attempt = attempt
        self.after_output = after_output
        self.subject = subject


class CallerGoneError(Exception):
    """The caller is not there any more: it cancelled, or its connection broke."""


@dataclass(slots=True)
class _Run:
    """What is known of one chat while it runs; the log line is made of it, however it ends."""

    request: chat_pb2.ChatRequest
    request_id: str
    clock: ChatClock
    unary: bool
    timeout: float
    caller: str = ""
    trace_id: str = ""
    plan: Plan | None = None
    journal: Journal = field(default_factory=Journal)
    sequencer: Sequencer | None = None
    account: Account | None = None
    unsent: list[chat_pb2.ChatEvent] = field(default_factory=list)
    detail: error_pb2.ErrorDetail | None = None
    ending: str = "cancelled"


class ChatPipeline:
    """Runs chats.

    Args:
        providers: the adapters.
        planner: whom a request asks, in which order.
        routes: how they are asked.
        admission: whether there is room.
        limits: what may be used.
        metrics: count chats.
        logger: gets one line for each chat.
        ledger: keeps account of chats; None: nobody does.
    """

    def __init__(
        self,
        providers: Providers,
        planner: Planner,
        routes: Routes,
        admission: Admission,
        limits: Limits,
        metrics: Metrics,
        logger: Logger,
        ledger: Ledger | None = None,
    ) -> None:
        self._providers = providers
        self._planner = planner
        self._routes = routes
        self._admission = admission
        self._limits = limits
        self._metrics = metrics
        self._register = RequestRegister()
        self._logger = logger
        self._keeping = Keeping(ledger, limits, metrics, logger)

    @contextlib.asynccontextmanager
    async def admitted(self, timeout: float) -> AsyncIterator[ChatClock]:
        """Hold a place, having waited for it; `timeout` seconds are left.

        Yields:
            The chat's clock, which tells the wait as well.

        Raises:
            LedgerUnavailableError: nobody could keep account of the chat.
            DrainingError: the server is about to end.
            ServerOverloadedError: there is no place.
        """
        clock = ChatClock()
        self._keeping.admit()
        try:
            async with self._admission.entered(timeout):
                yield clock
        except ServerOverloadedError:
            self._metrics.limited("server", "max_concurrent_chats")
            raise

    async def run(
        self,
        request: chat_pb2.ChatRequest,
        request_id: str,
        send: Send,
        *,
        clock: ChatClock,
        timeout: float,
        unary: bool = False,
        trace_id: str = "",
        caller: str = "",
    ) -> None:
        """Run a chat that has been admitted, up to its `finished`.

        Args:
            request: as the caller sent it.
            request_id: the caller's, or a minted one.
            send: takes the events, in order; raising or being cancelled in it ends the chat.
            clock: of the chat, from :meth:`admitted`.
            timeout: seconds that it may take since it arrived.
            unary: ask the provider for a whole answer.
            trace_id: the caller's trace, for the log; empty: none.
            caller: SHA-256 digest of the caller's bearer token, in hex; empty: none.

        Raises:
            ChatFailedError: it failed, and `failed` has been sent if the caller reads.
            CallerGoneError: nobody takes the events.
        """
        run = _Run(request, request_id, clock, unary, timeout, caller, trace_id)
        try:
            await self._bounded(run, send)
            run.ending = "finished"
        except AdapterError as error:
            await self._fail(run, _in_time(run, error), send)
        except CallerGoneError:
            raise
        except Exception:
            self._logger.exception("chat_fault", request_id=request_id[:_LOGGED_CHARACTERS])
            await self._fail(run, InternalError(), send)
        finally:
            try:
                await self._keeping.gone(run.account)
            finally:
                self._note(run)

    async def count_tokens(self, request: chat_pb2.ChatRequest, *, timeout: float) -> chat_pb2.CountTokensResponse:
        """Count the input tokens of a chat. Raises AdapterError."""
        check_chat(request)
        plan = self._planner.plan(request, request.request_id or str(uuid.uuid4()))
        check_tool_choice(plan.request)
        leg = plan.legs[0]
        try:
            async with asyncio.timeout(timeout):
                return await self._count(plan, timeout)
        except TimeoutError:
            raise DeadlineExceededError(f"counting took longer than its {timeout:g} s") from None
        except AdapterError as error:
            self._providers.without_secrets(leg.provider, error, request)
            raise
        except Exception as error:
            self._logger.exception("count_tokens_fault", provider=leg.provider, model=leg.model)
            raise InternalError from error

    async def _count(self, plan: Plan, timeout: float) -> chat_pb2.CountTokensResponse:
        leg = plan.legs[0]
        adapter = await self._providers.ready(leg.provider)
        if not isinstance(adapter, CountsTokens):
            raise NotSupportedError(f"provider {leg.provider} has no counter of tokens")
        request = leg.request or plan.request
        call = Call(request, leg.model, request.request_id or str(uuid.uuid4()), timeout=timeout)
        count = await adapter.count_tokens(call)
        response = chat_pb2.CountTokensResponse(
            input_tokens=count.input_tokens,
            route=chat_pb2.Route(provider=leg.provider, model=leg.model, region=leg.region),
            provider_usage_json=count.raw_json,
        )
        if plan.notice is not None:
            response.notices.append(plan.notice)
        response.notices.extend((*leg.notices, *count.notices))
        return response

    async def _bounded(self, run: _Run, send: Send) -> None:
        scope = asyncio.timeout(run.clock.arrived + run.timeout - time.monotonic())
        try:
            async with scope:
                with self._admission.endable(scope), self._register.running(run.request):
                    await self._attempts(run, send, scope)
        except TimeoutError:
            if not scope.expired():
                raise
            if run.sequencer is None or run.sequencer.finished is None or not await self._ended_late(run, send):
                if self._admission.ended:
                    raise DrainingError("the server ended before the chat did", retry_after=1.0) from None
                raise _too_late(run) from None

    async def _attempts(self, run: _Run, send: Send, scope: asyncio.Timeout) -> None:
        check_chat(run.request)
        run.plan = plan = self._planner.plan(run.request, run.request_id)
        check_tool_choice(plan.request)
        if plan.total is not None and plan.total < run.timeout:
            run.timeout = plan.total
            scope.reschedule(asyncio.get_running_loop().time() + run.clock.arrived + plan.total - time.monotonic())
        run.account = self._keeping.open(plan, run.journal, run.clock, run.request_id, run.caller)
        run.sequencer = sequencer = Sequencer(run.request_id, plan, run.journal, run.clock)
        deadline = run.clock.arrived + run.timeout
        call = Call(
            plan.request, plan.legs[0].model, run.request_id, run.unary, run.timeout, on_startup=run.clock.started_up
        )
        run.clock.sent = time.monotonic()
        route = self._routes.build(plan, run.journal, deadline)
        async with (
            spending(self._limits, plan, run.caller, run.journal),
            contextlib.aclosing(route.stream(call)) as stream,
        ):
            async for events in stream:
                ready = sequencer.take(events)
                if sequencer.finished is not None:
                    await self._finish(run, ready, send)
                    await _settle(stream)
                    break
                if ready:
                    await send(ready)

    async def _finish(self, run: _Run, last: list[chat_pb2.ChatEvent], send: Send) -> None:
        """Send an answer's last events; `finished`, which is the last of them, once the ledger has the record."""
        if run.account is None:
            await send(last)
            return
        # What the answer says does not wait for the ledger; what only ends it may come with `finished`.
        says = any(event.HasField("block_delta") or event.HasField("block_started") for event in last)
        run.unsent = last[-1:] if says else last
        if says:
            await send(last[:-1])
        await self._end(run, run.account, send)

    async def _end(self, run: _Run, account: Account, send: Send) -> None:
        finished = run.unsent[-1].finished
        await self._keeping.finished(account, finished.reason)
        unsent, run.unsent = run.unsent, []
        await send(unsent)

    async def _ended_late(self, run: _Run, send: Send) -> bool:
        """Send what is left of a complete answer whose time ran out meanwhile. Returns whether all is sent."""
        if run.account is None or not run.unsent:
            return True
        try:
            async with asyncio.timeout(_FAILED_SECONDS):
                await self._end(run, run.account, send)
        except TimeoutError:
            return False
        return True

    async def _fail(self, run: _Run, error: AdapterError, send: Send) -> NoReturn:
        run.ending = "failed"
        sequencer = run.sequencer
        if sequencer is None:
            run.detail = error_detail(error)
            failed = chat_pb2.Failed(error=run.detail, timing=run.clock.timing())
            events = [chat_pb2.ChatEvent(failed=failed)]
        else:
            events, run.detail = sequencer.fail(error)
        await self._keeping.failed(run.account, run.detail.reason)
        with contextlib.suppress(CallerGoneError, TimeoutError):
            async with asyncio.timeout(_FAILED_SECONDS):
                await send(events)
        raise ChatFailedError(
            run.detail,
            run.request_id,
            attempt=run.journal.asked(),
            after_output=sequencer is not None and sequencer.output_began,
            subject=error.scope if isinstance(error, LimitReachedError) else "",
        ) from error

    def _note(self, run: _Run) -> None:
        """Log how a chat ended: names, counts and times, never its content."""
        # The caller's words are cut: a request that was refused for them is logged as well.
        fields: dict[str, object] = {"request_id": run.request_id[:_LOGGED_CHARACTERS], "ending": run.ending}
        context = run.request.context
        labels = itertools.islice(sorted(context.labels.items()), _LOGGED_LABELS)
        given = {
            "trace_id": run.trace_id,
            "persona": run.request.persona[:_LOGGED_CHARACTERS],
            "tenant": self._limits.scopes.tenant(run.caller) if run.caller else "",
            "key": run.caller[:SHOWN_OF_KEYS],
            "session_id": context.session_id[:_LOGGED_CHARACTERS],
            "labels": {key[:_LOGGED_CHARACTERS]: value[:_LOGGED_CHARACTERS] for key, value in labels},
        }
        fields.update({key: value for key, value in given.items() if value})
        fields.update(_route_fields(run.journal))
        if run.sequencer is not None:
            fields.update(_usage_fields(run.sequencer.usage))
            if run.sequencer.finished is not None:
                fields["finish_reason"] = chat_pb2.FinishReason.Name(run.sequencer.finished.reason)
        if run.detail is not None:
            fields.update(_error_fields(run.detail, asked=run.journal.asked() > 0))
        if run.clock.first_output is not None:
            fields["first_token_ms"] = round((run.clock.first_output - run.clock.arrived) * 1000, 1)
        if run.clock.startup is not None:
            fields["startup_ms"] = round(run.clock.startup * 1000, 1)
        seconds = time.monotonic() - run.clock.arrived
        fields["total_ms"] = round(seconds * 1000, 1)
        self._logger.info("chat", **fields)
        reason = "" if run.detail is None else error_pb2.ErrorReason.Name(run.detail.reason)
        persona = "" if run.plan is None else run.plan.persona
        self._metrics.chat(persona, ending=run.ending, reason=reason, seconds=seconds)


def _in_time(run: _Run, error: AdapterError) -> AdapterError:
    """Return a failure, or that the chat's time is over where that ended the wait for the provider."""
    over = isinstance(error, ProviderTimeoutError) and time.monotonic() >= run.clock.arrived + run.timeout
    return _too_late(run) if over else error


def _too_late(run: _Run) -> DeadlineExceededError:
    return DeadlineExceededError(f"the chat took longer than its {run.timeout:g} s")


async def _settle(stream: AsyncIterator[Events]) -> None:
    """Let an adapter that has finished read its connection to the end, so that the next chat can use it."""
    with contextlib.suppress(AdapterError, TimeoutError):
        async with asyncio.timeout(_SETTLE_SECONDS):
            async for _ in stream:
                pass


def _route_fields(journal: Journal) -> dict[str, object]:
    if journal.current is None:
        return {}
    fields: dict[str, object] = {"provider": journal.current.leg.provider, "model": journal.current.leg.model}
    if len(journal.entries) > 1:
        fields["attempts"] = [
            {
                "provider": entry.leg.provider,
                "model": entry.leg.model,
                "cause": chat_pb2.AttemptCause.Name(entry.cause).removeprefix("ATTEMPT_CAUSE_"),
                "outcome": chat_pb2.AttemptOutcome.Name(entry.outcome).removeprefix("ATTEMPT_OUTCOME_"),
                "reason": "" if entry.error is None else error_pb2.ErrorReason.Name(entry.error.reason),
            }
            for entry in journal.entries
        ]
    return fields


def _error_fields(detail: error_pb2.ErrorDetail, *, asked: bool) -> dict[str, object]:
    given: dict[str, object] = {
        "field": detail.field,
        "provider_status": detail.provider_status,
        "provider_code": detail.provider_code,
        "provider_request_id": detail.provider_request_id,
    }
    if not (asked and detail.reason in _ABOUT_THE_REQUEST):
        given["error"] = detail.message
    return {
        "reason": error_pb2.ErrorReason.Name(detail.reason),
        **{key: value for key, value in given.items() if value},
    }


def _usage_fields(usage: usage_pb2.Usage) -> dict[str, object]:
    totals: dict[str, int] = {}
    for item in usage.items:
        if item.unit == usage_pb2.USAGE_UNIT_TOKEN:
            name = usage_pb2.UsageKind.Name(item.kind).removeprefix("USAGE_KIND_").lower() + "_tokens"
            totals[name] = totals.get(name, 0) + item.quantity
    return dict(totals)
