"""A mock of the Messages API, in a process of its own: what it answers is written in the prompt.

A prompt's lines that begin with ``@`` are steps. The first request of a turn gets the first step, the request after
the model's first answer the second one, and so on; the last step stays. Without any step the answer is "You said: ...".

* ``@text words``: says the words, piece by piece. ``{result}`` is the last tool's result, ``{messages}`` how many
  messages the request has, ``{asked}`` all that people have said in it.
* ``@think words``: thinks them, with a signature, then says "Thought."
* ``@tool Name {"json": "input"}``: calls a tool, or several: a line of its own for each, ``&tool`` from the second on.
* ``@forever``: says "tick " again and again until the client goes away.
* ``@hang``: begins to answer, then says nothing until the client goes away.
* ``@cut``: closes the connection in the middle of the answer.
* ``@error 529 2``: refuses twice with that status, then goes on to the next step; without a number always.

``GET /requests`` tells what was asked so far, ``GET /open`` how many answers are being written.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}

_TICK_SECONDS = 0.02
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)


@dataclass
class Asked:
    """What the mock has seen."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def refuses(self, step: str, times: int | None) -> bool:
        """Tell whether this request is one of those to refuse."""
        with self.lock:
            self.refused[step] = self.refused.get(step, 0) + 1
            return times is None or self.refused[step] <= times


def texts(content: Any) -> list[str]:
    """Return the texts of a message's content, without what the program says to the model by itself."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    said = [_REMINDER.sub("", block["text"]).strip() for block in blocks if block.get("type") == "text"]
    return [text for text in said if text]


def result_text(content: Any) -> str:
    """Return the text of a tool's result."""
    return content if isinstance(content, str) else "".join(texts(content or []))


def turn(messages: list[dict[str, Any]]) -> tuple[str, int]:
    """Return the newest prompt with steps in it, and how often the model has answered since."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["role"] == "user":
            prompt = "\n".join(texts(messages[index]["content"]))
            if re.search(r"^@", prompt, re.MULTILINE):
                return prompt, sum(message["role"] == "assistant" for message in messages[index + 1 :])
    asked = [text for message in messages if message["role"] == "user" for text in texts(message["content"])]
    return f"@text You said: {asked[-1] if asked else ''}".replace("\n", " "), 0


def last_result(messages: list[dict[str, Any]]) -> str:
    """Return what the last tool said."""
    blocks = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return result_text(results[-1].get("content")) if results else ""


def steps_of(prompt: str) -> list[list[str]]:
    """Return the prompt's steps: each a line, and the lines with ``&`` that belong to it."""
    steps: list[list[str]] = []
    for line in prompt.splitlines():
        if line.startswith("@"):
            steps.append([line[1:]])
        elif line.startswith("&") and steps:
            steps[-1].append(line[1:])
    return steps


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **piece: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": piece}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def text_block(index: int, words: str) -> Iterator[dict[str, Any]]:
    yield start(index, type="text", text="")
    for piece in re.findall(r"\S+\s*|\s+", words):
        yield delta(index, type="text_delta", text=piece)
    yield stop(index)


def thinking_block(index: int, words: str) -> Iterator[dict[str, Any]]:
    yield start(index, type="thinking", thinking="", signature="")
    yield delta(index, type="thinking_delta", thinking=words)
    yield delta(index, type="signature_delta", signature="c2lnbmF0dXJl")
    yield stop(index)


def tool_block(index: int, identifier: str, name: str, arguments: str) -> Iterator[dict[str, Any]]:
    yield start(index, type="tool_use", id=identifier, name=name, input={})
    middle = len(arguments) // 2
    for piece in (arguments[:middle], arguments[middle:]):
        yield delta(index, type="input_json_delta", partial_json=piece)
    yield stop(index)


def answer(lines: list[str], body: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """Return the events of one answer, but for steps that do not end."""
    usage = {"input_tokens": 12, "output_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
    message: dict[str, Any] = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": []}
    message |= {"model": body.get("model"), "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield {"type": "message_start", "message": message}
    reason = "end_turn"
    index = 0
    for line in lines:
        verb, _, words = line.partition(" ")
        if verb == "tool":
            name, _, arguments = words.partition(" ")
            yield from tool_block(index, f"toolu_{number}_{index}", name, arguments or "{}")
            reason = "tool_use"
        elif verb == "think":
            yield from thinking_block(index, words)
            index += 1
            yield from text_block(index, "Thought.")
        else:
            yield from text_block(index, filled(words, body["messages"]))
        index += 1
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": 9},
    }
    yield {"type": "message_stop"}


def filled(words: str, messages: list[dict[str, Any]]) -> str:
    """Put what the request says into the words of a step."""
    people = [text for message in messages if message["role"] == "user" for text in texts(message["content"])]
    words = words.replace("{result}", last_result(messages)).replace("{messages}", str(len(messages)))
    return words.replace("{asked}", " | ".join(people))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        asked = self.server.asked
        with asked.lock:
            told: Any = {"/requests": list(asked.requests), "/open": asked.open}.get(self.path)
        self._whole(200 if told is not None else 404, told)

    def do_HEAD(self) -> None:
        self._record({})
        self._whole(200, None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        number = self._record(body)
        if "count_tokens" in self.path:
            return self._whole(200, {"input_tokens": 10})
        with self.server.asked.lock:
            self.server.asked.open += 1
        try:
            self._answer(body, number)
        except OSError:
            self.close_connection = True
        finally:
            with self.server.asked.lock:
                self.server.asked.open -= 1
        return None

    def _record(self, body: dict[str, Any]) -> int:
        headers = {name.lower(): value for name, value in self.headers.items()}
        entry = {"method": self.command, "target": self.path, "headers": headers, "body": body}
        asked = self.server.asked
        with asked.lock:
            asked.requests.append(entry)
            if self.server.record:
                with self.server.record.open("a") as lines:
                    lines.write(json.dumps(entry) + "\n")
            return len(asked.requests)

    def _answer(self, body: dict[str, Any], number: int) -> None:
        prompt, answered = turn(body.get("messages") or [])
        steps = steps_of(prompt)
        while steps[min(answered, len(steps) - 1)][0].startswith("error "):
            step = steps[min(answered, len(steps) - 1)][0]
            _, status, *times = step.split()
            if self.server.asked.refuses(f"{prompt}\0{step}", int(times[0]) if times else None):
                return self._refuse(int(status))
            answered += 1
        lines = steps[min(answered, len(steps) - 1)]
        verb = lines[0].split(" ")[0]
        if verb in {"forever", "hang", "cut"}:
            self._unfinished(verb, body, number)
        elif body.get("stream"):
            self._head()
            for event in answer(lines, body, number):
                self._event(event)
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._whole(200, whole(list(answer(lines, body, number))))
        return None

    def _unfinished(self, verb: str, body: dict[str, Any], number: int) -> None:
        self._head()
        begun = list(answer([f"text {verb}"], body, number))
        for event in begun[:3]:
            self._event(event)
        self.close_connection = True
        if verb == "forever":
            while not self._gone(_TICK_SECONDS):
                self._event(delta(0, type="text_delta", text="tick "))
        elif verb == "hang":
            self._gone(None)

    def _gone(self, seconds: float | None) -> bool:
        """Tell whether the client goes away within the time."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        return bool(readable)

    def _refuse(self, status: int) -> None:
        headers = {"retry-after": "1"} if status in {429, 529} else {}
        error = {"type": ERRORS.get(status, "api_error"), "message": f"refused with {status}"}
        self._whole(status, {"type": "error", "error": error, "request_id": "req_mock"}, headers)

    def _head(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("request-id", "req_mock")
        self.send_header("anthropic-ratelimit-requests-limit", "50")
        self.end_headers()

    def _event(self, event: dict[str, Any]) -> None:
        data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _whole(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, said in {"content-type": "application/json", "request-id": "req_mock", **(headers or {})}.items():
            self.send_header(name, said)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def whole(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the events of an answer as the answer to a request without a stream."""
    message: dict[str, Any] = dict(events[0]["message"])
    content: list[dict[str, Any]] = []
    arguments = ""
    for event in events:
        if event["type"] == "content_block_start":
            content.append(dict(event["content_block"]))
            arguments = ""
        elif event["type"] == "content_block_delta":
            piece = event["delta"]
            arguments += piece.get("partial_json", "")
            for name in ("text", "thinking", "signature"):
                if name in piece:
                    content[-1][name] += piece[name]
        elif event["type"] == "content_block_stop" and arguments:
            content[-1]["input"] = json.loads(arguments)
        elif event["type"] == "message_delta":
            message |= event["delta"]
            message["usage"] = message["usage"] | event["usage"]
    return message | {"content": content}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, record: Path | None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.asked = Asked()
        self.record = record


class MessagesApi:
    """The mock in threads of this process; its requests are at hand.

    Args:
        port: where it listens, on loopback; 0: anywhere.
        record: a file that gets each request as a line of JSON.
    """

    def __init__(self, port: int = 0, record: Path | None = None) -> None:
        self._server = _Server(port, record)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What was asked so far."""
        with self._server.asked.lock:
            return list(self._server.asked.requests)

    @property
    def open(self) -> int:
        """How many answers are being written."""
        with self._server.asked.lock:
            return self._server.asked.open

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def main() -> None:
    """Serve until the standard input ends; the first line of output is the address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    with MessagesApi(given.port, given.record) as api:
        print(api.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
