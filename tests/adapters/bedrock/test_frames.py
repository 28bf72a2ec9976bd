"""Frames of an event stream are read as botocore reads them, and what is damaged is found."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from botocore.eventstream import EventStreamBuffer, ParserError
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.bedrock.reading import raw_frame
from tests.adapters.recordings import Record, body_of, params, records

from execution_platform.adapters.bedrock.frames import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Frame,
    FrameDecoder,
    HeaderValue,
    read_headers,
)
from execution_platform.adapters.errors import AdapterError, ProtocolError, StreamBrokenError

_FIXED = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8}


def header(name: str, kind: int, value: HeaderValue) -> bytes:
    """One header, encoded."""
    head = bytes([len(name.encode())]) + name.encode() + bytes([kind])
    if kind in _FIXED:
        assert isinstance(value, int)
        return head + value.to_bytes(_FIXED[kind], "big", signed=True)
    if kind in {6, 7}:
        data = value.encode() if isinstance(value, str) else value
        assert isinstance(data, bytes)
        return head + len(data).to_bytes(2, "big") + data
    return head + (value if isinstance(value, bytes) else b"")


def _values(kind: int) -> st.SearchStrategy[tuple[int, HeaderValue]]:
    if kind in _FIXED:
        most = 2 ** (8 * _FIXED[kind] - 1)
        values: st.SearchStrategy[HeaderValue] = st.integers(-most, most - 1)
    else:
        others: dict[int, st.SearchStrategy[HeaderValue]] = {
            0: st.just(True),
            1: st.just(False),
            6: st.binary(max_size=40),
            7: st.text(max_size=40),
            9: st.binary(min_size=16, max_size=16),
        }
        values = others[kind]
    return values.map(lambda value: (kind, value))


_HEADERS = st.dictionaries(
    st.text(max_size=20).filter(lambda name: len(name.encode()) < 256),
    st.sampled_from(range(10)).flatmap(_values),
    max_size=5,
)
_FRAMES = st.lists(st.tuples(_HEADERS, st.binary(max_size=300)), max_size=6)


def encoded(headers: Mapping[str, tuple[int, HeaderValue]], payload: bytes) -> bytes:
    return raw_frame(b"".join(header(name, kind, value) for name, (kind, value) in headers.items()), payload)


def decode(pieces: list[bytes]) -> tuple[list[Frame], AdapterError | None]:
    """Frames of a stream, and the error that ended it."""
    decoder = FrameDecoder()
    found: list[Frame] = []
    try:
        for piece in pieces:
            found.extend(decoder.feed(piece))
    except AdapterError as error:
        return found, error
    return found, None


def decode_theirs(stream: bytes) -> tuple[list[tuple[dict[str, HeaderValue], bytes]], bool]:
    """Frames of a stream as botocore reads them, and whether it found it broken."""
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    found: list[tuple[dict[str, HeaderValue], bytes]] = []
    try:
        for one in buffer:
            found.append((one.headers, one.payload))  # noqa: PERF401 - what came before a fault counts
    except ParserError:
        return found, True
    return found, False


@given(_FRAMES, st.lists(st.integers(0, 2000), max_size=10))
def test_frames_are_those_that_botocore_reads(
    told: list[tuple[dict[str, tuple[int, HeaderValue]], bytes]], cuts: list[int]
) -> None:
    """Any frames, with headers of all ten types and cut anywhere, are read as botocore's own reader reads them."""
    stream = b"".join(encoded(headers, payload) for headers, payload in told)
    places = sorted(min(cut, len(stream)) for cut in cuts)
    pieces = [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
    found, error = decode(pieces)
    assert error is None
    assert [(dict(one.headers), one.payload) for one in found] == decode_theirs(stream)[0]
    assert [(dict(one.headers), one.payload) for one in found] == [
        ({name: value for name, (_, value) in headers.items()}, payload) for headers, payload in told
    ]


STREAMS = [r for split in ("open", "documented") for r in records(split, "bedrock", api="converse-stream")]


@pytest.mark.parametrize("record", params(r for r in STREAMS if r["response"]["status"] == 200))
def test_recorded_frames_are_those_that_botocore_reads(record: Record) -> None:
    """Each recorded stream gives botocore's frames, and an error exactly where botocore finds one."""
    body = body_of(record)
    found, error = decode([body])
    expected, broken = decode_theirs(body)
    assert [(dict(one.headers), one.payload) for one in found] == expected
    assert (error is not None) == broken


@given(_FRAMES.filter(bool), st.data())
def test_a_changed_byte_is_never_read_over(
    told: list[tuple[dict[str, tuple[int, HeaderValue]], bytes]], data: st.DataObject
) -> None:
    """Whichever byte is changed, the frames before it are read, its frame is not, and the error is a clear one."""
    encodings = [encoded(headers, payload) for headers, payload in told]
    stream = bytearray(b"".join(encodings))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    ends = [sum(map(len, encodings[: number + 1])) for number in range(len(encodings))]
    before = sum(end <= at for end in ends)
    found, error = decode([bytes(stream)])
    assert len(found) == before
    assert isinstance(error, StreamBrokenError if before or at >= 12 else ProtocolError)


@given(st.binary(max_size=400), st.integers(1, 60))
def test_bytes_that_are_no_stream_raise_nothing_foreign(data: bytes, size: int) -> None:
    """Whatever comes, nothing but an AdapterError is raised."""
    decode([data[at : at + size] for at in range(0, len(data), size)])


@given(st.binary(max_size=80))
def test_headers_that_cannot_be_read_are_told_so(raw: bytes) -> None:
    """Headers of any bytes, under right checksums, are read or refused as a breach of the protocol."""
    found, error = decode([raw_frame(raw, b"{}")])
    assert len(found) == (error is None)
    assert error is None or type(error) is ProtocolError


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (header("a", 7, "b")[:-1], "cut short"),
        (header("a", 5, 1)[:-1], "cut short"),
        (header("a", 9, b"0123456789abcdef")[:-1], "cut short"),
        (b"\x05ab", "cut short"),
        (b"\x01a", "cut short"),
        (header("a", 7, "b") * 2, "a comes twice"),
        (b"\x01a\x0a", "10 is no type"),
        (b"\x01\xff\x00", "not UTF-8"),
        (header("a", 7, b"\xff"), "not UTF-8"),
    ],
)
def test_broken_headers_are_refused_with_their_fault(raw: bytes, why: str) -> None:
    """A header that is cut short, comes twice, has an unknown type or is no UTF-8 is named as such."""
    with pytest.raises(ProtocolError, match=why):
        read_headers(raw)


def test_times_and_uuids_are_told_as_they_stand() -> None:
    """A time is its milliseconds, a UUID its bytes."""
    moment = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)
    name = uuid.UUID("12345678123456781234567812345678")
    found, _ = decode([raw_frame(header("at", 8, moment) + header("id", 9, name.bytes), b"")])
    assert dict(found[0].headers) == {"at": moment, "id": name.bytes}


def _prelude(length: int, headers_length: int) -> bytes:
    lengths = length.to_bytes(4, "big") + headers_length.to_bytes(4, "big")
    return lengths + zlib.crc32(lengths).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("length", "headers_length", "why"),
    [
        (15, 0, "shorter than its headers"),
        (100, 90, "shorter than its headers"),
        (MAX_HEADER_BYTES + 17, MAX_HEADER_BYTES + 1, "whose headers are larger"),
        (MAX_PAYLOAD_BYTES + 17, 0, "larger than 25165824 bytes"),
        (2**32 - 1, 0, "larger than 25165824 bytes"),
    ],
)
def test_lengths_that_cannot_be_are_refused_at_once(length: int, headers_length: int, why: str) -> None:
    """A frame that claims to be larger than any, or smaller than itself, is refused before it is waited for."""
    with pytest.raises(ProtocolError, match=why):
        list(FrameDecoder().feed(_prelude(length, headers_length)))


def test_the_largest_frame_is_read_in_pieces() -> None:
    """A frame of 24 MiB is read, however small the pieces, and every byte of it is joined once."""
    stream = raw_frame(b"", b"x" * MAX_PAYLOAD_BYTES)
    decoder = FrameDecoder()
    found: list[Frame] = []
    for at in range(0, len(stream), 1000):
        found += decoder.feed(stream[at : at + 1000])
    assert [len(one.payload) for one in found] == [MAX_PAYLOAD_BYTES]
    assert decoder.waiting == 0


def test_an_answer_that_is_no_stream_points_at_the_address() -> None:
    """What does not begin as a frame does says that the base URL may be wrong."""
    with pytest.raises(ProtocolError, match="base URL"):
        list(FrameDecoder().feed(b"<html><body>not here</body></html>"))


def test_headers_of_no_end_are_not_all_remembered() -> None:
    """A stream whose every frame has other headers is read without keeping them all."""
    decoder = FrameDecoder()
    frames = [raw_frame(header(":event-type", 7, f"kind {number}"), b"{}") for number in range(500)]
    found = list(decoder.feed(b"".join(frames)))
    assert [one.headers[":event-type"] for one in found] == [f"kind {number}" for number in range(500)]
