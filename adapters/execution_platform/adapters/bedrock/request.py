"""A ChatRequest as a request of Converse or ConverseStream. Pure.

Source: ``botocore/data/bedrock-runtime/2023-09-30/service-2.json`` of botocore 1.44.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from execution_platform.adapters.bedrock.models import FAMILY
from execution_platform.adapters.bedrock.regions import model_name, model_path
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import apply_provider_options
from execution_platform.adapters.spi import Call
from execution_platform.adapters.wire import encode_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["WireRequest", "build_request"]

_Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it goes out, to be signed.

    Attributes:
        body: JSON.
        path: the URL's path, encoded.
        region: the region whose endpoint is asked.
        headers: besides those of the signature.
        notices: what could not be honoured, or was filled in.
    """

    body: bytes
    path: str
    region: str
    headers: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[chat_pb2.Notice, ...] = ()


def build_request(call: Call, provider: str, region: str) -> WireRequest:
    """Return the request for an answer.

    Args:
        call: what is asked.
        provider: name of the provider that is asked; its options apply besides those of the family.
        region: the configured region, asked where the model's name tells none.

    Raises:
        InvalidRequestError: something in the request is not valid; the error names the field.
        UnsupportedOptionError: the model cannot honour an option, and the request wants that refused.
    """
    notices = Notices(call.request)
    body = apply_provider_options(_build(call), call.request, {provider, FAMILY})
    accept = "application/json" if call.unary else "application/vnd.amazon.eventstream"
    return WireRequest(
        encode_json(body),
        model_path(call.model, "converse" if call.unary else "converse-stream"),
        _region(call.model, region),
        {"content-type": "application/json", "accept": accept},
        tuple(notices.items),
    )


def _region(model: str, configured: str) -> str:
    region = model_name(model).region or configured
    if not region:
        raise InvalidRequestError("model: names no region, and none is configured", field="model")
    return region


def _build(call: Call) -> _Body:
    body: _Body = {"messages": [], "inferenceConfig": {}}
    for message in call.request.messages:
        role = "assistant" if message.role == content_pb2.ROLE_ASSISTANT else "user"
        content = [{"text": block.text.text} for block in message.content if block.HasField("text")]
        body["messages"].append({"role": role, "content": content})
    if call.request.sampling.HasField("max_output_tokens"):
        body["inferenceConfig"]["maxTokens"] = call.request.sampling.max_output_tokens
    return body
