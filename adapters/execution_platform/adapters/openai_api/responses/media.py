"""Images and audio in an answer of Responses: base64 in, media blocks out."""

from __future__ import annotations

import base64
import binascii

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import Fields, clean_text, object_json
from execution_platform.v1 import content_pb2

__all__ = ["AudioBlock", "image_block"]


def image_block(item_id: str, encoded: str, metadata: Fields) -> content_pb2.ContentBlock | None:
    """Return an image as a block; None if its base64 would not come out of the bytes again as it stands."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    if base64.b64encode(data).decode() != encoded:
        return None
    media = content_pb2.MediaBlock(mime_type=_image_type(clean_text(metadata.get("output_format")), data), data=data)
    return content_pb2.ContentBlock(id=item_id, media=media, provider_metadata_json=object_json(metadata))


def _image_type(output_format: str, data: bytes) -> str:
    if output_format:
        return "image/svg+xml" if output_format == "svg" else f"image/{output_format}"
    for start, kind in ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp")):
        if data.startswith(start):
            return f"image/{kind}"
    return "image/png"


class AudioBlock:
    """Writes the spoken answer. Its format is what the request asked for: the answer does not tell it."""

    def __init__(self, writer: AnswerWriter, audio_format: str) -> None:
        self._writer = writer
        self._mime_type = f"audio/{audio_format}" if audio_format else ""
        self._index = -1
        self._rest = ""

    def data(self, encoded: str) -> None:
        """Append base64, cut anywhere."""
        encoded = self._rest + encoded
        cut = len(encoded) // 4 * 4
        self._rest = encoded[cut:]
        try:
            data = base64.b64decode(encoded[:cut], validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProtocolError("the provider sent audio that is not base64", provider_status=200) from error
        self._writer.media(self._open(), data)

    def transcript(self, text: str) -> None:
        """Append to the words."""
        self._writer.media(self._open(), transcript=text)

    def _open(self) -> int:
        if self._index < 0:
            media = content_pb2.MediaBlock(mime_type=self._mime_type, data=b"")
            self._index = self._writer.open(content_pb2.ContentBlock(media=media))
        return self._index
