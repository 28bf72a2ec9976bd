"""What an answer of Responses says, read with plain JSON and nothing of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

TERMINAL = {"response.completed", "response.incomplete", "response.failed", "error"}


@dataclass
class Reading:
    """An answer.

    Attributes:
        response: the response object; of a stream the last one.
        items: the output items; of a stream as each was told when it was done, since encrypted content is written
            anew each time that an item is told.
        events: the events of a stream.
    """

    response: Json
    items: list[Json]
    events: list[Json] = field(default_factory=list)


def read(body: bytes) -> Reading:
    """Read a body, streamed or not."""
    if body.lstrip().startswith(b"{"):
        response = json.loads(body)
        return Reading(response, response.get("output") or [])
    events: list[Json] = []
    for line in body.decode().splitlines():
        if line.startswith("data:") and line[5:].strip() != "[DONE]":
            events.append(json.loads(line[5:]))
            if events[-1]["type"] in TERMINAL:
                break  # some files hold several answers, one after the other
    done = [event for event in events if event["type"] == "response.output_item.done"]
    items = [event["item"] for event in sorted(done, key=lambda event: event["output_index"])]
    response = events[-1].get("response") or {}
    told = {item["id"]: item for item in items}
    if len(items) < len(response.get("output") or []):  # only the last event tells the others
        items = [told.get(item["id"], item) for item in response["output"]]
    return Reading(response, items, events)


def texts(reading: Reading) -> list[str]:
    """The texts of the answer, in order."""
    return [part["text"] for part in parts(reading, "output_text")]


def refusals(reading: Reading) -> list[str]:
    """The refusals, in order."""
    return [part["refusal"] for part in parts(reading, "refusal")]


def parts(reading: Reading, kind: str) -> list[Json]:
    """The parts of messages of one type."""
    messages = [item for item in reading.items if item["type"] == "message"]
    return [part for item in messages for part in item["content"] if part["type"] == kind]


def streamed_text(reading: Reading) -> str:
    """The pieces of text in a stream, joined."""
    return "".join(event["delta"] for event in reading.events if event["type"] == "response.output_text.delta")


def thoughts(reading: Reading) -> list[tuple[str, bool]]:
    """The texts of reasoning, in order, and whether each is a summary. An item without any counts as one, empty."""
    found = []
    for item in reading.items:
        if item["type"] == "reasoning":
            told = [(part["text"], True) for part in item.get("summary") or []]
            told += [(part["text"], False) for part in item.get("content") or []]
            found += told or [("", False)]
    return found


def encrypted(reading: Reading) -> list[str]:
    """Encrypted reasoning, in order."""
    reasoning = [item for item in reading.items if item["type"] == "reasoning"]
    return [item["encrypted_content"] for item in reasoning if item.get("encrypted_content")]


def function_calls(reading: Reading) -> list[tuple[str, str, str, str]]:
    """The calls of the caller's functions and custom tools: item id, call id, name, arguments."""
    keys = {"function_call": "arguments", "custom_tool_call": "input"}
    return [
        (item["id"], item["call_id"], item["name"], item[keys[item["type"]]])
        for item in reading.items
        if item["type"] in keys
    ]


def for_the_caller(reading: Reading) -> bool:
    """Whether the caller has to run a tool."""
    types = {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "apply_patch_call"}
    for item in reading.items:
        if item["type"] in types or item["type"] == "mcp_approval_request":
            return True
        if item["type"] == "shell_call" and (item.get("environment") or {}).get("type") != "container_reference":
            return True
        if item["type"] == "tool_search_call" and item["execution"] == "client":
            return True
    return False


def tokens(usage: Json) -> dict[str, int]:
    """Tokens by kind; each is counted once and zeros are left out."""
    into = usage.get("input_tokens_details") or {}
    out = usage.get("output_tokens_details") or {}
    read, written = into.get("cached_tokens", 0), into.get("cache_write_tokens", 0)
    reasoning = out.get("reasoning_tokens", 0)
    counts = {
        "USAGE_KIND_INPUT": usage["input_tokens"] - read - written,
        "USAGE_KIND_CACHE_READ": read,
        "USAGE_KIND_CACHE_WRITE": written,
        "USAGE_KIND_OUTPUT": usage["output_tokens"] - reasoning,
        "USAGE_KIND_REASONING": reasoning,
    }
    assert sum(counts.values()) == usage["total_tokens"]
    return {kind: count for kind, count in counts.items() if count}
