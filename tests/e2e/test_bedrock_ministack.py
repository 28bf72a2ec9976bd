"""Bedrock as ministack plays it, in front of a real model: a client of botocore's and ours get the same answers.

ministack answers what Converse and ConverseStream answer, in frames with their sums, and asks the llama.cpp server for
it. It also plays STS, whose session signs our requests, and the control plane.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import botocore.config
import botocore.session
import grpc
import pytest
from tests.e2e.caller import WEATHER, Caller, calling, results, tool_calls, user
from tests.e2e.conftest import MADE_UP_KEY
from tests.e2e.processes import PATIENCE, ROOT, Process, serving
from tests.e2e.upstream import Upstream, upstream

from execution_platform.v1 import catalog_pb2, chat_pb2, content_pb2, usage_pb2

MINISTACK = ROOT / ".venv-ministack/bin/ministack"
REGION = "eu-central-1"
MODEL = "amazon.nova-lite-v1:0"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAMADEUPTEST", "AWS_SECRET_ACCESS_KEY": "made-up-secret"}
ROLE = "arn:aws:iam::000000000000:role/made-up"
MOST = 24


@pytest.fixture(scope="module")
def model(llamacpp: str) -> Iterator[Upstream]:
    """The real model's server; it writes down what ministack asks of it. ministack has no key to send."""
    with upstream(llamacpp, {"authorization": f"Bearer {MADE_UP_KEY}"}) as running:
        yield running


@pytest.fixture(scope="module")
def bedrock(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """Ministack's address; it writes down what is sent there."""
    if not MINISTACK.exists():
        pytest.skip("ministack is not installed: run make ministack")
    folder = tmp_path_factory.mktemp("ministack")
    settings = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": "0",
        "SERVICES": "bedrock,bedrock-runtime,sts",
        "DOCKER_HOST": "unix:///nonexistent",
        "MINISTACK_BEDROCK_PROXY_URL": model.url,
        # Longer than anybody waits: after it ministack would make up an answer.
        "MINISTACK_BEDROCK_PROXY_TIMEOUT_SECONDS": str(2 * PATIENCE),
    }
    process = Process([str(MINISTACK)], folder, settings)
    try:
        told = process.wait_for(lambda: [line for line in process.err.splitlines() if "Running on" in line], "it is up")
        with upstream(told[0].partition("http://")[2].partition(" ")[0]) as running:
            yield running
    finally:
        process.end()


@pytest.fixture(scope="module")
def caller(bedrock: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A caller of our server, whose Bedrock is ministack, asked under a role that ministack's STS gives."""
    settings = {
        **KEYS,
        "EP_BEDROCK_REGION": REGION,
        "EP_BEDROCK_BASE_URL": bedrock.url,
        "EP_BEDROCK_ROLE_ARN": ROLE,
        "AWS_ENDPOINT_URL_STS": bedrock.url,
    }
    with serving(tmp_path_factory.mktemp("bedrock"), settings) as server, calling(server.address()) as stubs:
        yield stubs


def client(url: str, service: str) -> Any:
    """Botocore's own client."""
    config = botocore.config.Config(read_timeout=PATIENCE, retries={"total_max_attempts": 1})
    return botocore.session.Session().create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        config=config,
    )


@pytest.fixture(scope="module")
def theirs(bedrock: Upstream) -> Iterator[Any]:
    """Botocore's client of the runtime."""
    made = client(bedrock.url, "bedrock-runtime")
    yield made
    made.close()


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says, whoever got it.

    Attributes:
        blocks: texts, and calls of tools as name and arguments.
        ended: why it ended, in Bedrock's word.
        usage: tokens of prompt and answer.
        asked: what the model was asked for it.
    """

    blocks: tuple[Any, ...]
    ended: str
    usage: tuple[int, int]
    asked: Any


def asked_of(model: Upstream) -> Any:
    """What the model was asked last, without the ids that tell calls apart."""
    asked = model.last.json()
    for message in asked["messages"]:
        message.pop("tool_call_id", None)
        for call in message.get("tool_calls", ()):
            del call["id"]
    return asked


def of_ours(answer: chat_pb2.CompleteChatResponse, model: Upstream) -> Said:
    blocks = [
        (block.tool_call.name, json.loads(block.tool_call.arguments_json))
        if block.HasField("tool_call")
        else block.text.text
        for block in answer.message.content
    ]
    kinds = {item.kind: item.quantity for item in answer.finished.usage.items}
    usage = (kinds[usage_pb2.USAGE_KIND_INPUT], kinds[usage_pb2.USAGE_KIND_OUTPUT])
    return Said(tuple(filter(None, blocks)), answer.finished.provider_finish_reason, usage, asked_of(model))


def of_theirs(message: Any, ended: str, usage: Any, model: Upstream) -> Said:
    blocks = [
        (block["toolUse"]["name"], block["toolUse"]["input"]) if "toolUse" in block else block["text"]
        for block in message["content"]
    ]
    counted = (usage["inputTokens"], usage["outputTokens"])
    return Said(tuple(filter(None, blocks)), ended, counted, asked_of(model))


def collected(stream: Any) -> tuple[Any, str, Any]:
    """Put the events of botocore's stream together: message, reason of its end, usage."""
    texts: dict[int, str] = {}
    tools: dict[int, Any] = {}
    ended, usage = "", None
    for event in stream:
        (kind, told), *_ = event.items()
        if kind == "contentBlockStart":
            tools[told["contentBlockIndex"]] = told["start"]["toolUse"]
        elif kind == "contentBlockDelta":
            piece = told["delta"].get("text") or told["delta"].get("toolUse", {}).get("input", "")
            texts[told["contentBlockIndex"]] = texts.get(told["contentBlockIndex"], "") + piece
        elif kind == "messageStop":
            ended = told["stopReason"]
        elif kind == "metadata":
            usage = told["usage"]
    content = [
        {"toolUse": {**tools[at], "input": json.loads(text)}} if at in tools else {"text": text}
        for at, text in sorted(texts.items())
        if text
    ]
    return {"role": "assistant", "content": content}, ended, usage


SAMPLING = {"maxTokens": MOST, "temperature": 0.0}
TOOL = {
    "name": WEATHER.function.name,
    "description": WEATHER.function.description,
    "inputSchema": {"json": json.loads(WEATHER.function.parameters_json)},
}


def said_by_user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": text}]}


def exact(*messages: content_pb2.Message, **more: Any) -> chat_pb2.ChatRequest:
    """Return a request whose answer is always the same."""
    sampling = chat_pb2.Sampling(max_output_tokens=MOST, temperature=0.0)
    return chat_pb2.ChatRequest(model=f"bedrock/{MODEL}", messages=messages, sampling=sampling, **more)


Ours = Callable[[chat_pb2.ChatRequest], tuple[content_pb2.Message, Said]]
Theirs = Callable[..., tuple[Any, Said]]


@pytest.fixture(params=["streamed", "whole"])
def both(
    request: pytest.FixtureRequest, caller: Caller, theirs: Any, bedrock: Upstream, model: Upstream
) -> tuple[Ours, Theirs]:
    """Ask through our server, and with botocore's client; streamed and whole."""
    streamed = request.param == "streamed"

    def ours(asked: chat_pb2.ChatRequest) -> tuple[content_pb2.Message, Said]:
        if streamed:
            heard = caller.stream(asked)
            assert heard.code is grpc.StatusCode.OK, heard.message
            answer = heard.fold
        else:
            answer = caller.complete(asked)
        assert bedrock.last.path.rpartition("/")[2] == ("converse-stream" if streamed else "converse")
        return answer.message, of_ours(answer, model)

    def their(**asked: Any) -> tuple[Any, Said]:
        given = {"modelId": MODEL, "inferenceConfig": SAMPLING, **asked}
        if streamed:
            message, ended, usage = collected(theirs.converse_stream(**given)["stream"])
        else:
            answer = theirs.converse(**given)
            message, ended, usage = answer["output"]["message"], answer["stopReason"], answer["usage"]
        return message, of_theirs(message, ended, usage, model)

    return ours, their


def test_text_is_the_models_own(both: tuple[Ours, Theirs], model: Upstream, llamacpp: str) -> None:
    """Both get the same text and tokens, and the text is what the model itself says; a mock's would be another."""
    ours, theirs = both
    _, mine = ours(exact(user("Say hello in one short sentence.")))
    request = urllib.request.Request(
        f"http://{llamacpp}/v1/chat/completions",
        model.last.body,
        {"authorization": f"Bearer {MADE_UP_KEY}", "content-type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE) as response:
        told = json.load(response)
    assert mine.blocks == (told["choices"][0]["message"]["content"],)
    assert mine.usage == (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"])
    _, other = theirs(messages=[said_by_user("Say hello in one short sentence.")])
    assert mine == other
    assert len(mine.blocks[0]) > 3


def test_the_system_prompt_reaches_the_model(both: tuple[Ours, Theirs]) -> None:
    """Both send the system prompt alike, and it changes what the model says."""
    ours, theirs = both
    asked = exact(user("Who are you?"))
    _, without = ours(asked)
    asked.system.add().text.text = "You are a pirate called Anne. Answer as a pirate."
    _, mine = ours(asked)
    system = [{"text": "You are a pirate called Anne. Answer as a pirate."}]
    _, other = theirs(system=system, messages=[said_by_user("Who are you?")])
    assert mine == other
    assert mine.blocks != without.blocks


def test_a_conversation_goes_on(both: tuple[Ours, Theirs]) -> None:
    """Three turns: what was said before goes along, from both alike."""
    ours, theirs = both
    mine: list[content_pb2.Message] = []
    other: list[Any] = []
    for text in ("My name is Ada.", "What is my name?", "Spell it."):
        mine.append(user(text))
        message, said = ours(exact(*mine))
        mine.append(message)
        other.append(said_by_user(text))
        message, their_said = theirs(messages=other)
        other.append(message)
        assert said == their_said
        assert len(said.asked["messages"]) == len(mine) - 1


def test_tools_go_round(both: tuple[Ours, Theirs]) -> None:
    """The model calls a tool with the same arguments for both, gets its result, and goes on alike."""
    ours, theirs = both
    asked = exact(user("Please use get_weather for Paris"), tools=[WEATHER])
    asked.sampling.max_output_tokens = 64
    given = {"toolConfig": {"tools": [{"toolSpec": TOOL}]}, "inferenceConfig": {**SAMPLING, "maxTokens": 64}}
    message, mine = ours(asked)
    their_message, other = theirs(messages=[said_by_user("Please use get_weather for Paris")], **given)
    assert mine == other
    assert mine.ended == "tool_use"
    ((name, arguments),) = (block for block in mine.blocks if isinstance(block, tuple))
    assert (name, list(arguments)) == ("get_weather", ["city"])
    asked.messages.extend([message, results(tool_calls(message), "18 degrees and sunny")])
    (use,) = (block["toolUse"] for block in their_message["content"] if "toolUse" in block)
    result = {"toolResult": {"toolUseId": use["toolUseId"], "content": [{"text": "18 degrees and sunny"}]}}
    told = [said_by_user("Please use get_weather for Paris"), their_message, {"role": "user", "content": [result]}]
    _, mine = ours(asked)
    _, other = theirs(messages=told, **given)
    assert mine == other
    assert [message["role"] for message in mine.asked["messages"]] == ["user", "assistant", "tool"]


def test_a_session_of_a_role_signs(caller: Caller, bedrock: Upstream) -> None:
    """STS was asked for the role once, by the key; every chat is signed by its session, and the id is AWS's form."""
    caller.complete(exact(user("Say hello.")))
    asked = [exchange for exchange in bedrock.exchanges if b"Action=AssumeRole" in exchange.body]
    (assumed,) = asked
    assert f"Credential={KEYS['AWS_ACCESS_KEY_ID']}/" in assumed.headers["authorization"]
    chatted = bedrock.last
    assert chatted.path == "/model/amazon.nova-lite-v1%3A0/converse"
    assert chatted.headers["x-amz-security-token"]
    assert f"/{REGION}/bedrock/aws4_request" in chatted.headers["authorization"]
    assert KEYS["AWS_ACCESS_KEY_ID"] not in chatted.headers["authorization"]


def test_models_are_listed_as_botocore_lists_them(caller: Caller, bedrock: Upstream) -> None:
    """ListModels gives what botocore's client of the control plane gives, profiles by the names to chat with."""
    control = client(bedrock.url, "bedrock")
    told = control.list_foundation_models()["modelSummaries"]
    profiles = control.list_inference_profiles(typeEquals="SYSTEM_DEFINED")["inferenceProfileSummaries"]
    control.close()
    talking = {each["modelId"]: each["inferenceTypesSupported"] for each in told if "TEXT" in each["outputModalities"]}
    expected = {name for name, kinds in talking.items() if "ON_DEMAND" in kinds}
    expected |= {each["inferenceProfileId"] for each in profiles}
    assert len(talking) < len(told)
    request = catalog_pb2.ListModelsRequest(provider="bedrock", page_size=1000)
    answer = caller.catalog.ListModels(request, timeout=PATIENCE)
    assert not answer.errors, answer.errors
    listed = {each.model for each in answer.models if each.provider_metadata_json}
    assert profiles
    assert listed == expected
