"""Makes a ChatRequest of what a caller passes. Shared by both clients; does no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, cast

from google.protobuf.descriptor import EnumDescriptor

from execution_platform.client.content import Content, blocks, user
from execution_platform.client.enums import number_of
from execution_platform.client.schema import type_schema
from execution_platform.client.tools import PythonTool, tool
from execution_platform.v1 import capability_pb2, chat_pb2, content_pb2

__all__ = ["ChatFields", "Defaults", "Prompt", "ToolLike", "build_request", "joined_model"]

Prompt: TypeAlias = (
    str
    | content_pb2.ContentBlock
    | content_pb2.Message
    | Iterable[str | content_pb2.ContentBlock | content_pb2.Message]
    | chat_pb2.ChatRequest
)
"""What to ask: text, a block, a message, the conversation so far, or a ready request.

Text and blocks that stand between messages are the caller's; neighbours become one message.
"""

ToolLike: TypeAlias = chat_pb2.Tool | chat_pb2.FunctionTool | PythonTool[..., Any] | Callable[..., Any]
"""A tool of the contract, a decorated function, or a plain Python function."""

ModalityName: TypeAlias = Literal["text", "image", "audio", "video", "document"]

CapabilityName: TypeAlias = Literal[
    "streaming", "tools", "parallel_tools", "thinking", "structured_output", "image_input", "pdf_input", "audio_input",
    "prompt_caching", "seed", "logprobs", "embeddings", "batch",
]  # fmt: skip


class ChatFields(TypedDict, total=False):
    """Every field of ChatRequest but its messages, by keyword. What is left out is the server's or provider's default.

    Attributes:
        model: ``provider/model``, an alias, or a provider's name.
        provider: provider to ask; joined with `model` to ``provider/model``. Without `model`: its default model.
        persona: who asks.
        request_id: idempotency key, a UUID; minted by the server when left out.
        system: instructions that precede the conversation.
        tools: tools that the model may call; plain functions are described by their signature and docstring.
        tool_choice: ``auto``, ``none``, ``required``, the name of a tool, or a ToolChoice.
        parallel_tool_calls: False: at most one call in a turn.
        max_output_tokens: most tokens to generate.
        temperature: 0 or more.
        top_p: 0 to 1.
        top_k: 1 or more.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        seed: for repeatable answers.
        stop_sequences: texts that end the answer.
        logprobs: whether to give log probabilities.
        top_logprobs: how many likely tokens to list at each place.
        logit_bias: by the provider's token number.
        sampling: the same fields as a message; keywords win over it.
        reasoning: True or False, an effort in the provider's word, a budget in tokens, or a Reasoning.
        output_format: ``text``, ``json``, a JSON schema (mapping or JSON text in a JsonSchemaFormat), a dataclass or
            TypedDict whose schema the answer shall fit, or an OutputFormat.
        output_modalities: kinds of content that the answer may have, by name or number.
        audio_output: how audio answers sound.
        cache: True: cache as much of the prompt as possible; or a CachePolicy.
        unsupported_options: ``drop`` or ``reject`` what the model cannot honour.
        provider_events: whether the stream tells the provider's own events too.
        stream_options: the same as a message.
        service_tier: in the provider's word.
        end_user_id: stable, anonymous identifier of the end user.
        session_id: conversation or task.
        labels: told in logs.
        context: the same three as a message; keywords win over it.
        provider_options: by provider, a mapping or JSON text that is merged into the request's body there.
        fallback_models: what is asked in turn when `model` does not answer; they replace the persona's.
        first_token_timeout: seconds to the first output of an attempt.
        idle_timeout: seconds of silence after it.
        mid_stream: what happens when an answer breaks off: ``never``, ``restart`` or ``continue``.
        allowed_providers: only these may be asked.
        allowed_regions: only models that run in one of these may be asked.
        requires: what whoever answers must be able to do, such as ``tools`` or ``image_input``.
        retries: False: no retry and no fallback.
        routing: the same eight as a message; keywords win over it.
    """

    model: str
    provider: str
    persona: str
    request_id: str
    system: Content
    tools: Iterable[ToolLike]
    tool_choice: str | chat_pb2.ToolChoice
    parallel_tool_calls: bool
    max_output_tokens: int
    temperature: float
    top_p: float
    top_k: int
    frequency_penalty: float
    presence_penalty: float
    seed: int
    stop_sequences: Sequence[str]
    logprobs: bool
    top_logprobs: int
    logit_bias: Mapping[int, float]
    sampling: chat_pb2.Sampling
    reasoning: bool | int | str | chat_pb2.Reasoning
    output_format: str | Mapping[str, Any] | type | chat_pb2.JsonSchemaFormat | chat_pb2.OutputFormat
    output_modalities: Iterable[ModalityName | content_pb2.Modality.ValueType]
    audio_output: chat_pb2.AudioOutput
    cache: bool | chat_pb2.CachePolicy
    unsupported_options: Literal["drop", "reject"] | chat_pb2.UnsupportedOptionPolicy.ValueType
    provider_events: bool
    stream_options: chat_pb2.StreamOptions
    service_tier: str
    end_user_id: str
    session_id: str
    labels: Mapping[str, str]
    context: chat_pb2.CallContext
    provider_options: Mapping[str, Mapping[str, Any] | str] | Iterable[chat_pb2.ProviderOptions]
    fallback_models: Iterable[str]
    first_token_timeout: float
    idle_timeout: float
    mid_stream: Literal["never", "restart", "continue"] | chat_pb2.MidStreamPolicy.ValueType
    allowed_providers: Iterable[str]
    allowed_regions: Iterable[str]
    requires: Iterable[CapabilityName | capability_pb2.Capability.ValueType]
    retries: bool
    routing: chat_pb2.Routing


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a client fills in where a call says nothing."""

    model: str = ""
    provider: str = ""
    persona: str = ""


_PLAIN = ("request_id", "persona", "service_tier", "parallel_tool_calls")
_MESSAGES = ("sampling", "audio_output", "stream_options", "context", "routing")
_SAMPLING = (
    "max_output_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed", "logprobs",
    "top_logprobs",
)  # fmt: skip
_CONTEXT = ("end_user_id", "session_id")
_ROUTING_LISTS = ("fallback_models", "allowed_providers", "allowed_regions")
_ROUTING_TIMES = ("first_token_timeout", "idle_timeout")


def build_request(prompt: Prompt, fields: ChatFields, defaults: Defaults | None = None) -> chat_pb2.ChatRequest:
    """Return the request that a prompt and keywords describe.

    A ready ChatRequest is copied; keywords win over its fields, its fields over the defaults.

    Raises:
        TypeError: a keyword is unknown, or a value has a type that its field cannot take.
        ValueError: a value has the right type but no meaning.
    """
    defaults = defaults if defaults is not None else Defaults()
    request = chat_pb2.ChatRequest()
    if isinstance(prompt, chat_pb2.ChatRequest):
        request.CopyFrom(prompt)
    else:
        request.messages.extend(_messages(prompt))
    given = {name: value for name, value in fields.items() if value is not None}
    unknown = given.keys() - ChatFields.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown keyword {', '.join(sorted(unknown))}")
    _set_whole_fields(request, given)
    _set_single_fields(request, given)
    _set_translated_fields(request, given)
    _set_routing(request, given)
    _set_defaults(request, given, defaults)
    return request


def joined_model(model: str, provider: str) -> str:
    """Return what ChatRequest.model takes for a model of a provider, either of which may be empty."""
    if not provider or model.startswith(f"{provider}/"):
        return model
    return f"{provider}/{model}" if model else provider


def _messages(prompt: Prompt) -> Iterable[content_pb2.Message]:
    if isinstance(prompt, str | content_pb2.ContentBlock | content_pb2.Message):
        prompt = [prompt]
    loose: list[str | content_pb2.ContentBlock] = []
    for part in cast("Iterable[str | content_pb2.ContentBlock | content_pb2.Message]", prompt):
        if isinstance(part, str | content_pb2.ContentBlock):
            loose.append(part)
            continue
        if not isinstance(part, content_pb2.Message):
            raise TypeError(f"a prompt is made of str, ContentBlock and Message, not {type(part).__name__}")
        if loose:
            yield user(loose)
            loose = []
        yield part
    if loose:
        yield user(loose)


def _set_whole_fields(request: chat_pb2.ChatRequest, given: Mapping[str, Any]) -> None:
    for name in _PLAIN:
        if name in given:
            setattr(request, name, given[name])
    for name in _MESSAGES:
        if name in given:
            getattr(request, name).CopyFrom(given[name])


def _set_single_fields(request: chat_pb2.ChatRequest, given: Mapping[str, Any]) -> None:
    """Set the keywords that are fields of a message inside the request."""
    for name in _SAMPLING:
        if name in given:
            setattr(request.sampling, name, given[name])
    if "stop_sequences" in given:
        if isinstance(given["stop_sequences"], str):
            raise TypeError("stop_sequences is a list of texts, not one text")
        request.sampling.stop_sequences[:] = given["stop_sequences"]
    if "logit_bias" in given:
        request.sampling.logit_bias.clear()
        request.sampling.logit_bias.update(given["logit_bias"])
    if "provider_events" in given:
        request.stream_options.provider_events = given["provider_events"]
    for name in _CONTEXT:
        if name in given:
            setattr(request.context, name, given[name])
    if "labels" in given:
        request.context.labels.update(given["labels"])


def _set_translated_fields(request: chat_pb2.ChatRequest, given: Mapping[str, Any]) -> None:
    """Set the fields whose keywords have forms that are easier to write than the contract's."""
    translations: dict[str, Callable[[chat_pb2.ChatRequest, Any], None]] = {
        "system": lambda r, v: _replace(r.system, blocks(v)),
        "tools": lambda r, v: _replace(r.tools, [_tool(each) for each in v]),
        "tool_choice": lambda r, v: r.tool_choice.CopyFrom(_tool_choice(v)),
        "reasoning": lambda r, v: r.reasoning.CopyFrom(_reasoning(v)),
        "output_format": lambda r, v: r.output_format.CopyFrom(_output_format(v)),
        "output_modalities": lambda r, v: _replace(r.output_modalities, _modalities(v)),
        "cache": lambda r, v: r.cache.CopyFrom(_cache(v)),
        "unsupported_options": _set_unsupported_options,
        "provider_options": lambda r, v: _replace(r.provider_options, _provider_options(v)),
    }
    for name, translate in translations.items():
        if name in given:
            translate(request, given[name])


def _set_routing(request: chat_pb2.ChatRequest, given: Mapping[str, Any]) -> None:
    """Set the keywords that are fields of ChatRequest.routing."""
    for name in _ROUTING_LISTS:
        if name in given:
            if isinstance(given[name], str):
                raise TypeError(f"{name} is a list of names, not one name")
            _replace(getattr(request.routing, name), given[name])
    for name in _ROUTING_TIMES:
        if name in given:
            getattr(request.routing, name).FromTimedelta(timedelta(seconds=given[name]))
    if "mid_stream" in given:
        policy = chat_pb2.MidStreamPolicy
        request.routing.mid_stream = policy.ValueType(_number(policy.DESCRIPTOR, given["mid_stream"]))
    if "requires" in given:
        if isinstance(given["requires"], str):
            raise TypeError("requires is a list of capabilities, not one of them")
        enum = capability_pb2.Capability.DESCRIPTOR
        _replace(request.routing.required_capabilities, [_number(enum, each) for each in given["requires"]])
    if "retries" in given:
        request.routing.retries = given["retries"]


def _number(enum: EnumDescriptor, given: str | int) -> int:
    return number_of(enum, given) if isinstance(given, str) else given


def _set_defaults(request: chat_pb2.ChatRequest, given: Mapping[str, Any], defaults: Defaults) -> None:
    """Fill in model and persona; whoever names a model or a provider names both, so that halves never mix."""
    if "model" in given or "provider" in given:
        request.model = joined_model(given.get("model", ""), given.get("provider", ""))
    elif not request.model:
        request.model = joined_model(defaults.model, defaults.provider)
    request.persona = request.persona or defaults.persona


_Item = TypeVar("_Item")


def _replace(field: Any, items: Iterable[_Item]) -> None:
    del field[:]
    field.extend(items)


def _tool(given: ToolLike) -> chat_pb2.Tool:
    if isinstance(given, chat_pb2.Tool):
        return given
    if isinstance(given, chat_pb2.FunctionTool):
        return chat_pb2.Tool(function=given)
    described = given if isinstance(given, PythonTool) else tool(given)
    return chat_pb2.Tool(function=described.definition)


def _tool_choice(given: str | chat_pb2.ToolChoice) -> chat_pb2.ToolChoice:
    if isinstance(given, chat_pb2.ToolChoice):
        return given
    modes = {
        "auto": chat_pb2.TOOL_CHOICE_MODE_AUTO,
        "none": chat_pb2.TOOL_CHOICE_MODE_NONE,
        "required": chat_pb2.TOOL_CHOICE_MODE_REQUIRED,
    }
    if given in modes:
        return chat_pb2.ToolChoice(mode=modes[given])
    return chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name=given)


def _reasoning(given: bool | int | str | chat_pb2.Reasoning) -> chat_pb2.Reasoning:
    match given:
        case chat_pb2.Reasoning():
            return given
        case bool():
            return chat_pb2.Reasoning(enabled=given)
        case int():
            return chat_pb2.Reasoning(budget_tokens=given)
        case str():
            return chat_pb2.Reasoning(effort=given)


def _output_format(
    given: str | Mapping[str, Any] | type | chat_pb2.JsonSchemaFormat | chat_pb2.OutputFormat,
) -> chat_pb2.OutputFormat:
    match given:
        case chat_pb2.OutputFormat():
            return given
        case chat_pb2.JsonSchemaFormat():
            return chat_pb2.OutputFormat(json_schema=given)
        case "text":
            return chat_pb2.OutputFormat(text=chat_pb2.TextFormat())
        case "json":
            return chat_pb2.OutputFormat(json=chat_pb2.JsonFormat())
        case type():
            schema = chat_pb2.JsonSchemaFormat(schema_json=_json(type_schema(given)), name=given.__name__)
            return chat_pb2.OutputFormat(json_schema=schema)
        case Mapping():
            return chat_pb2.OutputFormat(json_schema=chat_pb2.JsonSchemaFormat(schema_json=_json(given)))
        case _:
            raise ValueError(f"output_format {given!r} is neither 'text' nor 'json' nor a schema")


def _modalities(given: Iterable[str | int]) -> Iterable[content_pb2.Modality.ValueType]:
    if isinstance(given, str):
        raise TypeError("output_modalities is a list of names, not one name")
    return [content_pb2.Modality.ValueType(_number(content_pb2.Modality.DESCRIPTOR, each)) for each in given]


def _cache(given: bool | chat_pb2.CachePolicy) -> chat_pb2.CachePolicy:
    return chat_pb2.CachePolicy(automatic=given) if isinstance(given, bool) else given


def _set_unsupported_options(request: chat_pb2.ChatRequest, given: str | int) -> None:
    policy = chat_pb2.UnsupportedOptionPolicy
    request.unsupported_options = policy.ValueType(_number(policy.DESCRIPTOR, given))


def _provider_options(
    given: Mapping[str, Any] | Iterable[chat_pb2.ProviderOptions],
) -> Iterable[chat_pb2.ProviderOptions]:
    if not isinstance(given, Mapping):
        return given
    return [
        chat_pb2.ProviderOptions(provider=name, options_json=each if isinstance(each, str) else _json(each))
        for name, each in given.items()
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
