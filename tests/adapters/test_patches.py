"""Options of a provider and of a tool are merged over what was built, as the caller wrote them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.patches import (
    apply_patch,
    apply_provider_options,
    apply_tool_options,
    config_fields,
    patches_for,
)
from execution_platform.adapters.wire import encode_json
from execution_platform.v1 import chat_pb2


def asked(*options: tuple[str, str]) -> chat_pb2.ChatRequest:
    request = chat_pb2.ChatRequest()
    for provider, json in options:
        request.provider_options.add(provider=provider, options_json=json)
    return request


def test_options_of_the_provider_and_of_its_family_come_in_order() -> None:
    """Later options stand over earlier ones, and those of other providers are not even read."""
    request = asked(("a", '{"x":1,"y":1}'), ("other", "no JSON"), ("family", '{"x":2,"y":null}'))
    body: dict[str, Any] = {"y": 0, "z": 0}
    assert encode_json(apply_provider_options(body, request, {"a", "family"})) == b'{"z":0,"x":2}'
    assert body == {"y": 0, "z": 0}
    assert [field for field, _ in patches_for(request, {"a", "family"})] == [
        "provider_options[0].options_json",
        "provider_options[2].options_json",
    ]


def test_values_stay_as_the_caller_wrote_them() -> None:
    """Numbers and arrays stand digit by digit and space by space; objects are merged at any depth."""
    target = {"a": {"keep": 1, "go": 2}, "raw": msgspec.Raw(b'{"k": 1}')}
    patch = '{"a": {"go": null, "n": 1e0, "big": 12345678901234567890123}, "raw": {"l": [1.0,  2]}}'
    merged = encode_json(apply_patch(target, patch, "f"))
    assert merged == b'{"a":{"keep":1,"n":1e0,"big":12345678901234567890123},"raw":{"k":1,"l":[1.0,  2]}}'


@pytest.mark.parametrize("json", ["", "{", "[]", "1", "null", '{"a":' * 100_000])
def test_what_is_no_object_is_refused_by_the_path_of_its_field(json: str) -> None:
    """Options that are not a JSON object are the caller's fault, and the error says which ones."""
    with pytest.raises(InvalidRequestError, match="JSON object") as caught:
        apply_provider_options({}, asked(("other", "{}"), ("a", json)), {"a"})
    assert caught.value.field == "provider_options[1].options_json"


def test_a_tool_may_have_options_of_its_own() -> None:
    """Without options a definition stays; with bad ones the error names the tool."""
    definition: dict[str, Any] = {"name": "f"}
    assert apply_tool_options(definition, chat_pb2.Tool(), "tools[0]") is definition
    tool = chat_pb2.Tool(provider_options_json='{"strict":true}')
    assert encode_json(apply_tool_options(definition, tool, "tools[0]")) == b'{"name":"f","strict":true}'
    with pytest.raises(InvalidRequestError) as caught:
        apply_tool_options(definition, chat_pb2.Tool(provider_options_json="7"), "tools[3]")
    assert caught.value.field == "tools[3].provider_options_json"


def test_a_configuration_is_an_object_or_blank() -> None:
    """Its members stand as they were written, null among them."""
    assert config_fields(" ", "f") == {}
    assert encode_json(config_fields('{"a": 1.0, "b": null}', "f")) == b'{"a":1.0,"b":null}'
    with pytest.raises(InvalidRequestError) as caught:
        config_fields("[]", "tools[0].provider.config_json")
    assert caught.value.field == "tools[0].provider.config_json"
