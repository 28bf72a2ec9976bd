"""Nothing in a recorded body is unaccounted for."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import Message
from tests.adapters.gemini.answers import streamed, whole
from tests.adapters.gemini.reading import chunks_of
from tests.adapters.gemini.test_recordings import answers
from tests.adapters.recordings import Record, body_of, params

from execution_platform.adapters.testing import Answer

#: Keys whose value reaches no field, each with the reason. Paths are those of one chunk, list items without numbers.
EXPLAINED = {
    r"candidates\.index": "tells which candidate it is; the first is the answer, the others come as JSON",
    r"candidates\.content\.role": "always `model`: the answer is the model's",
    r"candidates\.content\.parts\.thought": "tells text from thoughts, which are blocks of their own",
    r"candidates\.content\.parts\.inlineData\.data": "base64, decoded; test_recordings compares the bytes",
    r"candidates\.content\.parts\.functionCall\.willContinue": "framing of streamed arguments",
    r"candidates\.content\.parts\.functionCall\.partialArgs\..*": "put together; test_recordings compares them",
    r"candidates\.finishReason": "old models repeat it; test_recordings compares the last one",
    r"usageMetadata\..*": "cumulative: the last one is kept verbatim, which test_recordings compares",
    r"candidates\.safetyRatings\..*": "of the answer so far: the last ones are kept",
    r"candidates\.logprobsResult\..*(log_?Probability|tokenId)": "numbers; compared in test_corner_cases",
    r"candidates\.groundingMetadata\.searchEntryPoint\..*": "of the answer so far: the last one is kept",
    r"candidates\.urlContextMetadata\..*": "of the answer so far: the last one is kept",
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def texts_of(message: Message) -> Iterator[str]:
    """Yield all that a message says, as text; JSON in it also with its escapes resolved."""
    for descriptor, value in message.ListFields():
        listed = value if descriptor.is_repeated else [value]
        for one in listed:
            if isinstance(one, Message):
                yield from texts_of(one)
            elif isinstance(one, bytes):
                yield one.decode("utf-8", "replace")
            else:
                yield str(one)
                if isinstance(one, str) and one[:1] in {"{", "["}:
                    yield from _resolved(one)


def _resolved(text: str) -> Iterator[str]:
    try:
        for _, value in leaves(json.loads(text)):
            yield value if isinstance(value, str) else json.dumps(value)
    except ValueError:
        return


def said_by(answer: Answer) -> str:
    messages = [*answer.blocks, answer.started, answer.finished, answer.usage]
    tokens = [token for tokens in answer.logprobs.values() for token in tokens]
    return "\n".join(text for message in [*messages, *tokens] if message is not None for text in texts_of(message))


@pytest.mark.parametrize("record", params(answers()))
def test_every_value_of_a_body_reaches_the_answer(record: Record) -> None:
    """Each value of each chunk stands somewhere in the blocks, the usage or the metadata, or its key is explained."""
    body = body_of(record)
    answer = streamed([body]) if record["api"] == "streamGenerateContent" else whole(body)
    said = said_by(answer) + "\n" + answer.text() + "".join(block.thinking.text for block in answer.blocks)
    lost = {
        path
        for chunk in chunks_of(body)
        for path, value in leaves(chunk)
        if not any(re.fullmatch(pattern, path) for pattern in EXPLAINED)
        and (value if isinstance(value, str) else json.dumps(value)) not in said
    }
    assert lost == set()


def test_keys_that_nobody_knows_are_kept() -> None:
    """Keys of every level that the format may get in future come back verbatim in the metadata of their level."""
    body = """{"candidates":[{"content":{"parts":[{"text":"a","newOfPart":1.0},{"functionCall":{"name":"f",
        "newOfCall":[2.50]}}],"role":"model","newOfContent":3},"finishReason":"STOP","newOfCandidate":{"x":1e2}}],
        "newOfAnswer":"é","responseId":"r"}"""
    answer = whole(body.encode())
    assert answer.finished is not None
    assert json.loads(answer.blocks[0].provider_metadata_json) == {"newOfPart": 1.0}
    assert answer.blocks[1].provider_metadata_json == '{"functionCall":{"newOfCall":[2.50]}}'
    metadata = answer.finished.provider_metadata_json
    assert json.loads(metadata) == {
        "newOfAnswer": "é",
        "candidate": {"newOfCandidate": {"x": 100.0}, "content": {"newOfContent": 3}},
    }
    assert '{"x":1e2}' in metadata


def test_a_block_of_an_unknown_kind_is_kept_whole() -> None:
    """A part that none of the known keys names becomes an opaque block that holds it as it stands."""
    part = '{"hologram": {"z": 1.50},  "thoughtSignature": "c2ln"}'
    answer = whole(f'{{"candidates":[{{"content":{{"parts":[{part}]}},"finishReason":"STOP"}}]}}'.encode())
    assert [(block.opaque.type, block.opaque.json) for block in answer.blocks] == [("hologram", part)]
