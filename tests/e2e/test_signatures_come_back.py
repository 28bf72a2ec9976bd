"""What a provider signed or encrypted in one turn goes back to it unchanged in the next, through the whole product."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.caller import WEATHER, Caller, calling, chat, results, tool_calls, user
from tests.e2e.conftest import mocked_settings
from tests.e2e.processes import serving
from tests.e2e.upstream import Answer, Upstream, upstream

from execution_platform.v1 import chat_pb2, content_pb2

SIGNED = ("signature", "thoughtSignature", "thought_signature", "encrypted_content", "encrypted_index")
"""Keys under which providers sign or encrypt."""


def signatures(body: Any) -> Iterator[str]:
    """Yield what is signed or encrypted in a body, in order."""
    if isinstance(body, list):
        for item in body:
            yield from signatures(item)
    elif isinstance(body, dict):
        for key, value in body.items():
            if (key in SIGNED and isinstance(value, str) and value) or (
                key == "data" and str(body.get("type", "")).endswith(("redacted_thinking", "encrypted"))
            ):
                yield value
            else:
                yield from signatures(value)


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    """A provider that answers what a test tells it to."""
    with upstream() as running:
        yield running


@pytest.fixture(scope="module")
def caller(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A caller of our server, which has that provider for every provider."""
    settings = {**mocked_settings(provider), "EP_AZURE_API": "responses"}
    with serving(tmp_path_factory.mktemp("signed"), settings) as server, calling(server.address()) as stubs:
        yield stubs


def two_turns(caller: Caller, provider: Upstream, answer: Answer, request: chat_pb2.ChatRequest, *, unary: bool) -> Any:
    """Chat, answer the tool calls or say something, chat again; return the body of the second request."""

    def ask() -> content_pb2.Message:
        provider.answers.append(answer)
        if unary:
            return caller.complete(request).message
        heard = caller.stream(request)
        assert heard.kinds[-1] == "finished", heard.message
        return heard.fold.message

    message = ask()
    calls = [call for call in tool_calls(message) if call.executed_by != content_pb2.TOOL_EXECUTOR_PROVIDER]
    told = results(calls, *["18 degrees"] * len(calls)) if calls else user("Go on.")
    request.messages.extend([message, told])
    ask()
    return provider.last.json()


def sse(*events: Any, named: bool = False) -> bytes:
    """Return events as a stream of server-sent events."""
    lines = [(f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join(lines).encode()


SIGNATURE = "EqQB+/ab0=="
SECOND = "AY8/+z=="
REDACTED = "RW5j/cmVk+w=="
ARGUMENTS = '{"city": "Paris"}'


def anthropic_stream() -> bytes:
    """Return an answer of Claude that thinks openly, thinks hidden, and calls a tool."""

    def block(index: int, start: Any, *deltas: Any) -> list[Any]:
        return [
            {"type": "content_block_start", "index": index, "content_block": start},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    usage = {"input_tokens": 5, "output_tokens": 9}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    return sse(
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "The tool knows."},
            {"type": "signature_delta", "signature": SIGNATURE},
        ),
        *block(1, {"type": "redacted_thinking", "data": REDACTED}),
        *block(
            2,
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
            {"type": "input_json_delta", "partial_json": ARGUMENTS},
        ),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
        named=True,
    )


def responses_stream() -> bytes:
    """Return an answer of Responses with encrypted reasoning and a tool call."""
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": SIGNATURE}
    call = {
        "id": "fc_1",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_1",
        "name": "get_weather",
        "arguments": ARGUMENTS,
    }
    usage = {"input_tokens": 5, "output_tokens": 9, "total_tokens": 14}
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "in_progress"}
    done = {**response, "status": "completed", "output": [reasoning, call], "usage": usage}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**response, "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**reasoning, "encrypted_content": ""}},
        {"type": "response.output_item.done", "output_index": 0, "item": reasoning},
        {"type": "response.output_item.added", "output_index": 1, "item": {**call, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "item_id": "fc_1", "delta": ARGUMENTS},
        {
            "type": "response.function_call_arguments.done",
            "output_index": 1,
            "item_id": "fc_1",
            "name": "get_weather",
            "arguments": ARGUMENTS,
        },
        {"type": "response.output_item.done", "output_index": 1, "item": call},
        {"type": "response.completed", "response": done},
    ]
    return sse(*({**event, "sequence_number": number} for number, event in enumerate(events)), named=True)


def gemini_stream() -> bytes:
    """Return an answer of Gemini that thinks and signs both a tool call and an empty text."""

    def chunk(*parts: Any, **more: Any) -> Any:
        candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}
        usage = {"promptTokenCount": 5, "candidatesTokenCount": 3, "thoughtsTokenCount": 6, "totalTokenCount": 14}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r"}

    call = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}, "thoughtSignature": SIGNATURE}
    return sse(
        chunk({"text": "The tool knows.", "thought": True}),
        chunk(call),
        chunk({"text": "", "thoughtSignature": SECOND}, finishReason="STOP"),
    )


def openrouter_stream() -> bytes:
    """Return an answer of OpenRouter with signed and encrypted details of its reasoning, and a tool call."""

    def chunk(delta: Any, reason: str | None = None, **more: Any) -> Any:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {
            "id": "gen-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
            **more,
        }

    text = {"type": "reasoning.text", "text": "The tool knows.", "format": "anthropic-claude-v1", "index": 0}
    signed = {"type": "reasoning.text", "signature": SIGNATURE, "format": "anthropic-claude-v1", "index": 0}
    hidden = {"type": "reasoning.encrypted", "data": REDACTED, "format": "anthropic-claude-v1", "index": 1}
    function = {"name": "get_weather", "arguments": ARGUMENTS}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    return (
        sse(
            chunk({"role": "assistant", "content": "", "reasoning": "The tool knows.", "reasoning_details": [text]}),
            chunk({"content": "", "reasoning_details": [signed]}),
            chunk({"content": "", "reasoning_details": [hidden]}),
            chunk({"content": "", "tool_calls": [call]}),
            chunk({"content": ""}, "tool_calls", usage=usage),
        )
        + b"data: [DONE]\n\n"
    )


HAND_MADE = {
    "anthropic/claude-sonnet-4-5": (anthropic_stream, [SIGNATURE, REDACTED]),
    "openai/gpt-5": (responses_stream, [SIGNATURE]),
    "gemini/gemini-2.5-flash": (gemini_stream, [SIGNATURE, SECOND]),
    "openrouter/anthropic/claude-sonnet-4.5": (openrouter_stream, [SIGNATURE, REDACTED]),
}


@pytest.mark.parametrize("model", HAND_MADE)
def test_signatures_go_back_after_a_tool_call(caller: Caller, provider: Upstream, model: str) -> None:
    """Two turns with thinking and a tool: the provider gets its signatures and encrypted thoughts back, in order."""
    make, signed = HAND_MADE[model]
    request = chat(model, "How is the weather?", tools=[WEATHER])
    request.reasoning.enabled = True
    body = two_turns(caller, provider, Answer([make()], content_type="text/event-stream"), request, unary=False)
    assert list(signatures(body)) == signed
    assert "18 degrees" in json.dumps(body)


def test_reasoning_without_a_signature_goes_back_where_it_is_wanted(caller: Caller, provider: Upstream) -> None:
    """DeepSeek, which refuses a turn with tools without its reasoning, gets the reasoning back as it was."""
    function = {"name": "get_weather", "arguments": ARGUMENTS}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    choices = [
        {"role": "assistant", "reasoning_content": "The tool "},
        {"reasoning_content": "knows."},
        {"tool_calls": [call]},
    ]
    chunks = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in choices]
    last = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    answer = Answer([sse(*chunks, last), b"data: [DONE]\n\n"], content_type="text/event-stream")
    request = chat("deepseek/deepseek-chat", "How is the weather?", tools=[WEATHER])
    body = two_turns(caller, provider, answer, request, unary=False)
    (assistant,) = (message for message in body["messages"] if message["role"] == "assistant")
    assert assistant["reasoning_content"] == "The tool knows."
    assert assistant["tool_calls"][0]["function"]["arguments"] == ARGUMENTS


@pytest.mark.parametrize("model", HAND_MADE)
def test_signatures_of_one_provider_stay_with_it(caller: Caller, provider: Upstream, model: str) -> None:
    """Another family of providers gets no signature that it has not minted, and the caller is told so."""
    make, signed = HAND_MADE[model]
    request = chat(model, "How is the weather?", tools=[WEATHER])
    provider.answers.append(Answer([make()], content_type="text/event-stream"))
    message = caller.stream(request).fold.message
    request.messages.extend([message, results(tool_calls(message), "18 degrees")])
    request.model = next(other for other in HAND_MADE if other != model)
    provider.answers.append(Answer([HAND_MADE[request.model][0]()], content_type="text/event-stream"))
    answer = caller.stream(request)
    assert not set(signed) & set(signatures(provider.last.json()))
    codes = {event.notice.code for event in answer.events if event.HasField("notice")}
    assert codes & {chat_pb2.NOTICE_CODE_STATE_DROPPED, chat_pb2.NOTICE_CODE_BLOCK_DROPPED}


def test_the_mock_accepts_the_thinking_that_it_gave(caller_of_mock: Caller, mocked: Upstream) -> None:
    """Aimock refuses a second turn whose thinking lost its signature; it accepts ours, with the exact signature."""
    request = chat("anthropic/claude-sonnet-4-5", "Please think, then look", tools=[WEATHER])
    request.reasoning.enabled = True
    request.reasoning.budget_tokens = 1024
    first = caller_of_mock.stream(request)
    request.messages.extend([first.fold.message, results(tool_calls(first.fold.message), "18 degrees")])
    second = caller_of_mock.stream(request)
    assert second.text == "It is 18 degrees in Paris.", second.message
    assert list(signatures(mocked.last.json())) == ["RTJFLXJlZGFjdGVkKy89PQ==", "RTJFLXNpZ25hdHVyZSsvPT0="]


@pytest.fixture
def caller_of_mock(server: Any) -> Iterator[Caller]:
    """A caller of the server whose providers are mocked."""
    with calling(server.address()) as stubs:
        yield stubs


# --- recorded -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded answer with something signed in it."""

    name: str
    model: str
    raw: bytes
    content_type: str
    streamed: bool
    signed: tuple[str, ...]


PROVIDERS_OF = {
    ("anthropic", "messages"): "anthropic",
    ("openai", "responses"): "openai",
    ("gemini", "generateContent"): "gemini",
    ("gemini", "streamGenerateContent"): "gemini",
    ("azure", "responses"): "azure",
}


def said(raw: bytes) -> Any:
    """Return the JSON of a body: itself, or its events; of Responses' events those that give a whole item.

    Azure encrypts anew for each event that it sends.
    """
    if raw.lstrip()[:1] in (b"[", b"{"):
        return json.loads(raw)
    lines = raw.decode().splitlines()
    events = [json.loads(line[5:]) for line in lines if line.startswith("data:") and "[DONE]" not in line]
    whole = [event for event in events if event.get("type") == "response.output_item.done"]
    return whole or events


def recorded_answers(folder: Path) -> Iterator[Recorded]:
    """Yield the recorded answers in which something is signed, and nothing was changed since."""
    spec = importlib.util.spec_from_file_location("recordings_loader", folder / "load.py")
    assert spec is not None
    assert spec.loader is not None
    load = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(load)
    for record in load.records("open"):
        provider = PROVIDERS_OF.get((record["provider"], record["api"]))
        if provider is None or record["fidelity"] == "normalised" or record["response"]["status"] != 200:
            continue
        raw = load.body_bytes(record)
        signed = tuple(signatures(said(raw)))
        if signed:
            content_type = record["response"]["headers"].get("content-type", "application/json")
            model = f"{provider}/{record['model'] or 'some-model'}"
            streamed = "streaming" in record["features"]
            yield Recorded(record["id"], model, raw, content_type, streamed, signed)


def test_recorded_signatures_go_back(caller: Caller, provider: Upstream, recordings: Path) -> None:
    """Every signature in recorded answers of the providers goes back in the next turn: all of them, exact, in order."""
    wrong: dict[str, object] = {}
    answers = list(recorded_answers(recordings))
    assert {answer.model.partition("/")[0] for answer in answers} == set(PROVIDERS_OF.values())
    for recorded in answers:
        answer = Answer([recorded.raw], content_type=recorded.content_type)
        request = chat(recorded.model, "Go ahead.", tools=[WEATHER])
        body = two_turns(caller, provider, answer, request, unary=not recorded.streamed)
        returned = tuple(signatures(body))
        if returned != recorded.signed:
            wrong[recorded.name] = (len(recorded.signed), len(returned), set(recorded.signed) - set(returned))
    assert wrong == {}
