"""Why a Chat Completions answer ended, out of the many words that servers have for it."""

from __future__ import annotations

from collections.abc import Mapping

from execution_platform.adapters import errors
from execution_platform.v1 import chat_pb2

__all__ = ["failure_of_word", "finish_reason"]

_REASONS: Mapping[str, chat_pb2.FinishReason.ValueType] = {
    "length": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "max_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "max_output_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "model_length": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
    "model_context_window_exceeded": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
    "content_filter": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "content_filtered": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "guardrail_intervened": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "safety": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "sensitive": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "prohibited_content": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "recitation": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "refusal": chat_pb2.FINISH_REASON_REFUSAL,
    "stop_sequence": chat_pb2.FINISH_REASON_STOP_SEQUENCE,
    "pause_turn": chat_pb2.FINISH_REASON_PAUSED,
    "malformed_function_call": chat_pb2.FINISH_REASON_MALFORMED_OUTPUT,
}

#: Words for "the model was done". With tool calls they mean that those are to be run.
_DONE = frozenset({"", "stop", "eos", "eos_token", "end_turn", "tool_calls", "tool_call", "tool_use", "function_call"})

_FAILURES: Mapping[str, type[errors.AdapterError]] = {
    "insufficient_system_resource": errors.OverloadedError,  # DeepSeek
    "network_error": errors.UnavailableError,  # z.ai
    "error": errors.UnavailableError,  # OpenRouter, Mistral: mostly an error object tells more
}


def finish_reason(
    word: str, *, tool_calls: bool, refused: bool, matched: bool = False
) -> chat_pb2.FinishReason.ValueType:
    """Return the reason for a server's word; it may be empty, and "stop" may stand beside tool calls.

    Args:
        word: ``finish_reason`` as the server gave it.
        tool_calls: the answer has calls for the caller to run.
        refused: the answer has a refusal.
        matched: the server named the stop sequence that ended the answer.
    """
    lower = word.lower()
    if lower in _DONE:
        if tool_calls:
            return chat_pb2.FINISH_REASON_TOOL_CALLS
        if refused:
            return chat_pb2.FINISH_REASON_REFUSAL
        return chat_pb2.FINISH_REASON_STOP_SEQUENCE if matched else chat_pb2.FINISH_REASON_STOP
    return _REASONS.get(lower, chat_pb2.FINISH_REASON_OTHER)


def failure_of_word(word: str) -> errors.AdapterError | None:
    """Return the failure that a finish reason stands for, or None: the answer is an answer."""
    kind = _FAILURES.get(word)
    if kind is None:
        return None
    return kind(f"the provider broke the answer off ({word})", provider_status=200, provider_code=word)
