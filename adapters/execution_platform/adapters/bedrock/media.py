"""Images, documents, video and audio of a request, from the contract to Converse. Pure.

Sources: ImageBlock, DocumentBlock, VideoBlock, AudioBlock and S3Location of botocore's service model.
"""

from __future__ import annotations

import base64
import re
from pathlib import PurePosixPath
from typing import Any

from execution_platform.adapters.bedrock.families import ModelFacts
from execution_platform.adapters.fields import Fields
from execution_platform.adapters.notices import Notices
from execution_platform.v1 import content_pb2

__all__ = ["DocumentNames", "kind_of", "media_type", "write_media"]

_FORMATS: dict[str, tuple[str, str]] = {
    "image/png": ("image", "png"),
    "image/jpeg": ("image", "jpeg"),
    "image/jpg": ("image", "jpeg"),
    "image/gif": ("image", "gif"),
    "image/webp": ("image", "webp"),
    "application/pdf": ("document", "pdf"),
    "text/csv": ("document", "csv"),
    "application/msword": ("document", "doc"),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ("document", "docx"),
    "application/vnd.ms-excel": ("document", "xls"),
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ("document", "xlsx"),
    "text/html": ("document", "html"),
    "text/plain": ("document", "txt"),
    "text/markdown": ("document", "md"),
    "text/x-markdown": ("document", "md"),
    "video/x-matroska": ("video", "mkv"),
    "video/quicktime": ("video", "mov"),
    "video/mp4": ("video", "mp4"),
    "video/webm": ("video", "webm"),
    "video/x-flv": ("video", "flv"),
    "video/mpeg": ("video", "mpeg"),
    "video/mpg": ("video", "mpg"),
    "video/x-ms-wmv": ("video", "wmv"),
    "video/wmv": ("video", "wmv"),
    "video/3gpp": ("video", "three_gp"),
    "audio/mpeg": ("audio", "mp3"),
    "audio/mp3": ("audio", "mp3"),
    "audio/opus": ("audio", "opus"),
    "audio/wav": ("audio", "wav"),
    "audio/x-wav": ("audio", "wav"),
    "audio/wave": ("audio", "wav"),
    "audio/vnd.wave": ("audio", "wav"),
    "audio/aac": ("audio", "aac"),
    "audio/x-aac": ("audio", "x-aac"),
    "audio/flac": ("audio", "flac"),
    "audio/mp4": ("audio", "mp4"),
    "audio/ogg": ("audio", "ogg"),
    "audio/x-matroska": ("audio", "mka"),
    "audio/m4a": ("audio", "m4a"),
    "audio/x-m4a": ("audio", "m4a"),
    "audio/pcm": ("audio", "pcm"),
    "audio/l16": ("audio", "pcm"),
    "audio/webm": ("audio", "webm"),
}
#: The same by a file's ending, for what lies at S3 and is not described.
_BY_ENDING: dict[str, tuple[str, str]] = {
    **{form: (kind, form) for kind, form in reversed(_FORMATS.values())},
    "jpg": ("image", "jpeg"),
    "htm": ("document", "html"),
    "3gp": ("video", "three_gp"),
    "mp4": ("video", "mp4"),
    "mkv": ("video", "mkv"),
    "webm": ("video", "webm"),
}

#: Media types by kind and format; of several the first.
_TYPES: dict[tuple[str, str], str] = {pair: mime for mime, pair in reversed(_FORMATS.items())}

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9\s\-()\[\]]+")
_SPACES = re.compile(r"\s+")
_LONGEST_NAME = 200
_NO_NAME = "document"
_S3 = "s3://"


class DocumentNames:
    """Names of documents as Bedrock takes them: of few characters, and each once in a request."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, filename: str) -> str:
        """Return the name for a file, without its ending. The same files in the same order have the same names."""
        plain = _SPACES.sub(" ", _NOT_IN_NAMES.sub("-", PurePosixPath(filename).stem)).strip(" -")
        wanted = plain[: _LONGEST_NAME - 10].strip() or _NO_NAME
        name, number = wanted, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{wanted} ({number})"
        self._taken.add(name.lower())
        return name


def kind_of(media: content_pb2.MediaBlock) -> tuple[str, str]:
    """Return a medium's kind of block and its format; empty: Bedrock has none for it."""
    mime = media.mime_type.partition(";")[0].strip().lower()
    if mime in _FORMATS:
        return _FORMATS[mime]
    if mime.startswith("text/") or mime == "application/json":
        return "document", "txt"
    if mime or media.WhichOneof("source") != "uri":
        return "", ""
    return _BY_ENDING.get(PurePosixPath(media.uri).suffix[1:].lower(), ("", ""))


def media_type(kind: str, form: str) -> str:
    """Return the media type of a format that Converse names; empty: it has none."""
    return _TYPES.get((kind, form)) or (f"{kind}/{form}" if form and kind != "document" else "")


def write_media(
    block: content_pb2.ContentBlock,
    metadata: Fields,
    names: DocumentNames,
    facts: ModelFacts,
    path: str,
    notices: Notices,
) -> dict[str, Any] | None:
    """Return the block for a medium; None: it is left out, and a notice says so.

    Args:
        block: the contract's block.
        metadata: what Bedrock said of it, or a caller in Bedrock's words: `context` of a document, `bucketOwner`.
        names: of the request's documents so far.
        facts: what the model takes.
        path: of the block, for notices.
        notices: where to tell.

    Raises:
        UnsupportedOptionError: it must be left out, and the request wants that refused.
    """
    media = block.media
    kind, form = kind_of(media)
    source = _source(media, kind, metadata)
    if not kind or source is None:
        what = media.mime_type or media.uri.partition(":")[0] or "nothing"
        notices.block_dropped(path, f"the provider takes images, documents, video and audio here or at S3, not {what}")
        return None
    if {"image": facts.images, "document": facts.documents, "video": facts.videos, "audio": facts.audio}[kind] is False:
        notices.block_dropped(path, f"the model takes no {kind}")
        return None
    if media.detail:
        notices.param_dropped(f"{path}.media.detail", "the provider has no such choice")
    part: dict[str, Any] = {"format": form, "source": source}
    if kind == "document":
        part = _document(part, media, metadata, names, facts, path, notices)
    return {kind: part}


def _source(media: content_pb2.MediaBlock, kind: str, metadata: Fields) -> dict[str, Any] | None:
    if media.WhichOneof("source") == "uri" and media.uri.startswith(_S3):
        location: dict[str, Any] = {"uri": media.uri}
        if "bucketOwner" in metadata:
            location["bucketOwner"] = metadata["bucketOwner"]
        return {"s3Location": location}
    if not media.data:
        return None
    if kind == "document" and media.citations and media.mime_type.lower().startswith("text/plain"):
        # Citations of a plain text name characters only where it is given as text.
        try:
            return {"text": media.data.decode()}
        except UnicodeDecodeError:
            pass
    return {"bytes": base64.b64encode(media.data).decode()}


def _document(
    part: dict[str, Any],
    media: content_pb2.MediaBlock,
    metadata: Fields,
    names: DocumentNames,
    facts: ModelFacts,
    path: str,
    notices: Notices,
) -> dict[str, Any]:
    mime = media.mime_type.partition(";")[0].strip().lower()
    if part["format"] == "txt" and mime not in {"", "text/plain"}:
        notices.param_adjusted(f"{path}.media.mime_type", f"{mime} is sent as text/plain")
    part = {"name": names.name(media.filename), **part}
    if "context" in metadata:
        part["context"] = metadata["context"]
    if media.HasField("citations"):
        if media.citations and facts.citations is False:
            notices.param_dropped(f"{path}.media.citations", "the model does not cite")
        else:
            part["citations"] = {"enabled": media.citations}
    return part
