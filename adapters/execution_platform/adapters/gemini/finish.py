"""Why Gemini ends an answer, in the contract's words."""

from __future__ import annotations

from execution_platform.v1 import chat_pb2

__all__ = ["finish_reason"]

_FILTER = chat_pb2.FINISH_REASON_CONTENT_FILTER
_MALFORMED = chat_pb2.FINISH_REASON_MALFORMED_OUTPUT

#: Candidate.FinishReason; the numbers are those of google.ai.generativelanguage, for servers that send numbers.
_WORDS: dict[str, chat_pb2.FinishReason.ValueType] = {
    "STOP": chat_pb2.FINISH_REASON_STOP,
    "MAX_TOKENS": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "CONTINUATION": chat_pb2.FINISH_REASON_PAUSED,
    "MALFORMED_FUNCTION_CALL": _MALFORMED,
    "MALFORMED_RESPONSE": _MALFORMED,
    "UNEXPECTED_TOOL_CALL": _MALFORMED,
    "SAFETY": _FILTER,
    "RECITATION": _FILTER,
    "LANGUAGE": _FILTER,
    "BLOCKLIST": _FILTER,
    "PROHIBITED_CONTENT": _FILTER,
    "SPII": _FILTER,
    "MODEL_ARMOR": _FILTER,
    "ESCALATION": _FILTER,
    "PUP_LIMITED_DISABLED": _FILTER,
    "IMAGE_SAFETY": _FILTER,
    "IMAGE_PROHIBITED_CONTENT": _FILTER,
    "IMAGE_RECITATION": _FILTER,
}
_NUMBERS = {
    "1": "STOP",
    "2": "MAX_TOKENS",
    "3": "SAFETY",
    "4": "RECITATION",
    "6": "LANGUAGE",
    "7": "BLOCKLIST",
    "8": "PROHIBITED_CONTENT",
    "9": "SPII",
    "10": "MALFORMED_FUNCTION_CALL",
    "11": "IMAGE_SAFETY",
    "12": "UNEXPECTED_TOOL_CALL",
}


def finish_reason(word: str, *, calls_tools: bool) -> chat_pb2.FinishReason.ValueType:
    """Return the reason; words that are not known are OTHER.

    Args:
        word: the provider's word, or its number as digits.
        calls_tools: the answer has calls that the caller shall run; Gemini says STOP then too.
    """
    reason = _WORDS.get(_NUMBERS.get(word, word).upper(), chat_pb2.FINISH_REASON_OTHER)
    if reason == chat_pb2.FINISH_REASON_STOP and calls_tools:
        return chat_pb2.FINISH_REASON_TOOL_CALLS
    return reason
