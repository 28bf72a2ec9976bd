"""What the model of a leg can do, and what a chat needs of it."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from execution_platform.adapters.capabilities import ALL, Set, capabilities_of, name_of
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.spi import ProviderSpec
from execution_platform.server.config.personas import CapabilityName, PlatformConfiguration
from execution_platform.v1 import capability_pb2, chat_pb2, content_pb2

__all__ = ["MEDIA", "Facts", "by_name", "facts_of", "fitted", "missing", "used_by"]

Capability: TypeAlias = capability_pb2.Capability.ValueType

#: What a prompt needs that cannot be left out of it.
MEDIA: Set = frozenset(
    {
        capability_pb2.CAPABILITY_IMAGE_INPUT,
        capability_pb2.CAPABILITY_PDF_INPUT,
        capability_pb2.CAPABILITY_AUDIO_INPUT,
    }
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the model of a leg. What is neither supported nor unsupported is not known.

    Attributes:
        name: ``provider/model``.
        supported: what it can do.
        unsupported: what it cannot do.
        context_window: most tokens of prompt and answer; None: not known.
        max_output_tokens: most tokens of an answer; None: not known.
        source: where that is said.
        as_of: day on which that was read; empty: not told.
        many_calls: an answer may take many calls of models, each as large as these.
    """

    name: str
    supported: Set = frozenset()
    unsupported: Set = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    source: str = ""
    as_of: str = ""
    many_calls: bool = False

    def lacks(self, capability: Capability) -> bool:
        """Return whether the model is known to lack something."""
        return capability in self.unsupported

    def message(self) -> capability_pb2.Capabilities:
        """Return it as the contract tells it."""
        return capability_pb2.Capabilities(
            supported=sorted(self.supported), unsupported=sorted(self.unsupported), source=self.source, as_of=self.as_of
        )


def by_name(names: Iterable[CapabilityName]) -> Set:
    """Return the contract's capabilities of the configuration's names."""
    return frozenset(capability_pb2.Capability.Value(f"CAPABILITY_{name.upper()}") for name in names)


def facts_of(spec: ProviderSpec, model: str, configuration: PlatformConfiguration) -> Facts:
    """Return what is known of a model: what the configuration declares of it, before what the provider's data says."""
    known = capabilities_of(spec, model)
    name = f"{spec.name}/{model}"
    source, as_of = " ".join(known.sources), known.as_of
    supported, unsupported = known.supported, known.unsupported
    declared = configuration.models.get(name)
    window, output = known.context_window, known.max_output_tokens
    if declared is not None:
        window = declared.context_window or window
        output = declared.max_output_tokens or output
        if declared.capabilities is not None:
            supported = by_name(declared.capabilities)
            unsupported = frozenset(ALL) - supported
            source, as_of = f"the configuration: models.{name}", ""
    return Facts(name, supported, unsupported, window, output, source, as_of, spec.many_calls)


def missing(required: Iterable[Capability], facts: Facts) -> list[str]:
    """Return what a model lacks of what is required, in words, in the contract's order; empty: nothing."""
    words: list[str] = []
    for capability in sorted(set(required) - facts.supported):
        if facts.lacks(capability):
            words.append(f"lacks {name_of(capability)}")
        else:
            words.append(
                f"is not known to have {name_of(capability)}; "
                f"if it has, declare it in the configuration: models.{facts.name}.capabilities"
            )
    return words


def used_by(request: chat_pb2.ChatRequest) -> Set:
    """Return what a request uses without naming it as required."""
    used = {needed for media in _media(_blocks(request)) if (needed := _capability_of(media)) is not None}
    used.update(capability for capability, wants in _ASKED.items() if wants(request))
    return frozenset(used)


def fitted(
    request: chat_pb2.ChatRequest, facts: Facts
) -> tuple[chat_pb2.ChatRequest | None, tuple[chat_pb2.Notice, ...]]:
    """Leave out of a request what a model is known to lack.

    What is not known is left in: the adapter and the provider know better. Media are never left out here; whoever
    plans asks somebody who can see and hear.

    Returns:
        The request as the model can take it, None if it can take it as it is; and what was left out.

    Raises:
        UnsupportedOptionError: something would have to be left out, and the request wants that refused.
    """
    lacking = [each for each in _ASKED if facts.lacks(each) and (_ASKED[each](request) or _switched_off(request, each))]
    if not lacking:
        return None, ()
    copy = chat_pb2.ChatRequest()
    copy.CopyFrom(request)
    fitting = _Fitting(copy, Notices(request), facts.name)
    for capability in lacking:
        fitting.leave_out(capability)
    return copy, tuple(fitting.notices.items)


class _Fitting:
    """Takes out of a request what one model lacks."""

    def __init__(self, request: chat_pb2.ChatRequest, notices: Notices, name: str) -> None:
        self._request = request
        self._name = name
        self.notices = notices

    def leave_out(self, capability: Capability) -> None:
        """Take one of the options out, and tell. Raises UnsupportedOptionError if that is to be refused."""
        request, sampling = self._request, self._request.sampling
        match capability:
            case capability_pb2.CAPABILITY_TOOLS:
                self._tools()
            case capability_pb2.CAPABILITY_PARALLEL_TOOLS:
                if request.parallel_tool_calls:
                    self._drop("parallel_tool_calls", "does not call several tools in one turn")
                request.ClearField("parallel_tool_calls")
            case capability_pb2.CAPABILITY_THINKING:
                if _wants_thinking(request.reasoning):
                    self._drop("reasoning", "does not reason before it answers")
                request.ClearField("reasoning")
            case capability_pb2.CAPABILITY_STRUCTURED_OUTPUT:
                why = f"{self._name} does not keep to a schema; it is asked for any JSON object"
                self.notices.param_adjusted("output_format.json_schema", why)
                request.output_format.json.SetInParent()
            case capability_pb2.CAPABILITY_PROMPT_CACHING:
                self._caching()
            case capability_pb2.CAPABILITY_SEED:
                self._drop("sampling.seed", "samples without a seed")
                sampling.ClearField("seed")
            case capability_pb2.CAPABILITY_LOGPROBS:
                self._logprobs(sampling)
            case _:
                raise AssertionError(name_of(capability))  # not one of the options

    def _drop(self, field: str, why: str) -> None:
        self.notices.param_dropped(field, f"{self._name} {why}")

    def _tools(self) -> None:
        """Take the caller's functions out; tools that the provider runs are the adapter's to judge."""
        self._drop("tools", "does not call tools of the caller")
        request = self._request
        kept = [tool for tool in request.tools if not tool.HasField("function")]
        del request.tools[:]
        request.tools.extend(kept)
        if request.tool_choice.mode in _FORCING:
            self._drop("tool_choice", "does not call tools of the caller")
        request.ClearField("tool_choice")
        request.ClearField("parallel_tool_calls")

    def _logprobs(self, sampling: chat_pb2.Sampling) -> None:
        asked = {"sampling.logprobs": sampling.logprobs, "sampling.top_logprobs": sampling.top_logprobs > 0}
        for field in (field for field, wanted in asked.items() if wanted):
            self._drop(field, "gives no log probabilities")
        sampling.ClearField("logprobs")
        sampling.ClearField("top_logprobs")

    def _caching(self) -> None:
        cache = self._request.cache
        asked = {"cache.automatic": cache.automatic, "cache.ttl": cache.HasField("ttl"), "cache.key": bool(cache.key)}
        for field in (field for field, wanted in asked.items() if wanted):
            self._drop(field, "does not cache prompts")
        for name in ("automatic", "ttl", "key"):
            cache.ClearField(name)
        hinted = [part for part in (*_blocks(self._request), *self._request.tools) if part.HasField("cache_hint")]
        if hinted:
            self._drop("cache_hint", "does not cache prompts")
        for part in hinted:
            part.ClearField("cache_hint")


_FORCING = frozenset({chat_pb2.TOOL_CHOICE_MODE_REQUIRED, chat_pb2.TOOL_CHOICE_MODE_NAMED})


def _has_functions(request: chat_pb2.ChatRequest) -> bool:
    return any(tool.HasField("function") for tool in request.tools)


def _wants_thinking(reasoning: chat_pb2.Reasoning) -> bool:
    if reasoning.HasField("enabled"):
        return reasoning.enabled
    return bool(reasoning.effort not in {"", "none"} or reasoning.budget_tokens)


def _wants_logprobs(sampling: chat_pb2.Sampling) -> bool:
    return sampling.logprobs or sampling.top_logprobs > 0


def _wants_caching(request: chat_pb2.ChatRequest) -> bool:
    cache = request.cache
    if cache.automatic or cache.HasField("ttl") or cache.key:
        return True
    return any(part.HasField("cache_hint") for part in (*_blocks(request), *request.tools))


def _switched_off(request: chat_pb2.ChatRequest, capability: Capability) -> bool:
    """Return whether a request says that something is not to be done: whoever cannot do it complies, untold."""
    if capability == capability_pb2.CAPABILITY_PARALLEL_TOOLS:
        return request.HasField("parallel_tool_calls")
    if capability == capability_pb2.CAPABILITY_THINKING:
        return request.HasField("reasoning")
    return capability == capability_pb2.CAPABILITY_LOGPROBS and request.sampling.HasField("logprobs")


#: What can be left out of a request and still leaves one, with how it is asked for.
_ASKED: Mapping[Capability, Callable[[chat_pb2.ChatRequest], bool]] = {
    capability_pb2.CAPABILITY_TOOLS: _has_functions,
    capability_pb2.CAPABILITY_PARALLEL_TOOLS: lambda request: request.parallel_tool_calls,
    capability_pb2.CAPABILITY_THINKING: lambda request: _wants_thinking(request.reasoning),
    capability_pb2.CAPABILITY_STRUCTURED_OUTPUT: lambda request: request.output_format.HasField("json_schema"),
    capability_pb2.CAPABILITY_PROMPT_CACHING: _wants_caching,
    capability_pb2.CAPABILITY_SEED: lambda request: request.sampling.HasField("seed"),
    capability_pb2.CAPABILITY_LOGPROBS: lambda request: _wants_logprobs(request.sampling),
}


def _blocks(request: chat_pb2.ChatRequest) -> Iterator[content_pb2.ContentBlock]:
    """Yield every block of the prompt, those within results of tools too."""
    for block in request.system:
        yield from _within(block)
    for message in request.messages:
        for block in message.content:
            yield from _within(block)


def _within(block: content_pb2.ContentBlock) -> Iterator[content_pb2.ContentBlock]:
    yield block
    if block.HasField("tool_result"):
        for inner in block.tool_result.content:
            yield from _within(inner)


def _media(blocks: Iterable[content_pb2.ContentBlock]) -> Iterator[content_pb2.MediaBlock]:
    return (block.media for block in blocks if block.HasField("media"))


def _capability_of(media: content_pb2.MediaBlock) -> Capability | None:
    """Return what a model must be able to read for a block of media; None: something that has no name here."""
    kind = media.mime_type.lower()
    if not kind and media.WhichOneof("source") == "uri":
        kind = (mimetypes.guess_type(urlsplit(media.uri).path)[0] or "").lower()
    if kind.startswith("image/"):
        return capability_pb2.CAPABILITY_IMAGE_INPUT
    if kind.startswith("audio/"):
        return capability_pb2.CAPABILITY_AUDIO_INPUT
    return capability_pb2.CAPABILITY_PDF_INPUT if kind.startswith("application/pdf") else None
