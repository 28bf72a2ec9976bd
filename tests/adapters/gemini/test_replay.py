"""An answer that is sent back with the next turn is the answer that Gemini gave: each signature in its own part."""

import json
from collections.abc import Iterator

import pytest
from tests.adapters.gemini.answers import calls, sse, streamed, whole
from tests.adapters.gemini.reading import Json, chunks_of
from tests.adapters.gemini.test_recordings import answers, is_streamed
from tests.adapters.recordings import Record, body_of, params

from execution_platform.adapters.gemini.request import build_request
from execution_platform.adapters.spi import Call
from execution_platform.adapters.testing import Answer
from execution_platform.v1 import chat_pb2, content_pb2

MODEL = "gemini-3.8-flash"
PLACEHOLDER = "skip_thought_signature_validator"


def next_turn(answer: Answer) -> tuple[bytes, list[Json]]:
    """Return the body of the turn after an answer, and its contents."""
    request = chat_pb2.ChatRequest()
    asked = request.messages.add(role=content_pb2.ROLE_USER)
    asked.content.add().text.text = "go on"
    request.messages.add(role=content_pb2.ROLE_ASSISTANT, content=answer.blocks)
    results = request.messages.add(role=content_pb2.ROLE_USER)
    for call in calls(answer):
        done = results.content.add()
        done.tool_result.call_id = call.call_id
        done.tool_result.content.add().text.text = "done"
    if not results.content:
        results.content.add().text.text = "thanks"
    body = build_request(Call(request, MODEL)).body
    return body, json.loads(body)["contents"]


def signed_parts(chunks: list[Json]) -> Iterator[tuple[str, str]]:
    for chunk in chunks:
        for candidate in chunk.get("candidates", [])[:1]:
            for part in candidate.get("content", {}).get("parts", []):
                if "thoughtSignature" in part:
                    yield part["thoughtSignature"], json.dumps(kept(part), sort_keys=True)


def kept(part: Json) -> Json:
    """Return a part as it goes back: a signature alone is carried by an empty text."""
    return {"text": ""} | part if part.keys() <= {"thought", "thoughtSignature"} else part


def answers_with_whole_arguments() -> Iterator[Record]:
    """Answers but those with arguments in pieces, which go back in one: a test of their own is below."""
    return (record for record in answers() if b"partialArgs" not in body_of(record))


@pytest.mark.parametrize("record", params(answers_with_whole_arguments()))
def test_each_signature_goes_back_in_its_own_part(record: Record) -> None:
    """Every signed part of a recorded answer, streamed or not, stands again in the next turn's body, unchanged."""
    body = body_of(record)
    answer = streamed([body]) if is_streamed(record) else whole(body)
    sent, contents = next_turn(answer)
    wanted = list(signed_parts(chunks_of(body)))
    model = [content for content in contents if content["role"] == "model"]
    found = [
        (part["thoughtSignature"], json.dumps(part, sort_keys=True))
        for content in model
        for part in content["parts"]
        if part.get("thoughtSignature") not in {None, PLACEHOLDER}
    ]
    assert found == wanted
    for signature, _ in wanted:
        assert signature.encode() in sent


@pytest.mark.parametrize("record", params(record for record in answers() if not is_streamed(record)))
def test_an_unstreamed_answer_goes_back_part_by_part(record: Record) -> None:
    """The parts of a recorded answer are the parts of the model's turn, in order, but for empty unsigned texts."""
    chunks = chunks_of(body_of(record))
    candidate: Json = next(iter(chunks[0].get("candidates", [])), {})
    parts = [kept(part) for part in candidate.get("content", {}).get("parts", [])]
    wanted = [part for part in parts if part != {"text": ""}]
    _, contents = next_turn(whole(body_of(record)))
    found = [part for content in contents if content["role"] == "model" for part in content["parts"]]
    for part in found:
        if part.get("thoughtSignature") == PLACEHOLDER:
            del part["thoughtSignature"]
    assert [part for part in found if part != {"text": ""}] == wanted


def test_two_turns_with_thoughts_and_parallel_calls() -> None:
    """Thoughts, signed and unsigned calls, and the empty signed text go back as they came, the results in order."""
    answer = streamed(
        [
            sse(
                '{"candidates":[{"content":{"parts":[{"text":"I think","thought":true}],"role":"model"}}],'
                '"responseId":"R"}',
                '{"candidates":[{"content":{"parts":[{"text":"Let me "}],"role":"model"}}]}',
                '{"candidates":[{"content":{"parts":[{"text":"look."},'
                '{"functionCall":{"name":"f","args":{"n": 1.0}},"thoughtSignature":"AQI+/w=="},'
                '{"functionCall":{"name":"f","args":{"n": 2}}},'
                '{"functionCall":{"name":"g","id":"own","args":{}}}],"role":"model"}}]}',
                '{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"_-8="}],"role":"model"},'
                '"finishReason":"STOP"}]}',
            )
        ]
    )
    body, contents = next_turn(answer)
    assert contents[1] == {
        "role": "model",
        "parts": [
            {"text": "I think", "thought": True},
            {"text": "Let me look."},
            {"functionCall": {"name": "f", "args": {"n": 1.0}}, "thoughtSignature": "AQI+/w=="},
            {"functionCall": {"name": "f", "args": {"n": 2}}},
            {"functionCall": {"id": "own", "name": "g", "args": {}}},
            {"text": "", "thoughtSignature": "_-8="},
        ],
    }
    responses = [part["functionResponse"] for part in contents[2]["parts"]]
    assert [(one["name"], one.get("id")) for one in responses] == [("f", None), ("f", None), ("g", "own")]
    assert b'"args":{"n": 1.0}' in body


def test_a_call_whose_arguments_came_in_pieces_goes_back_whole() -> None:
    """Streamed arguments are one object in the next turn, with the signature of the call's first piece."""
    answer = streamed(
        [
            sse(
                '{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","willContinue":true},'
                '"thoughtSignature":"c2ln"}]}}]}',
                '{"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":'
                '[{"jsonPath":"$.a","stringValue":"x"}],"willContinue":true}}]}}]}',
                '{"candidates":[{"content":{"parts":[{"functionCall":{}}]},"finishReason":"STOP"}]}',
            )
        ]
    )
    _, contents = next_turn(answer)
    assert contents[1]["parts"] == [{"functionCall": {"name": "f", "args": {"a": "x"}}, "thoughtSignature": "c2ln"}]
