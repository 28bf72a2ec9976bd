"""The generationConfig of a request."""

from __future__ import annotations

from typing import Any

from execution_platform.adapters.gemini.models import Facts
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["generation_config"]

_INT32 = 2**31

_PLAIN = {"max_output_tokens": "maxOutputTokens"}
_SHAPING = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_MODALITIES = {
    content_pb2.MODALITY_TEXT: "TEXT",
    content_pb2.MODALITY_IMAGE: "IMAGE",
    content_pb2.MODALITY_AUDIO: "AUDIO",
    content_pb2.MODALITY_VIDEO: "VIDEO",
}
_PCM = frozenset({"", "pcm", "pcm16", "audio/l16"})

#: Thinking budgets that stand for efforts. Source: OpenAI compatibility page of the Gemini API.
_BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
#: Words of other providers for more than "high".
_MOST = frozenset({"max", "xhigh", "highest"})


def generation_config(request: chat_pb2.ChatRequest, facts: Facts, notices: Notices) -> dict[str, Any]:
    """Return the generationConfig; empty if nothing is asked for.

    Raises:
        InvalidRequestError: the answer's schema is not JSON.
        UnsupportedOptionError: the model cannot honour an option, and the request wants that refused.
    """
    config: dict[str, Any] = {}
    _add_sampling(config, request.sampling, facts, notices)
    _add_format(config, request.output_format, notices)
    thinking = thinking_config(request.reasoning, facts, notices)
    if thinking:
        config["thinkingConfig"] = thinking
    modalities = [_MODALITIES[one] for one in request.output_modalities if one in _MODALITIES]
    if len(modalities) < len(request.output_modalities):
        notices.param_dropped("output_modalities", "Gemini answers with text, images, audio or video")
    if modalities:
        config["responseModalities"] = modalities
    _add_audio(config, request.audio_output, notices)
    return config


def _add_sampling(config: dict[str, Any], sampling: chat_pb2.Sampling, facts: Facts, notices: Notices) -> None:
    for field, key in _PLAIN.items():
        if sampling.HasField(field):  # type: ignore[arg-type]  # each key is one of the message's fields
            config[key] = getattr(sampling, field)
    for field, key in _SHAPING.items():
        if not sampling.HasField(field):  # type: ignore[arg-type]  # each key is one of the message's fields
            continue
        if facts.sampling:
            config[key] = getattr(sampling, field)
        else:
            notices.param_dropped(f"sampling.{field}", "this model takes no values of its own for it")
    if sampling.HasField("seed"):
        if -_INT32 <= sampling.seed < _INT32:
            config["seed"] = sampling.seed
        else:
            notices.param_dropped("sampling.seed", "Gemini takes seeds of 32 bits")
    if sampling.stop_sequences:
        config["stopSequences"] = list(sampling.stop_sequences)
    if sampling.logprobs or sampling.HasField("top_logprobs"):
        config["responseLogprobs"] = True
    if sampling.top_logprobs:
        config["logprobs"] = sampling.top_logprobs
    if sampling.logit_bias:
        notices.param_dropped("sampling.logit_bias", "Gemini has no such option")


def _add_format(config: dict[str, Any], output: chat_pb2.OutputFormat, notices: Notices) -> None:
    kind = output.WhichOneof("format")
    if kind in {"json", "json_schema"}:
        config["responseMimeType"] = "application/json"
    if kind == "json_schema":
        field = "output_format.json_schema"
        config["responseJsonSchema"] = raw_json(output.json_schema.schema_json, f"{field}.schema_json")
        _tell_of_schema(output.json_schema, field, notices)


def _tell_of_schema(schema: chat_pb2.JsonSchemaFormat, field: str, notices: Notices) -> None:
    """Tell what is left out beside a schema; its name only names the format. Raises like param_dropped."""
    if schema.description:
        # Never refused, here and below: the answer fits the schema all the same.
        why = "Gemini takes the schema alone; it reads a description that stands in there"
        notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, f"{field}.description", why)
    if schema.strict:
        # Source: ai.google.dev/gemini-api/docs/structured-output, limitations.
        notices.param_dropped(f"{field}.strict", "Gemini passes over the words of a schema that it does not know")
    elif schema.HasField("strict"):
        why = "Gemini has no such option; it always keeps to the schema"
        notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, f"{field}.strict", why)


def _add_audio(config: dict[str, Any], audio: chat_pb2.AudioOutput, notices: Notices) -> None:
    if audio.voice:
        config["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": audio.voice}}}
    if audio.format.lower() not in _PCM:
        notices.param_dropped("audio_output.format", "Gemini speaks PCM")


def thinking_config(reasoning: chat_pb2.Reasoning, facts: Facts, notices: Notices) -> dict[str, Any]:
    """Return how the model shall think: by level where it knows levels, else by budget; empty: as it likes."""
    asked = reasoning.HasField("enabled") or reasoning.effort or reasoning.HasField("budget_tokens")
    if not facts.thinks:
        if (asked and not _is_off(reasoning)) or _shows(reasoning):
            notices.param_dropped("reasoning", "this model does not think")
        return {}
    config: dict[str, Any] = {}
    if asked:
        config = _by_level(reasoning, facts, notices) if facts.levels else _by_budget(reasoning, facts, notices)
    if reasoning.display == chat_pb2.REASONING_DISPLAY_OMITTED:
        config["includeThoughts"] = False
    elif _shows(reasoning):
        config["includeThoughts"] = True
        if reasoning.display != chat_pb2.REASONING_DISPLAY_SUMMARY:
            notices.param_adjusted("reasoning.display", "Gemini has one kind of summary")
    return config


def _shows(reasoning: chat_pb2.Reasoning) -> bool:
    return reasoning.display not in {
        chat_pb2.REASONING_DISPLAY_UNSPECIFIED,
        chat_pb2.REASONING_DISPLAY_OMITTED,
    }


def _is_off(reasoning: chat_pb2.Reasoning) -> bool:
    off = reasoning.HasField("enabled") and not reasoning.enabled
    no_tokens = reasoning.HasField("budget_tokens") and reasoning.budget_tokens == 0
    return off or no_tokens or reasoning.effort.lower() in {"none", "off"}


def _by_level(reasoning: chat_pb2.Reasoning, facts: Facts, notices: Notices) -> dict[str, Any]:
    if _is_off(reasoning):
        notices.param_adjusted("reasoning", f"this model always thinks; its least is {facts.levels[0]}")
        return {"thinkingLevel": facts.levels[0]}
    effort = reasoning.effort.lower()
    if not effort:
        # Taken by these models too, for old callers; the API refuses it beside a level.
        return {"thinkingBudget": reasoning.budget_tokens} if reasoning.HasField("budget_tokens") else {}
    if reasoning.HasField("budget_tokens"):
        notices.param_dropped("reasoning.budget_tokens", "the effort decides; this model takes only one of the two")
    level = _nearest(effort, facts.levels)
    if level == effort:
        return {"thinkingLevel": reasoning.effort}  # the API takes either case; the caller's stays
    notices.param_adjusted("reasoning.effort", f"this model's nearest level is {level}")
    return {"thinkingLevel": level}


def _nearest(effort: str, levels: tuple[str, ...]) -> str:
    """Return the least level that is not below the effort, or the highest; unknown words are the caller's affair."""
    order = ("minimal", "low", "medium", "high")
    if effort in levels:
        return effort
    if effort in _MOST:
        return levels[-1]
    if effort not in order:
        return effort
    above = [level for level in levels if order.index(level) >= order.index(effort)]
    return above[0] if above else levels[-1]


def _by_budget(reasoning: chat_pb2.Reasoning, facts: Facts, notices: Notices) -> dict[str, Any]:
    least, most = facts.budget or (0, 0)
    if _is_off(reasoning):
        if facts.can_stop_thinking:
            return {"thinkingBudget": 0}
        notices.param_adjusted("reasoning", f"this model always thinks; its least budget is {least} tokens")
        return {"thinkingBudget": least}
    effort = reasoning.effort.lower()
    if reasoning.HasField("budget_tokens"):
        if effort:
            notices.param_dropped("reasoning.effort", "the budget decides; this model thinks by budget")
        wanted = reasoning.budget_tokens
        if wanted < 0:
            return {"thinkingBudget": -1}
        budget = min(max(wanted, least), most)
        if budget != wanted:
            notices.param_adjusted("reasoning.budget_tokens", f"this model takes {least} to {most} tokens")
        return {"thinkingBudget": budget}
    if not effort:
        return {"thinkingBudget": -1}  # as much as the model finds right
    budget_of_effort = most if effort in _MOST else _BUDGETS.get(effort)
    if budget_of_effort is None:
        notices.param_dropped("reasoning.effort", "this model knows no such effort")
        return {}
    return {"thinkingBudget": min(max(budget_of_effort, least), most)}
