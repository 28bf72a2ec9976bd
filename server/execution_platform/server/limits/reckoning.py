"""What an attempt has used of which its provider has not told everything: reckoned from what was asked and answered.

Four bytes are taken for a token, as everywhere here. A provider's word replaces what was reckoned up to it; what has
streamed since is added.
"""

from __future__ import annotations

from dataclasses import dataclass

from execution_platform.server.routing.prompt_size import prompt_tokens
from execution_platform.server.routing.rates import PROMPT
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["Streamed", "reckoned", "tokens_in", "tokens_of"]

_BYTES_A_TOKEN = 4

_OUTPUT = usage_pb2.USAGE_KIND_OUTPUT
_REASONING = usage_pb2.USAGE_KIND_REASONING

#: Pieces of an answer that a model has made token by token. Bytes of media tell nothing of tokens, which depend on an
#: image's measures and a sound's coding; citations and states neither. Results of tools that the provider runs are no
#: model's work: they come back as a prompt, if at all.
_ANSWER = frozenset({"text", "refusal", "arguments_json", "arguments_text"})


def tokens_in(size: int) -> int:
    """Return about how many tokens so many bytes of text are, rounded up."""
    return -(-size // _BYTES_A_TOKEN)


def tokens_of(usage: usage_pb2.Usage) -> int:
    """Return all tokens of a usage, prompt and answer."""
    return sum(item.quantity for item in usage.items if item.unit == usage_pb2.USAGE_UNIT_TOKEN)


@dataclass(slots=True)
class Streamed:
    """Bytes of an answer that have streamed since its provider told its usage last. Media count by their transcripts.

    Attributes:
        answer: of text and arguments.
        reasoning: of thoughts.
    """

    answer: int = 0
    reasoning: int = 0

    @property
    def tokens(self) -> int:
        """About how many tokens all that is."""
        return tokens_in(self.answer) + tokens_in(self.reasoning)

    def take(self, delta: chat_pb2.BlockDelta) -> None:
        """Count a piece."""
        kind = delta.WhichOneof("delta")
        if kind == "text":
            self.answer += len(delta.text.encode())
        elif kind == "thinking":
            self.reasoning += len(delta.thinking.encode())
        elif kind == "media":
            self.answer += len(delta.media.transcript.encode())
        elif kind in _ANSWER:
            self.answer += len(getattr(delta, kind).encode())

    def begin(self, started: chat_pb2.BlockStarted) -> None:
        """Count what a block begins with."""
        block = started.block
        kind = block.WhichOneof("content")
        if kind == "text":
            self.answer += len(block.text.text.encode())
        elif kind == "thinking":
            self.reasoning += len(block.thinking.text.encode())
        elif kind == "tool_call":
            call = block.tool_call
            self.answer += len(call.name) + len(call.arguments_json.encode()) + len(call.arguments_text.encode())

    def told(self) -> None:
        """Forget what the provider's own numbers hold now."""
        self.answer = self.reasoning = 0


def reckoned(
    request: chat_pb2.ChatRequest, told: usage_pb2.Usage, streamed: Streamed, *, whole: bool
) -> usage_pb2.Usage | None:
    """Return what an attempt has used with what its provider has left out; None: it has left out nothing.

    Args:
        request: what was asked.
        told: what the provider told last.
        streamed: what has come since.
        whole: the answer is complete; then a provider that told anything told everything.
    """
    if whole and told.items:
        return None
    missing = {_OUTPUT: tokens_in(streamed.answer), _REASONING: tokens_in(streamed.reasoning)}
    if not any(item.kind in PROMPT for item in told.items):
        missing[usage_pb2.USAGE_KIND_INPUT] = prompt_tokens(request)
    if not any(missing.values()):
        return None
    usage = usage_pb2.Usage()
    usage.CopyFrom(told)
    for kind, quantity in missing.items():
        if quantity:
            _item(usage, kind).quantity += quantity
    return usage


def _item(usage: usage_pb2.Usage, kind: usage_pb2.UsageKind.ValueType) -> usage_pb2.UsageItem:
    """Return the plain item of a kind, which is made where there is none."""
    for item in usage.items:
        plain = usage_pb2.UsageItem(
            kind=kind, modality=item.modality, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=item.quantity
        )
        if item == plain:
            return item
    return usage.items.add(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN)
