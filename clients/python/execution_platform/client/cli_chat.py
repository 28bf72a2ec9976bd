"""The command `chat`: one answer, or a conversation, on the terminal or as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

import typer
from google.protobuf.json_format import MessageToJson

from execution_platform.client import content
from execution_platform.client.answer import Answer
from execution_platform.client.cli_connection import Server, error_line
from execution_platform.client.cli_interrupts import interruptible
from execution_platform.client.cli_terminal import Terminal, usage_line
from execution_platform.client.errors import ExecutionPlatformError
from execution_platform.client.reader import text_in, thinking_in
from execution_platform.client.requests import ChatFields
from execution_platform.client.sync import ChatStream, ExecutionPlatformClient
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["Chat", "spoken"]

_HELP = "/new forgets what was said, /exit or Ctrl-D ends, Ctrl-C stops an answer."


def spoken(words: list[str], files: list[Path], stdin: TextIO) -> list[content_pb2.ContentBlock]:
    """Return what the arguments say; a word ``-``, or no word at all, stands for standard input.

    Raises:
        typer.BadParameter: there is nothing to say, or a file cannot be sent.
    """
    parts: list[str] = [] if words else [stdin.read()]
    for word in words:
        if word == "-":
            parts.append(f"\n\n{stdin.read()}\n\n")
        else:
            parts.append(f" {word}" if parts and not parts[-1].endswith("\n") else word)
    text = "".join(parts).strip()
    if not text and not files:
        raise typer.BadParameter("there is nothing to say", param_hint="MESSAGE")
    if not _is_unicode(text):
        raise typer.BadParameter("is not UTF-8; what is no text goes with --file", param_hint="MESSAGE")
    try:
        attached = [content.file(path) for path in files]
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--file") from error
    return [*attached, *([content.text(text)] if text else [])]


def _is_unicode(text: str) -> bool:
    # Bytes of another encoding come from arguments and standard input as surrogates.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass
class Chat:
    """Asks and shows.

    Attributes:
        client: the client.
        server: for messages about it.
        terminal: where everything goes.
        fields: what every request has.
        as_json: events as JSON lines instead of text.
        thinking: whether to show the model's reasoning.
        quiet: no notices and no usage line.
    """

    client: ExecutionPlatformClient
    server: Server
    terminal: Terminal
    fields: ChatFields
    as_json: bool = False
    thinking: bool = False
    quiet: bool = False
    _history: list[content_pb2.Message] = field(default_factory=list)

    def once(self, blocks: list[content_pb2.ContentBlock]) -> None:
        """Ask once and show the answer.

        Raises:
            ExecutionPlatformError: the chat failed.
        """
        self._ask([content.user(blocks)])

    def converse(self, stdin: TextIO, first: list[content_pb2.ContentBlock] | None = None) -> None:
        """Ask again and again, with everything said before, until the input ends."""
        if stdin.isatty():
            with suppress(ImportError):
                import readline  # noqa: F401, PLC0415 - gives input() its line editing
            self._remark(_HELP)
        if first:
            self._turn(first)
        for said in _lines(stdin):
            match said:
                case "":
                    continue
                case "/exit":
                    return
                case "/new":
                    self._history.clear()
                case "/help":
                    self.terminal.remark(_HELP)
                case _:
                    self._turn([content.text(said)])

    def _turn(self, blocks: list[content_pb2.ContentBlock]) -> None:
        """Ask; what fails or is stopped is forgotten, so that the conversation can go on."""
        self._history.append(content.user(blocks))
        try:
            self._history.append(self._ask(self._history).message)
        except ExecutionPlatformError as error:
            self._history.pop()
            self.terminal.remark(f"ep: {error_line(error, self.server.target)}", "red")
        except KeyboardInterrupt:
            self._history.pop()
            self.terminal.remark("stopped; this turn is forgotten")

    def _ask(self, messages: list[content_pb2.Message]) -> Answer:
        running: SimpleQueue[ChatStream] = SimpleQueue()
        self.terminal.hold()
        try:
            return interruptible(lambda: self._read(messages, running), stop=lambda: running.get().close())
        finally:
            self.terminal.release()
            self.terminal.end_line()

    def _read(self, messages: list[content_pb2.Message], running: SimpleQueue[ChatStream]) -> Answer:
        with self.client.stream(messages, **self.fields) as stream:
            running.put(stream)
            for event in stream:
                self._show(event)
            return stream.answer()

    def _show(self, event: chat_pb2.ChatEvent) -> None:
        if self.as_json:
            self.terminal.line(MessageToJson(event, indent=None))
            return
        match event.WhichOneof("event"):
            case "block_delta":
                self._show_delta(event)
            case "block_started":
                self._show_start(event)
            case "notice":
                self._remark(f"note: {event.notice.message}")
            case "route_changed":
                if event.route_changed.kind == chat_pb2.ROUTE_CHANGE_KIND_RESTART:
                    self.terminal.take_back()
                self._remark(_changed(event.route_changed))
            case "finished":
                self._remark(usage_line(event.finished))
            case _:
                pass

    def _show_start(self, event: chat_pb2.ChatEvent) -> None:
        block = event.block_started.block
        kind = block.WhichOneof("content")
        if kind in {"tool_call", "media", "refusal"}:
            self.terminal.end_line()
        match kind:
            case "tool_call":
                self.terminal.aside(f"calls {block.tool_call.name} {block.tool_call.arguments_json}")
            case "media":
                self.terminal.aside(f"{block.media.mime_type or 'media'} (see --json)")
            case "refusal":
                self.terminal.write(block.refusal.text)
            case _:
                self._show_delta(event)

    def _show_delta(self, event: chat_pb2.ChatEvent) -> None:
        if self.thinking:
            self.terminal.aside(thinking_in(event))
        delta = event.block_delta
        self.terminal.write(text_in(event) or delta.refusal)
        self.terminal.aside(delta.arguments_json or delta.arguments_text)

    def _remark(self, text: str) -> None:
        if not self.quiet:
            self.terminal.remark(text)


def _changed(change: chat_pb2.RouteChanged) -> str:
    """Return what a change of route means for what was shown before."""
    name = f"{change.route.provider}/{change.route.model}"
    anew = change.kind == chat_pb2.ROUTE_CHANGE_KIND_RESTART
    does = "begins the answer anew, what came before is void" if anew else "goes on"
    return f"note: {name} {does}" + (f": {change.reason}" if change.reason else "")


def _lines(stdin: TextIO) -> Iterator[str]:
    """Yield what is typed, line by line, until the input ends."""
    if not stdin.isatty():
        yield from (line.strip() for line in stdin)
        return
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            sys.stderr.write("\n")
            return
