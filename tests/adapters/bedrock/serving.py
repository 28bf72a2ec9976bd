"""A Bedrock of a few lines: its frames, an adapter that asks it, and who may sign."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.adapters.upstream import Handler, Received, Reply, Upstream, upstream

from execution_platform.adapters import errors
from execution_platform.adapters.bedrock.adapter import BedrockAdapter
from execution_platform.adapters.spi import Call, Events, ProviderConfig
from execution_platform.v1 import chat_pb2, content_pb2

REGION = "eu-central-1"
MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAMADEUPTEST", "AWS_SECRET_ACCESS_KEY": "made-up/secret+key"}
FRAMES = "application/vnd.amazon.eventstream"

USAGE = {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}
BODY = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello there!"}]}},
    "stopReason": "end_turn",
    "usage": USAGE,
    "metrics": {"latencyMs": 5},
}


def frame(name: str, payload: Any, kind: str = "event") -> bytes:
    """A frame of a stream, its sums included."""
    told = {":message-type": kind, f":{kind}-type": name, ":content-type": "application/json"}
    headers = b"".join(_header(*each) for each in told.items())
    body = json.dumps(payload).encode()
    head = (16 + len(headers) + len(body)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    head += zlib.crc32(head).to_bytes(4, "big") + headers + body
    return head + zlib.crc32(head).to_bytes(4, "big")


def _header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()


START = frame("messageStart", {"role": "assistant"})


def text(*pieces: str) -> bytes:
    return b"".join(frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": each}}) for each in pieces)


END = (
    frame("contentBlockStop", {"contentBlockIndex": 0})
    + frame("messageStop", {"stopReason": "end_turn"})
    + frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 5}})
)
ANSWER = START + text("Hello", " there", "!") + END


async def stream(reply: Reply, data: bytes, **headers: str) -> None:
    """Send a whole stream, in a few pieces that cut frames."""
    await reply.head(200, FRAMES, **headers)
    for at in range(0, len(data), 100):
        await reply.piece(data[at : at + 100])
        await asyncio.sleep(0)
    await reply.end()


async def either(received: Received, reply: Reply) -> None:
    """Answer as the path asks."""
    if received.target.endswith("/converse-stream"):
        await stream(reply, ANSWER, x_amzn_requestid="req-1")
    else:
        await reply.json(BODY, x_amzn_requestid="req-1")


def call(model: str = MODEL, **more: Any) -> Call:
    asked = content_pb2.ContentBlock(text=content_pb2.TextBlock(text="hi"))
    message = content_pb2.Message(role=content_pb2.ROLE_USER, content=[asked])
    sampling = chat_pb2.Sampling(max_output_tokens=50)
    request = chat_pb2.ChatRequest(messages=[message], sampling=sampling, **more.pop("request", {}))
    return Call(request, model, request_id="chat-1", **more)


@contextlib.asynccontextmanager
async def against(
    handler: Handler, options: Mapping[str, str] | None = None, under: str = "", **config: Any
) -> AsyncIterator[tuple[BedrockAdapter, Upstream]]:
    """An adapter and the server that it asks, under a path of its own."""
    async with upstream(handler) as served:
        given = {"base_url": served.url + under, "options": {"region": REGION, **(options or {})}, **config}
        adapter = BedrockAdapter(ProviderConfig("bedrock", **given))
        try:
            yield adapter, served
        finally:
            await adapter.aclose()


async def collected(adapter: BedrockAdapter, asked: Call) -> Events:
    events: Events = []
    async with contextlib.aclosing(adapter.stream(asked)) as lists:
        async for some in lists:
            events += some
    return events


async def failed(adapter: BedrockAdapter, asked: Call | None = None) -> tuple[Events, errors.AdapterError]:
    """What a stream told before it failed, and how."""
    events: Events = []
    try:
        async for some in adapter.stream(asked or call()):
            events += some
    except errors.AdapterError as error:
        return events, error
    raise AssertionError("it did not fail")
