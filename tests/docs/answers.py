"""How each provider answers: what its words for ends, its usage and its errors become."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from tests.docs.pages import ROOT

from execution_platform.adapters.anthropic.errors import error_from_body
from execution_platform.adapters.anthropic.stream import AnswerContext, MessagesTranslation
from execution_platform.adapters.anthropic.tally import Tally
from execution_platform.adapters.bedrock.errors import error_from_answer
from execution_platform.adapters.bedrock.stream import AnswerContext as BedrockContext
from execution_platform.adapters.bedrock.stream import ConverseTranslation
from execution_platform.adapters.bedrock.tally import read_usage
from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.gemini.counts import usage_of as gemini_usage
from execution_platform.adapters.gemini.errors import error_of, failure_of
from execution_platform.adapters.gemini.stream import GeminiTranslation
from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.chat.stream import ChatTranslation
from execution_platform.adapters.openai_api.chat.usage import usage_of as chat_usage
from execution_platform.adapters.openai_api.errors import error_of_answer
from execution_platform.adapters.openai_api.responses.finish import usage_of as responses_usage
from execution_platform.adapters.openai_api.responses.stream import ResponsesTranslation
from execution_platform.adapters.spi import Call, Translation
from execution_platform.v1 import chat_pb2, error_pb2, usage_pb2

__all__ = ["ANSWERERS", "Answerer"]

Json = dict[str, Any]
_CALL = Call(chat_pb2.ChatRequest(), "m", request_id="chat-1")


@dataclass(frozen=True)
class Answerer:
    """How one API answers.

    Attributes:
        sources: folders of the code that translates, which names every reason and kind that there can be.
        translation: makes one.
        ending: the body of an answer that ends with a word.
        usage: reads a usage object.
        spent: a usage object to start from.
        error: an answer with a status, a code and a message, as an error.
    """

    sources: tuple[str, ...]
    translation: Callable[[], Translation]
    ending: Callable[[str], Json]
    usage: Callable[[Json], usage_pb2.Usage]
    spent: Json
    error: Callable[[int, str, str], AdapterError]

    def reason_of(self, word: str) -> str:
        """Return the finish reason that a word becomes."""
        events = self.translation().whole(json.dumps(self.ending(word)).encode())
        return chat_pb2.FinishReason.Name(events[-1].finished.reason).removeprefix("FINISH_REASON_")

    def kinds_changed(self, path: str) -> set[str]:
        """Return the kinds of items whose quantity a place in the usage changes."""
        before, after = self._quantities(self.spent), self._quantities(_put(self.spent, path, 7))
        return {kind for kind in before.keys() | after.keys() if before.get(kind) != after.get(kind)}

    def _quantities(self, usage: Json) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for item in self.usage(usage).items:
            kind = usage_pb2.UsageKind.Name(item.kind).removeprefix("USAGE_KIND_")
            found[kind] = found.get(kind, 0) + item.quantity
        return found

    def failure_of(self, status: int, code: str, message: str) -> str:
        """Return the reason that a failure becomes."""
        reason = self.error(status, code, message).reason
        return error_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")

    def named(self, prefix: str) -> set[str]:
        """Return the values of an enum that the code names."""
        found: set[str] = set()
        for folder in self.sources:
            for path in sorted((ROOT / "adapters/execution_platform/adapters" / folder).rglob("*.py")):
                found.update(re.findall(rf"\b{prefix}_([A-Z_]+)\b", path.read_text()))
        return found - {"UNSPECIFIED"}


def _put(usage: Json, path: str, value: Any) -> Json:
    key, _, rest = path.partition(".")
    if key.endswith("[]"):
        key = key.removesuffix("[]")
        return {**usage, key: [_put({}, rest, value)]}
    return {**usage, key: _put(usage.get(key) or {}, rest, value) if rest else value}


def _raw(value: Json) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def _tallied(usage: Json) -> usage_pb2.Usage:
    tally = Tally()
    tally.tell(_raw(usage))
    return tally.usage("m")


def _message(word: str) -> Json:
    return {"id": "m_1", "content": [{"type": "text", "text": "Hi"}], "stop_reason": word}


def _converse(word: str) -> Json:
    return {"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": word, "usage": {"inputTokens": 1}}


def _bedrock_error(status: int, code: str, message: str) -> AdapterError:
    return error_from_answer(status, {"x-amzn-errortype": code}, json.dumps({"message": message}).encode())


def _candidate(word: str) -> Json:
    return {"candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}, "finishReason": word}]}


def _choice(word: str) -> Json:
    return {"id": "c_1", "choices": [{"message": {"content": "Hi"}, "finish_reason": word}]}


def _response(word: str) -> Json:
    text = {"type": "message", "id": "i_1", "content": [{"type": "output_text", "text": "Hi"}]}
    if word in {"completed", "cancelled", "queued"}:
        return {"id": "r_1", "status": word, "output": [text]}
    return {"id": "r_1", "status": "incomplete", "incomplete_details": {"reason": word}, "output": [text]}


def _in_response(usage: Json) -> usage_pb2.Usage:
    """Read the usage of a response; what begins with tool_usage stands beside it."""
    response = {"usage": _raw({key: value for key, value in usage.items() if key != "tool_usage"})}
    if "tool_usage" in usage:
        response["tool_usage"] = _raw(usage["tool_usage"])
    return responses_usage(response, {})


def _anthropic_error(status: int, code: str, message: str) -> AdapterError:
    body = {"type": "error", "error": {"type": code, "message": message}}
    return error_from_body(status, {}, json.dumps(body).encode())


def _openai_error(status: int, code: str, message: str) -> AdapterError:
    return error_of_answer(status, json.dumps({"error": {"code": code or None, "message": message}}).encode(), {})


def _gemini_error(status: int, code: str, message: str) -> AdapterError:
    info = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code}] if code else []
    body = {"error": {"code": status, "message": message, "details": info}}
    return error_of(failure_of(json.dumps(body).encode(), status))


#: By page; OpenAI's has Responses, the shared one Chat Completions.
ANSWERERS: Mapping[str, Answerer] = {
    "anthropic": Answerer(
        ("anthropic",),
        partial(MessagesTranslation, AnswerContext("anthropic", "m")),
        _message,
        _tallied,
        {"input_tokens": 100, "output_tokens": 100},
        _anthropic_error,
    ),
    "bedrock": Answerer(
        ("bedrock",),
        partial(ConverseTranslation, BedrockContext("bedrock", "m")),
        _converse,
        lambda usage: read_usage({"usage": _raw(usage)}),
        {"inputTokens": 100, "outputTokens": 100},
        _bedrock_error,
    ),
    "gemini": Answerer(
        ("gemini",),
        partial(GeminiTranslation, "m"),
        _candidate,
        lambda usage: gemini_usage(json.dumps(usage).encode()),
        {"promptTokenCount": 100, "candidatesTokenCount": 100},
        _gemini_error,
    ),
    "openai": Answerer(
        ("openai_api/responses",),
        partial(ResponsesTranslation, DIALECT, _CALL),
        _response,
        _in_response,
        {"input_tokens": 100, "output_tokens": 100, "total_tokens": 200},
        _openai_error,
    ),
    "openai-compatible": Answerer(
        ("openai_api/chat",),
        partial(ChatTranslation, DIALECT, _CALL),
        _choice,
        lambda usage: chat_usage(_raw(usage), DIALECT),
        {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200},
        _openai_error,
    ),
}
