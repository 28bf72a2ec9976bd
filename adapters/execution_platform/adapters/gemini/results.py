"""Results of the caller's tools as functionResponse parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from execution_platform.adapters.gemini.models import Facts
from execution_platform.adapters.gemini.parts import FAMILY
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["ResultWriter"]

_Part = dict[str, Any]


class ResultWriter:
    """Writes results, each for the call that it answers.

    Gemini knows a call by its id where it gave one, else by name and order: results then follow the order of the calls.

    Args:
        request: the chat, whose calls give results their names.
        facts: of the model that is asked.
        notices: takes what is left out.
        media: makes a part of a media block.
    """

    def __init__(
        self,
        request: chat_pb2.ChatRequest,
        facts: Facts,
        notices: Notices,
        media: Callable[[content_pb2.MediaBlock, str], _Part],
    ) -> None:
        self._facts = facts
        self._notices = notices
        self._media = media
        self._calls: dict[str, tuple[str, str]] = {}
        self._order: dict[str, int] = {}
        for message in request.messages:
            for block in message.content:
                if block.WhichOneof("content") == "tool_call":
                    self._remember(block)

    def _remember(self, block: content_pb2.ContentBlock) -> None:
        call = block.tool_call
        given = block.family == FAMILY and not call.call_id_minted
        self._order[call.call_id] = len(self._order)
        self._calls[call.call_id] = (call.name, call.call_id if given else "")

    def parts(self, result: content_pb2.ToolResultBlock, field: str) -> list[_Part]:
        """Return the functionResponse, followed by media that it cannot hold. Raises InvalidRequestError."""
        name, call_id = self._calls.get(result.call_id, (result.name, ""))
        texts, media = self._sorted(result, field)
        if texts and result.structured_content_json:
            why = "the structured content is sent; text beside it has no place"
            self._notices.add(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, f"{field}.tool_result.content", why)
        response: dict[str, Any] = {"name": name or result.name or result.call_id}
        if call_id:
            response["id"] = call_id
        response["response"] = _response(result, "".join(texts), field)
        if media and self._facts.media_in_results:
            response["parts"] = media
            media = []
        return [{"functionResponse": response}, *media]

    def order_of(self, result: content_pb2.ToolResultBlock) -> int:
        """Return the place of the result's call among all calls; unknown calls come last."""
        return self._order.get(result.call_id, len(self._order))

    def _sorted(self, result: content_pb2.ToolResultBlock, field: str) -> tuple[list[str], list[_Part]]:
        texts: list[str] = []
        media: list[_Part] = []
        for position, block in enumerate(result.content):
            where = f"{field}.tool_result.content[{position}]"
            match block.WhichOneof("content"):
                case "text":
                    texts.append(block.text.text)
                case "media":
                    media.append(self._media(block.media, where))
                case kind:
                    self._notices.block_dropped(where, f"a result of Gemini's holds text and media, no {kind}")
        return texts, media


def _response(result: content_pb2.ToolResultBlock, text: str, field: str) -> Any:
    """Return the response object: a JSON object as it stands, all else as ``output``, a failure as ``error``."""
    key = "error" if result.is_error else "output"
    if not result.structured_content_json:
        return {key: text}
    structured = raw_json(result.structured_content_json, f"{field}.tool_result.structured_content_json")
    is_object = isinstance(msgspec.json.decode(structured), dict)
    return structured if is_object and not result.is_error else {key: structured}
