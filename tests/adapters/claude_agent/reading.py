"""An independent reading of what the CLI prints: plain JSON, no code of the adapter's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "samples"

NAMES = sorted(path.stem for path in SAMPLES.glob("*.ndjson"))


def sample(name: str) -> bytes:
    """Return what one run printed."""
    return (SAMPLES / f"{name}.ndjson").read_bytes()


def messages(name: str) -> list[dict[str, Any]]:
    """Return the messages of one run."""
    return [json.loads(line) for line in sample(name).splitlines()]


@dataclass
class Run:
    """What a run says, by its complete messages and its results alone.

    Attributes:
        texts: of the models, in order, sub-agents among them.
        thoughts: texts of thinking, each with its signature.
        calls: name, identifier and arguments of each.
        results: identifier, whether it failed, and its texts, of each.
        places: session and entry of each of the run's own messages.
        tokens: input, output, cache reads and cache writes by model.
        dollars: what the results say since the one before.
    """

    texts: list[str] = field(default_factory=list)
    thoughts: list[tuple[str, str]] = field(default_factory=list)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    results: list[tuple[str, bool, str]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    tokens: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    dollars: Decimal = Decimal(0)


def read(name: str) -> Run:
    """Read one run."""
    run = Run()
    for message in messages(name):
        if message["type"] == "assistant" and not message.get("is_api_error_message"):
            for block in message["message"]["content"]:
                _read_block(run, block)
        if message["type"] == "user" and isinstance(message["message"]["content"], list):
            run.results += _results(message["message"]["content"])
        if message["type"] == "result":
            _read_result(run, message)
        if message["type"] in {"assistant", "user"} and not message.get("parent_tool_use_id"):
            run.places.append(f"{message['session_id']}/{message['uuid']}")
    return run


def _read_block(run: Run, block: dict[str, Any]) -> None:
    if block["type"] == "text":
        run.texts.append(block["text"])
    elif block["type"] == "thinking":
        run.thoughts.append((block["thinking"], block["signature"]))
    elif block["type"] in {"tool_use", "server_tool_use"}:
        run.calls.append((block["name"], block["id"], block["input"]))


def _results(content: list[dict[str, Any]]) -> Iterator[tuple[str, bool, str]]:
    for block in content:
        if block["type"] == "tool_result":
            said = block["content"]
            texts = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
            yield block["tool_use_id"], bool(block.get("is_error")), texts


def _read_result(run: Run, result: dict[str, Any]) -> None:
    for model, figures in result.get("model_usage_since_last_result", {}).items():
        before = run.tokens.get(model, (0, 0, 0, 0))
        names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
        sums = [old + figures[name] for old, name in zip(before, names, strict=True)]
        run.tokens[model] = (sums[0], sums[1], sums[2], sums[3])
        run.dollars += Decimal(str(figures["costUSD"]))
