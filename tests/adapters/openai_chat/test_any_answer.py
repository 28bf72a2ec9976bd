"""Whatever JSON a server sends in place of an answer, the promises of the seam hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.openai_chat.answers import DIALECTS, translation

from execution_platform.adapters.errors import AdapterError, ProtocolError
from execution_platform.adapters.spi import Events
from execution_platform.adapters.testing import check_stream

SMALL = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
)
ANY = st.recursive(
    SMALL, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
WORDS = st.sampled_from(["", "a", "stop", "length", "tool_calls", "error", "text", "thinking", "reasoning.text"])


def some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these members, each as it should be or as it should not."""
    return st.fixed_dictionaries({}, optional={key: value | ANY for key, value in members.items()})


CALL = some(
    index=st.integers(-1, 2),
    id=WORDS,
    type=st.sampled_from(["function", "custom"]),
    function=some(name=WORDS, arguments=WORDS),
    custom=some(name=WORDS, input=WORDS),
)
DETAIL = some(
    type=st.sampled_from(["reasoning.text", "reasoning.summary", "reasoning.encrypted"]),
    text=WORDS,
    summary=WORDS,
    data=WORDS,
    signature=WORDS,
    index=st.integers(0, 2),
)
PART = some(type=WORDS, text=WORDS, thinking=st.lists(some(text=WORDS)), reference_ids=st.lists(st.integers()))
SOURCE = some(type=st.just("url_citation"), url_citation=some(url=WORDS, start_index=st.integers(), title=WORDS))
MESSAGE = some(
    content=WORDS | st.lists(PART, max_size=2),
    refusal=WORDS,
    reasoning=WORDS,
    reasoning_content=WORDS,
    reasoning_details=st.lists(DETAIL, max_size=2),
    tool_calls=st.lists(CALL, max_size=2),
    function_call=some(name=WORDS, arguments=WORDS),
    audio=some(id=WORDS, data=st.sampled_from(["", "QUJD", "QU", "?"]), transcript=WORDS),
    images=st.lists(some(image_url=some(url=WORDS)), max_size=1),
    annotations=st.lists(SOURCE, max_size=1),
)
LOGPROBS = some(content=st.lists(some(token=WORDS, logprob=st.floats(-9, 0), bytes=st.lists(st.integers()))))
CHOICE = some(
    index=st.integers(0, 1),
    delta=MESSAGE,
    message=MESSAGE,
    finish_reason=WORDS,
    logprobs=LOGPROBS,
    stop_reason=WORDS,
    content_filter_results=ANY,
)
USAGE = some(
    prompt_tokens=st.integers(0, 9),
    completion_tokens=st.integers(0, 9),
    prompt_tokens_details=some(cached_tokens=st.integers(0, 9), audio_tokens=st.integers(0, 9)),
    completion_tokens_details=some(reasoning_tokens=st.integers(0, 9)),
    cost=st.floats(0, 1),
)
CHUNK = some(
    id=WORDS,
    model=WORDS,
    choices=st.lists(CHOICE, max_size=2),
    usage=USAGE,
    citations=st.lists(WORDS, max_size=2),
    search_results=st.lists(some(url=WORDS, title=WORDS), max_size=2),
    service_tier=WORDS,
    error=st.none() | some(message=WORDS, code=WORDS),
)


def promised(events: Events) -> None:
    """Check all but usage, which need not be cumulative where it is nonsense."""
    kept = [event for event in events if not event.HasField("usage_updated")]
    for event in kept:
        event.finished.ClearField("usage") if event.HasField("finished") else None
    check_stream([kept] if kept else [], complete=False)


@given(st.lists(CHUNK, max_size=4), st.sampled_from(["openrouter", "azure", "vllm"]))
def test_any_stream_keeps_the_promises(chunks: list[dict[str, Any]], provider: str) -> None:
    """Any chunks, in any order, are read or refused with an AdapterError."""
    translated = translation(DIALECTS[provider])
    events: Events = []
    try:
        for chunk in chunks:
            events += translated.feed(f"data: {json.dumps(chunk)}\n\n".encode())
        events += translated.end()
    except AdapterError as error:
        events += error.events
    promised(events)


@given(CHUNK)
def test_any_body_keeps_the_promises(body: dict[str, Any]) -> None:
    """Any whole body is read or refused with an AdapterError."""
    try:
        events = translation().whole(json.dumps(body).encode())
    except AdapterError:
        return
    promised(events)


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"a":' * 100_000], ids=["arrays", "objects"])
@pytest.mark.parametrize("place", [b"%s", b'{"id":"a","choices":%s}', b'{"id":"a","choices":[],"usage":%s}'])
def test_json_that_is_nested_too_deeply_breaks_the_protocol(nested: bytes, place: bytes) -> None:
    """Depth that no reader follows is refused in a body, and ends a stream."""
    body = place % nested
    with pytest.raises(ProtocolError):
        translation().whole(body)
    with pytest.raises(ProtocolError):
        translation().feed(b"data: " + body + b"\n\n")
