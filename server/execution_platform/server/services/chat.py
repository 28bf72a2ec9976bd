"""ChatService."""

from __future__ import annotations

import grpc
import grpc.aio

from execution_platform.adapters.errors import AdapterError
from execution_platform.client.fold import Fold
from execution_platform.server.chat.pipeline import CallerGoneError, ChatFailedError, ChatPipeline
from execution_platform.server.services.call import abort, begin, caller_of, request_id_of, time_left, trace_id_of
from execution_platform.server.services.stream import ResponseStream
from execution_platform.v1 import chat_pb2, chat_pb2_grpc

__all__ = ["ChatService"]


class ChatService(chat_pb2_grpc.ChatServiceServicer):
    """Streams chats, answers them whole, counts their tokens.

    The stream's handler is a coroutine that writes, not a generator: so its clean-up runs in the task that
    grpc cancels (see docs/decisions/).

    Args:
        pipeline: runs the chats.
        default_deadline: seconds for a call whose caller set none.
        heartbeat: seconds of silence after which a stream tells that it lives.
    """

    def __init__(self, pipeline: ChatPipeline, *, default_deadline: float, heartbeat: float) -> None:
        self._pipeline = pipeline
        self._default_deadline = default_deadline
        self._heartbeat = heartbeat

    async def Chat(  # type: ignore[override]  # a coroutine that writes; the stub's type knows generators only
        self,
        request: chat_pb2.ChatRequest,
        context: grpc.aio.ServicerContext[chat_pb2.ChatRequest, chat_pb2.ChatResponse],
    ) -> None:
        """Stream an answer."""
        request_id = request_id_of(request.request_id)
        timeout = time_left(context, self._default_deadline)
        try:
            async with self._pipeline.admitted(timeout) as clock:
                await begin(context, request_id)
                stream = ResponseStream(context.write, self._heartbeat)
                try:
                    await self._pipeline.run(
                        request,
                        request_id,
                        stream.send,
                        clock=clock,
                        timeout=timeout,
                        trace_id=trace_id_of(context),
                        caller=caller_of(context),
                    )
                finally:
                    await stream.aclose()
        except (AdapterError, ChatFailedError) as error:
            await abort(context, error, request_id)
        except CallerGoneError:
            # Most likely nobody hears it; but OK would say that the answer is complete.
            await context.abort(grpc.StatusCode.CANCELLED, "the caller takes no more events")

    async def CompleteChat(
        self,
        request: chat_pb2.CompleteChatRequest,
        context: grpc.aio.ServicerContext[chat_pb2.CompleteChatRequest, chat_pb2.CompleteChatResponse],
    ) -> chat_pb2.CompleteChatResponse:
        """Answer whole: the fold of what Chat would stream."""
        request_id = request_id_of(request.chat.request_id)
        timeout = time_left(context, self._default_deadline)
        fold = Fold()

        async def take(events: list[chat_pb2.ChatEvent]) -> None:
            fold.add_all(events)

        try:
            async with self._pipeline.admitted(timeout) as clock:
                await begin(context, request_id)
                await self._pipeline.run(
                    request.chat,
                    request_id,
                    take,
                    clock=clock,
                    timeout=timeout,
                    unary=True,
                    trace_id=trace_id_of(context),
                    caller=caller_of(context),
                )
        except (AdapterError, ChatFailedError) as error:
            await abort(context, error, request_id, within="chat")
        return fold.response

    async def CountTokens(
        self,
        request: chat_pb2.CountTokensRequest,
        context: grpc.aio.ServicerContext[chat_pb2.CountTokensRequest, chat_pb2.CountTokensResponse],
    ) -> chat_pb2.CountTokensResponse:
        """Count the input tokens of a chat."""
        request_id = request_id_of(request.chat.request_id)
        timeout = time_left(context, self._default_deadline)
        await begin(context, request_id)
        try:
            return await self._pipeline.count_tokens(request.chat, timeout=timeout)
        except AdapterError as error:
            await abort(context, error, request_id, within="chat")
