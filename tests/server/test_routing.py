"""What a request names as its model decides who serves it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator

import grpc
import grpc.aio
import pytest
from tests.server.conftest import Serve, Served, chat_request, error_info, events_of, failed_stream, kinds

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events, KnownModel, ProviderSpec, TokenCount
from execution_platform.v1 import catalog_pb2, chat_pb2


class AnyModelAdapter(ScriptedAdapter):
    """Answers for every model."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Answer as the scripted provider's echo does."""
        async with contextlib.aclosing(super().stream(dataclasses.replace(call, model="echo"))) as stream:
            async for events in stream:
                yield events


KEYED = ProviderSpec(
    name="keyed",
    display_name="Keyed",
    family="keyed",
    create=lambda _: AnyModelAdapter(),
    default_model="big",
    models=[KnownModel("big", "Big", 1000, 100), KnownModel("small")],
    automatic_rank=10,
)
BARE = dataclasses.replace(KEYED, name="bare", default_model="", models=(), automatic_rank=None, needs_key=False)


async def route_of(served: Served, model: str) -> chat_pb2.Route:
    """Who answers a chat with that model."""
    events = await events_of(served.chat.Chat(chat_request(model=model)))
    return events[0].started.route


async def test_explicit_model_goes_to_its_provider(serve: Serve) -> None:
    """provider/model goes there, and only the first slash divides."""
    async with serve({}, [BARE]) as served:
        route = await route_of(served, "bare/org/model-1")
    assert (route.provider, route.model) == ("bare", "org/model-1")


async def test_provider_alone_means_its_default_model(served: Served) -> None:
    """A provider's name stands for its default model."""
    assert (await route_of(served, "scripted")).model == "echo"


async def test_alias_stands_for_its_model(serve: Serve) -> None:
    """An alias goes where the configuration says, and the catalog tells it."""
    async with serve({"EP_MODEL_ALIASES": "quick=scripted/tools"}) as served:
        assert (await route_of(served, "quick")).model == "tools"
        answer = await served.catalog.GetModel(catalog_pb2.GetModelRequest(name="quick"))
    assert (answer.model.name, list(answer.model.aliases)) == ("scripted/tools", ["quick"])


async def test_nothing_named_chooses_by_keys_and_says_so(serve: Serve) -> None:
    """Without a model the first provider with a key answers, and a notice says why."""
    async with serve({"EP_KEYED_API_KEY": "made-up-key"}, [KEYED]) as served:
        events = await events_of(served.chat.Chat(chat_request(model="")))
    assert events[0].started.route.provider == "keyed"
    notices = [event.notice for event in events if event.HasField("notice")]
    assert [notice.code for notice in notices] == [chat_pb2.NOTICE_CODE_ROUTE_CHOSEN]
    assert "keyed/big" in notices[0].message


async def test_nothing_named_and_no_key_falls_to_what_needs_none(serve: Serve) -> None:
    """Without any key the scripted provider answers, and the notice says that no key is set."""
    async with serve({}, [KEYED]) as served:
        events = await events_of(served.chat.Chat(chat_request(model="")))
    assert events[0].started.route.provider == "scripted"
    assert "no provider's key is set" in next(e.notice.message for e in events if e.HasField("notice"))


async def test_default_model_of_the_operator_wins(serve: Serve) -> None:
    """EP_DEFAULT_MODEL decides for requests that name no model."""
    async with serve({"EP_KEYED_API_KEY": "made-up-key", "EP_DEFAULT_MODEL": "scripted/tools"}, [KEYED]) as served:
        events = await events_of(served.chat.Chat(chat_request(model="")))
    assert events[0].started.route.model == "tools"


@pytest.mark.parametrize(
    ("model", "code", "reason", "words"),
    [
        ("scriptd/echo", "NOT_FOUND", "PROVIDER_NOT_FOUND", "did you mean 'scripted'"),
        ("big", "NOT_FOUND", "MODEL_NOT_FOUND", "did you mean 'keyed/big'"),
        ("bare", "NOT_FOUND", "MODEL_NOT_FOUND", "no default model"),
        ("keyed/big", "FAILED_PRECONDITION", "PROVIDER_NOT_CONFIGURED", "set EP_KEYED_API_KEY"),
    ],
)
async def test_wrong_model_is_told_with_the_remedy(
    serve: Serve, model: str, code: str, reason: str, words: str
) -> None:
    """A model that leads nowhere is answered with reason, field and what to do."""
    async with serve({}, [KEYED, BARE]) as served:
        events, error = await failed_stream(served.chat.Chat(chat_request(model=model)))
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode[code], reason)
    assert words in (error.details() or "")
    assert kinds(events) == ["failed"]
    assert events[0].failed.error.field == "model"


async def test_key_that_a_provider_repeats_is_taken_out(serve: Serve) -> None:
    """An error in which the provider repeats our key reaches neither caller nor log with it."""
    leaky = dataclasses.replace(
        KEYED,
        create=lambda _: AnyModelAdapter(
            [{"error": {"reason": "PROVIDER_AUTHENTICATION", "message": "bad key made-up-key-1"}}]
        ),
    )
    async with serve({"EP_KEYED_API_KEY": "made-up-key-1"}, [leaky]) as served:
        events, error = await failed_stream(served.chat.Chat(chat_request(model="keyed/big")))
        log = served.log.getvalue()
    assert "bad key [secret]" in (error.details() or "")
    assert "made-up-key-1" not in f"{events}{error}{error.trailing_metadata()}{log}"


class TellingAdapter(ScriptedAdapter):
    """Fails with words that quote what it was given."""

    def __init__(self, quoted: str, kind: type[Exception] = InvalidRequestError) -> None:
        super().__init__()
        self._error = kind(f"refused: {quoted}")

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Fail."""
        if call.model:
            raise self._error
        yield []

    async def count_tokens(self, call: Call) -> TokenCount:
        """Fail."""
        assert call.model
        raise self._error


async def test_token_that_a_provider_repeats_is_taken_out(serve: Serve) -> None:
    """The token of an MCP server that the request brings stays out of answers and log, though it is quoted."""
    telling = dataclasses.replace(BARE, name="telling", create=lambda _: TellingAdapter("token mcp-made-up-1"))
    mcp = chat_pb2.Tool(mcp_server=chat_pb2.McpServerTool(name="files", authorization_token="mcp-made-up-1"))
    request = chat_request(model="telling/x", tools=[mcp])
    async with serve({}, [telling]) as served:
        events, error = await failed_stream(served.chat.Chat(request))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.chat.CountTokens(chat_pb2.CountTokensRequest(chat=request))
        log = served.log.getvalue()
    assert error_info(caught.value).reason == "INVALID_REQUEST"
    assert "mcp-made-up-1" not in f"{events}{error}{error.trailing_metadata()}{caught.value}{log}"


async def test_words_about_a_request_reach_its_caller_and_not_the_log(serve: Serve) -> None:
    """A provider that refuses a request may quote it: the caller reads that, the log tells only the reason."""
    telling = dataclasses.replace(BARE, name="telling", create=lambda _: TellingAdapter("a question nobody may log"))
    async with serve({}, [telling]) as served:
        _, error = await failed_stream(served.chat.Chat(chat_request(model="telling/x")))
        [line] = served.log_lines("chat")
    assert "nobody may log" in (error.details() or "")
    assert (line["reason"], "error" in line) == ("ERROR_REASON_INVALID_REQUEST", False)


async def test_fault_in_counting_is_internal_and_tells_nothing_of_the_inside(serve: Serve) -> None:
    """A bug of an adapter that counts is INTERNAL with our details, and its trace is in the log."""
    faulty = dataclasses.replace(BARE, name="faulty", create=lambda _: TellingAdapter("the inside", KeyError))
    async with serve({}, [faulty]) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.chat.CountTokens(chat_pb2.CountTokensRequest(chat=chat_request(model="faulty/x")))
        assert served.log_lines("count_tokens_fault")
    assert (caught.value.code(), error_info(caught.value).reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "inside" not in str(caught.value)


class NeverCounting(ScriptedAdapter):
    """Counts forever."""

    async def count_tokens(self, call: Call) -> TokenCount:
        """Wait for what does not come."""
        await asyncio.Event().wait()
        raise AssertionError(call.model)


async def test_counting_ends_with_the_default_deadline(serve: Serve) -> None:
    """A count whose caller set no deadline takes no longer than the server's."""
    never = dataclasses.replace(BARE, name="never", create=lambda _: NeverCounting())
    async with serve({"EP_DEFAULT_DEADLINE_SECONDS": "0.1"}, [never]) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.chat.CountTokens(chat_pb2.CountTokensRequest(chat=chat_request(model="never/x")))
    assert error_info(caught.value).reason == "DEADLINE_EXCEEDED"
