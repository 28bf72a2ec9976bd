"""The rows of servers that speak OpenAI's formats hold together, and one more row is one more provider."""

from __future__ import annotations

import contextlib
import json
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from tests.adapters.openai_chat.answers import chunk, fold, sse, text_of
from tests.adapters.upstream import Received, Reply, upstream

from execution_platform.adapters.compatible import PROVIDERS, Row
from execution_platform.adapters.compatible.rows import ROWS
from execution_platform.adapters.openai_api.dialect import COMPATIBLE_PLACES, OPENAI_PLACES, Dialect
from execution_platform.adapters.registry import Registry
from execution_platform.adapters.spi import Call, Events, ListsModels, ProviderConfig, ProviderSpec
from execution_platform.v1 import chat_pb2

ADDRESSES = {
    "azure": "",
    "deepseek": "https://api.deepseek.com",
    "groq": "https://api.groq.com/openai/v1",
    "llamacpp": "http://127.0.0.1:8080/v1",
    "mistral": "https://api.mistral.ai/v1",
    "ollama": "http://127.0.0.1:11434/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "together": "https://api.together.xyz/v1",
    "vllm": "http://127.0.0.1:8000/v1",
    "xai": "https://api.x.ai/v1",
}


def spec(name: str) -> ProviderSpec:
    return next(one for one in PROVIDERS if one.name == name)


@pytest.mark.parametrize(("name", "address"), ADDRESSES.items())
def test_the_published_addresses(name: str, address: str) -> None:
    """Each server has its published address; where every customer has one of their own, it must be named."""
    assert spec(name).default_base_url == address
    assert spec(name).needs_base_url == (not address)


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_a_row_makes_a_provider(provider: ProviderSpec) -> None:
    """Only a server on this machine does without a key, or one whose address the operator names."""
    assert provider.name.replace("_", "").isalnum()
    host = urlsplit(provider.default_base_url).hostname
    assert provider.needs_key == (host != "127.0.0.1" and provider.name != "compatible")
    # A provider that needs nothing would be chosen on every machine.
    assert provider.automatic_rank is None or (provider.needs_key and provider.default_model)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.dialect.provider)
def test_a_dialect_names_fields_of_the_contract(row: Row) -> None:
    """Every place and every unsupported option is a path that ChatRequest has."""
    ruled = {field for rule in row.dialect.rules for field in rule.unsupported}
    for field in {*row.dialect.places, *row.dialect.unsupported, *ruled, *COMPATIBLE_PLACES, *OPENAI_PLACES}:
        descriptor = chat_pb2.ChatRequest.DESCRIPTOR
        for name in field.split("."):
            assert name in descriptor.fields_by_name, field
            descriptor = descriptor.fields_by_name[name].message_type or descriptor


def test_the_rows_are_found_as_providers() -> None:
    """The registry finds each row through the entry point."""
    names = {found.name for found in Registry.discover().specs()}
    assert {row.dialect.provider for row in ROWS} <= names


async def test_a_further_server_is_a_further_row() -> None:
    """A server that nobody knew speaks with a row of data and nothing else."""
    dialect = Dialect(
        provider="newcomer",
        family="newcomer",
        places={"sampling.max_output_tokens": "limits.answer", "reasoning.effort": "think"},
        reasoning_replay="reasoning",
    )
    newcomer = Row(dialect=dialect, display_name="Newcomer", base_url="https://newcomer.example/v1").spec()

    async def answer(_: Received, reply: Reply) -> None:
        await reply.stream(sse(chunk({"reasoning": "hm"}), chunk({"content": "Hello"}, "stop")))

    request = chat_pb2.ChatRequest()
    request.messages.add(role="ROLE_USER").content.add().text.text = "hi"
    request.sampling.max_output_tokens = 5
    request.reasoning.effort = "hard"
    async with upstream(answer) as served:
        config = ProviderConfig("newcomer", api_key=SecretStr("made-up"), base_url=f"{served.url}/v1")
        adapter = newcomer.create(config)
        events: Events = []
        async with contextlib.aclosing(adapter.stream(Call(request, "new-1"))) as lists:
            async for some in lists:
                events += some
        await adapter.aclose()
    (received,) = served.received
    assert received.line == "POST /v1/chat/completions HTTP/1.1"
    assert received.headers["authorization"] == "Bearer made-up"
    sent = json.loads(received.body)
    assert (sent["limits"], sent["think"], sent["model"]) == ({"answer": 5}, "hard", "new-1")
    answered = fold(events)
    assert text_of(answered) == "Hello"
    assert {block.family for block in answered.message.content} == {"newcomer"}


async def test_a_server_without_a_key_is_asked_without_one() -> None:
    """A local server gets no credentials, not even made-up ones."""

    async def answer(_: Received, reply: Reply) -> None:
        await reply.json({"object": "list", "data": [{"id": "small", "max_model_len": 4096}]})

    async with upstream(answer) as served:
        adapter = spec("vllm").create(ProviderConfig("vllm", base_url=f"{served.url}/v1"))
        assert isinstance(adapter, ListsModels)
        (model,) = await adapter.list_models()
        await adapter.aclose()
    assert (model.name, model.context_window) == ("vllm/small", 4096)
    assert not {"authorization", "api-key"} & served.received[0].headers.keys()
