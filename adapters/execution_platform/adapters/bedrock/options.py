"""How a model shall answer: sampling, reasoning and form, as far as the chosen model takes it. Pure.

Sources: InferenceConfiguration, OutputConfig and ServiceTier of botocore's service model; "Model inference parameters"
of the Amazon Bedrock User Guide for what goes into `additionalModelRequestFields`.
"""

from __future__ import annotations

from typing import Any

from execution_platform.adapters.bedrock.families import Maker, ModelFacts, Thinks
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["write_further", "write_inference", "write_output", "write_tier"]

_LEAST_BUDGET = 1024
"""Fewest tokens of a thinking budget of Claude's."""

_NO_EFFORT = frozenset({"none", "off"})
_TIERS = frozenset({"priority", "default", "flex", "reserved"})
_THREE_EFFORTS = ("low", "medium", "high")
#: What efforts that Nova and gpt-oss do not have come nearest to.
_NEAREST_EFFORT = {"minimal": "low", "xhigh": "high", "max": "high"}
_WITH_TEMPERATURE_ABOVE_1 = "1 is used: the provider's temperatures end there"


def write_inference(sampling: chat_pb2.Sampling, facts: ModelFacts, notices: Notices) -> dict[str, Any]:
    """Return `inferenceConfig`. Raises like param_dropped."""
    written: dict[str, Any] = {}
    if sampling.HasField("max_output_tokens"):
        written["maxTokens"] = _max_tokens(sampling.max_output_tokens, facts, notices)
    if facts.sampling:
        written |= _tuning(sampling, facts, notices)
    else:
        _refuse_tuning(sampling, notices)
    if sampling.stop_sequences:
        written["stopSequences"] = list(sampling.stop_sequences)
    for name in ("frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs"):
        if sampling.HasField(name):
            notices.param_dropped(f"sampling.{name}", "the provider has no such option")
    if sampling.logit_bias:
        notices.param_dropped("sampling.logit_bias", "the provider has no such option")
    return written


def _max_tokens(asked: int, facts: ModelFacts, notices: Notices) -> int:
    if facts.most_output is None or asked <= facts.most_output:
        return asked
    notices.param_adjusted("sampling.max_output_tokens", f"{facts.most_output} is used: the model makes no more")
    return facts.most_output


def _tuning(sampling: chat_pb2.Sampling, facts: ModelFacts, notices: Notices) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if sampling.HasField("temperature"):
        written["temperature"] = sampling.temperature
        if sampling.temperature > 1:
            notices.param_adjusted("sampling.temperature", _WITH_TEMPERATURE_ABOVE_1)
            written["temperature"] = 1.0
    if sampling.HasField("top_p"):
        if facts.one_of_sampling and "temperature" in written:
            notices.param_dropped("sampling.top_p", "the model takes either temperature or top_p")
        else:
            written["topP"] = sampling.top_p
    return written


def _refuse_tuning(sampling: chat_pb2.Sampling, notices: Notices) -> None:
    for name in ("temperature", "top_p"):
        is_default = name == "temperature" and sampling.temperature == 1
        if sampling.HasField(name) and not is_default:
            notices.param_dropped(f"sampling.{name}", "the model refuses it")


def write_further(
    request: chat_pb2.ChatRequest, inference: dict[str, Any], facts: ModelFacts, notices: Notices
) -> dict[str, Any]:
    """Return `additionalModelRequestFields`: what the model's maker has a word for, and Converse has not.

    Args:
        request: what is asked.
        inference: `inferenceConfig`; what the model does not take beside its thinking is taken out.
        facts: what the model takes.
        notices: where to tell what is left out.

    Raises:
        UnsupportedOptionError: something must be left out and the request wants that refused.
    """
    written = _reasoning(request.reasoning, inference, facts, notices)
    if request.reasoning.display:
        _write_display(request.reasoning, written, facts, notices)
    thinks = written.get("thinking", {}).get("type") in {"enabled", "adaptive"}
    if thinks and inference.get("temperature", 1) != 1:
        del inference["temperature"]
        notices.param_dropped("sampling.temperature", "the model takes none while it thinks")
    if request.sampling.HasField("top_k"):
        written |= _top_k(request.sampling.top_k, thinks, facts, notices)
    return written


def _top_k(top_k: int, thinks: bool, facts: ModelFacts, notices: Notices) -> dict[str, Any]:
    match facts.maker:
        case Maker.CLAUDE if facts.sampling and not thinks:
            return {"top_k": top_k}
        case Maker.NOVA:
            return {"inferenceConfig": {"topK": top_k}}
        case Maker.COHERE:
            return {"k": top_k}
        case Maker.CLAUDE:
            notices.param_dropped("sampling.top_k", "the model takes none" + (" while it thinks" if thinks else ""))
        case _:
            notices.param_dropped("sampling.top_k", "the provider has no such option for this model")
    return {}


# -- reasoning


def _is_off(reasoning: chat_pb2.Reasoning) -> bool:
    told_off = reasoning.HasField("enabled") and not reasoning.enabled
    no_budget = reasoning.HasField("budget_tokens") and not reasoning.budget_tokens
    return told_off or no_budget or reasoning.effort in _NO_EFFORT


def _reasoning(
    reasoning: chat_pb2.Reasoning, inference: dict[str, Any], facts: ModelFacts, notices: Notices
) -> dict[str, Any]:
    asked = reasoning.enabled or reasoning.HasField("budget_tokens")
    if _is_off(reasoning):
        return _off(facts, notices)
    match facts.thinks:
        case Thinks.EFFORT:
            return _nova_thinking(reasoning, inference, notices) if asked or reasoning.effort else {}
        case Thinks.ALWAYS_EFFORT:
            return _effort_of_always(reasoning, notices)
        case Thinks.ALWAYS:
            _refuse(reasoning, ("effort", "budget_tokens"), "the model thinks as much as it finds right", notices)
        case Thinks.NEVER if asked:
            notices.param_dropped("reasoning", "the model does not think")
        case Thinks.UNKNOWN if facts.maker is not Maker.CLAUDE:
            _refuse(reasoning, ("enabled", "budget_tokens"), "nothing is known of how to ask the model", notices)
        case _ if asked:
            thinking = _claude_thinking(reasoning, inference, facts, notices)
            return {"thinking": thinking} if thinking else {}
        case _:
            pass
    return {}


def _refuse(reasoning: chat_pb2.Reasoning, names: tuple[str, ...], why: str, notices: Notices) -> None:
    told = {
        "effort": bool(reasoning.effort),
        "enabled": reasoning.HasField("enabled"),
        "budget_tokens": reasoning.HasField("budget_tokens"),
    }
    for name in names:
        if told[name]:
            notices.param_dropped(f"reasoning.{name}", why)


def _off(facts: ModelFacts, notices: Notices) -> dict[str, Any]:
    match facts.thinks:
        case Thinks.NEVER:
            return {}
        case Thinks.EFFORT:
            return {"reasoningConfig": {"type": "disabled"}}
        case Thinks.BUDGET | Thinks.BUDGET_OR_FREELY | Thinks.FREELY:
            return {"thinking": {"type": "disabled"}}
        case Thinks.UNKNOWN:
            notices.param_dropped("reasoning.enabled", "nothing is known of how to ask the model")
        case _:
            notices.param_dropped("reasoning.enabled", "the model always thinks")
    return {}


def _claude_thinking(
    reasoning: chat_pb2.Reasoning, inference: dict[str, Any], facts: ModelFacts, notices: Notices
) -> dict[str, Any] | None:
    budget = reasoning.budget_tokens if reasoning.HasField("budget_tokens") else None
    if budget is None and facts.thinks is not Thinks.BUDGET:
        return {"type": "adaptive"}
    if facts.thinks in {Thinks.FREELY, Thinks.ALWAYS_FREELY}:
        why = "the model takes no budget; it thinks as much as it finds right"
        notices.param_adjusted("reasoning.budget_tokens", why)
        return {"type": "adaptive"}
    most = inference.get("maxTokens")
    if most is not None and most <= _LEAST_BUDGET:
        notices.param_dropped("reasoning", f"thinking needs more than {_LEAST_BUDGET} max_output_tokens")
        return None
    return {"type": "enabled", "budget_tokens": _budget(budget, most or facts.most_output, notices)}


def _budget(asked: int | None, most: int | None, notices: Notices) -> int:
    """Return a budget within Claude's limits: from 1024 up to below the most tokens of the answer."""
    if asked is None:
        budget = max(_LEAST_BUDGET, (most or 2 * _LEAST_BUDGET) // 2)
        notices.param_defaulted("reasoning.budget_tokens", f"{budget} is used: the model needs a number")
        return budget
    budget = max(_LEAST_BUDGET, asked if most is None else min(asked, most - 1))
    if budget != asked:
        notices.param_adjusted("reasoning.budget_tokens", f"{budget} is used: from 1024 up to below max_output_tokens")
    return budget


def _one_of_three(effort: str, notices: Notices) -> str:
    nearest = _NEAREST_EFFORT.get(effort, effort)
    if nearest != effort:
        notices.param_adjusted("reasoning.effort", f"{nearest} is used: the model knows {', '.join(_THREE_EFFORTS)}")
    return nearest


def _nova_thinking(reasoning: chat_pb2.Reasoning, inference: dict[str, Any], notices: Notices) -> dict[str, Any]:
    effort = _one_of_three(reasoning.effort, notices) or "medium"
    if reasoning.HasField("budget_tokens"):
        notices.param_adjusted("reasoning.budget_tokens", f"the model takes no budget; it thinks with {effort} effort")
    elif not reasoning.effort:
        notices.param_defaulted("reasoning.effort", "medium is used: the model needs an effort")
    if effort == "high" and "maxTokens" in inference:
        # "Extended thinking in Amazon Nova 2": the three must be unset then. A limit guards against costs: it stays.
        notices.param_adjusted(
            "reasoning.effort", "medium is used: with high effort the model takes no limit of tokens"
        )
        effort = "medium"
    elif effort == "high":
        for name, field in (("temperature", "temperature"), ("topP", "top_p")):
            if inference.pop(name, None) is not None:
                notices.param_dropped(f"sampling.{field}", "the model takes none when it thinks with high effort")
    return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}


def _effort_of_always(reasoning: chat_pb2.Reasoning, notices: Notices) -> dict[str, Any]:
    _refuse(reasoning, ("budget_tokens",), "the model takes no budget; give it an effort", notices)
    return {"reasoning_effort": _one_of_three(reasoning.effort, notices)} if reasoning.effort else {}


def _write_display(reasoning: chat_pb2.Reasoning, written: dict[str, Any], facts: ModelFacts, notices: Notices) -> None:
    if facts.maker is not Maker.CLAUDE or facts.display is False:
        notices.param_dropped("reasoning.display", "the model has no such choice")
        return
    if "thinking" not in written and facts.thinks is Thinks.ALWAYS_FREELY:
        written["thinking"] = {"type": "adaptive"}
    if written.get("thinking", {}).get("type") not in {"adaptive", "enabled"}:
        notices.param_dropped("reasoning.display", "the model was not asked to think")
        return
    omitted = reasoning.display == chat_pb2.REASONING_DISPLAY_OMITTED
    if not omitted and reasoning.display != chat_pb2.REASONING_DISPLAY_SUMMARY:
        notices.param_adjusted("reasoning.display", "the provider has one length of summary")
    written["thinking"]["display"] = "omitted" if omitted else "summarized"


# -- form


def write_output(request: chat_pb2.ChatRequest, facts: ModelFacts, notices: Notices) -> dict[str, Any]:
    """Return `outputConfig`; empty: nothing was asked. Raises like param_dropped, and for a schema that is no JSON."""
    written: dict[str, Any] = {}
    form = _format(request.output_format, facts, notices)
    if form is not None:
        written["textFormat"] = form
    effort = request.reasoning.effort
    if effort and effort not in _NO_EFFORT and facts.thinks not in _EFFORT_ELSEWHERE:
        if facts.effort is False or facts.thinks is Thinks.NEVER:
            notices.param_dropped("reasoning.effort", "the model has no such choice")
        elif facts.listed and effort == "minimal":
            notices.param_adjusted("reasoning.effort", "low is used: the provider's efforts begin there")
            written["effort"] = "low"
        else:
            written["effort"] = effort
    if request.output_format.verbosity:
        notices.param_dropped("output_format.verbosity", "the provider has no such option")
    for modality in request.output_modalities:
        if modality not in {content_pb2.MODALITY_TEXT, content_pb2.MODALITY_UNSPECIFIED}:
            name = content_pb2.Modality.Name(modality)
            notices.param_dropped("output_modalities", f"the provider answers with text only, not {name}")
    if request.HasField("audio_output"):
        notices.param_dropped("audio_output", "the provider answers with text only")
    return written


#: Models whose effort is said, or refused, among their maker's own options.
_EFFORT_ELSEWHERE = frozenset({Thinks.EFFORT, Thinks.ALWAYS_EFFORT, Thinks.ALWAYS})


def _format(output: chat_pb2.OutputFormat, facts: ModelFacts, notices: Notices) -> dict[str, Any] | None:
    match output.WhichOneof("format"):
        case "json":
            notices.param_dropped("output_format.json", "the provider makes JSON only after a schema")
            return None
        case "json_schema" if facts.schemas is False:
            notices.param_dropped("output_format.json_schema", "the model keeps to no schema")
            return None
        case "json_schema":
            return _schema_format(output.json_schema, notices)
        case _:
            return None


def _schema_format(schema: chat_pb2.JsonSchemaFormat, notices: Notices) -> dict[str, Any]:
    if schema.HasField("strict") and not schema.strict:
        # The answer fits the schema all the same: never a reason to refuse.
        why = "the provider has no such option; it always keeps to the schema"
        notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, "output_format.json_schema.strict", why)
    raw_json(schema.schema_json, "output_format.json_schema.schema_json", must_be_object=True)
    told = {"schema": schema.schema_json, "name": schema.name or "answer"}
    if schema.description:
        told["description"] = schema.description
    return {"type": "json_schema", "structure": {"jsonSchema": told}}


def write_tier(request: chat_pb2.ChatRequest, notices: Notices) -> dict[str, Any] | None:
    """Return `serviceTier`; None: nothing was asked. Raises like param_dropped."""
    if not request.service_tier:
        return None
    if request.service_tier in _TIERS:
        return {"type": request.service_tier}
    notices.param_dropped("service_tier", f"the provider's tiers are {', '.join(sorted(_TIERS))}")
    return None
