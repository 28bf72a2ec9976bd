"""Scripts: what the scripted provider shall answer, as JSON. Reads and checks them; plays nothing.

A script is ``{"script": [step, ...]}``; a step is an object with one of these keys:

=================  ===================================================================================================
``text``           one delta of a text block; with ``logprob``, its log probability
``thinking``       one delta of a thinking block; with ``signature``, the block's signature, which completes it
``refusal``        one delta of a refusal block
``tool_call``      a call with ``name``, ``arguments_json`` or ``arguments_text``, ``call_id``; sent in pieces
``tool_calls``     a list of such calls whose pieces come interleaved
``citation``       a Citation for the open block, in proto JSON
``media``          a MediaBlock in proto JSON; its data comes in pieces
``block``          any other ContentBlock in proto JSON, whole
``notice``         a Notice in proto JSON, or its message
``route_changed``  a RouteChanged in proto JSON
``provider_event`` a ProviderEvent in proto JSON; only sent if the request asks for provider events
``usage``          cumulative numbers of tokens: ``input``, ``output``, ``cache_read``, ``cache_write``, ``reasoning``
``started``        ``true``: the answer begins here, rather than with its first output
``pause_ms``       silence, 0 to 600000 milliseconds; what came before is sent first
``repeat``         ``{"times": n, "steps": [...]}``, or a single step with ``times`` beside its key
``hang``           ``true``: silence without end
``break``          ``true``: the stream breaks in the middle
``error``          the provider fails: ``reason`` (an ErrorReason of providers), ``message``, ``retry_after``, ...
``finish``         a Finished in proto JSON, or its reason such as ``"MAX_TOKENS"``; the last step
=================  ===================================================================================================

A script without ``finish`` ends with STOP, or TOOL_CALLS if it has called a tool of the caller. Usage that no step
tells is counted in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from google.protobuf import json_format, message

from execution_platform.adapters.errors import (
    AdapterError,
    BillingError,
    ContextLengthError,
    CredentialsError,
    ForbiddenError,
    InvalidRequestError,
    ModelNotFoundError,
    NotConfiguredError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    ProtocolError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestTooLargeError,
    StreamBrokenError,
    UnavailableError,
    UnsupportedOptionError,
)
from execution_platform.adapters.patches import patches_for
from execution_platform.adapters.wire import decode_json, encode_json, merge_patch
from execution_platform.v1 import chat_pb2, content_pb2, error_pb2

__all__ = ["ErrorStep", "Script", "Step", "ToolCallStep", "UsageStep", "read_script", "script_of"]

_LONGEST_PAUSE_MS = 600_000
_MOST_STEPS = 10_000
_MOST_PLAYED = 10_000_000
_DEEPEST_REPEAT = 5
#: Bytes of a message that goes out as one event.
_LARGEST_MESSAGE = 900_000

_ERRORS: Mapping[str, type[AdapterError]] = {
    error_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_"): error
    for error in (
        BillingError,
        ContextLengthError,
        CredentialsError,
        ForbiddenError,
        InvalidRequestError,
        ModelNotFoundError,
        NotConfiguredError,
        NotFoundError,
        NotSupportedError,
        OverloadedError,
        ProtocolError,
        ProviderTimeoutError,
        RateLimitedError,
        RequestTooLargeError,
        StreamBrokenError,
        UnavailableError,
        UnsupportedOptionError,
    )
}

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Word = Annotated[str, msgspec.Meta(max_length=256)]
_Json = dict[str, Any]


class ToolCallStep(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A tool call. Exactly one of arguments_json and arguments_text may be given; an empty id is minted."""

    name: _Word
    arguments_json: str = ""
    arguments_text: str | None = None
    call_id: _Word = ""


class UsageStep(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """Cumulative tokens."""

    input: _Count = 0
    output: _Count = 0
    cache_read: _Count = 0
    cache_write: _Count = 0
    reasoning: _Count = 0


class ErrorStep(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A failure of the provider, by the contract's reason without its prefix."""

    reason: str
    message: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    retry_after: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] | None = None
    retryable: bool | None = None
    provider_status: Annotated[int, msgspec.Meta(ge=0, le=599)] = 0
    provider_code: _Word = ""
    provider_request_id: _Word = ""
    field: _Word = ""

    def error(self) -> AdapterError:
        """Return the error to raise."""
        return _ERRORS[self.reason](
            self.message or f"the script says {self.reason}",
            field=self.field,
            provider_status=self.provider_status,
            provider_code=self.provider_code,
            provider_request_id=self.provider_request_id,
            retry_after=self.retry_after,
            retryable=self.retryable,
        )


class Step(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename={"break_": "break"}):
    """One step; the module tells the keys. Messages in proto JSON are read by :meth:`message`."""

    text: str | None = None
    logprob: Annotated[float, msgspec.Meta(le=0)] | None = None
    thinking: str | None = None
    signature: str | None = None
    refusal: str | None = None
    tool_call: ToolCallStep | None = None
    tool_calls: Annotated[list[ToolCallStep], msgspec.Meta(min_length=1, max_length=128)] | None = None
    citation: _Json | None = None
    media: _Json | None = None
    block: _Json | None = None
    notice: _Json | str | None = None
    route_changed: _Json | None = None
    provider_event: _Json | None = None
    usage: UsageStep | None = None
    started: bool | None = None
    pause_ms: Annotated[int, msgspec.Meta(ge=0, le=_LONGEST_PAUSE_MS)] | None = None
    repeat: Repeat | None = None
    hang: bool | None = None
    break_: bool | None = None
    error: ErrorStep | None = None
    finish: _Json | str | None = None

    @property
    def verb(self) -> str:
        """The key that says what the step does."""
        return self.verbs()[0]

    def verbs(self) -> list[str]:
        """Return every key that would say what the step does; a valid step has one."""
        return [
            encoded
            for name, encoded in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True)
            if name in _VERBS and getattr(self, name) is not None
        ]

    def message(self) -> message.Message:
        """Return the step's value, which is a message in proto JSON, as that message."""
        verb = self.verb
        return _message(verb, getattr(self, verb))


class Repeat(Step, frozen=True, kw_only=True):
    """Steps that are played several times: `steps`, or the one step that stands beside `times`."""

    times: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    steps: list[Step] | None = None

    def inner(self) -> list[Step]:
        """Return the steps to repeat."""
        if self.steps is not None:
            return self.steps
        return [Step(**{name: getattr(self, name) for name in Step.__struct_fields__})]


_VERBS = frozenset(Step.__struct_fields__) - {"logprob", "signature"}


class Script(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What one call answers."""

    script: Annotated[list[Step], msgspec.Meta(max_length=_MOST_STEPS)]

    def play(self) -> Iterator[Step]:
        """Yield the steps in order, repeats played out."""
        yield from _played(self.script)


def _played(steps: list[Step]) -> Iterator[Step]:
    for step in steps:
        if step.repeat is None:
            yield step
        else:
            for _ in range(step.repeat.times):
                yield from _played(step.repeat.inner())


def read_script(request: chat_pb2.ChatRequest) -> Script | None:
    """Return the script that a request brings in its provider options, or None.

    Raises:
        InvalidRequestError: it is not a script; the message names the step and the key.
    """
    merged: Any = {}
    last = ""
    for field, patch in patches_for(request, {"scripted"}):
        merged, last = merge_patch(merged, patch), field
    return script_of(decode_json(encode_json(merged)), last) if merged else None


def script_of(value: Any, field: str = "") -> Script:
    """Return a decoded script, checked.

    Args:
        value: ``{"script": [...]}``.
        field: path of the request's field that holds it, for the error.

    Raises:
        InvalidRequestError: it is not a script; the message names the step and the key.
    """
    try:
        script = msgspec.convert(value, Script)
        _check(script.script, "script", outermost=True)
    except (msgspec.ValidationError, RecursionError, ValueError) as error:
        where = f"{field}: " if field else ""
        raise InvalidRequestError(f"{where}{_readable(error)}"[:1000], field=field) from error
    return script


def _readable(error: Exception) -> str:
    """Put the path that msgspec tells at the end of its message at the front."""
    text, _, path = str(error).partition(" - at `$.")
    return f"{path.removesuffix('`')}: {text}" if path else text


def _check(steps: list[Step], path: str, *, outermost: bool = False, depth: int = 0) -> int:
    """Check what the types do not say. Returns the number of steps that playing takes."""
    played = 0
    for position, step in enumerate(steps):
        at = f"{path}[{position}]"
        _check_step(step, at)
        played += 1
        if step.finish is not None and not (outermost and position == len(steps) - 1):
            raise ValueError(f"{at}: finish must be the last step of the script")
        if step.repeat is not None:
            if depth == _DEEPEST_REPEAT:
                raise ValueError(f"{at}.repeat: repeats may be nested {_DEEPEST_REPEAT} deep at most")
            played += step.repeat.times * _check(_inner(step.repeat, at), f"{at}.repeat.steps", depth=depth + 1)
    if played > _MOST_PLAYED:
        raise ValueError(f"{path}: {played} steps to play; the most is {_MOST_PLAYED}")
    return played


def _inner(repeat: Repeat, at: str) -> list[Step]:
    if repeat.steps is not None and repeat.verbs():
        raise ValueError(f"{at}.repeat: give steps or a single step, not both")
    if repeat.steps is not None and len(repeat.steps) > _MOST_STEPS:
        raise ValueError(f"{at}.repeat.steps: at most {_MOST_STEPS} steps")
    return repeat.inner()


def _check_step(step: Step, at: str) -> None:
    verbs = step.verbs()
    if len(verbs) != 1:
        found = f"it has {', '.join(verbs)}" if verbs else "it has none"
        raise ValueError(f"{at}: a step has exactly one key that says what to do; {found}")
    verb = verbs[0]
    if step.signature is not None and verb != "thinking":
        raise ValueError(f"{at}.signature: belongs to thinking")
    if step.logprob is not None and (verb != "text" or len(step.text or "") > 1000):
        raise ValueError(f"{at}.logprob: belongs to a text of at most 1000 characters")
    if verb in {"started", "hang", "break"} and not getattr(step, _FIELDS.get(verb, verb)):
        raise ValueError(f"{at}.{verb}: must be true")
    if step.error is not None and step.error.reason not in _ERRORS:
        raise ValueError(f"{at}.error.reason: {step.error.reason!r} is none of {', '.join(sorted(_ERRORS))}")
    for call in step.tool_calls or ([step.tool_call] if step.tool_call else []):
        if not call.name or (call.arguments_json and call.arguments_text is not None):
            raise ValueError(f"{at}.{verb}: needs a name, and arguments_json or arguments_text but not both")
    if verb in _MESSAGES:
        _check_message(step, f"{at}.{verb}")


_FIELDS: Mapping[str, str] = {"break": "break_"}


def _check_message(step: Step, at: str) -> None:
    try:
        parsed = step.message()
    except (json_format.Error, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{at}: {error}") from error
    if isinstance(parsed, content_pb2.ContentBlock) and parsed.WhichOneof("content") is None:
        raise ValueError(f"{at}: a block needs content, for example text")
    if isinstance(parsed, content_pb2.MediaBlock):
        parsed.data = b""
    if parsed.ByteSize() > _LARGEST_MESSAGE:
        raise ValueError(f"{at}: {parsed.ByteSize()} bytes; one event takes {_LARGEST_MESSAGE}")


_MESSAGES: Mapping[str, Callable[[], message.Message]] = {
    "citation": content_pb2.Citation,
    "media": content_pb2.MediaBlock,
    "block": content_pb2.ContentBlock,
    "notice": chat_pb2.Notice,
    "route_changed": chat_pb2.RouteChanged,
    "provider_event": chat_pb2.ProviderEvent,
    "finish": chat_pb2.Finished,
}


def _message(verb: str, value: Any) -> message.Message:
    """Read proto JSON; a notice may be its message alone, a finish its reason, with or without the prefix."""
    if verb == "notice" and isinstance(value, str):
        value = {"message": value}
    if verb == "finish":
        value = {"reason": value} if isinstance(value, str) else value
        reason = value.get("reason")
        if isinstance(reason, str) and not reason.startswith("FINISH_REASON_"):
            value = {**value, "reason": f"FINISH_REASON_{reason}"}
    return json_format.ParseDict(value, _MESSAGES[verb]())
