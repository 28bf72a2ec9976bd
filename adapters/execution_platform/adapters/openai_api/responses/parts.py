"""What a user or a tool says, as content parts of Responses. Source: openai 3.52, types/responses/response_input_*."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Literal

from google.protobuf import duration_pb2

from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.media_kinds import kind_of
from execution_platform.v1 import content_pb2

__all__ = ["InputParts", "cache_ttl"]

Part = dict[str, Any]

_AUDIO_FORMATS = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
}
_EXTENSIONS = {"application/pdf": "pdf", "text/plain": "txt", "text/csv": "csv", "text/markdown": "md"}

_SHORT, _LONG = 30 * 60, 12 * 3600


def cache_ttl(ttl: duration_pb2.Duration, path: str, notices: Notices) -> Literal["30m", "12h"]:
    """Return the shortest lifetime of cache entries that lasts long enough, with a notice where it is another."""
    seconds = ttl.seconds
    if seconds not in (_SHORT, _LONG):
        notices.param_adjusted(path, "cache entries live for 30 minutes or 12 hours")
    return "30m" if seconds <= _SHORT else "12h"


class InputParts:
    """Writes content parts.

    Args:
        dialect: as spoken to the model.
        notices: where to tell what is left out.

    Attributes:
        notices: the same.
    """

    def __init__(self, dialect: Dialect, notices: Notices) -> None:
        self._dialect = dialect
        self.notices = notices

    def write(self, blocks: Iterable[content_pb2.ContentBlock], path: str) -> list[Part]:
        """Return the parts of a message or of a tool's answer, without what the format has no place for."""
        parts = []
        for position, block in enumerate(blocks):
            part = self.part(block, f"{path}[{position}]")
            if part is not None:
                parts.append(part)
        return parts

    def part(self, block: content_pb2.ContentBlock, path: str) -> Part | None:
        """Return one part, or None with a notice."""
        kind = block.WhichOneof("content")
        part: Part | None = None
        if kind == "text":
            part = {"type": "input_text", "text": block.text.text}
        elif kind == "refusal":
            part = {"type": "input_text", "text": block.refusal.text}
        elif kind == "media":
            part = self._media(block.media, path)
        else:
            self.notices.block_dropped(path, f"the provider takes no {kind} block here")
        if part is not None and block.HasField("cache_hint"):
            self.add_breakpoint(part, block.cache_hint, path)
        return part

    def add_breakpoint(self, part: Part, hint: content_pb2.CacheHint, path: str) -> None:
        """Ask to cache up to a part, or tell why not. ``path`` is that of the block with the hint."""
        if self._dialect.cache_breakpoints != "openai" or "cache_hint" in self._dialect.unsupported:
            self.notices.param_dropped(f"{path}.cache_hint", "the model takes no cache breakpoints")
        elif part["type"] == "input_audio":
            self.notices.param_dropped(f"{path}.cache_hint", "audio takes no cache breakpoint")
        else:
            part["prompt_cache_breakpoint"] = {"mode": "explicit"}
            if hint.HasField("ttl"):
                part["prompt_cache_breakpoint"]["ttl"] = cache_ttl(hint.ttl, f"{path}.cache_hint.ttl", self.notices)

    def _media(self, media: content_pb2.MediaBlock, path: str) -> Part | None:
        if media.HasField("citations"):
            self.notices.param_dropped(f"{path}.media.citations", "the provider decides by itself what to cite")
        # Whatever else stands at an address may be sent as a file.
        kind = kind_of(media, "document")
        # What is not sent as audio, such as an address, is a file to the provider.
        if kind in self._dialect.without_media and (kind != "audio" or media.WhichOneof("source") == "data"):
            self.notices.block_dropped(path, f"the model takes no media of kind {kind}")
            return None
        if kind == "image":
            return self._image(media)
        if kind == "audio" and media.mime_type:
            return self._audio(media, path)
        if kind == "video" and media.mime_type:
            self.notices.block_dropped(path, "the provider takes no video")
            return None
        return self._file(media, path)

    def _image(self, media: content_pb2.MediaBlock) -> Part:
        part: Part = {"type": "input_image"}
        if media.WhichOneof("source") == "file_id":
            part["file_id"] = media.file_id
        else:
            part["image_url"] = media.uri or _data_url(media)
        if media.detail:
            part["detail"] = media.detail
        return part

    def _audio(self, media: content_pb2.MediaBlock, path: str) -> Part | None:
        audio_format = _AUDIO_FORMATS.get(media.mime_type.lower().partition(";")[0])
        if media.WhichOneof("source") != "data" or audio_format is None:
            self.notices.block_dropped(path, "the provider takes audio as bytes of MP3 or WAV only")
            return None
        encoded = base64.b64encode(media.data).decode()
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": audio_format}}

    def _file(self, media: content_pb2.MediaBlock, path: str) -> Part:
        part: Part = {"type": "input_file"}
        source = media.WhichOneof("source")
        if source == "file_id":
            part["file_id"] = media.file_id
        elif source == "uri":
            part["file_url"] = media.uri
        else:
            part["filename"] = media.filename or f"document.{_EXTENSIONS.get(media.mime_type, 'bin')}"
            part["file_data"] = _data_url(media)
            if not media.filename:
                self.notices.param_defaulted(f"{path}.media.filename", f"sent as {part['filename']!r}")
        if media.filename and source == "uri":
            part["filename"] = media.filename
        if media.detail:
            part["detail"] = media.detail
        return part


def _data_url(media: content_pb2.MediaBlock) -> str:
    return f"data:{media.mime_type or 'application/octet-stream'};base64,{base64.b64encode(media.data).decode()}"
