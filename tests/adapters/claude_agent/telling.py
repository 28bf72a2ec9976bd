"""What tests of runs share: translations, and runs that are made by hand."""

from __future__ import annotations

import json
from typing import Any

from execution_platform.adapters.claude_agent.stream import FAMILY, AnswerContext, RunTranslation
from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Events
from execution_platform.adapters.testing import Answer, check_stream

SESSION = "6f0d7a5e-0f43-4a7e-9f6e-0a3a52a1c0de"


def translation(**context: Any) -> RunTranslation:
    """Return a translation of a run."""
    return RunTranslation(AnswerContext(**{"provider": FAMILY, "model": "sonnet", "request_id": "r1"} | context))


def answer_of(data: bytes, **context: Any) -> Answer:
    """Return what a run says, checked; its error, if it fails, is in it."""
    lists: list[Events] = []
    told = translation(**context)
    error: AdapterError | None = None
    try:
        lists.append(told.feed(data))
        lists.append(told.end())
    except AdapterError as raised:
        error = raised
        lists.append(raised.events)
    answer = check_stream([events for events in lists if events], complete=error is None, family=FAMILY)
    answer.error = error
    return answer


def lines(*told: dict[str, Any]) -> bytes:
    """Return messages as the CLI prints them."""
    return b"".join(json.dumps(message).encode() + b"\n" for message in told)


def message(kind: str, number: int = 1, **members: Any) -> dict[str, Any]:
    """Return a message of the run's session."""
    entry = f"{number:08x}-0000-4000-8000-000000000000"
    return {"type": kind, "session_id": SESSION, "uuid": entry, "parent_tool_use_id": None} | members


def assistant(
    *content: dict[str, Any], number: int = 1, model: str = "claude-sonnet-5", **members: Any
) -> dict[str, Any]:
    """Return a complete message of a model."""
    usage = {"input_tokens": 3, "output_tokens": 2}
    inner = {"id": f"msg_{number}", "role": "assistant", "model": model, "content": list(content), "usage": usage}
    return message("assistant", number, message=inner, **members)


def figures(dollars: float, tokens: int = 10, **more: Any) -> dict[str, Any]:
    """Return what a result says of one model."""
    return {"inputTokens": tokens, "outputTokens": tokens, "costUSD": dollars, **more}


def result(models: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Return a result."""
    told = {
        "subtype": "success",
        "is_error": False,
        "stop_reason": "end_turn",
        "terminal_reason": "completed",
        "modelUsage": models or {},
        "model_usage_since_last_result": models or {},
        "total_cost_usd": sum(figure["costUSD"] for figure in (models or {}).values()),
    }
    return message("result", 99, **told | members)


def text(said: str) -> dict[str, Any]:
    """Return a block of text."""
    return {"type": "text", "text": said}
