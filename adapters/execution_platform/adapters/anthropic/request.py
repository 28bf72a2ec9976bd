"""A ChatRequest as the body of a request to the Messages API. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from execution_platform.adapters.anthropic.models import DEFAULT_MAX_TOKENS, facts_of
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.spi import Call
from execution_platform.adapters.wire import encode_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["WireRequest", "build_request"]


@dataclass(frozen=True, slots=True)
class WireRequest:
    body: bytes
    betas: tuple[str, ...]
    notices: tuple[chat_pb2.Notice, ...]


def build_request(call: Call, provider: str) -> WireRequest:
    request = call.request
    notices = Notices(request)
    facts = facts_of(call.model)
    body: dict[str, Any] = {
        "model": call.model,
        "max_tokens": request.sampling.max_output_tokens or facts.known.max_output_tokens or DEFAULT_MAX_TOKENS,
        "messages": [
            {
                "role": "assistant" if message.role == content_pb2.ROLE_ASSISTANT else "user",
                "content": [{"type": "text", "text": block.text.text} for block in message.content],
            }
            for message in request.messages
        ],
        "stream": not call.unary,
    }
    if request.system:
        body["system"] = [{"type": "text", "text": block.text.text} for block in request.system]
    return WireRequest(encode_json(body), (), tuple(notices.items))
