"""The scripted models, and what each answers to a request that brings no script.

``echo``   says what was said, a word at a time; thinks first if the request asks for reasoning
``slow``   the same with a fifth of a second before each word
``tools``  calls the tool that is chosen, or the first, until the last message is a tool's result; then tells the result
``error``  fails as an overloaded provider does
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from execution_platform.adapters.capabilities import named
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.scripted.script import ErrorStep, Script, Step, ToolCallStep
from execution_platform.adapters.spi import CapabilityRow, KnownModel
from execution_platform.adapters.wire import decode_json, raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["CAPABILITIES", "DEFAULT_MODEL", "MODELS", "answer"]

DEFAULT_MODEL = "echo"

MODELS = (
    KnownModel("echo", "Says what was said"),
    KnownModel("slow", "Says what was said, slowly"),
    KnownModel("tools", "Calls a tool, then tells its result"),
    KnownModel("error", "Fails as an overloaded provider does"),
)

#: What the models do with a request that brings no script. A script can play whatever a model can say.
CAPABILITIES = (
    CapabilityRow(
        supported=named("streaming", "tools", "thinking", "seed", "logprobs"),
        unsupported=named("structured_output", "prompt_caching", "embeddings", "batch"),
        source="execution_platform.adapters.scripted",
        as_of="2026-11-21",
    ),
)

_SLOW_MS = 200
#: A long text comes in fewer, larger pieces.
_MOST_PIECES = 1000
_CHOSEN = (chat_pb2.TOOL_CHOICE_MODE_REQUIRED, chat_pb2.TOOL_CHOICE_MODE_NAMED)
_WITHOUT_EFFECT = "a scripted answer is always the same"


def answer(model: str, request: chat_pb2.ChatRequest, notices: Notices) -> Script:
    """Return what a model answers to a request that brings no script.

    Raises:
        UnsupportedOptionError: the request wants an option refused that has no effect here.
        InvalidRequestError: a tool's schema is not JSON.
    """
    _tell_what_is_dropped(request, notices)
    if model == "error":
        failure = ErrorStep(
            reason="PROVIDER_OVERLOADED", message="scripted/error always fails", retry_after=1.0, provider_status=529
        )
        return Script(script=[Step(error=failure)])
    call = _tool_to_call(model, request)
    if call is not None:
        return Script(script=[*_thoughts(request), Step(tool_call=call)])
    return Script(script=[*_thoughts(request), *_spoken(request, _SLOW_MS if model == "slow" else 0)])


def _tell_what_is_dropped(request: chat_pb2.ChatRequest, notices: Notices) -> None:
    sampling = request.sampling
    for name in ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"):
        if sampling.HasField(name):
            notices.param_dropped(f"sampling.{name}", _WITHOUT_EFFECT)
    if sampling.logit_bias:
        notices.param_dropped("sampling.logit_bias", _WITHOUT_EFFECT)
    if request.output_format.HasField("json_schema"):
        notices.param_dropped("output_format.json_schema", "the answer is JSON, but of a form of its own")
    if any(modality != content_pb2.MODALITY_TEXT for modality in request.output_modalities):
        notices.param_dropped("output_modalities", "the answer is text; media need a script")
    given = {
        "audio_output": request.HasField("audio_output"),
        "cache": request.HasField("cache"),
        "cache_hint": any(block.HasField("cache_hint") for block in _prompt(request)),
        "service_tier": bool(request.service_tier),
    }
    for name in (name for name, is_given in given.items() if is_given):
        notices.param_dropped(name, "the scripted provider has nothing of the kind")


def _prompt(request: chat_pb2.ChatRequest) -> Iterator[content_pb2.ContentBlock | chat_pb2.Tool]:
    yield from request.system
    yield from request.tools
    for message in request.messages:
        yield from message.content


def _thoughts(request: chat_pb2.ChatRequest) -> Iterator[Step]:
    wanted = request.reasoning
    if wanted.enabled or (not wanted.HasField("enabled") and (wanted.effort or wanted.budget_tokens)):
        omitted = wanted.display == chat_pb2.REASONING_DISPLAY_OMITTED
        yield Step(thinking="" if omitted else "What was said is to be said again.", signature="c2NyaXB0ZWQ=")


def _spoken(request: chat_pb2.ChatRequest, pause_ms: int) -> Iterator[Step]:
    text, finish = _within_limits(request, _text(request))
    logprobs = request.sampling.logprobs or request.sampling.top_logprobs > 0
    for piece in _words(text):
        if pause_ms:
            yield Step(pause_ms=pause_ms)
        # What is certain has probability 1.
        yield Step(text=piece, logprob=0.0 if logprobs and len(piece) <= 1000 else None)
    if finish:
        yield Step(finish=finish)


def _text(request: chat_pb2.ChatRequest) -> str:
    last = request.messages[-1].content if request.messages else ()
    results = [block.tool_result for block in last if block.HasField("tool_result")]
    if results:
        told = " ".join(_told_by(result) for result in results)
        said, spoken = told, f"The tool answered: {told}"
    else:
        said = " ".join(block.text.text for block in last if block.HasField("text"))
        spoken = f"You said: {said}" if said.strip() else "You said nothing in words."
    if request.output_format.WhichOneof("format") in {"json", "json_schema"}:
        return json.dumps({"you_said": said}, ensure_ascii=False)
    return spoken


def _told_by(result: content_pb2.ToolResultBlock) -> str:
    text = " ".join(block.text.text for block in result.content if block.HasField("text"))
    return text or result.structured_content_json


def _within_limits(request: chat_pb2.ChatRequest, text: str) -> tuple[str, dict[str, Any] | None]:
    """Cut a text at the first stop sequence, then at the most words; return it with how that ends the answer."""
    finish: dict[str, Any] | None = None
    found = [(text.find(stop), stop) for stop in request.sampling.stop_sequences if stop and stop in text]
    if found:
        at, stop = min(found)
        text = text[:at]
        finish = {"reason": "STOP_SEQUENCE", "matchedStopSequence": stop}
    if request.sampling.HasField("max_output_tokens"):
        words = list(_words(text, most=len(text)))
        if len(words) > request.sampling.max_output_tokens:
            text = "".join(words[: request.sampling.max_output_tokens])
            finish = {"reason": "MAX_TOKENS"}
    return text, finish


def _words(text: str, most: int = _MOST_PIECES) -> Iterator[str]:
    words = re.findall(r"\s*\S+|\s+", text)
    size = max(1, -(-len(words) // max(1, most)))
    for at in range(0, len(words), size):
        yield "".join(words[at : at + size])


def _tool_to_call(model: str, request: chat_pb2.ChatRequest) -> ToolCallStep | None:
    choice = request.tool_choice
    functions = [tool.function for tool in request.tools if tool.HasField("function")]
    if choice.allowed_names:
        functions = [function for function in functions if function.name in choice.allowed_names]
    if choice.mode == chat_pb2.TOOL_CHOICE_MODE_NAMED:
        functions = [function for function in functions if function.name == choice.name]
    answered = bool(request.messages) and any(block.HasField("tool_result") for block in request.messages[-1].content)
    wanted = choice.mode in _CHOSEN or (model == "tools" and choice.mode != chat_pb2.TOOL_CHOICE_MODE_NONE)
    if not functions or answered or not wanted:
        return None
    position = list(request.tools).index(next(tool for tool in request.tools if tool.function == functions[0]))
    return ToolCallStep(
        name=functions[0].name,
        arguments_json=_arguments(functions[0].parameters_json, f"tools[{position}].function.parameters_json"),
    )


def _arguments(schema_json: str, field: str) -> str:
    """Return arguments that hold what a schema requires, each of the plainest value of its type."""
    schema = decode_json(bytes(raw_json(schema_json, field, must_be_object=True))) if schema_json else {}
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list):
        return "{}"
    names = [name for name in required if isinstance(name, str)]
    return json.dumps({name: _plain_value(properties.get(name)) for name in names}, ensure_ascii=False)


_PLAIN: Mapping[str, Any] = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}, "null": None}


def _plain_value(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return "text"
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = schema.get("type")
    return _PLAIN.get(kind, "text") if isinstance(kind, str) else "text"
