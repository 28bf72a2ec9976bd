"""What stands around every RPC of ours: nothing that grpc would answer by itself reaches a caller without details."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.errors import InternalError
from execution_platform.server.services.call import Context, abort
from execution_platform.server.telemetry import Logger

__all__ = ["Guard"]

Behaviour = Callable[[Any, Context], Awaitable[Any]]


class _Unreadable:
    """In place of a request that cannot be read."""

    def __init__(self, why: str) -> None:
        self.why = why


class Guard(grpc.aio.ServerInterceptor):
    """Gives a status of the contract to requests that cannot be read, and to faults that no handler has expected.

    grpc alone would say UNKNOWN, with the names and the words of our inside.

    Args:
        services: full names of the services to stand around; their handlers are coroutines.
        logger: for the faults.
    """

    def __init__(self, services: tuple[str, ...], logger: Logger) -> None:
        self._prefixes = tuple(f"/{service}/" for service in services)
        self._logger = logger

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the method's handler, guarded if it is ours."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or not method.startswith(self._prefixes):
            return handler
        # The stubs' types know handlers that are not coroutines, and those that take bytes.
        ours: Any = handler
        behaviour = self._guarded(ours.unary_stream or ours.unary_unary, method)
        make = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(behaviour, _reader(ours.request_deserializer), ours.response_serializer)

    def _guarded(self, behaviour: Behaviour, method: str) -> Behaviour:
        async def guarded(request: Any, context: Context) -> Any:
            if isinstance(request, _Unreadable):
                await abort(context, InvalidRequestError(f"the request cannot be read: {request.why}"))
            try:
                return await behaviour(request, context)
            except grpc.aio.BaseError:
                # A status that was chosen, or a call that its caller has left.
                raise
            except Exception:
                self._logger.exception("rpc_fault", method=method)
                await abort(context, InternalError("an unexpected fault of the platform; see its log"))

        return guarded


def _reader(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return _Unreadable(str(error).rpartition(": ")[2])

    return read
