"""What has streamed, counted by its length."""

from __future__ import annotations

from execution_platform.server.limits.reckoning import Streamed
from execution_platform.v1 import chat_pb2


def test_sound_counts_by_its_transcript() -> None:
    """Bytes of sound tell nothing of tokens; the words that are spoken in it are text of the answer."""
    streamed = Streamed()
    media = chat_pb2.MediaDelta(data=b"x" * 100_000, transcript="12345678")
    streamed.take(chat_pb2.BlockDelta(index=0, media=media))
    assert (streamed.answer, streamed.reasoning, streamed.tokens) == (8, 0, 2)
