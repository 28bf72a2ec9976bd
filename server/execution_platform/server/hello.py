"""The first chat of a new server: through the real client, to the terminal."""

from __future__ import annotations

import sys
from typing import TextIO

from execution_platform.client import AsyncExecutionPlatformClient, ExecutionPlatformError

__all__ = ["FirstChat"]


class FirstChat:
    """Streams one chat with whatever answers by default, and shows how to go on.

    Args:
        message: what to say.
        out: where the answer goes; default standard output.
    """

    def __init__(self, message: str, out: TextIO | None = None) -> None:
        self._message = message
        self._out = sys.stdout if out is None else out

    async def __call__(self, address: str) -> bool:
        """Chat with the server at `address`. Returns whether an answer came."""
        self._say(f"\n> {self._message}\n")
        try:
            async with (
                AsyncExecutionPlatformClient(address) as client,
                client.stream(self._message, max_output_tokens=64) as stream,
            ):
                async for text in stream.text_deltas():
                    self._say(text)
                answer = await stream.answer()
        except ExecutionPlatformError as error:
            self._say(f"\nthe first chat failed: {error}\n")
            return False
        route = answer.raw.finished.route
        self._say(
            f"\n\n({route.provider}/{route.model} answered through {address}; try: ep chat --target {address} Hi)\n"
        )
        return True

    def _say(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
