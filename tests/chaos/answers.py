"""What aimock is told to answer, and thereby what a caller must hear: each provider has words of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["ARGUMENTS", "MODELS", "RESULT", "continuation", "counting", "fixtures", "reading"]

#: The model that is asked of each mocked provider. Their formats are four: Responses, Messages, Gemini's, Chat.
MODELS = {
    "openai": "gpt-5",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "vllm": "qwen3-8b",
    "together": "llama-4",
}

ARGUMENTS = '{"city":"Paris","days":3}'
RESULT = "18 degrees"

_WORDS = 24


def counting(provider: str) -> str:
    """Return a provider's answer to the wish to count."""
    return " ".join(f"{provider}-{number}" for number in range(1, _WORDS + 1))


def continuation(provider: str) -> str:
    """Return a provider's answer to the wish to go on behind what another has begun."""
    return " ".join(f"{provider}-goes-on-{number}" for number in range(1, _WORDS + 1))


def reading(provider: str) -> str:
    """Return a provider's answer to the result of the tool."""
    return f"It is {RESULT}, says {provider}."


def fixtures() -> bytes:
    """Return all of it in aimock's form."""
    return msgspec.json.encode({"fixtures": [row for provider in MODELS for row in _rows(provider)]})


def _rows(provider: str) -> Iterator[dict[str, Any]]:
    model = MODELS[provider]
    call = {"id": f"call_{provider}", "name": "get_weather", "arguments": ARGUMENTS}
    yield _row({"userMessage": "Continue exactly"}, model, {"content": continuation(provider)})
    yield _row({"userMessage": "count", "hasToolResult": False}, model, {"content": counting(provider)})
    yield _row({"userMessage": "weather", "hasToolResult": False}, model, {"toolCalls": [call]})
    yield _row({"userMessage": "weather", "hasToolResult": True}, model, {"content": reading(provider)})


def _row(match: dict[str, Any], model: str, response: dict[str, Any]) -> dict[str, Any]:
    return {"match": {**match, "model": model}, "response": response}
