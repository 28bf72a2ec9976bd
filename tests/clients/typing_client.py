"""What type checkers see of the client. mypy reads this file; nobody runs it."""

from collections.abc import Iterator
from typing import Any, assert_type

from execution_platform.client import (
    Answer,
    AsyncChatStream,
    AsyncExecutionPlatformClient,
    ChatStream,
    ExecutionPlatformClient,
    ExecutionPlatformError,
    Fold,
    HealthStatus,
    ModelList,
    PythonTool,
    run_tool_calls,
    run_tool_calls_async,
    tool,
    user,
)
from execution_platform.v1 import catalog_pb2, chat_pb2, content_pb2, usage_pb2


@tool
def add(first: int, second: int = 0) -> int:
    """Add."""
    return first + second


@tool(name="say")
async def speak(words: str) -> str:
    """Speak."""
    return words


def synchronous(client: ExecutionPlatformClient) -> None:
    """The synchronous client."""
    with client as entered:
        assert_type(entered, ExecutionPlatformClient)
    answer = client.chat("Hello", temperature=0.5, model="openai/x", reasoning="low", tools=[add, speak])
    assert_type(answer, Answer)
    assert_type(answer.text, str)
    assert_type(answer.message, content_pb2.Message)
    assert_type(answer.tool_calls, list[content_pb2.ToolCallBlock])
    assert_type(answer.usage, usage_pb2.Usage)
    assert_type(answer.finish_reason, str)
    assert_type(answer.raw, chat_pb2.CompleteChatResponse)
    assert_type(run_tool_calls(answer, [add]), content_pb2.Message)
    with client.stream([user("Hello"), answer.message, "and?"]) as stream:
        assert_type(stream, ChatStream)
        for event in stream:
            assert_type(event, chat_pb2.ChatEvent)
            if event.WhichOneof("event") == "no_such_event":  # type: ignore[comparison-overlap]  # a misspelt name is an error
                pass
        assert_type(stream.text_deltas(), Iterator[str])
        assert_type(stream.answer(), Answer)
        assert_type(stream.fold, Fold)
    assert_type(client.models(), ModelList)
    assert_type(client.model("x"), catalog_pb2.Model)
    assert_type(client.health(), HealthStatus)
    assert_type(client.with_defaults(persona="dev"), ExecutionPlatformClient)
    client.chat("Hello", temperatur=0.5)  # type: ignore[call-arg]  # a misspelt keyword is an error
    client.chat("Hello", temperature="hot")  # type: ignore[arg-type]  # and so is a value of another type
    client.chat(3)  # type: ignore[arg-type]  # and a prompt that is none


async def asynchronous(client: AsyncExecutionPlatformClient) -> None:
    """The asynchronous client."""
    async with client as entered:
        assert_type(entered, AsyncExecutionPlatformClient)
    answer = await client.chat("Hello", max_output_tokens=5)
    assert_type(answer, Answer)
    assert_type(await run_tool_calls_async(answer, [speak]), content_pb2.Message)
    async with client.stream("Hello") as stream:
        assert_type(stream, AsyncChatStream)
        async for event in stream:
            assert_type(event, chat_pb2.ChatEvent)
        async for piece in stream.text_deltas():
            assert_type(piece, str)
        assert_type(await stream.answer(), Answer)
    assert_type(await client.count_tokens("Hello"), chat_pb2.CountTokensResponse)
    assert_type(await client.providers(), list[catalog_pb2.Provider])
    assert_type(await client.health(), HealthStatus)


def tools() -> None:
    """A tool is called as the function that it is made of."""
    assert_type(add(1, second=2), int)
    add("1")  # type: ignore[arg-type]  # the function's own types hold
    assert_type(add.definition, chat_pb2.FunctionTool)

    def generic(made: PythonTool[..., Any]) -> str:
        return made.name

    generic(add)


def errors(error: ExecutionPlatformError) -> None:
    """An error's parts are typed."""
    assert_type(error.reason, str)
    assert_type(error.retry_after, float | None)
    assert_type(error.retryable, bool)
    assert_type(error.partial, Fold | None)
    assert_type(error.usage, usage_pb2.Usage | None)
