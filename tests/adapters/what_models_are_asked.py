"""Builds what adapters would send, without sending it, and asks for each capability in the ways that there are."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from execution_platform.adapters.anthropic.request import build_request as build_anthropic
from execution_platform.adapters.bedrock.request import build_request as build_bedrock
from execution_platform.adapters.claude_agent.options import RunOptions
from execution_platform.adapters.claude_agent.request import build_run
from execution_platform.adapters.compatible.rows import ROWS
from execution_platform.adapters.errors import UnsupportedOptionError
from execution_platform.adapters.gemini.request import build_request as build_gemini
from execution_platform.adapters.local.adapter import DIALECT as LOCAL
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai.models import DIALECT as OPENAI
from execution_platform.adapters.openai_api.chat.request import build_chat
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.responses.request import build_responses
from execution_platform.adapters.registry import Registry
from execution_platform.adapters.scripted.models import answer
from execution_platform.adapters.spi import Call, ProviderSpec
from execution_platform.v1 import capability_pb2, chat_pb2, content_pb2

Capability = capability_pb2.Capability
Ask = Callable[[chat_pb2.ChatRequest], None]

SPECS = {spec.name: spec for spec in Registry.discover().specs() if spec.create.__module__.startswith("execution_pl")}
DIALECTS: Mapping[str, Dialect] = {
    "openai": OPENAI,
    "local": LOCAL,
    **{row.dialect.provider: row.dialect for row in ROWS},
}

#: Notices that say that something does not reach the model as it was asked for.
_LOST = frozenset(
    {
        chat_pb2.NOTICE_CODE_PARAM_DROPPED,
        chat_pb2.NOTICE_CODE_PARAM_ADJUSTED,
        chat_pb2.NOTICE_CODE_BLOCK_DROPPED,
    }
)


@dataclass(frozen=True)
class Sent:
    """What would be sent, whether it asks for a stream, and the fields that notices say are lost."""

    body: bytes
    streams: bool
    lost: tuple[str, ...]


def sent(provider: str, model: str, request: chat_pb2.ChatRequest) -> Sent:
    """What a provider's adapter makes of a request. Raises UnsupportedOptionError."""
    call = Call(request=request, model=model, request_id="r1")
    notices: Sequence[chat_pb2.Notice]
    if provider == "anthropic":
        built = build_anthropic(call, provider)
        body, notices, streams = built.body, built.notices, b'"stream":true' in built.body
    elif provider == "bedrock":
        said = build_bedrock(call, provider, "eu-central-1")
        body, notices, streams = said.body, said.notices, said.path.endswith("/converse-stream")
    elif provider == "claude_agent":
        run = build_run(call, RunOptions(), "")
        body, notices, streams = repr(run.run).encode(), run.notices, run.run.options.include_partial_messages
    elif provider == "gemini":
        wire = build_gemini(call)
        body, notices, streams = wire.body, wire.notices.items, wire.method == "streamGenerateContent"
    elif provider == "scripted":
        told = Notices(request)
        body, streams = repr(answer("echo", request, told)).encode(), True
        notices = told.items
    else:
        dialect = DIALECTS[provider].for_model(model)
        spoken = (build_chat if dialect.api == "chat" else build_responses)(call, dialect)
        body, notices, streams = spoken.body, spoken.notices, b'"stream":true' in spoken.body
    return Sent(body, streams, tuple(notice.field for notice in notices if notice.code in _LOST))


def plain() -> chat_pb2.ChatRequest:
    """A request that asks for nothing in particular."""
    request = chat_pb2.ChatRequest()
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = "hello"
    return request


def asking(ask: Ask, *, reject: bool = False) -> chat_pb2.ChatRequest:
    """A request that asks for something."""
    request = plain()
    ask(request)
    if reject:
        request.unsupported_options = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    return request


def refuses(provider: str, model: str, ask: Ask) -> bool:
    """Whether the adapter refuses what is asked for where the caller wants that."""
    try:
        sent(provider, model, asking(ask, reject=True))
    except UnsupportedOptionError:
        return True
    return False


def _media(mime_type: str, data: bytes) -> Ask:
    def ask(request: chat_pb2.ChatRequest) -> None:
        media = content_pb2.MediaBlock(mime_type=mime_type, data=data)
        request.messages[0].content.add().media.CopyFrom(media)

    return ask


def _tools(request: chat_pb2.ChatRequest) -> None:
    function = request.tools.add().function
    function.name, function.parameters_json = "look", '{"type":"object","properties":{"n":{"type":"string"}}}'


def _forced_tool(request: chat_pb2.ChatRequest) -> None:
    _tools(request)
    request.tool_choice.mode = chat_pb2.TOOL_CHOICE_MODE_REQUIRED


def _two_calls(request: chat_pb2.ChatRequest) -> None:
    """A turn of the model with two calls, and a turn with their results."""
    _tools(request)
    calls = request.messages.add(role=content_pb2.ROLE_ASSISTANT)
    results = request.messages.add(role=content_pb2.ROLE_USER)
    for number in ("first", "second"):
        call = calls.content.add().tool_call
        call.call_id, call.name, call.arguments_json = f"call_{number}", "look", f'{{"n":"{number}"}}'
        result = results.content.add().tool_result
        result.call_id, result.name = f"call_{number}", "look"
        result.content.add().text.text = f"seen {number}"


def _parallel(request: chat_pb2.ChatRequest) -> None:
    _tools(request)
    request.parallel_tool_calls = True


def _schema(request: chat_pb2.ChatRequest) -> None:
    request.output_format.json_schema.schema_json = (
        '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
    )


def _hint(request: chat_pb2.ChatRequest) -> None:
    request.messages[0].content[0].cache_hint.SetInParent()


def _set(path: str, value: object) -> Ask:
    def ask(request: chat_pb2.ChatRequest) -> None:
        message, _, field = path.rpartition(".")
        setattr(getattr(request, message), field, value)

    return ask


#: Ways to ask for a capability: one that works is enough for a model that has it, none works with one that lacks it.
ASKS: Mapping[Capability.ValueType, Sequence[Ask]] = {
    capability_pb2.CAPABILITY_TOOLS: (_tools, _forced_tool),
    capability_pb2.CAPABILITY_PARALLEL_TOOLS: (_two_calls,),
    capability_pb2.CAPABILITY_THINKING: (
        _set("reasoning.enabled", value=True),
        _set("reasoning.effort", "low"),
        _set("reasoning.budget_tokens", 2048),
    ),
    capability_pb2.CAPABILITY_STRUCTURED_OUTPUT: (_schema,),
    capability_pb2.CAPABILITY_IMAGE_INPUT: (_media("image/png", b"png"),),
    capability_pb2.CAPABILITY_PDF_INPUT: (_media("application/pdf", b"pdf"),),
    capability_pb2.CAPABILITY_AUDIO_INPUT: (_media("audio/wav", b"wav"),),
    capability_pb2.CAPABILITY_PROMPT_CACHING: (_set("cache.automatic", value=True), _set("cache.key", "k"), _hint),
    capability_pb2.CAPABILITY_SEED: (_set("sampling.seed", 7),),
    capability_pb2.CAPABILITY_LOGPROBS: (_set("sampling.logprobs", value=True), _set("sampling.top_logprobs", 3)),
}

#: How something is asked for of a model that is known to lack it, where that differs.
ASKS_IN_VAIN: Mapping[Capability.ValueType, Sequence[Ask]] = {
    **ASKS,
    capability_pb2.CAPABILITY_PARALLEL_TOOLS: (_parallel,),
}


def models_of(spec: ProviderSpec) -> Iterator[str]:
    """Names of models: those that are listed, and one for each pattern of the data."""
    names = [model.name for model in spec.models] + [spec.default_model]
    for pattern in (pattern for row in spec.capabilities for pattern in row.models):
        name = re.sub(r"\[(.).*?\]", r"\1", pattern).replace("?", "0").replace("*", "")
        assert fnmatch.fnmatchcase(name, pattern), pattern
        names += [name, f"us.anthropic.{name}"] if pattern.startswith("*claude") else [name]
    yield from dict.fromkeys(name for name in names if name)
