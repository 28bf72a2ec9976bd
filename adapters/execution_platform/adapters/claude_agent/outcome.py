"""Why a run ended: the words of its result and of its last model call as the contract's reasons."""

from __future__ import annotations

from collections.abc import Mapping

from execution_platform.adapters.claude_agent.errors import blocked_by_filter, error_from_result
from execution_platform.adapters.errors import ContextLengthError
from execution_platform.adapters.fields import Fields, clean_text
from execution_platform.v1 import chat_pb2

__all__ = ["outcome_of"]

#: Why a run ended that tells no failure, by the stop reason of its last model call.
_REASONS: Mapping[str, chat_pb2.FinishReason.ValueType] = {
    "": chat_pb2.FINISH_REASON_STOP,
    "end_turn": chat_pb2.FINISH_REASON_STOP,
    # The last call was of a tool that ends the run, such as that of structured output.
    "tool_use": chat_pb2.FINISH_REASON_STOP,
    "max_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "stop_sequence": chat_pb2.FINISH_REASON_STOP_SEQUENCE,
    "refusal": chat_pb2.FINISH_REASON_REFUSAL,
    "pause_turn": chat_pb2.FINISH_REASON_PAUSED,
    "model_context_window_exceeded": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
}

#: Ends that the CLI calls errors and that are none of the provider's. The session stands, and can be gone on with.
_LIMITS: Mapping[str, chat_pb2.FinishReason.ValueType] = {
    "error_max_turns": chat_pb2.FINISH_REASON_PAUSED,
    "error_max_budget_usd": chat_pb2.FINISH_REASON_BUDGET_EXCEEDED,
    "error_max_structured_output_retries": chat_pb2.FINISH_REASON_MALFORMED_OUTPUT,
}

_Outcome = tuple[chat_pb2.FinishReason.ValueType | None, str]


def outcome_of(result: Fields, failure: Fields, stop: Fields, *, answered: bool) -> _Outcome:
    """Return why a run ended and the CLI's word for it; no reason: it failed.

    Args:
        result: what the run told at its end.
        failure: the message that told an error of the API's; empty: none did.
        stop: how the run's last model call stopped.
        answered: the answer has blocks.
    """
    subtype, stopped = clean_text(result.get("subtype")), clean_text(result.get("stop_reason"))
    if subtype in _LIMITS:
        return _LIMITS[subtype], subtype
    if bytes(result.get("is_error", b"")) == b"true" or subtype.startswith("error"):
        return _outcome_of_failure(result, failure, stop, answered=answered)
    ended = clean_text(result.get("terminal_reason"))
    if ended.startswith("aborted"):
        return chat_pb2.FINISH_REASON_OTHER, ended
    return _REASONS.get(stopped, chat_pb2.FINISH_REASON_OTHER), stopped or ended


def _outcome_of_failure(result: Fields, failure: Fields, stop: Fields, *, answered: bool) -> _Outcome:
    """Return the reason of an end that the CLI calls a failure of the API's and that is the model's own."""
    stopped = clean_text(result.get("stop_reason"))
    api_error = clean_text(result.get("api_error")) or clean_text(failure.get("api_error"))
    if stopped == "refusal":
        return chat_pb2.FINISH_REASON_REFUSAL, stopped
    if api_error == "max_output_tokens":
        # The CLI says so of every cut that it has gone on after too often; the model's last word is more exact.
        last = clean_text(stop.get("stop_reason"))
        full = last == "model_context_window_exceeded"
        return _REASONS[last if full else "max_tokens"], last if full else api_error
    if blocked_by_filter(result):
        return chat_pb2.FINISH_REASON_CONTENT_FILTER, api_error or "content_filter"
    if answered and isinstance(error_from_result(result, failure), ContextLengthError):
        return chat_pb2.FINISH_REASON_CONTEXT_LENGTH, clean_text(result.get("terminal_reason"))
    return None, ""
