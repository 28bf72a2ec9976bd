"""Framing gives the same events however the bytes are cut, and JSON text is never changed."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.adapters.errors import InvalidRequestError, ProtocolError
from execution_platform.adapters.wire import (
    JsonArrayDecoder,
    ServerSentEvent,
    SseDecoder,
    decode_json,
    encode_json,
    json_text,
    merge_patch,
    raw_json,
)

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
EVENTS = st.lists(st.tuples(LINE.map(str.strip), st.lists(LINE, min_size=1, max_size=3)), max_size=5)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])


def pieces(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at some places."""
    cuts = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def read(parts: list[bytes]) -> list[ServerSentEvent]:
    decoder = SseDecoder()
    found = [event for part in parts for event in decoder.feed(part)]
    return found + decoder.end()


@given(EVENTS, ENDS, st.booleans(), st.booleans(), st.lists(st.integers(0, 500), max_size=12))
def test_events_are_the_same_wherever_they_are_cut(
    events: list[tuple[str, list[str]]], end: str, bom: bool, close: bool, places: list[int]
) -> None:
    """Events of any text, with any line ends, are read as they were written, wherever the bytes are cut."""
    written = "\ufeff" if bom else ""
    for name, lines in events:
        written += f": comment{end}id: 7{end}"
        written += f"event: {name}{end}" if name else ""
        written += "".join(f"data: {line}{end}" for line in lines)
        written += end
    data = written.encode()
    if not close and events:
        data = data[: -len(end.encode())]
    expected = [ServerSentEvent(name, "\n".join(lines).encode()) for name, lines in events]
    assert read(pieces(data, places)) == expected
    assert read([data[at : at + 1] for at in range(len(data))]) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b"event: lonely\n\n", []),
        (b"data\n\n", [("", b"")]),
        (b"data:\n\n", [("", b"")]),
        (b"data:x\ndata:  y\n\n", [("", b"x\n y")]),
        (b"event: a\nevent: b\ndata: x\n\n", [("b", b"x")]),
        (b"data: a:b\n\n", [("", b"a:b")]),
        (b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")]),
        (b"data: a\r\n\r\ndata: b", [("", b"a"), ("", b"b")]),
        (b"\xef\xbb", []),
        (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
        (b"event: \xff\ndata: \xff\n\n", [("\ufffd", b"\xff")]),
        (b": only a comment\n\n", []),
    ],
)
def test_corners_of_the_format(data: bytes, expected: list[tuple[str, bytes]]) -> None:
    """The odd cases of the format are read as the standard says, whole and byte by byte."""
    events = [ServerSentEvent(*event) for event in expected]
    assert read([data]) == events
    assert read([data[at : at + 1] for at in range(len(data))]) == events
    assert read([b"", data, b""]) == events


def test_a_long_line_is_joined_once() -> None:
    """A line of many megabytes in small pieces, as an image comes, is read whole."""
    image = b"A" * 20_000_000
    data = b"data: " + image + b"\n\n"
    parts = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    assert read(parts) == [ServerSentEvent("", image)]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=3), max_size=5),
    st.sampled_from([None, 2]),
    st.lists(st.integers(0, 500), max_size=12),
)
def test_an_array_is_cut_into_its_elements(elements: list[Any], indent: int | None, places: list[int]) -> None:
    """A JSON array of objects gives its elements as they stand, wherever the bytes are cut."""
    decoder = JsonArrayDecoder()
    data = json.dumps(elements, indent=indent).encode()
    found = [element for part in pieces(data, places) for element in decoder.feed(part)]
    assert [json.loads(element) for element in found] == elements
    assert all(element in data for element in found)
    assert decoder.closed


def test_an_unfinished_array_is_not_closed() -> None:
    """An array that breaks off gives the elements that are complete, and is not closed."""
    decoder = JsonArrayDecoder()
    assert decoder.feed(b'[{"a":"\\"]"},{"b"') == [b'{"a":"\\"]"}']
    assert not decoder.closed
    assert decoder.feed(b":1}]") == [b'{"b":1}']
    assert decoder.closed


@pytest.mark.parametrize("piece", [b"x" * 100, b"x\ndata: y", b"x\r\ndata: y\r\n: z\r\ndata: "])
def test_an_event_that_does_not_end_fills_no_memory(piece: bytes) -> None:
    """An event is taken up to a limit, whether it is one line or many; many small events are no matter."""
    decoder = SseDecoder(limit=1_000)
    for _ in range(1_000):
        assert decoder.feed(b": still there\n\ndata: small\n\n")
    decoder.feed(b"data: ")
    with pytest.raises(ProtocolError, match="larger than 1000 bytes"):
        _ = [decoder.feed(piece) for _ in range(1_000)]


def test_an_element_that_does_not_end_fills_no_memory() -> None:
    """An element of an array is taken up to a limit; many small ones are no matter."""
    decoder = JsonArrayDecoder(limit=1_000)
    decoder.feed(b"[{}")
    for _ in range(1_000):
        assert decoder.feed(b',{"a": 1}') == [b'{"a": 1}']
    with pytest.raises(ProtocolError, match="larger than 1000 bytes"):
        _ = [decoder.feed(b',{"a": "' + b"x" * 100) for _ in range(1_000)]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": 12345678901234567890123}', {"a": 12345678901234567890123}),
        ('{"a": "\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a": "\xff"}', {"a": "\ufffd"}),
        ("1e999", float("inf")),
    ],
)
def test_json_is_decoded_with_its_faults(data: bytes | str, value: Any) -> None:
    """Lone surrogates, bytes that are not UTF-8 and numbers without bounds do not stop the decoding."""
    assert decode_json(data) == value


@pytest.mark.parametrize("data", [b"", b"{", "nope", b"[" * 100_000, "[" * 100_000 + "]" * 100_000, "1" * 10_000 + "x"])
def test_what_is_not_json_is_the_providers_fault(data: bytes | str) -> None:
    """Anything that is not JSON, or is nested beyond reason, is an error of the provider's protocol."""
    with pytest.raises(ProtocolError):
        decode_json(data)


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """Any bytes are either a JSON value or an error of the provider's protocol."""
    refused = False
    try:
        decode_json(data)
    except ProtocolError:
        refused = True
    try:
        json.loads(data.decode("utf-8", "replace"))
    except ValueError:
        assert refused


@given(JSON_VALUES)
def test_json_text_says_the_same(value: Any) -> None:
    """The compact text of a value decodes to the value, key order included."""
    text = json_text(value)
    assert json.dumps(json.loads(text)) == json.dumps(value)


def test_json_text_keeps_surrogates_and_bounds_nesting() -> None:
    """A lone surrogate stays escaped; what JSON cannot say beside it, or is nested beyond reason, is refused."""
    assert json_text({"a": "\ud800"}) == '{"a":"\\ud800"}'
    with pytest.raises(ProtocolError, match="not JSON"):
        json_text(["\ud800", float("nan")])
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ProtocolError, match="nested"):
        json_text(nested)


def test_a_callers_json_stands_as_it_is() -> None:
    """JSON text of a caller goes into a body byte for byte: spaces, order, floats and large numbers."""
    text = '{"b": 1.0, "a": 1e2, "z": 12345678901234567890, "u": "\\u00e9é"}'
    assert encode_json({"schema": raw_json(text, "f")}) == b'{"schema":' + text.encode() + b"}"


@pytest.mark.parametrize("text", ["", "{", "NaN", "[" * 100_000, '"\\ud800"'])
def test_a_callers_broken_json_names_its_field(text: str) -> None:
    """Text of a caller that is not JSON is refused by the path of its field."""
    with pytest.raises(InvalidRequestError) as caught:
        raw_json(text, "tools[0].function.parameters_json")
    assert caught.value.field == "tools[0].function.parameters_json"


@pytest.mark.parametrize("text", ["[]", "1", '"a"', "null"])
def test_an_object_may_be_required(text: str) -> None:
    """Where an object is needed, other JSON is refused."""
    assert raw_json(text, "f") == msgspec.Raw(text.encode())
    with pytest.raises(InvalidRequestError, match="must be a JSON object"):
        raw_json(text, "f", must_be_object=True)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        # The examples of RFC 7396, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        # A raw part is opened only where it is changed.
        ({"s": msgspec.Raw(b'{"x":1,"y":2}')}, {"s": {"x": None}}, {"s": {"y": 2}}),
    ],
)
def test_merge_patch_follows_the_standard(target: Any, patch: Any, result: Any) -> None:
    """A merge patch gives what RFC 7396 says, and changes neither of its arguments."""
    before = repr((target, patch))
    assert merge_patch(target, patch) == result
    assert repr((target, patch)) == before


def test_an_untouched_raw_part_stays_raw() -> None:
    """A raw part that the patch does not name stands as it is."""
    raw = msgspec.Raw(b'{"x": 1.0}')
    assert merge_patch({"s": raw}, {"t": 1})["s"] is raw


def test_a_patch_nested_beyond_reason_is_refused() -> None:
    """A patch that is nested too deeply is an error of the request."""
    patch: dict[str, Any] = {}
    for _ in range(100_000):
        patch = {"a": patch}
    with pytest.raises(InvalidRequestError, match="nested"):
        merge_patch({}, patch)
