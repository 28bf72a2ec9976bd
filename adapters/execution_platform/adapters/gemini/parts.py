"""Writes the parts of an answer as blocks.

Which pieces of a stream join: the first part of a chunk goes on with the last part of the chunk before if both are
text of the same kind and neither is signed. A signed part stays a block of its own, since its signature must come back
in this very part; so does an empty text that is signed. Text blocks stay open to the end of the answer, because the
sources of what they say come last.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import Fields, clean_text, fields_if_any, object_json, text_of, value_of
from execution_platform.adapters.gemini.fields import members, word
from execution_platform.adapters.gemini.partial import ArgumentsWriter
from execution_platform.v1 import content_pb2

__all__ = ["CONTINUATION", "FAMILY", "NAMELESS", "SIGNATURE", "PartsWriter"]

FAMILY = "gemini"
#: Kind of the opaque state that a part's signature becomes.
SIGNATURE = "thought_signature"
#: Kind of the opaque state that lets a paused answer go on.
CONTINUATION = "continuation_token"
#: Name of a call of Google's own tools that has none.
NAMELESS = "tool"

_Block = content_pb2.ContentBlock
_PROVIDER = content_pb2.TOOL_EXECUTOR_PROVIDER
_CLIENT = content_pb2.TOOL_EXECUTOR_CLIENT

_TEXT = "text"
_THOUGHT = "thought"
_AUDIO = "audio"

#: Tokens whose probabilities go into one event; with 20 alternatives each they stay below 1 MiB.
_MOST_LOGPROBS = 400


class PartsWriter:
    """Takes the parts of one answer in order.

    Args:
        writer: takes the blocks.

    Attributes:
        id_prefix: begins the call ids that are minted; unique to the answer.
        calls_tools: there are calls that the caller shall run.
        part_blocks: block index of each part of the answer so far, None for a part that said nothing.
    """

    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer
        self.id_prefix = ""
        self.calls_tools = False
        self.part_blocks: list[int | None] = []
        self._texts: dict[int, list[str]] = {}
        self._kind = ""
        self._index = -1
        self._mime_type = ""
        self._calls = 0
        self._code_call = ""
        self._call: int | None = None
        self._call_metadata: Fields = {}
        self._later: Fields = {}
        self._arguments = ArgumentsWriter()
        self._logprobs: Sequence[content_pb2.TokenLogprob] = ()

    # --- what the translation asks ------------------------------------------------------------------------------------

    @property
    def text_blocks(self) -> dict[int, str]:
        """The text of each text block, by index."""
        return {index: "".join(pieces) for index, pieces in self._texts.items()}

    def logprobs(self, logprobs: Sequence[content_pb2.TokenLogprob]) -> None:
        """Keep the probabilities of the tokens that come next."""
        self._logprobs = logprobs

    def flush_logprobs(self) -> bool:
        """Give probabilities that found no text to the last text block. Returns whether there was one."""
        if not self._logprobs:
            return True
        if not self._texts:
            return False
        self._say(max(self._texts), "")
        return True

    def end(self) -> None:
        """Tell that no part follows. Text blocks stay open."""
        self._end_call()
        self._end_run()

    def carrier(self) -> int:
        """Return an open block that can carry what belongs to the whole answer; made if there is none."""
        if self._texts:
            return max(self._texts)
        self._end_run()
        return self._open_text("")

    # --- parts --------------------------------------------------------------------------------------------------------

    def plain(self, piece: str, *, thought: bool, signature: str | None, first: bool) -> None:
        """Take a part that is text and nothing else. `first`: it is the first of its chunk."""
        self._end_call()
        kind = _THOUGHT if thought else _TEXT
        if signature is not None:
            self._end_run()
            self._signed_text(kind, piece, signature, "")
            return
        joins = first and kind == self._kind
        if not piece:
            if not joins:
                self.part_blocks.append(None)
            return
        if not joins:
            self._end_run()
            self._open_run(kind)
        self._say(self._index, piece)

    def part(self, raw: msgspec.Raw, *, first: bool) -> None:
        """Take any part.

        Args:
            raw: its JSON.
            first: it is the first of its chunk.

        Raises:
            ProtocolError: its content is not what its key says.
        """
        fields = members(raw)
        signature = text_of(fields.pop("thoughtSignature", None)) or None
        if "functionCall" in fields:
            self._function_call(raw, fields, signature)
            return
        self._end_call()
        if "inlineData" in fields:
            self._inline_data(fields, signature, first=first)
        elif "fileData" in fields:
            self._file_data(fields, signature)
        elif "executableCode" in fields:
            self._executable_code(fields, signature)
        elif "codeExecutionResult" in fields:
            self._code_result(fields, signature)
        elif "toolCall" in fields:
            self._tool_call(fields, signature)
        elif "toolResponse" in fields:
            self._tool_response(fields, signature)
        elif fields.keys() <= {"text", "thought"}:
            self._any_text(fields, signature, first=first)
        elif "text" in fields:
            self._end_run()
            thought = value_of(fields.pop("thought", None)) is True
            kind = _THOUGHT if thought else _TEXT
            self._signed_text(kind, text_of(fields.pop("text")), signature, object_json(fields))
        else:
            self._whole(_Block(opaque=content_pb2.OpaqueBlock(type=_type_of(fields), json=_json(raw))), None)

    def _any_text(self, fields: Fields, signature: str | None, *, first: bool) -> None:
        thought = value_of(fields.get("thought")) is True
        self.plain(text_of(fields.get("text")), thought=thought, signature=signature, first=first)

    # --- text ---------------------------------------------------------------------------------------------------------

    def _open_run(self, kind: str) -> None:
        if kind == _TEXT:
            self._index = self._open_text("")
        else:
            self._index = self._writer.open(_thinking())
        self._kind = kind
        self.part_blocks.append(self._index)

    def _open_text(self, metadata: str, signature: str | None = None) -> int:
        block = _Block(text=content_pb2.TextBlock(), provider_metadata_json=metadata)
        index = self._writer.open(_signed(block, signature))
        self._texts[index] = []
        return index

    def _signed_text(self, kind: str, piece: str, signature: str | None, metadata: str) -> None:
        if kind == _TEXT:
            index = self._open_text(metadata, signature)
            self._say(index, piece)
        else:
            block = _thinking()
            block.provider_metadata_json = metadata
            index = self._writer.open(_signed(block, signature))
            self._writer.thinking(index, piece)
            self._writer.stop(index)
        self.part_blocks.append(index)

    def _say(self, index: int, piece: str) -> None:
        pieces = self._texts.get(index)
        if pieces is None:
            self._writer.thinking(index, piece)
            return
        pieces.append(piece)
        logprobs, self._logprobs = self._logprobs, ()
        self._writer.text(index, piece, logprobs[:_MOST_LOGPROBS])
        for at in range(_MOST_LOGPROBS, len(logprobs), _MOST_LOGPROBS):
            self._writer.text(index, "", logprobs[at : at + _MOST_LOGPROBS])

    def _end_run(self) -> None:
        if self._kind in {_THOUGHT, _AUDIO}:
            self._writer.stop(self._index)
        self._kind = ""

    # --- media --------------------------------------------------------------------------------------------------------

    def _inline_data(self, fields: Fields, signature: str | None, *, first: bool) -> None:
        blob = members(fields.pop("inlineData"))
        mime_type = clean_text(blob.pop("mimeType", None))
        data = _bytes(text_of(blob.pop("data", None)))
        whole = bool(blob or fields or signature is not None)
        if first and not whole and self._kind == _AUDIO and mime_type == self._mime_type:
            self._writer.media(self._index, data)
            return
        self._end_run()
        block = _Block(media=content_pb2.MediaBlock(mime_type=mime_type, data=data))
        block.provider_metadata_json = object_json(_nested(fields, "inlineData", blob))
        if whole or not mime_type.startswith("audio/"):
            self._whole(block, signature)
            return
        self._index = self._writer.open(block)
        self._kind = _AUDIO
        self._mime_type = mime_type
        self.part_blocks.append(self._index)

    def _file_data(self, fields: Fields, signature: str | None) -> None:
        file = members(fields.pop("fileData"))
        media = content_pb2.MediaBlock(
            mime_type=clean_text(file.pop("mimeType", None)),
            uri=clean_text(file.pop("fileUri", None)),
            filename=clean_text(file.pop("displayName", None)),
        )
        block = _Block(media=media, provider_metadata_json=object_json(_nested(fields, "fileData", file)))
        self._whole(block, signature)

    # --- tools that Google runs ---------------------------------------------------------------------------------------

    def _executable_code(self, fields: Fields, signature: str | None) -> None:
        raw = fields.pop("executableCode")
        self._code_call = clean_text(members(raw).get("id"))
        call = content_pb2.ToolCallBlock(
            call_id=self._code_call,
            name="code_execution",
            arguments_json=_json(raw),
            executed_by=_PROVIDER,
            provider_type="executableCode",
        )
        if not call.call_id:
            call.call_id = self._code_call = self._mint()
            call.call_id_minted = True
        self._whole(_Block(tool_call=call, provider_metadata_json=object_json(fields)), signature)

    def _code_result(self, fields: Fields, signature: str | None) -> None:
        raw = fields.pop("codeExecutionResult")
        said = members(raw)
        result = content_pb2.ToolResultBlock(
            call_id=clean_text(said.get("id")) or self._code_call,
            name="code_execution",
            structured_content_json=_json(raw),
            is_error=word(said.get("outcome")) not in {"OUTCOME_OK", "1"},
            executed_by=_PROVIDER,
            provider_type="codeExecutionResult",
        )
        self._whole(_Block(tool_result=result, provider_metadata_json=object_json(fields)), signature)

    def _tool_call(self, fields: Fields, signature: str | None) -> None:
        said = members(fields.pop("toolCall"))
        args = said.pop("args", None)
        call = content_pb2.ToolCallBlock(
            call_id=clean_text(said.pop("id", None)),
            name=word(said.pop("toolType", None)) or NAMELESS,
            arguments_json="" if args is None else _json(args),
            executed_by=_PROVIDER,
            provider_type="toolCall",
        )
        if not call.call_id:
            call.call_id = self._mint()
            call.call_id_minted = True
        metadata = object_json(_nested(fields, "toolCall", said))
        self._whole(_Block(tool_call=call, provider_metadata_json=metadata), signature)

    def _tool_response(self, fields: Fields, signature: str | None) -> None:
        said = members(fields.pop("toolResponse"))
        response = said.pop("response", None)
        result = content_pb2.ToolResultBlock(
            call_id=clean_text(said.pop("id", None)),
            name=word(said.pop("toolType", None)) or NAMELESS,
            structured_content_json="" if response is None else _json(response),
            executed_by=_PROVIDER,
            provider_type="toolResponse",
        )
        metadata = object_json(_nested(fields, "toolResponse", said))
        self._whole(_Block(tool_result=result, provider_metadata_json=metadata), signature)

    # --- functions of the caller --------------------------------------------------------------------------------------

    def _function_call(self, raw: msgspec.Raw, fields: Fields, signature: str | None) -> None:
        said = members(fields.pop("functionCall"))
        name = clean_text(said.pop("name", None))
        if not name:
            self._nameless_call(raw, fields, said, signature)
            return
        self._end_call()
        self._end_run()
        self.calls_tools = True
        args = said.pop("args", None)
        partial = said.pop("partialArgs", None)
        goes_on = value_of(said.pop("willContinue", None)) is True
        call = content_pb2.ToolCallBlock(
            call_id=clean_text(said.pop("id", None)),
            name=name,
            arguments_json="" if args is None else _json(args),
            executed_by=_CLIENT,
        )
        if not call.call_id:
            call.call_id = self._mint()
            call.call_id_minted = True
        self._call_metadata = _nested(fields, "functionCall", said)
        block = _Block(tool_call=call, provider_metadata_json=object_json(self._call_metadata))
        index = self._writer.open(_signed(block, signature))
        self.part_blocks.append(index)
        self._call = index
        self._arguments = ArgumentsWriter()
        if partial is not None:
            self._writer.arguments(index, self._arguments.feed(partial))
        if not goes_on:
            self._end_call()

    def _nameless_call(self, raw: msgspec.Raw, fields: Fields, said: Fields, signature: str | None) -> None:
        """Go on with the open call; without one the part is of a kind that nobody knows."""
        if self._call is None:
            self._whole(_Block(opaque=content_pb2.OpaqueBlock(type="functionCall", json=_json(raw))), None)
            return
        if signature is not None:
            self._writer.state(self._call, SIGNATURE, signature.encode("utf-8", "replace"))
        if "partialArgs" in said:
            self._writer.arguments(self._call, self._arguments.feed(said.pop("partialArgs")))
        if "args" in said:
            self._writer.arguments(self._call, _json(said.pop("args")))
        goes_on = value_of(said.pop("willContinue", None)) is True
        inner = fields_if_any(self._later.get("functionCall")) | said
        self._later |= _nested(fields, "functionCall", inner)
        if not goes_on:
            self._end_call()

    def _end_call(self) -> None:
        if self._call is None:
            return
        self._writer.arguments(self._call, self._arguments.end())
        later, self._later = self._later, {}
        if later:
            inner = fields_if_any(self._call_metadata.get("functionCall")) | fields_if_any(later.get("functionCall"))
            later = self._call_metadata | _nested(later, "functionCall", inner)
        self._writer.stop(self._call, object_json(later) if later else None)
        self._call = None

    def _mint(self) -> str:
        minted = f"call_{self.id_prefix}_{self._calls}"
        self._calls += 1
        return minted

    def _whole(self, block: content_pb2.ContentBlock, signature: str | None) -> None:
        self._end_run()
        self.part_blocks.append(self._writer.whole(_signed(block, signature)))


def _signed(block: content_pb2.ContentBlock, signature: str | None) -> content_pb2.ContentBlock:
    if signature is not None:
        block.states.add(kind=SIGNATURE, data=signature.encode("utf-8", "replace"))
    return block


def _thinking() -> content_pb2.ContentBlock:
    return _Block(thinking=content_pb2.ThinkingBlock(is_summary=True))


def _nested(fields: Fields, key: str, inner: Fields) -> Fields:
    """Add what is left of a part's content to what is left of the part."""
    if inner:
        fields[key] = msgspec.Raw(object_json(inner).encode())
    return fields


def _type_of(fields: Fields) -> str:
    return next((key for key in fields if key != "thought"), "")


def _json(raw: msgspec.Raw) -> str:
    return bytes(raw).decode("utf-8", "replace")


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("the provider sent inline data that is not base64") from error
