"""Content parts of Chat Completions messages."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.media_kinds import kind_of
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import content_pb2

__all__ = ["Part", "Parts", "as_content"]

Part = dict[str, Any]

#: OpenAI's names of audio formats where they differ from the media subtype.
_AUDIO_FORMATS = {
    "mpeg": "mp3",
    "x-wav": "wav",
    "wave": "wav",
    "vnd.wave": "wav",
    "x-m4a": "m4a",
    "mp4": "m4a",
    "l16": "pcm16",
}

_EXTENSIONS = {"application/pdf": "pdf", "text/plain": "txt", "text/markdown": "md", "application/json": "json"}


class Parts:
    """Writes blocks as content parts, and tells what a server does not take.

    Args:
        dialect: as spoken to the model.
        notices: where to tell.
    """

    def __init__(self, dialect: Dialect, notices: Notices) -> None:
        self._dialect = dialect
        self._notices = notices

    def of(self, block: content_pb2.ContentBlock, field: str) -> Part | None:
        """Return a text, refusal, media or opaque block as a part; None: it is left out, and a notice says so."""
        kind = block.WhichOneof("content")
        self.drop_states(block, field)
        if kind == "text":
            part: Part | None = {"type": "text", "text": block.text.text}
        elif kind == "refusal":
            part = {"type": "text", "text": block.refusal.text}
        elif kind == "media":
            part = self._media(block.media, f"{field}.media")
        elif kind == "opaque" and block.family in {"", self._dialect.family}:
            part = {"": raw_json(block.opaque.json, f"{field}.opaque.json", must_be_object=True)}
        else:
            part = None
            self._notices.block_dropped(field, f"{self._dialect.provider} takes no such block ({kind}) here")
        if part is not None and block.HasField("cache_hint"):
            self.add_breakpoint(part, block.cache_hint, f"{field}.cache_hint")
        return part

    def all_of(self, blocks: Iterable[tuple[content_pb2.ContentBlock, str]]) -> list[Part]:
        """Return blocks, each with its field's path, as parts."""
        parts = (self.of(block, field) for block, field in blocks)
        return [part for part in parts if part is not None]

    def drop_states(self, block: content_pb2.ContentBlock, field: str) -> None:
        """Tell that a block's states are left out, if it has any: only reasoning keeps its own here."""
        if block.states:
            self._notices.state_dropped(f"{field}.states", f"{self._dialect.provider} has no place for them")

    def add_breakpoint(self, part: Part, hint: content_pb2.CacheHint, field: str) -> None:
        """Ask to cache up to a part, or tell why not. ``field`` is that of the hint."""
        style = self._dialect.cache_breakpoints
        if not style or "cache_hint" in self._dialect.unsupported:
            self._notices.param_dropped(field, f"{self._dialect.provider} takes no cache breakpoints")
            return
        if "" in part:
            self._notices.param_dropped(field, "an opaque part stands as it is")
            return
        mark: Part = {"mode": "explicit"} if style == "openai" else {"type": "ephemeral"}
        if hint.HasField("ttl"):
            mark["ttl"] = self.offered_ttl(hint.ttl.seconds, self._dialect.breakpoint_ttls, f"{field}.ttl")
        part["prompt_cache_breakpoint" if style == "openai" else "cache_control"] = mark

    def offered_ttl(self, seconds: int, offered: Mapping[int, str], field: str) -> str:
        """Return the word for the shortest offered lifetime that is long enough, or for the longest."""
        nearest = min((one for one in offered if one >= seconds), default=max(offered))
        if nearest != seconds:
            self._notices.param_adjusted(field, f"{self._dialect.provider} offers {offered[nearest]} instead")
        return offered[nearest]

    def _media(self, media: content_pb2.MediaBlock, field: str) -> Part | None:
        if media.HasField("citations"):
            self._notices.param_dropped(f"{field}.citations", f"{self._dialect.provider} has no such option")
        kind = kind_of(media)
        if media.WhichOneof("source") == "file_id":
            if "file_id" in self._dialect.media:
                if media.detail and kind == "image":
                    self._notices.param_dropped(f"{field}.detail", "an uploaded file has no place for it")
                return {"type": "file", "file": {"file_id": media.file_id}}
            return self._refuse(kind, "files that were uploaded", field)
        if kind == "image" and "image" in self._dialect.media:
            image: Part = {"url": _url(media, "image/png")}
            if media.detail:
                image["detail"] = media.detail
            return {"type": "image_url", "image_url": image}
        if kind == "video" and "video" in self._dialect.media:
            return {"type": "video_url", "video_url": {"url": _url(media, "video/mp4")}}
        if kind == "audio":
            return self._audio(media, field)
        if kind == "document":
            return self._document(media, field)
        return self._refuse(kind, kind, field)

    def _audio(self, media: content_pb2.MediaBlock, field: str) -> Part | None:
        given = media.WhichOneof("source") == "data"
        if "bare_audio" in self._dialect.media:
            return {"type": "input_audio", "input_audio": _base64(media.data) if given else media.uri}
        if "audio" in self._dialect.media and given:
            subtype = media.mime_type.lower().partition("/")[2].partition(";")[0] or "wav"
            audio_format = _AUDIO_FORMATS.get(subtype, subtype)
            return {"type": "input_audio", "input_audio": {"data": _base64(media.data), "format": audio_format}}
        return self._refuse("audio", "audio" if given else "audio by its address", field)

    def _document(self, media: content_pb2.MediaBlock, field: str) -> Part | None:
        given = media.WhichOneof("source") == "data"
        if "document_url" in self._dialect.media:
            part: Part = {"type": "document_url", "document_url": _url(media, "application/pdf")}
            if media.filename:
                part["document_name"] = media.filename
            return part
        if ("file" if given else "file_url") in self._dialect.media:
            return {"type": "file", "file": {"filename": _filename(media), "file_data": _url(media, "application/pdf")}}
        if given and media.mime_type.startswith("text/"):
            self._notices.block_dropped(field, f"{self._dialect.provider} takes no files: sent as text")
            return {"type": "text", "text": media.data.decode("utf-8", "replace")}
        return self._refuse("document", "documents" if given else "documents by their address", field)

    def _refuse(self, kind: str, what: str, field: str) -> Part | None:
        self._notices.block_dropped(field, f"{self._dialect.provider} takes no {what} (of kind {kind}) here")
        return None


def as_content(parts: list[Part], *, array: bool) -> Any:
    """Return parts as the ``content`` of a message: one plain text as a string, others as an array.

    Args:
        parts: they may hold opaque JSON under the empty key.
        array: the message may hold an array of texts; else they are joined by blank lines.
    """
    texts = [part["text"] for part in parts if part.get("type") == "text" and len(part) == 2]
    if len(texts) == len(parts) and (len(texts) < 2 or not array):
        return "\n\n".join(texts)
    return [part.get("", part) for part in parts]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _url(media: content_pb2.MediaBlock, default_mime_type: str) -> str:
    if media.WhichOneof("source") == "data":
        return f"data:{media.mime_type or default_mime_type};base64,{_base64(media.data)}"
    return media.uri


def _filename(media: content_pb2.MediaBlock) -> str:
    """Return the file's name; OpenAI wants one with every file, and learns the type from it."""
    if media.filename:
        return media.filename
    if media.uri:
        return posixpath.basename(urlsplit(media.uri).path) or "document.pdf"
    return f"document.{_EXTENSIONS.get(media.mime_type, media.mime_type.rpartition('/')[2] or 'pdf')}"
