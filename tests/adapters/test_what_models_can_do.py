"""The data on what models can do is what the adapters really do."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.adapters.anthropic import wire as anthropic
from tests.adapters.bedrock.serving import frame
from tests.adapters.openai_chat import answers as chat
from tests.adapters.upstream import Received, Reply, upstream
from tests.adapters.what_models_are_asked import ASKS, ASKS_IN_VAIN, SPECS, asking, models_of, plain, refuses, sent

from execution_platform.adapters.capabilities import capabilities_of, name_of
from execution_platform.adapters.spi import Call, ProviderConfig
from execution_platform.v1 import capability_pb2, catalog_pb2, chat_pb2

MODELS = [(name, model) for name, spec in SPECS.items() for model in models_of(spec)]

#: What happens without a word on the wire: providers cache by themselves, a scripted answer is always the same, and
#: some models at Bedrock think whatever is said.
UNASKED = {
    capability_pb2.CAPABILITY_PROMPT_CACHING: set(SPECS),
    capability_pb2.CAPABILITY_SEED: {"scripted"},
    capability_pb2.CAPABILITY_THINKING: {"bedrock"},
}


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_what_a_model_can_do_reaches_it(provider: str, model: str) -> None:
    """At least one way to ask for what a model can do gets to the wire, and nothing says that it is lost."""
    known = capabilities_of(SPECS[provider], model)
    without = sent(provider, model, plain())
    for capability in known.supported & ASKS.keys():
        tries = [sent(provider, model, asking(ask)) for ask in ASKS[capability]]
        honoured = [
            each
            for each in tries
            if not set(each.lost) - set(without.lost)
            and (provider in UNASKED.get(capability, ()) or each.body != without.body)
        ]
        assert honoured, (name_of(capability), [each.lost for each in tries])
        if capability == capability_pb2.CAPABILITY_PARALLEL_TOOLS:
            assert all(word in honoured[0].body for word in (b"first", b"second", b"seen first", b"seen second"))


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_what_a_model_lacks_is_told_or_refused(provider: str, model: str) -> None:
    """No way to ask for what a model lacks passes in silence, and each is refused where the caller wants that."""
    known = capabilities_of(SPECS[provider], model)
    without = sent(provider, model, plain())
    for capability in known.unsupported & ASKS_IN_VAIN.keys():
        for ask in ASKS_IN_VAIN[capability]:
            told = set(sent(provider, model, asking(ask)).lost) - set(without.lost)
            assert told, name_of(capability)
            assert refuses(provider, model, ask), name_of(capability)


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_a_stream_is_asked_for(provider: str, model: str) -> None:
    """Every model is asked to stream; one that cannot is asked again for its whole answer."""
    assert sent(provider, model, plain()).streams


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_what_never_gets_through_is_known_to_be_lacking(provider: str, model: str) -> None:
    """Where no way of asking gets through the adapter, the data says so: whoever requires it asks somebody else."""
    known = capabilities_of(SPECS[provider], model)
    without = sent(provider, model, plain())
    for capability, asks in ASKS.items():
        lost = [set(sent(provider, model, asking(ask)).lost) - set(without.lost) for ask in asks]
        if all(lost) and provider not in UNASKED.get(capability, ()):
            assert capability in known.unsupported, name_of(capability)


_PIECE = {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0}

#: The two halves of an answer that says "Hello", by what the address has in it.
HALVES = {
    "/messages": (
        anthropic.sse(anthropic.START, *anthropic.text(0, "Hel", "lo")[:2]),
        anthropic.sse(*anthropic.text(0, "Hel", "lo")[2:], anthropic.delta(), anthropic.STOP),
    ),
    "/chat/completions": (
        chat.sse(chat.chunk({"content": "Hel"}), done=False),
        chat.sse(chat.chunk({"content": "lo"}, "stop")),
    ),
    "/responses": (
        chat.sse(
            {"type": "response.created", "response": {"id": "r", "model": "m"}}, {**_PIECE, "delta": "Hel"}, done=False
        ),
        chat.sse(
            {**_PIECE, "delta": "lo"},
            {"type": "response.completed", "response": {"id": "r", "model": "m", "status": "completed", "output": []}},
            done=False,
        ),
    ),
    "/converse-stream": (
        frame("messageStart", {"role": "assistant"})
        + frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
        frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo"}})
        + frame("contentBlockStop", {"contentBlockIndex": 0})
        + frame("messageStop", {"stopReason": "end_turn"})
        + frame("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}}),
    ),
    "streamGenerateContent": (
        b'data: {"candidates":[{"content":{"parts":[{"text":"Hel"}],"role":"model"}}]}\r\n\r\n',
        b'data: {"candidates":[{"content":{"parts":[{"text":"lo"}]},"finishReason":"STOP"}]}\r\n\r\n',
    ),
}


@pytest.mark.parametrize("provider", sorted(SPECS.keys() - {"local", "scripted"}))
async def test_an_answer_comes_while_it_is_made(provider: str) -> None:
    """The first words are there before the provider has said the last; those without a wire are tried elsewhere."""
    heard = asyncio.Event()

    async def slowly(received: Received, reply: Reply) -> None:
        first, last = next(halves for place, halves in HALVES.items() if place in received.target)
        await reply.head()
        await reply.piece(first)
        await heard.wait()
        await reply.piece(last)
        await reply.end()

    spec, words = SPECS[provider], ""
    async with upstream(slowly) as served:
        options = {option.name: option.default for option in spec.options}
        adapter = spec.create(ProviderConfig(provider, SecretStr("made-up"), f"{served.url}/v1", options))
        model = spec.default_model or "eu-central-1/m"
        async with contextlib.aclosing(adapter.stream(Call(plain(), model, "r1"))) as lists:
            async for events in lists:
                words += "".join(event.block_delta.text for event in events)
                words += "".join(event.block_started.block.text.text for event in events)
                if words:
                    heard.set()
        await adapter.aclose()
    assert words == "Hello"


async def test_the_scripted_provider_tells_its_words_one_by_one() -> None:
    """Its answers, too, come in pieces."""
    adapter = SPECS["scripted"].create(ProviderConfig("scripted"))
    async with contextlib.aclosing(adapter.stream(Call(plain(), "echo", "r1"))) as lists:
        told = [events async for events in lists]
    assert sum(event.HasField("block_delta") for events in told for event in events) > 1
    await adapter.aclose()


def test_embeddings_and_batches_are_served_by_nobody_yet() -> None:
    """The contract has no call for them: what the data says of them is about models only, as the matrix tells."""
    services = {name for pb in (chat_pb2, catalog_pb2) for name in pb.DESCRIPTOR.services_by_name}
    assert services == {"ChatService", "CatalogService"}
    matrix = Path(__file__).parents[2] / "docs/capabilities.md"
    assert "no call for embeddings or batches" in matrix.read_text()
