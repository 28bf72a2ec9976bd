"""A real model behind a real server of others, llama.cpp, through each of the APIs that it speaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import grpc
import pytest
from tests.e2e.caller import WEATHER, Caller, calling, chat, results, tool_calls, until
from tests.e2e.conftest import MADE_UP_KEY, fetch, quiet
from tests.e2e.processes import PATIENCE, eventually, serving
from tests.e2e.upstream import Upstream

from execution_platform.v1 import catalog_pb2, chat_pb2, usage_pb2

APIS = {
    "llamacpp": "/v1/chat/completions",
    "vllm": "/v1/chat/completions",
    "openai": "/v1/responses",
    "anthropic": "/v1/messages",
}
every_api = pytest.mark.parametrize("provider", APIS)


@pytest.fixture(scope="module")
def caller(modelled: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A caller of our server, which has the llama.cpp server as each of the providers."""
    settings: dict[str, str] = {}
    for provider in APIS:
        settings[f"EP_{provider.upper()}_API_KEY"] = MADE_UP_KEY
        settings[f"EP_{provider.upper()}_BASE_URL"] = f"{modelled.url}/v1"
    with serving(tmp_path_factory.mktemp("real"), settings) as server, calling(server.address()) as stubs:
        yield stubs


def exact(provider: str, text: str, most: int = 24) -> chat_pb2.ChatRequest:
    """Return a request whose answer is always the same."""
    sampling = chat_pb2.Sampling(max_output_tokens=most, temperature=0.0)
    return chat(f"{provider}/smollm2", text, sampling=sampling)


def text_of(answer: chat_pb2.CompleteChatResponse) -> str:
    return "".join(block.text.text for block in answer.message.content)


def tokens(finished: chat_pb2.Finished, *kinds: usage_pb2.UsageKind.ValueType) -> int:
    """Return how many tokens a usage tells of some kinds."""
    return sum(item.quantity for item in finished.usage.items if item.kind in kinds)


@every_api
def test_the_model_streams_and_answers_whole_alike(caller: Caller, modelled: Upstream, provider: str) -> None:
    """Streamed and whole the real model says the same words, with the tokens that it really used."""
    streamed = caller.stream(exact(provider, "Say hello in one short sentence."))
    assert streamed.code is grpc.StatusCode.OK, streamed.message
    assert modelled.last.path.partition("?")[0] == APIS[provider]
    whole = caller.complete(exact(provider, "Say hello in one short sentence."))
    assert len(streamed.text) > 3
    assert streamed.text.strip() == text_of(whole).strip()
    assert streamed.kinds.count("block_delta") > 2
    for finished in (streamed.fold.finished, whole.finished):
        assert finished.reason in (chat_pb2.FINISH_REASON_STOP, chat_pb2.FINISH_REASON_MAX_TOKENS)
        assert 2 <= tokens(finished, usage_pb2.USAGE_KIND_OUTPUT) <= 24
        assert tokens(finished, usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_CACHE_READ) > 5


# llama.cpp tells "completed" of every answer in its Responses format.
@pytest.mark.parametrize("provider", [provider for provider in APIS if provider != "openai"])
def test_a_limit_of_tokens_is_a_finish_and_no_error(caller: Caller, provider: str) -> None:
    """An answer that hits max_output_tokens is `finished` with MAX_TOKENS."""
    answer = caller.stream(exact(provider, "Tell a long story about the sea.", most=8))
    assert answer.code is grpc.StatusCode.OK, answer.message
    assert answer.fold.finished.reason == chat_pb2.FINISH_REASON_MAX_TOKENS
    assert tokens(answer.fold.finished, usage_pb2.USAGE_KIND_OUTPUT) == 8


@every_api
def test_the_model_calls_a_tool(caller: Caller, provider: str) -> None:
    """The real model calls a tool with arguments of its schema, and goes on with the result."""
    request = exact(provider, "Please use get_weather for Paris", most=64)
    request.tools.append(WEATHER)
    first = caller.stream(request)
    assert first.code is grpc.StatusCode.OK, first.message
    (call,) = tool_calls(first.fold.message)
    assert call.name == "get_weather"
    assert list(json.loads(call.arguments_json)) == ["city"]
    assert first.fold.finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    request.messages.extend([first.fold.message, results([call], "18 degrees and sunny")])
    second = caller.stream(request)
    assert second.code is grpc.StatusCode.OK, second.message
    assert second.kinds[-1] == "finished"


@every_api
def test_a_cancelled_chat_frees_its_slot(
    caller: Caller, modelled: Upstream, busy_slots: Callable[[], int], provider: str
) -> None:
    """When the caller cancels in mid-stream, the model stops working on it."""
    call = caller.begin(exact(provider, "Count: 1, 2, 3, and so on without end.", most=3000))
    until(call, "block_delta")
    eventually(lambda: busy_slots() == 1, "the model to work")
    call.cancel()
    eventually(lambda: busy_slots() == 0, "the model's slots to be idle")
    assert modelled.last.over.wait(PATIENCE)
    assert modelled.last.hung_up
    quiet(caller)


@every_api
def test_a_passed_deadline_frees_its_slot(caller: Caller, busy_slots: Callable[[], int], provider: str) -> None:
    """When the caller's deadline passes in mid-stream, the model stops working on it."""
    answer = caller.stream(exact(provider, "Count: 1, 2, 3, and so on without end.", most=3000), timeout=1)
    assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: busy_slots() == 0, "the model's slots to be idle")


def test_tokens_are_counted_as_the_model_counts_them(caller: Caller) -> None:
    """CountTokens gives what the same prompt then costs."""
    request = exact("anthropic", "How many tokens are these words?", most=1)
    counted = caller.chats.CountTokens(chat_pb2.CountTokensRequest(chat=request), timeout=PATIENCE)
    finished = caller.complete(request).finished
    assert counted.input_tokens == tokens(finished, usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_CACHE_READ)


@every_api
def test_a_prompt_that_is_too_long_is_told(caller: Caller, provider: str) -> None:
    """A prompt beyond the model's context is INVALID_ARGUMENT with CONTEXT_LENGTH_EXCEEDED."""
    answer = caller.stream(exact(provider, "word " * 6000))
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")


@pytest.mark.parametrize("provider", ["llamacpp", "vllm", "openai"])
def test_models_are_listed_as_the_server_lists_them(caller: Caller, llamacpp: str, provider: str) -> None:
    """ListModels gives the models that the server has, with what it says of them."""
    theirs = fetch(f"http://{llamacpp}/v1/models", MADE_UP_KEY)["data"]
    ours = caller.catalog.ListModels(catalog_pb2.ListModelsRequest(provider=provider), timeout=PATIENCE)
    assert not ours.errors, ours.errors
    listed = {model.model: model for model in ours.models}
    assert {model["id"] for model in theirs} <= set(listed)
    assert listed["smollm2"].name == f"{provider}/smollm2"
    assert "llamacpp" in listed["smollm2"].provider_metadata_json


def test_json_is_forced_by_a_schema(caller: Caller) -> None:
    """An output format with a JSON schema makes even this small model answer in that form."""
    schema = '{"type":"object","properties":{"colour":{"type":"string","enum":["red","green"]}},"required":["colour"]}'
    request = exact("llamacpp", "What colour is grass?", most=64)
    request.output_format.json_schema.schema_json = schema
    request.output_format.json_schema.name = "answer"
    answer = json.loads(caller.stream(request).text)
    assert answer["colour"] in ("red", "green")
