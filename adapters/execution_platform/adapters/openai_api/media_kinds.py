"""What kind of media a block holds, which decides the form in which it is sent."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from execution_platform.v1 import content_pb2

__all__ = ["Kind", "kind_of"]

Kind = Literal["image", "audio", "video", "document"]

_KIND_BY_EXTENSION: Mapping[str, Kind] = {
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".gif": "image",
    ".webp": "image",
    ".pdf": "document",
    ".txt": "document",
    ".csv": "document",
    ".docx": "document",
    ".mp3": "audio",
    ".wav": "audio",
    ".flac": "audio",
    ".ogg": "audio",
    ".m4a": "audio",
    ".mp4": "video",
    ".webm": "video",
    ".mov": "video",
}


def kind_of(media: content_pb2.MediaBlock, unknown: Kind = "image") -> Kind:
    """Return what a block holds: by its media type, else by its address.

    Args:
        media: the block.
        unknown: what is at an address that tells nothing. Bytes and files that tell nothing are documents.
    """
    family = media.mime_type.lower().partition("/")[0]
    if family in {"image", "audio", "video"}:
        return family  # type: ignore[return-value]  # one of the three that were compared
    if not media.mime_type and media.WhichOneof("source") == "uri":
        return _KIND_BY_EXTENSION.get(posixpath.splitext(urlsplit(media.uri).path)[1].lower(), unknown)
    return "document"
