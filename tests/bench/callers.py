"""The two ways to ask that are compared, as callers write them: a provider's SDK, and our client."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Protocol

from tests.bench.payloads import Format, Shape, model_of

from execution_platform.client import AsyncExecutionPlatformClient

__all__ = ["KEY", "Caller", "GatewayCaller", "SdkCaller", "joined"]

KEY = "sk-made-up-key-of-the-bench"

_SYSTEM = "You are a careful assistant. Answer in plain words."
_PROMPT = "List fifty words, each followed by its number, without anything else."
_MOST_TOKENS = 1024


class Caller(Protocol):
    """Asks for answers."""

    async def unary(self, api: Format) -> str:
        """Return the text of a whole answer."""

    def stream(self, api: Format, shape: Shape) -> AsyncGenerator[str, None]:
        """Yield the text of a streamed answer, piece by piece."""

    async def aclose(self) -> None:
        """Close connections."""


async def joined(pieces: AsyncGenerator[str, None]) -> tuple[str, float]:
    """Return a stream's whole text, and when its first piece came (performance counter)."""
    first = 0.0
    texts: list[str] = []
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if not texts:
                first = time.perf_counter()
            texts.append(piece)
    return "".join(texts), first


class GatewayCaller:
    """Our client, talking to the gateway."""

    def __init__(self, target: str) -> None:
        self._client = AsyncExecutionPlatformClient(target)

    async def unary(self, api: Format) -> str:
        answer = await self._client.chat(
            _PROMPT, system=_SYSTEM, model=_routed(api, Shape.UNARY), max_output_tokens=_MOST_TOKENS
        )
        return answer.text

    async def stream(self, api: Format, shape: Shape) -> AsyncGenerator[str, None]:
        model = _routed(api, shape)
        async with self._client.stream(_PROMPT, system=_SYSTEM, model=model, max_output_tokens=_MOST_TOKENS) as stream:
            async for text in stream.text_deltas():
                yield text

    async def aclose(self) -> None:
        await self._client.aclose()


def _routed(api: Format, shape: Shape) -> str:
    return f"{'anthropic' if api is Format.MESSAGES else 'openai'}/{model_of(api, shape)}"


class SdkCaller:
    """The providers' own SDKs with their typed events, talking to the upstream, or to a peer in front of it."""

    def __init__(self, base_url: str) -> None:
        # Here, so that a process which does not use them does not carry them.
        import anthropic  # noqa: PLC0415
        import openai  # noqa: PLC0415

        self._openai = openai.AsyncOpenAI(api_key=KEY, base_url=f"{base_url}/v1", max_retries=0)
        self._anthropic = anthropic.AsyncAnthropic(api_key=KEY, base_url=base_url, max_retries=0)

    async def unary(self, api: Format) -> str:
        model = model_of(api, Shape.UNARY)
        if api is Format.CHAT:
            completion = await self._openai.chat.completions.create(
                model=model,
                messages=[{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _PROMPT}],
                max_tokens=_MOST_TOKENS,
            )
            return completion.choices[0].message.content or ""
        if api is Format.RESPONSES:
            response = await self._openai.responses.create(
                model=model, instructions=_SYSTEM, input=_PROMPT, max_output_tokens=_MOST_TOKENS
            )
            return response.output_text
        message = await self._anthropic.messages.create(
            model=model, system=_SYSTEM, messages=[{"role": "user", "content": _PROMPT}], max_tokens=_MOST_TOKENS
        )
        return "".join(block.text for block in message.content if block.type == "text")

    def stream(self, api: Format, shape: Shape) -> AsyncGenerator[str, None]:
        model = model_of(api, shape)
        if api is Format.CHAT:
            return self._chat(model)
        return self._responses(model) if api is Format.RESPONSES else self._messages(model)

    async def _chat(self, model: str) -> AsyncGenerator[str, None]:
        chunks = await self._openai.chat.completions.create(
            model=model,
            messages=[{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _PROMPT}],
            max_tokens=_MOST_TOKENS,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in chunks:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text

    async def _responses(self, model: str) -> AsyncGenerator[str, None]:
        events = await self._openai.responses.create(
            model=model, instructions=_SYSTEM, input=_PROMPT, max_output_tokens=_MOST_TOKENS, stream=True
        )
        async for event in events:
            if event.type == "response.output_text.delta":
                yield event.delta

    async def _messages(self, model: str) -> AsyncGenerator[str, None]:
        events = await self._anthropic.messages.create(
            model=model,
            system=_SYSTEM,
            messages=[{"role": "user", "content": _PROMPT}],
            max_tokens=_MOST_TOKENS,
            stream=True,
        )
        async for event in events:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text

    async def aclose(self) -> None:
        await self._openai.close()
        await self._anthropic.close()
