"""How answers of Bedrock end: reasons, guardrails and other filters, and what is kept of the rest.

Source: StopReason, ConverseTrace and the assessments of guardrails in `bedrock-runtime/2023-09-30/service-2.json` of
botocore 1.44.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    int_of,
    is_told,
    json_of,
)
from execution_platform.v1 import chat_pb2

__all__ = ["finish_reason", "invoked_model", "matched_stop_sequence", "refusal_detail"]

_REASONS: Mapping[str, chat_pb2.FinishReason.ValueType] = {
    "end_turn": chat_pb2.FINISH_REASON_STOP,
    "tool_use": chat_pb2.FINISH_REASON_TOOL_CALLS,
    "max_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "stop_sequence": chat_pb2.FINISH_REASON_STOP_SEQUENCE,
    "guardrail_intervened": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "content_filtered": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "malformed_model_output": chat_pb2.FINISH_REASON_MALFORMED_OUTPUT,
    "malformed_tool_use": chat_pb2.FINISH_REASON_MALFORMED_OUTPUT,
    "model_context_window_exceeded": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
}

#: Most characters of a trace that stand in the refusal's detail too; the whole is in the metadata.
_MOST_DETAIL = 200_000


def finish_reason(word: str) -> chat_pb2.FinishReason.ValueType:
    """Return what a stopReason means; OTHER for words that nobody knows."""
    return _REASONS.get(word, chat_pb2.FINISH_REASON_OTHER)


def matched_stop_sequence(additional: msgspec.Raw | None) -> str | None:
    """Return the stop sequence that ended the answer, where the model's own fields tell it; None: not told.

    Args:
        additional: `additionalModelResponseFields`, which hold only what the request asks for; a model of Anthropic's
            tells it under `stop_sequence`, in a stream under `delta`.
    """
    fields = fields_if_any(additional)
    for told in (fields.get("stop_sequence"), fields_if_any(fields.get("delta")).get("stop_sequence")):
        if is_told(told) and bytes(told).startswith(b'"'):
            return clean_text(told)
    return None


def invoked_model(trace: msgspec.Raw | None) -> str:
    """Return the model that a prompt router chose; empty: none did."""
    return clean_text(fields_if_any(fields_if_any(trace).get("promptRouter")).get("invokedModelId"))


def refusal_detail(told: Fields, block_count: int) -> chat_pb2.RefusalDetail:
    """Return what is known of a filter that stopped the prompt or changed the answer.

    Args:
        told: members of the answer's end: `trace`, `usage`.
        block_count: blocks that the answer has.
    """
    raw = fields_if_any(told.get("trace")).get("guardrail")
    guardrail = fields_if_any(raw)
    detail = chat_pb2.RefusalDetail(
        category=", ".join(dict.fromkeys(policy for policy, _ in _interventions(guardrail))),
        explanation=clean_text(guardrail.get("actionReason")),
        prompt_blocked=_prompt_blocked(guardrail, told.get("usage"), block_count),
    )
    if raw is not None and len(bytes(raw)) <= _MOST_DETAIL:
        detail.raw_json = json_of(raw)
    return detail


def _prompt_blocked(guardrail: Fields, usage: msgspec.Raw | None, block_count: int) -> bool:
    """Return whether the model was not asked. The text of an answer is then the guardrail's own."""
    if guardrail:
        judged = guardrail.get("inputAssessment")
        blocked = any(
            action == "BLOCKED" for _, action in _interventions({"inputAssessment": judged} if judged else {})
        )
        return blocked and not elements_if_any(guardrail.get("modelOutput"))
    return block_count == 0 or int_of(fields_if_any(usage).get("outputTokens")) == 0


def _interventions(guardrail: Fields) -> Iterator[tuple[str, str]]:
    """Yield policy and action of whatever a guardrail did not let pass."""
    for key in ("inputAssessment", "outputAssessments"):
        for raw in fields_if_any(guardrail.get(key)).values():
            for assessment in [raw, *elements_if_any(raw)]:
                yield from _actions(fields_if_any(assessment))


def _actions(assessment: Fields) -> Iterator[tuple[str, str]]:
    for policy, raw in assessment.items():
        for findings in fields_if_any(raw).values():
            for finding in elements_if_any(findings):
                action = clean_text(fields_if_any(finding).get("action"))
                if action not in {"", "NONE"}:
                    yield policy, action
