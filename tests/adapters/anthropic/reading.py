"""What an answer of the Messages API says, read with plain JSON and nothing of ours."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Reading:
    """An answer: its message as one JSON object, as if it had not been streamed."""

    message: Json
    error: Json | None = None
    events: list[Json] = field(default_factory=list)


def read(body: bytes) -> Reading:
    """Read a body, streamed or not."""
    if body.lstrip().startswith(b"{"):
        message = json.loads(body)
        return Reading(message, message.get("error"))
    return _read_stream(body)


def _read_stream(body: bytes) -> Reading:
    reading = Reading({})
    message: Json = {}
    for line in body.decode().splitlines():
        if not line.startswith("data:") or line[5:].strip() == "[DONE]":
            continue
        event = json.loads(line[5:])
        reading.events.append(event)
        _take(reading, message, event)
        if event["type"] == "message_stop":
            break  # some files hold several answers, one after the other
    for block in message.get("content", []):
        streamed = block.pop("_input", "")
        if streamed:
            block["input"] = streamed
    reading.message = message
    return reading


def _take(reading: Reading, message: Json, event: Json) -> None:
    match event["type"]:
        case "message_start":
            message.update(copy.deepcopy(event["message"]))
        case "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append({**event["content_block"], "_input": ""})
        case "content_block_delta":
            _append(message["content"][event["index"]], event["delta"])
        case "message_delta":
            told = {key: value for key, value in event["usage"].items() if value is not None}
            message["usage"] = {**message["usage"], **told}
            message.update(event["delta"])
            message.update({key: value for key, value in event.items() if key not in {"type", "delta", "usage"}})
        case "error":
            reading.error = event["error"]
        case _:
            pass


def _append(block: Json, delta: Json) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            block["_input"] += delta["partial_json"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
        case "compaction_delta":
            block.update({key: value for key, value in delta.items() if key != "type"})
        case kind:
            raise AssertionError(f"this reading does not know {kind}")


def arguments(block: Json) -> Any:
    """The arguments of a call; text where a stream was cut before they were complete."""
    given = block["input"]
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given


def tokens(usage: Json, served_model: str = "") -> dict[str, int]:
    """Usage as disjoint counts. Iterations that are billed apart stand under their model."""
    thinking = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    counts = {
        "input": usage.get("input_tokens") or 0,
        "cache_read": usage.get("cache_read_input_tokens") or 0,
        "cache_write": usage.get("cache_creation_input_tokens") or 0,
        "output": (usage.get("output_tokens") or 0) - thinking,
        "reasoning": thinking,
    }
    for tool, calls in (usage.get("server_tool_use") or {}).items():
        counts[tool.removesuffix("_requests")] = calls
    iterations = usage.get("iterations") or []
    final = [it["model"] for it in iterations if it["type"] == "fallback_message"]
    for iteration in iterations:
        declined = bool(final) and iteration["type"] == "message" and iteration["model"] not in final
        if iteration["type"] in {"compaction", "advisor_message"} or declined:
            for kind, quantity in tokens({key: iteration[key] for key in iteration if key != "iterations"}).items():
                name = f"{kind} of {iteration.get('model') or served_model}"
                counts[name] = counts.get(name, 0) + quantity
    return {name: quantity for name, quantity in counts.items() if quantity}
