"""Reads recorded Chat Completions answers with plain JSON, sharing nothing with the code under test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Reading:
    """What the first choice of an answer says."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    encrypted: list[str] = field(default_factory=list)
    citations: list[Json] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    transcript: str = ""
    audio_base64: str = ""
    word: str = ""
    usage: Json = field(default_factory=dict)
    response_id: str = ""
    model: str = ""
    others: int = 0


def is_stream(body: bytes) -> bool:
    """Whether a body is a stream rather than one answer."""
    return not body.lstrip().startswith(b"{")


def documents(body: bytes) -> list[Json]:
    """The JSON objects of an answer: one, or one for each chunk."""
    text = body.decode("utf-8")
    if not is_stream(body):
        return [json.loads(text)]
    data = (line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
    return [json.loads(line) for line in data if line and line != "[DONE]"]


def read(body: bytes) -> Reading:
    """Add up an answer."""
    reading = Reading()
    pieces: dict[Any, list[str]] = {}
    for chunk in documents(body):
        reading.response_id = reading.response_id or chunk.get("id") or ""
        reading.model = chunk.get("model") or reading.model
        reading.usage = chunk.get("usage") or reading.usage
        reading.sources = chunk.get("citations") or reading.sources
        for choice in chunk.get("choices") or []:
            if choice.get("index"):
                reading.others += 1
                continue
            reading.word = choice.get("finish_reason") or reading.word
            _read_message(
                reading, pieces, choice.get("delta") or choice.get("message") or {}, whole="message" in choice
            )
            logprobs = (choice.get("logprobs") or {}).get("content") or []
            reading.tokens += [one["token"] for one in logprobs]
    reading.calls = [(call[0], call[1], "".join(call[2:])) for call in pieces.values()]
    return reading


def _read_message(reading: Reading, pieces: dict[Any, list[str]], told: Json, *, whole: bool) -> None:
    content = told.get("content")
    if isinstance(content, list):
        for part in content:
            reading.text += part.get("text", "")
            reading.thinking += "".join(inner["text"] for inner in part.get("thinking", []))
    else:
        reading.text += content or ""
    details = told.get("reasoning_details") or []
    words = "".join(part.get("text") or part.get("summary") or "" for part in details)
    reading.thinking += words or told.get("reasoning") or told.get("reasoning_content") or ""
    reading.signatures += [part["signature"] for part in details if part.get("signature")]
    reading.encrypted += [part["data"] for part in details if part.get("data")]
    reading.refusal += told.get("refusal") or ""
    reading.citations += told.get("annotations") or []
    audio = told.get("audio") or {}
    reading.transcript += audio.get("transcript") or ""
    reading.audio_base64 += audio.get("data") or ""
    _read_calls(pieces, told, whole=whole)


def _read_calls(pieces: dict[Any, list[str]], told: Json, *, whole: bool) -> None:
    for place, call in enumerate(told.get("tool_calls") or []):
        key = ("whole", place) if whole else call.get("index", call.get("id"))
        function = call["function"]
        call_pieces = pieces.setdefault(key, [call.get("id") or "", function.get("name") or ""])
        call_pieces.append(function.get("arguments") or "")
    legacy = told.get("function_call")
    if legacy and legacy["name"]:
        pieces["legacy"] = ["", legacy["name"], legacy["arguments"]]


def token_sums(usage: Json) -> dict[str, int]:
    """What a usage object counts: prompt (with and without cache), answer and reasoning, each token once."""
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    prompt_details, details = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    reasoning = details.get("reasoning_tokens") or 0
    if usage.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return {
        "prompt": prompt,
        "read": prompt_details.get("cached_tokens") or 0,
        "written": prompt_details.get("cache_write_tokens") or 0,
        "answer": completion,
        "reasoning": reasoning,
    }


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all members of a JSON value, array places left out."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield f"{path}.{key}"
            yield from paths(member, f"{path}.{key}")
    elif isinstance(value, list):
        for member in value:
            yield from paths(member, f"{path}[]")
