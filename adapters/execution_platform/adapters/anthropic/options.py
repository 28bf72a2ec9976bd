"""How a model shall answer: sampling, reasoning and form, as far as the chosen model takes it."""

from __future__ import annotations

from typing import Any

from execution_platform.adapters.anthropic.models import DEFAULT_MAX_TOKENS, ModelFacts, Off
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["write_max_tokens", "write_output_config", "write_sampling", "write_thinking"]

_LEAST_BUDGET = 1024
"""Fewest tokens of a thinking budget: `types/thinking_config_enabled_param.py`."""

_NO_EFFORT = {"none", "off"}


def write_max_tokens(sampling: chat_pb2.Sampling, facts: ModelFacts, notices: Notices) -> int:
    """Return the limit, which the provider requires. Raises like param_adjusted."""
    most = facts.known.max_output_tokens
    if not sampling.HasField("max_output_tokens"):
        default = most or DEFAULT_MAX_TOKENS
        whose = "the model's own maximum" if most else "the model's maximum is not known"
        notices.param_defaulted("sampling.max_output_tokens", f"{default} is used: {whose}")
        return default
    asked = sampling.max_output_tokens
    if most is not None and asked > most:
        notices.param_adjusted("sampling.max_output_tokens", f"{most} is used: the model makes no more")
        return most
    return asked


def write_sampling(
    sampling: chat_pb2.Sampling, thinking: dict[str, Any] | None, facts: ModelFacts, notices: Notices
) -> dict[str, Any]:
    """Return the members for sampling. Raises like param_dropped."""
    written = _tuning(sampling, facts, notices) if facts.sampling else _no_tuning(sampling, notices)
    thinks = thinking is not None and thinking["type"] in {"enabled", "adaptive"}
    if thinks and facts.listed and written.get("temperature", 1) != 1:
        del written["temperature"]
        notices.param_dropped("sampling.temperature", "the model takes none while it thinks")
    if thinks and facts.listed and "top_k" in written:
        del written["top_k"]
        notices.param_dropped("sampling.top_k", "the model takes none while it thinks")
    if sampling.stop_sequences:
        written["stop_sequences"] = list(sampling.stop_sequences)
    for name in ("frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs"):
        if sampling.HasField(name):
            notices.param_dropped(f"sampling.{name}", "the provider has no such option")
    if sampling.logit_bias:
        notices.param_dropped("sampling.logit_bias", "the provider has no such option")
    return written


def _tuning(sampling: chat_pb2.Sampling, facts: ModelFacts, notices: Notices) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if sampling.HasField("temperature"):
        written["temperature"] = sampling.temperature
        if sampling.temperature > 1:
            notices.param_adjusted("sampling.temperature", "1 is used: the provider's temperatures end there")
            written["temperature"] = 1.0
    if sampling.HasField("top_p"):
        if "temperature" in written and not facts.temperature_with_top_p:
            notices.param_dropped("sampling.top_p", "the model takes either temperature or top_p")
        else:
            written["top_p"] = sampling.top_p
    if sampling.HasField("top_k"):
        written["top_k"] = sampling.top_k
    return written


def _no_tuning(sampling: chat_pb2.Sampling, notices: Notices) -> dict[str, Any]:
    for name in ("temperature", "top_p", "top_k"):
        if name == "temperature" and sampling.temperature == 1:
            continue  # what the model does anyway
        if sampling.HasField(name):
            notices.param_dropped(f"sampling.{name}", "the model refuses it")
    return {}


def write_thinking(
    reasoning: chat_pb2.Reasoning, max_tokens: int, facts: ModelFacts, notices: Notices
) -> dict[str, Any] | None:
    """Return `thinking`; None: the provider decides. Raises like param_adjusted."""
    thinking = _thinking(reasoning, max_tokens, facts, notices)
    display = _display(reasoning, notices)
    if not display:
        return thinking
    if thinking is None and facts.thinks_by_default:
        thinking = {"type": "adaptive"}
    if thinking is None or thinking["type"] not in {"adaptive", "enabled"}:
        notices.param_dropped("reasoning.display", "the model was not asked to think")
        return thinking
    return {**thinking, "display": display}


def _thinking(
    reasoning: chat_pb2.Reasoning, max_tokens: int, facts: ModelFacts, notices: Notices
) -> dict[str, Any] | None:
    budget = reasoning.budget_tokens if reasoning.HasField("budget_tokens") else None
    told_off = reasoning.HasField("enabled") and not reasoning.enabled
    if told_off or budget == 0 or reasoning.effort in _NO_EFFORT:
        return _off(facts, notices)
    if budget is None and not reasoning.enabled:
        return None
    if not facts.adaptive and not facts.manual:
        notices.param_dropped("reasoning", "the model does not think")
        return None
    if budget is None and facts.adaptive:
        return {"type": "adaptive"}
    if not facts.manual:
        notices.param_adjusted(
            "reasoning.budget_tokens", "the model takes no budget; it thinks as much as it finds right"
        )
        return {"type": "adaptive"}
    if not facts.listed and budget is not None:
        return {"type": "enabled", "budget_tokens": budget}
    if max_tokens <= _LEAST_BUDGET:
        notices.param_dropped("reasoning", f"thinking needs more than {_LEAST_BUDGET} max_output_tokens")
        return None
    return {"type": "enabled", "budget_tokens": _budget(budget, max_tokens, notices)}


def _off(facts: ModelFacts, notices: Notices) -> dict[str, Any] | None:
    if facts.off is Off.NEVER:
        notices.param_dropped("reasoning.enabled", "the model always thinks")
        return None
    if facts.off is Off.BETWEEN_TOOLS:
        why = "the model still makes notes between tool calls"
        notices.add(chat_pb2.NOTICE_CODE_PARAM_ADJUSTED, "reasoning.enabled", why)
    return {"type": facts.off.value}


def _budget(asked: int | None, max_tokens: int, notices: Notices) -> int:
    """Return a budget within the provider's limits: from 1024 up to below max_tokens."""
    if asked is None:
        budget = max(_LEAST_BUDGET, max_tokens // 2)
        notices.param_defaulted("reasoning.budget_tokens", f"{budget} is used: the model needs a number")
        return budget
    budget = max(_LEAST_BUDGET, min(asked, max_tokens - 1))
    if budget != asked:
        notices.param_adjusted("reasoning.budget_tokens", f"{budget} is used: from 1024 up to below max_output_tokens")
    return budget


def _display(reasoning: chat_pb2.Reasoning, notices: Notices) -> str:
    match reasoning.display:
        case chat_pb2.REASONING_DISPLAY_OMITTED:
            return "omitted"
        case chat_pb2.REASONING_DISPLAY_SUMMARY:
            return "summarized"
        case chat_pb2.REASONING_DISPLAY_CONCISE_SUMMARY | chat_pb2.REASONING_DISPLAY_DETAILED_SUMMARY:
            notices.param_adjusted("reasoning.display", "the provider has one length of summary")
            return "summarized"
        case _:
            return ""


def write_output_config(request: chat_pb2.ChatRequest, facts: ModelFacts, notices: Notices) -> dict[str, Any]:
    """Return `output_config`; empty: nothing was asked. Raises like param_dropped, and for a schema that is no JSON."""
    written: dict[str, Any] = {}
    effort = request.reasoning.effort
    if effort and effort not in _NO_EFFORT:
        if facts.effort:
            written["effort"] = _effort(effort, facts, notices)
        else:
            notices.param_dropped("reasoning.effort", "the model has no such choice; give it a budget")
    form = _format(request.output_format, facts, notices)
    if form is not None:
        written["format"] = form
    if request.output_format.verbosity:
        notices.param_dropped("output_format.verbosity", "the provider has no such option")
    for modality in request.output_modalities:
        if modality not in {content_pb2.MODALITY_TEXT, content_pb2.MODALITY_UNSPECIFIED}:
            name = content_pb2.Modality.Name(modality)
            notices.param_dropped("output_modalities", f"the provider answers with text only, not {name}")
    if request.HasField("audio_output"):
        notices.param_dropped("audio_output", "the provider answers with text only")
    return written


def _effort(effort: str, facts: ModelFacts, notices: Notices) -> str:
    if effort == "minimal" and facts.listed:
        notices.param_adjusted("reasoning.effort", "low is used: the provider's efforts begin there")
        return "low"
    return effort


def _format(output: chat_pb2.OutputFormat, facts: ModelFacts, notices: Notices) -> dict[str, Any] | None:
    match output.WhichOneof("format"):
        case "json":
            notices.param_dropped("output_format.json", "the provider makes JSON only after a schema")
            return None
        case "json_schema" if not facts.schemas:
            notices.param_dropped("output_format.json_schema", "the model keeps to no schema")
            return None
        case "json_schema":
            schema = output.json_schema
            for name, given in (("description", bool(schema.description)), ("strict", schema.HasField("strict"))):
                if given and not (name == "strict" and schema.strict):
                    # The answer fits the schema all the same: never a reason to refuse.
                    why = "the provider has no such option; it always keeps to the schema"
                    notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, f"output_format.json_schema.{name}", why)
            path = "output_format.json_schema.schema_json"
            return {"type": "json_schema", "schema": raw_json(schema.schema_json, path, must_be_object=True)}
        case _:
            return None
