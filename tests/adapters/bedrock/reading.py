"""What an answer of Converse or ConverseStream says, read with plain JSON, `struct` and `zlib`, and nothing of ours.

Frames for tests are made here too.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from botocore import loaders

Json = dict[str, Any]


@dataclass
class Reading:
    """An answer in the shape of Converse, also where it was streamed.

    Attributes:
        answer: the answer; of a stream, as if it had not been one.
        events: events of a stream as (type, payload).
        failed: exception or error that the stream tells: its headers and payload.
    """

    answer: Json
    events: list[tuple[str, Json]] = field(default_factory=list)
    failed: tuple[dict[str, str], Json] | None = None

    @property
    def content(self) -> list[Json]:
        content: list[Json] = self.answer["output"]["message"]["content"]
        return content


def service_shapes() -> dict[str, Json]:
    """The shapes of botocore's model of the service."""
    model = loaders.create_loader().load_service_model("bedrock-runtime", "service-2")
    shapes: dict[str, Json] = model["shapes"]
    return shapes


def read(body: bytes) -> Reading:
    """Read a body, streamed or not."""
    if body.lstrip().startswith(b"{"):
        return Reading(json.loads(body))
    return _read_stream(body)


def frames(body: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Cut a stream into frames of text headers, as far as it goes. Fails on a wrong checksum."""
    found = []
    at = 0
    while at + 12 <= len(body):
        length, headers_length, checksum = struct.unpack(">III", body[at : at + 12])
        assert zlib.crc32(body[at : at + 8]) == checksum
        if at + length > len(body):
            break
        assert zlib.crc32(body[at : at + length - 4]) == struct.unpack(">I", body[at + length - 4 : at + length])[0]
        head = body[at + 12 : at + 12 + headers_length]
        found.append((_headers(head), body[at + 12 + headers_length : at + length - 4]))
        at += length
    return found


def _headers(head: bytes) -> dict[str, str]:
    headers = {}
    while head:
        name, head = head[1 : 1 + head[0]], head[1 + head[0] :]
        assert head[0] == 7, "a header that is no text"
        length = int.from_bytes(head[1:3], "big")
        headers[name.decode()], head = head[3 : 3 + length].decode(), head[3 + length :]
    return headers


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Make a frame of text headers."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + len(value.encode()).to_bytes(2, "big") + value.encode()
        for name, value in headers.items()
    )
    return raw_frame(head, payload)


def raw_frame(head: bytes, payload: bytes) -> bytes:
    """Make a frame of encoded headers."""
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + zlib.crc32(prelude).to_bytes(4, "big") + head + payload
    return body + zlib.crc32(body).to_bytes(4, "big")


def event(kind: str, payload: Json | str) -> bytes:
    """Make a frame of an event."""
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return frame({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, text.encode())


def exception(kind: str, payload: Json) -> bytes:
    """Make a frame of an exception."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps(payload).encode())


def _read_stream(body: bytes) -> Reading:
    blocks: dict[int, Json] = {}
    reading = Reading({"output": {"message": {"role": "assistant", "content": []}}})
    for headers, payload in frames(body):
        told = json.loads(payload) if payload else {}
        if headers[":message-type"] != "event":
            reading.failed = (headers, told)
            break
        kind = headers[":event-type"]
        reading.events.append((kind, told))
        if kind == "contentBlockStart" and told["start"]:
            blocks[told["contentBlockIndex"]] = dict(told["start"])
        elif kind == "contentBlockDelta":
            _append(blocks.setdefault(told["contentBlockIndex"], {}), told["delta"])
        elif kind in {"messageStop", "metadata"}:
            reading.answer.update({key: value for key, value in told.items() if key != "p"})
    reading.content.extend(_whole(blocks[position]) for position in sorted(blocks))
    return reading


def _append(block: Json, delta: Json) -> None:
    ((kind, told),) = delta.items()
    if kind == "text":
        block["text"] = block.get("text", "") + told
    elif kind == "citation":
        block.setdefault("citations", []).append(told)
    elif kind == "toolUse":
        block["input"] = block.get("input", "") + told["input"]
    elif kind == "toolResult":
        block.setdefault("content", []).extend(told)
    elif kind == "reasoningContent":
        reasoning = block.setdefault("reasoningContent", {})
        for key, piece in told.items():
            reasoning[key] = reasoning.get(key, "") + piece
    else:
        raise AssertionError(f"this reading does not know {kind}")


def _whole(block: Json) -> Json:
    if "toolUse" in block:
        return {"toolUse": {**block["toolUse"], "input": arguments(block.get("input", ""))}}
    if "toolResult" in block:
        return {"toolResult": {**block["toolResult"], "content": block.get("content", [])}}
    if "reasoningContent" in block:
        told = block["reasoningContent"]
        return {"reasoningContent": told if "redactedContent" in told else {"reasoningText": told}}
    if "citations" in block:
        content = [{"text": block["text"]}] if "text" in block else []
        return {"citationsContent": {**({"content": content} if content else {}), "citations": block["citations"]}}
    return block


def arguments(given: str) -> Any:
    """The arguments of a call; text where they are cut short."""
    try:
        return json.loads(given or "{}")
    except ValueError:
        return given


def tokens(usage: Json) -> dict[str, int]:
    """Usage as disjoint counts: Bedrock tells them so, caches outside the input."""
    counts = {
        "input": usage.get("inputTokens", 0),
        "cache_read": usage.get("cacheReadInputTokens", 0),
        "cache_write": usage.get("cacheWriteInputTokens", 0),
        "output": usage.get("outputTokens", 0),
    }
    assert sum(counts.values()) == usage.get("totalTokens", 0), "this usage is not disjoint"
    return {name: quantity for name, quantity in counts.items() if quantity}
