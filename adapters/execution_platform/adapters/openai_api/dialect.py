"""How servers of OpenAI's formats differ, as data: a further server is a row, not code."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from execution_platform.adapters.openai_api.media_kinds import Kind
from execution_platform.v1 import chat_pb2

__all__ = [
    "COMPATIBLE_PLACES",
    "OPENAI_PLACES",
    "Address",
    "Api",
    "Auth",
    "Dialect",
    "MediaPart",
    "ModelRule",
    "WireRequest",
]

#: Which of the two formats.
Api = Literal["chat", "responses"]

#: How the key travels: ``Authorization: Bearer``, or the header ``api-key``.
Auth = Literal["bearer", "api-key"]

#: Shape of the addresses: below the base URL as it stands, or Azure's resource with deployments and versions.
Address = Literal["plain", "azure"]

#: Content parts of a user message that a server takes besides text.
MediaPart = Literal[
    "image",  # {"type": "image_url", "image_url": {"url"}}
    "audio",  # {"type": "input_audio", "input_audio": {"data", "format"}}
    "bare_audio",  # {"type": "input_audio", "input_audio": "..."}: base64 or an address
    "file",  # {"type": "file", "file": {"file_data", "filename"}}
    "file_id",  # {"type": "file", "file": {"file_id"}}
    "file_url",  # {"type": "file", "file": {"file_data": "https://..."}}
    "document_url",  # {"type": "document_url", "document_url": "..."}
    "video",  # {"type": "video_url", "video_url": {"url"}}
]

#: The parts that carry each kind of media.
_PARTS: Mapping[Kind, frozenset[MediaPart]] = {
    "image": frozenset({"image"}),
    "audio": frozenset({"audio", "bare_audio"}),
    "document": frozenset({"file", "file_id", "file_url", "document_url"}),
    "video": frozenset({"video"}),
}

#: Where OpenAI's Chat Completions takes an option. Keys are paths in ChatRequest, values are paths in the body.
#: Source: openai 3.52, types/chat/completion_create_params.py.
OPENAI_PLACES: Mapping[str, str] = {
    "sampling.max_output_tokens": "max_completion_tokens",
    "sampling.temperature": "temperature",
    "sampling.top_p": "top_p",
    "sampling.frequency_penalty": "frequency_penalty",
    "sampling.presence_penalty": "presence_penalty",
    "sampling.seed": "seed",
    "sampling.stop_sequences": "stop",
    "sampling.logprobs": "logprobs",
    "sampling.top_logprobs": "top_logprobs",
    "sampling.logit_bias": "logit_bias",
    "parallel_tool_calls": "parallel_tool_calls",
    "reasoning.effort": "reasoning_effort",
    "output_format.verbosity": "verbosity",
    "output_modalities": "modalities",
    "audio_output": "audio",
    "service_tier": "service_tier",
    "cache.key": "prompt_cache_key",
    "cache.ttl": "prompt_cache_options.ttl",
    "context.end_user_id": "safety_identifier",
}

#: What nearly every server that copies the format takes.
COMPATIBLE_PLACES: Mapping[str, str] = {
    "sampling.max_output_tokens": "max_tokens",
    "sampling.temperature": "temperature",
    "sampling.top_p": "top_p",
    "sampling.frequency_penalty": "frequency_penalty",
    "sampling.presence_penalty": "presence_penalty",
    "sampling.seed": "seed",
    "sampling.stop_sequences": "stop",
    "sampling.logprobs": "logprobs",
    "sampling.top_logprobs": "top_logprobs",
    "sampling.logit_bias": "logit_bias",
    "parallel_tool_calls": "parallel_tool_calls",
    "reasoning.effort": "reasoning_effort",
    "context.end_user_id": "user",
}


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request, ready to be sent.

    Attributes:
        path: below the provider's base URL, with its leading slash.
        body: JSON.
        notices: what the caller is to be told about options that were left out or changed.
        headers: besides those of the credentials and the content type.
    """

    path: str
    body: bytes
    notices: tuple[chat_pb2.Notice, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRule:
    """What differs for some of a server's models.

    Attributes:
        models: patterns of names, as in fnmatch.
        api: the format to use for them; None: the dialect's.
        unsupported: paths of ChatRequest fields that these models refuse, for example ``sampling.temperature``.
        without_media: kinds of media that these models cannot take, although the format has a place for them.
        system_role: role of instructions; empty: the dialect's.
        cached_outside: these models count cached tokens outside ``prompt_tokens``.
    """

    models: tuple[str, ...]
    api: Api | None = None
    unsupported: frozenset[str] = frozenset()
    without_media: frozenset[Kind] = frozenset()
    system_role: str = ""
    cached_outside: bool = False

    def holds_for(self, model: str) -> bool:
        """Return whether a model is one of these."""
        return any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One server's way of speaking OpenAI's formats.

    Attributes:
        provider: name of the provider, as in its ProviderSpec.
        family: whom opaque state belongs to.
        api: the format used where no rule says otherwise.
        rules: what differs by model; all that hold apply, later ones over earlier ones.
        auth: how the key travels.
        address: shape of the addresses.
        headers: sent with every request.
        places: where Chat Completions takes an option: ChatRequest path to body path. An option without a place
            is left out with a Notice.
        unsupported: ChatRequest paths that are left out with a Notice although the format has a place.
        body: JSON that every Chat Completions body starts from.
        system_role: role of instructions.
        stream_usage: the server understands ``stream_options.include_usage``.
        media: content parts that it takes.
        without_media: kinds of media that the model cannot take, by the rules.
        tool_media: tool messages may hold what ``media`` lists, not only text.
        text_parts: texts may be an array of parts; else they are joined by blank lines.
        named_roles: messages may have ``name``.
        json_schema: ``response_format`` may be ``json_schema``; else a schema becomes plain JSON mode.
        json_object: ``response_format`` may be ``json_object``.
        required_choice: word for "must call a tool".
        named_choice: a single tool may be named.
        allowed_tools: ``tool_choice`` may be ``allowed_tools``; else the tools are cut down to those allowed.
        strict_tools: function definitions may hold ``strict``.
        custom_tools: tools with free-text input are understood.
        call_ids: pattern of the tool call ids that it takes, and the length of the ids that stand in for others.
        cache_breakpoints: how a CacheHint is written: ``openai`` (prompt_cache_breakpoint), ``anthropic``
            (cache_control), empty: not at all.
        breakpoint_ttls: lifetimes that a breakpoint may ask for, in seconds, with the server's words.
        cache_ttls: the same for the whole request, where ``cache.ttl`` has a place.
        cache_on: merged into the body for ``cache.automatic = true``; None: there is no such switch.
        cache_off: the same for ``false``.
        reasoning_on: merged into the body for ``reasoning.enabled = true``; None: there is no such switch.
        reasoning_off: the same for ``false``.
        reasoning_hidden: merged into the body for OMITTED; None: there is no such switch.
        reasoning_shown: merged into the body for a display of summaries; None: there is no such switch.
        reasoning_replay: where an assistant message takes its reasoning back: ``reasoning_content``, ``reasoning``,
            ``reasoning_details`` (OpenRouter), ``content`` (Mistral's thinking parts), empty: nowhere.
        stream_audio_format: the only format in which it streams audio; empty: any.
        replay_annotations: an assistant message takes its annotations back.
        prefix_key: key that marks a last assistant message as the answer's beginning; empty: none is needed.
        cached_outside: cached tokens are not in ``prompt_tokens``, although the sums do not show it.
        usage_after_error: in a stream, usage may follow the error.
    """

    provider: str
    family: str
    api: Api = "chat"
    rules: tuple[ModelRule, ...] = ()
    auth: Auth = "bearer"
    address: Address = "plain"
    headers: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=lambda: COMPATIBLE_PLACES)
    unsupported: frozenset[str] = frozenset()
    body: Mapping[str, Any] = field(default_factory=dict)
    system_role: str = "system"
    stream_usage: bool = True
    media: frozenset[MediaPart] = frozenset({"image"})
    without_media: frozenset[Kind] = frozenset()
    tool_media: bool = False
    text_parts: bool = True
    named_roles: bool = True
    json_schema: bool = True
    json_object: bool = True
    required_choice: str = "required"
    named_choice: bool = True
    allowed_tools: bool = False
    strict_tools: bool = True
    custom_tools: bool = False
    call_ids: tuple[str, int] | None = None
    cache_breakpoints: Literal["", "openai", "anthropic"] = ""
    breakpoint_ttls: Mapping[int, str] = field(default_factory=dict)
    cache_ttls: Mapping[int, str] = field(default_factory=dict)
    cache_on: Mapping[str, Any] | None = None
    cache_off: Mapping[str, Any] | None = None
    reasoning_on: Mapping[str, Any] | None = None
    reasoning_off: Mapping[str, Any] | None = None
    reasoning_hidden: Mapping[str, Any] | None = None
    reasoning_shown: Mapping[str, Any] | None = None
    reasoning_replay: Literal["", "reasoning_content", "reasoning", "reasoning_details", "content"] = ""
    stream_audio_format: str = ""
    replay_annotations: bool = False
    prefix_key: str = ""
    cached_outside: bool = False
    usage_after_error: bool = False

    def for_model(self, model: str) -> Dialect:
        """Return the dialect as it is spoken to one model: the rules that hold, applied; it has no rules itself."""
        if not self.rules:
            return self
        api, unsupported, role, outside = self.api, self.unsupported, self.system_role, self.cached_outside
        without_media = self.without_media
        for rule in self.rules:
            if rule.holds_for(model):
                api = rule.api or api
                unsupported |= rule.unsupported
                without_media |= rule.without_media
                role = rule.system_role or role
                outside = rule.cached_outside or outside
        return dataclasses.replace(
            self,
            api=api,
            unsupported=unsupported,
            media=self.media.difference(*(_PARTS[kind] for kind in without_media)),
            without_media=without_media,
            system_role=role,
            cached_outside=outside,
            rules=(),
        )
