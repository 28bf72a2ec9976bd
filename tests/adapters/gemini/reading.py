"""An independent reading of Gemini's answers: plain JSON, no code of the adapter."""

import base64
import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Reading:
    """What one answer says, for comparing.

    Attributes:
        text: all text that is no thought, joined.
        thinking: all thoughts, joined.
        signatures: each signature with the kind of part that carries it, in order.
        calls: name, id (None: not given) and arguments of each function call.
        server_parts: key and content of each part of Google's own tools, in order.
        media: MIME type and bytes of each inline part.
        finish: the last finish reason, as text.
        usage: the last usage object.
        supports: bytes of the text that each grounding segment names: start, end and words.
        citations: how many places the answer quotes.
        retrieved: addresses that were read.
        block_reason: why the prompt was blocked; None: it was not.
    """

    text: str = ""
    thinking: str = ""
    signatures: list[tuple[str, str]] = field(default_factory=list)
    calls: list[tuple[str, str | None, Json]] = field(default_factory=list)
    server_parts: list[tuple[str, Json]] = field(default_factory=list)
    media: list[tuple[str, bytes]] = field(default_factory=list)
    finish: str = ""
    usage: Json = field(default_factory=dict)
    supports: list[tuple[int, int, str]] = field(default_factory=list)
    citations: int = 0
    retrieved: list[str] = field(default_factory=list)
    block_reason: str | None = None


SERVER_PARTS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")


def chunks_of(body: bytes) -> list[Json]:
    """Return the chunks of an answer, whichever of the three framings it has."""
    text = body.decode("utf-8")
    start = text.lstrip()[:1]
    if start == "[":
        return list(json.loads(text))
    if start == "{":
        return [json.loads(text)]
    return [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]


def read(body: bytes) -> Reading:
    """Read an answer."""
    reading = Reading()
    for chunk in chunks_of(body):
        if "usageMetadata" in chunk:
            reading.usage = chunk["usageMetadata"]
        feedback = chunk.get("promptFeedback")
        if feedback is not None and not chunk.get("candidates"):
            reading.block_reason = feedback.get("blockReason", "")
        for position, candidate in enumerate(chunk.get("candidates", [])):
            if candidate.get("index", position) == 0:
                _read_candidate(reading, candidate)
    return reading


def _read_candidate(reading: Reading, candidate: Json) -> None:
    for part in candidate.get("content", {}).get("parts", []):
        _read_part(reading, part)
    if "finishReason" in candidate:
        reading.finish = str(candidate["finishReason"])
    grounding = candidate.get("groundingMetadata", {})
    for support in grounding.get("groundingSupports", []):
        segment = support.get("segment", {})
        chunks = len(grounding.get("groundingChunks", []))
        named = len([number for number in support.get("groundingChunkIndices", []) if number < chunks]) or 1
        if "endIndex" in segment:
            found = (segment.get("startIndex", 0), segment["endIndex"], segment.get("text", ""))
            reading.supports += [found] * named
    recited = candidate.get("citationMetadata", {})
    reading.citations += len(recited.get("citations", recited.get("citationSources", [])))
    for page in candidate.get("urlContextMetadata", {}).get("urlMetadata", []):
        if page.get("urlRetrievalStatus") == "URL_RETRIEVAL_STATUS_SUCCESS":
            reading.retrieved.append(page["retrievedUrl"])


def _read_part(reading: Reading, part: Json) -> None:
    kind = next((key for key in part if key not in {"thought", "thoughtSignature"}), "text")
    if kind == "text" and part.get("thought"):
        kind = "thinking"
        reading.thinking += part.get("text", "")
    elif kind == "text":
        reading.text += part.get("text", "")
    elif kind == "functionCall":
        call = part[kind]
        if "name" in call:
            reading.calls.append((call["name"], call.get("id"), call.get("args", {})))
        for partial in call.get("partialArgs", []):
            _put(reading.calls[-1][2], partial)
    elif kind in SERVER_PARTS:
        reading.server_parts.append((kind, part[kind]))
    elif kind == "inlineData":
        reading.media.append((part[kind]["mimeType"], base64.b64decode(part[kind]["data"])))
    if "thoughtSignature" in part:
        reading.signatures.append((kind, part["thoughtSignature"]))


def _put(args: Json, partial: Json) -> None:
    """Put a partial argument where its path says; text goes on with what is there."""
    steps = [
        int(number) if number else name for name, number in re.findall(r"\.([^.\[]+)|\[(\d+)\]", partial["jsonPath"])
    ]
    value = next((partial[key] for key in ("stringValue", "numberValue", "boolValue") if key in partial), None)
    place: Any = args
    for step, following in itertools.pairwise(steps):
        fresh: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int) and step == len(place):
            place.append(fresh)
        place = place[step] if isinstance(step, int) else place.setdefault(step, fresh)
    last = steps[-1]
    if isinstance(last, int):
        if last == len(place):
            place.append("" if isinstance(value, str) else None)
    else:
        place.setdefault(last, "" if isinstance(value, str) else None)
    place[last] = place[last] + value if isinstance(value, str) else value
