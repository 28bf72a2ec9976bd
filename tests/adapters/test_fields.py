"""Objects and arrays are cut without touching their values' text, and nothing that providers write makes that fail."""

from __future__ import annotations

import json

import msgspec
import pytest

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import (
    clean_text,
    elements_if_any,
    elements_of,
    fields_if_any,
    fields_of,
    inner_fields,
    int_of,
    is_told,
    json_of,
    object_json,
    rest_of,
    text_of,
    value_of,
)

NO_JSON = [b"{", b"no", b'{"a": tru}', b"[" * 100_000]
HALF = b'{"a": "\\ud83d", "b": 1e0}'


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def test_values_stand_as_they_were_written() -> None:
    """Spaces, digits and the order of members are those of the text."""
    fields = fields_of(b'{ "b" : {"x":  1.0} , "a" : [1e0, 12345678901234567890123] }')
    assert [(key, json_of(value)) for key, value in fields.items()] == [
        ("b", '{"x":  1.0}'),
        ("a", "[1e0, 12345678901234567890123]"),
    ]
    assert [json_of(element) for element in elements_of(fields["a"])] == ["1e0", "12345678901234567890123"]
    assert object_json(fields) == '{"b":{"x":  1.0},"a":[1e0, 12345678901234567890123]}'


@pytest.mark.parametrize("data", [HALF, b'{"a": "\xff", "b": 1e0}', b'{"\\ud83d": "", "a": 0, "b": 1}'])
def test_what_msgspec_refuses_is_read_all_the_same(data: bytes) -> None:
    """Half a surrogate pair and bytes that are not UTF-8 are no fault, and what is made of them is JSON."""
    fields = fields_of(data)
    assert value_of(fields["b"]) == 1
    assert list(json.loads(object_json(fields))) == list(fields)
    assert [clean_text(element) for element in elements_of(b'["\\ud83d", "\xff"]')] == ["\ufffd", "\ufffd"]


def test_halves_of_pairs_stay_until_the_text_is_told_whole() -> None:
    """A piece of text keeps its half, which the next piece may complete; a name does not."""
    half = fields_of(HALF)["a"]
    assert text_of(half) == "\ud83d"
    assert clean_text(half) == "\ufffd"


@pytest.mark.parametrize("data", NO_JSON)
def test_what_is_no_json_breaks_the_protocol(data: bytes) -> None:
    """Whether or not an object is needed, text that is no JSON is an error."""
    for read in (fields_of, fields_if_any, elements_of, elements_if_any):
        with pytest.raises(ProtocolError):
            read(data)


@pytest.mark.parametrize("text", ["null", "1", '"a"', "[1]", '["\\ud83d"]'])
def test_an_object_is_needed_or_only_looked_for(text: str) -> None:
    """Other JSON has no members, which is an error exactly where the format has an object."""
    assert fields_if_any(raw(text)) == {}
    with pytest.raises(ProtocolError, match="object"):
        fields_of(raw(text))
    with pytest.raises(ProtocolError, match="object"):
        inner_fields({"message": raw(text)}, "message")


@pytest.mark.parametrize("text", ["null", "1", '"a"', "{}", HALF.decode()])
def test_an_array_is_needed_or_only_looked_for(text: str) -> None:
    """Other JSON has no elements, which is an error exactly where the format has an array."""
    assert elements_if_any(raw(text)) == []
    with pytest.raises(ProtocolError, match="array"):
        elements_of(raw(text))


def test_nothing_has_no_members_elements_or_value() -> None:
    """A member that is missing reads as empty, whatever it is read as."""
    assert (fields_if_any(None), elements_if_any(None), value_of(None)) == ({}, [], None)
    assert (text_of(None), clean_text(None), int_of(None), json_of(None)) == ("", "", None, "")
    assert object_json({}) == ""
    with pytest.raises(ProtocolError, match="without its message"):
        inner_fields({}, "message")


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("-7", -7), ("7.0", None), ("true", None), ('"7"', None), ("null", None), (str(2**63), None)],
)
def test_integers_are_those_that_protobuf_carries(text: str, number: int | None) -> None:
    """Fractions, truth values, texts and what has more than 64 bits are no integers."""
    assert int_of(raw(text)) == number


def test_what_is_null_says_nothing() -> None:
    """The rest is what is neither known nor null."""
    fields = fields_of(b'{"id": "x", "empty": null, "more": "", "zero": 0}')
    assert not is_told(fields["empty"])
    assert list(rest_of(fields, {"id"})) == ["more", "zero"]
    assert list(rest_of(fields)) == ["id", "more", "zero"]
