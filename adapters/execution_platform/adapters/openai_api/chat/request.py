"""A ChatRequest as the body of a Chat Completions request. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.chat.content import Parts
from execution_platform.adapters.openai_api.chat.media import audio_format
from execution_platform.adapters.openai_api.chat.messages import build_messages
from execution_platform.adapters.openai_api.chat.tools import add_tools
from execution_platform.adapters.openai_api.dialect import Dialect, WireRequest
from execution_platform.adapters.patches import apply_provider_options
from execution_platform.adapters.spi import Call
from execution_platform.adapters.wire import encode_json, merge_patch, raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["build_chat"]

_PATH = "/chat/completions"

_MODALITIES: Mapping[content_pb2.Modality.ValueType, str] = {
    content_pb2.MODALITY_TEXT: "text",
    content_pb2.MODALITY_IMAGE: "image",
    content_pb2.MODALITY_AUDIO: "audio",
    content_pb2.MODALITY_VIDEO: "video",
}

_NUMBERS = (
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
)

_DEFAULT_VOICE = "alloy"


def build_chat(call: Call, dialect: Dialect) -> WireRequest:
    """Return the request for one attempt.

    Args:
        call: the attempt.
        dialect: the server's; the rules for the model are applied here.

    Raises:
        InvalidRequestError: JSON of the caller's is none.
        UnsupportedOptionError: the request wants options refused that this server cannot honour.
    """
    return _Builder(call, dialect.for_model(call.model)).build()


class _Builder:
    def __init__(self, call: Call, dialect: Dialect) -> None:
        self._call = call
        self._request = call.request
        self._dialect = dialect
        self._notices = Notices(call.request)
        self._body: dict[str, Any] = {}

    def build(self) -> WireRequest:
        request, dialect = self._request, self._dialect
        self._body = {"model": self._call.model, **dialect.body}
        self._body["messages"] = build_messages(request, dialect, self._notices)
        for field, value in self._options():
            self._place(field, value)
        add_tools(self._body, request, dialect, self._notices)
        self._add_format()
        self._add_reasoning()
        self._add_cache()
        self._add_outputs()
        if not self._call.unary:
            self._body["stream"] = True
            if dialect.stream_usage:
                self._body["stream_options"] = {"include_usage": True}
        body = apply_provider_options(self._body, request, {dialect.provider, dialect.family})
        return WireRequest(_PATH, encode_json(body), tuple(self._notices.items), dialect.headers)

    def _options(self) -> Iterator[tuple[str, Any]]:
        """Yield the options that are one value each, by their path in ChatRequest."""
        request, sampling = self._request, self._request.sampling
        for name in _NUMBERS:
            if name == "logprobs" and sampling.HasField("top_logprobs"):
                yield "sampling.logprobs", True
            elif sampling.HasField(name):  # type: ignore[arg-type]  # each is an optional field of Sampling
                yield f"sampling.{name}", getattr(sampling, name)
        if sampling.stop_sequences:
            yield "sampling.stop_sequences", list(sampling.stop_sequences)
        if sampling.logit_bias:
            yield "sampling.logit_bias", {str(token): _whole(bias) for token, bias in sampling.logit_bias.items()}
        for field, text in (
            ("output_format.verbosity", request.output_format.verbosity),
            ("service_tier", request.service_tier),
            ("cache.key", request.cache.key),
            ("cache.cached_content", request.cache.cached_content),
        ):
            if text:
                yield field, text
        if request.context.end_user_id and "context.end_user_id" in self._dialect.places:
            yield "context.end_user_id", request.context.end_user_id

    def _place(self, field: str, value: Any) -> None:
        place = self._dialect.places.get(field)
        if place is None or field in self._dialect.unsupported:
            self._notices.param_dropped(field, f"{self._dialect.provider} has no such option for this model")
            return
        for key in reversed(place.split(".")):
            value = {key: value}
        self._merge(value)

    def _merge(self, patch: Mapping[str, Any]) -> None:
        self._body = merge_patch(self._body, dict(patch))

    def _add_format(self) -> None:
        output, dialect = self._request.output_format, self._dialect
        kind = output.WhichOneof("format")
        schemas = dialect.json_schema and "output_format.json_schema" not in dialect.unsupported
        objects = dialect.json_object and "output_format.json" not in dialect.unsupported
        if kind == "json_schema" and schemas:
            self._body["response_format"] = {"type": "json_schema", "json_schema": _schema(output.json_schema)}
        elif kind in {"json", "json_schema"} and objects:
            self._body["response_format"] = {"type": "json_object"}
            if kind == "json_schema":
                why = f"{dialect.provider} has no schemas for this model: any JSON object"
                self._notices.param_adjusted("output_format.json_schema", why)
        elif kind in {"json", "json_schema"}:
            self._notices.param_dropped(f"output_format.{kind}", f"{dialect.provider} has no JSON mode for this model")

    def _add_reasoning(self) -> None:
        reasoning, dialect = self._request.reasoning, self._dialect
        off = reasoning.HasField("enabled") and not reasoning.enabled
        if reasoning.effort and not off:
            self._place("reasoning.effort", reasoning.effort)
        if reasoning.HasField("budget_tokens") and not off:
            self._place("reasoning.budget_tokens", reasoning.budget_tokens)
        if reasoning.HasField("enabled"):
            self._switch("reasoning.enabled", dialect.reasoning_off if off else dialect.reasoning_on)
        if reasoning.display == chat_pb2.REASONING_DISPLAY_OMITTED:
            self._switch("reasoning.display", dialect.reasoning_hidden)
        elif reasoning.display != chat_pb2.REASONING_DISPLAY_UNSPECIFIED:
            self._switch("reasoning.display", dialect.reasoning_shown)

    def _switch(self, field: str, patch: Mapping[str, Any] | None) -> None:
        if patch is None or field in self._dialect.unsupported or field.partition(".")[0] in self._dialect.unsupported:
            self._notices.param_dropped(field, f"{self._dialect.provider} has no such option for this model")
        else:
            self._merge(patch)

    def _add_cache(self) -> None:
        cache, dialect = self._request.cache, self._dialect
        if cache.HasField("automatic"):
            self._switch("cache.automatic", dialect.cache_on if cache.automatic else dialect.cache_off)
        if cache.HasField("ttl"):
            if dialect.cache_ttls and "cache.ttl" in dialect.places:
                parts = Parts(dialect, self._notices)
                self._place("cache.ttl", parts.offered_ttl(cache.ttl.seconds, dialect.cache_ttls, "cache.ttl"))
            else:
                self._notices.param_dropped("cache.ttl", f"{dialect.provider} has no such option")

    def _add_outputs(self) -> None:
        wanted = [_MODALITIES[kind] for kind in self._request.output_modalities if kind in _MODALITIES]
        if set(wanted) - {"text"}:
            self._place("output_modalities", wanted)
        if content_pb2.MODALITY_DOCUMENT in self._request.output_modalities:
            self._notices.param_dropped("output_modalities", "this format has no documents in answers")
        spoken = "audio" in wanted
        if self._request.HasField("audio_output") or spoken:
            self._add_audio()

    def _add_audio(self) -> None:
        asked, chosen = self._request.audio_output, audio_format(self._call, self._dialect)
        if asked.format and chosen != asked.format:
            self._notices.param_adjusted("audio_output.format", f"streamed audio is {chosen} here")
        elif not asked.format:
            self._notices.param_defaulted("audio_output.format", chosen)
        if not asked.voice:
            self._notices.param_defaulted("audio_output.voice", _DEFAULT_VOICE)
        self._place("audio_output", {"voice": asked.voice or _DEFAULT_VOICE, "format": chosen})


def _schema(schema: chat_pb2.JsonSchemaFormat) -> dict[str, Any]:
    written: dict[str, Any] = {"name": schema.name or "answer"}
    if schema.description:
        written["description"] = schema.description
    written["schema"] = raw_json(schema.schema_json, "output_format.json_schema.schema_json", must_be_object=True)
    if schema.HasField("strict"):
        written["strict"] = schema.strict
    return written


def _whole(number: float) -> float | int:
    """Return a number without its fraction where it has none: OpenAI takes whole biases only."""
    return int(number) if number.is_integer() else number
