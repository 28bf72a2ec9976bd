"""Audio and images in an answer."""

from __future__ import annotations

import base64
import binascii

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import Fields, fields_if_any, fields_of, object_json
from execution_platform.adapters.openai_api.chat.pieces import plain, words_of
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.spi import Call
from execution_platform.v1 import content_pb2

__all__ = ["AudioBlock", "audio_format", "audio_mime_type", "image_block"]

_MIME_TYPES = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}


def audio_format(call: Call, dialect: Dialect) -> str:
    """Return OpenAI's name of the format in which an answer's audio comes."""
    if not call.unary and dialect.stream_audio_format:
        return dialect.stream_audio_format
    return call.request.audio_output.format or "wav"


def audio_mime_type(name: str) -> str:
    """Return the media type of OpenAI's name of an audio format."""
    return _MIME_TYPES.get(name, f"audio/{name}")


class AudioBlock:
    """Writes the audio of one answer: base64 and transcript in pieces, cut anywhere."""

    def __init__(self, writer: AnswerWriter, mime_type: str) -> None:
        self._writer = writer
        self._mime_type = mime_type
        self._index: int | None = None
        self._held = ""
        self._metadata: Fields = {}

    def add(self, raw: msgspec.Raw) -> None:
        """Take ``audio``, whole or a piece of it. One in which nothing is said is none."""
        piece = fields_of(raw)
        data, transcript = words_of(piece.pop("data", None)), words_of(piece.pop("transcript", None))
        audio_id = plain(piece.pop("id", None))
        if self._index is None:
            if not (audio_id or data or transcript):
                return
            media = content_pb2.MediaBlock(mime_type=self._mime_type, data=b"")
            self._index = self._writer.open(content_pb2.ContentBlock(id=audio_id, media=media))
        self._metadata.update({key: msgspec.Raw(bytes(value)) for key, value in piece.items()})
        self._writer.media(self._index, self._decoded(data), transcript)

    def close(self) -> None:
        """Complete the block, if there is one."""
        if self._index is not None:
            self._writer.stop(self._index, object_json(self._metadata) or None)

    def _decoded(self, data: str) -> bytes:
        data = self._held + data
        cut = len(data) - len(data) % 4
        self._held = data[cut:]
        try:
            return base64.b64decode(data[:cut])
        except (binascii.Error, ValueError) as error:
            raise ProtocolError(f"the provider sent audio that is not base64: {error}") from error


def image_block(raw: msgspec.Raw) -> content_pb2.ContentBlock:
    """Return an element of ``images``: ``{"type": "image_url", "image_url": {"url"}}`` (OpenRouter)."""
    told = fields_of(raw)
    shown = fields_if_any(told.get("image_url")) or told
    block = content_pb2.ContentBlock(media=_image(plain(shown.get("url") or told.get("image_url"))))
    rest = {key: value for key, value in told.items() if key not in {"type", "image_url", "url"}}
    block.provider_metadata_json = object_json(rest)
    return block


def _image(url: str) -> content_pb2.MediaBlock:
    head, comma, data = url.partition(",")
    if url.startswith("data:") and comma and head.endswith(";base64"):
        try:
            mime_type = head.removeprefix("data:").removesuffix(";base64")
            return content_pb2.MediaBlock(mime_type=mime_type, data=base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError):
            pass
    return content_pb2.MediaBlock(uri=url)
