"""The real providers, with the keys of whoever runs this: `make live`. A few short chats each; they cost money.

A provider takes part when its ``EP_<PROVIDER>_API_KEY`` is set. Its default model is asked, or the one that
``EP_LIVE_<PROVIDER>_MODEL`` names. Where other credentials serve as well, as those of AWS, naming the model is enough.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.e2e.caller import WEATHER, Caller, calling, chat, results, tool_calls, until
from tests.e2e.processes import PATIENCE, serving

from execution_platform.adapters.registry import Registry
from execution_platform.adapters.spi import ProviderSpec
from execution_platform.v1 import catalog_pb2, chat_pb2, usage_pb2

pytestmark = pytest.mark.live

PROVIDERS = {spec.name: spec for spec in Registry.discover().specs() if spec.name not in ("local", "scripted")}
COUNTERS = ("anthropic", "bedrock", "gemini", "openai")
WITHOUT_KEY = ("bedrock",)
"""Providers that other credentials serve as well."""


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A caller of a server with the settings of providers that are in the environment."""
    prefixes = tuple(f"EP_{name.upper()}_" for name in PROVIDERS)
    settings = {name: value for name, value in os.environ.items() if name.startswith(prefixes)}
    with serving(tmp_path_factory.mktemp("live"), settings) as server, calling(server.address()) as stubs:
        yield stubs


@pytest.fixture(params=sorted(PROVIDERS))
def spec(request: pytest.FixtureRequest) -> ProviderSpec:
    """A provider whose key is there, or that needs none and is meant."""
    spec = PROVIDERS[str(request.param)]
    variable = f"EP_{spec.name.upper()}_API_KEY"
    meant = spec.name in WITHOUT_KEY and os.environ.get(f"EP_LIVE_{spec.name.upper()}_MODEL")
    if not os.environ.get(variable) and not meant:
        pytest.skip(f"{variable} is not set")
    return spec


@pytest.fixture
def model(spec: ProviderSpec) -> str:
    """The model to ask."""
    variable = f"EP_LIVE_{spec.name.upper()}_MODEL"
    name = os.environ.get(variable) or spec.default_model
    if not name:
        pytest.skip(f"{spec.name} has no default model: name one with {variable}")
    return f"{spec.name}/{name}"


def brief(model: str, text: str) -> chat_pb2.ChatRequest:
    """Return a request for a short answer, with room for thoughts before it."""
    return chat(model, text, sampling=chat_pb2.Sampling(max_output_tokens=2048))


def test_an_answer_streams(caller: Caller, model: str) -> None:
    """A short answer streams to its `finished`, with the tokens it took."""
    answer = caller.stream(brief(model, "Say the word hello and nothing else."))
    assert answer.code is grpc.StatusCode.OK, answer.message
    assert "hello" in answer.text.lower()
    finished = answer.fold.finished
    assert finished.reason == chat_pb2.FINISH_REASON_STOP
    kinds = {item.kind for item in finished.usage.items if item.quantity}
    assert {usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_OUTPUT} <= kinds


def test_an_answer_comes_whole(caller: Caller, model: str) -> None:
    """The same comes whole."""
    answer = caller.complete(brief(model, "Say the word hello and nothing else."))
    assert "hello" in "".join(block.text.text for block in answer.message.content).lower()


def test_tools_and_thinking_go_round(caller: Caller, model: str) -> None:
    """A model that thinks calls a tool, takes back what it signed, and uses the result."""
    request = brief(model, "What is the weather in Paris? Use the tool.")
    request.tools.append(WEATHER)
    request.reasoning.effort = "low"
    first = caller.stream(request)
    assert first.code is grpc.StatusCode.OK, first.message
    calls = tool_calls(first.fold.message)
    assert "Paris" in json.loads(calls[0].arguments_json)["city"]
    request.messages.extend([first.fold.message, results(calls, *["18 degrees"] * len(calls))])
    second = caller.stream(request)
    assert second.code is grpc.StatusCode.OK, second.message
    assert "18" in second.text


def test_a_cancelled_chat_ends(caller: Caller, model: str) -> None:
    """A cancelled chat is not running any more."""
    call = caller.begin(brief(model, "Count from 1 to 300 in words."))
    until(call, "block_delta")
    call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED


def test_a_model_that_is_not_there_is_told(caller: Caller, spec: ProviderSpec) -> None:
    """A model that the provider does not have is the caller's mistake, and said so."""
    answer = caller.stream(brief(f"{spec.name}/no-such-model-as-this", "Hi"))
    assert answer.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT), answer.message


def test_a_wrong_key_is_the_operators_mistake(spec: ProviderSpec, tmp_path: Path) -> None:
    """The provider's own word for a wrong key is FAILED_PRECONDITION, and holds no key."""
    key = "made-up-key-0123456789"
    prefix = f"EP_{spec.name.upper()}_"
    settings = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    settings[f"{prefix}API_KEY"] = key
    with serving(tmp_path, settings) as server, calling(server.address()) as stubs:
        answer = stubs.stream(brief(f"{spec.name}/{spec.default_model or 'any'}", "Hi"))
    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_AUTHENTICATION")
    assert key not in answer.message + str(answer.trailing)


def test_tokens_are_counted(caller: Caller, spec: ProviderSpec, model: str) -> None:
    """Providers that count tokens count those of a short question."""
    if spec.name not in COUNTERS:
        pytest.skip(f"{spec.name} has no counter of tokens")
    request = chat_pb2.CountTokensRequest(chat=brief(model, "Say the word hello and nothing else."))
    assert 3 <= caller.chats.CountTokens(request, timeout=PATIENCE).input_tokens <= 100


def test_models_are_listed(caller: Caller, spec: ProviderSpec) -> None:
    """The provider's models are listed."""
    request = catalog_pb2.ListModelsRequest(provider=spec.name)
    answer = caller.catalog.ListModels(request, timeout=PATIENCE)
    assert answer.models
    assert not answer.errors
