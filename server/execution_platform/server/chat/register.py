"""Which requests run now and which came lately, so that a request_id is used once."""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Iterator

from execution_platform.server.errors import RequestIdReusedError, RequestInProgressError
from execution_platform.v1 import chat_pb2

__all__ = ["RequestRegister"]


class RequestRegister:
    """Remembers the ids of running requests and of the last ones that ended, with a digest of their bodies.

    It is this process's own: replicas do not know of each other's requests.

    Args:
        remember: how many ended requests to remember.
    """

    def __init__(self, remember: int = 10_000) -> None:
        self._remember = remember
        self._running: dict[str, bytes] = {}
        self._ended: OrderedDict[str, bytes] = OrderedDict()

    @contextlib.contextmanager
    def running(self, request: chat_pb2.ChatRequest) -> Iterator[None]:
        """Hold the request's id while it runs. A request without an id is not held.

        Raises:
            RequestInProgressError: a request with this id is running.
            RequestIdReusedError: the id came lately with another body.
        """
        request_id = request.request_id.lower()
        if not request_id:
            yield
            return
        digest = hashlib.blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()
        known = self._running.get(request_id) or self._ended.get(request_id)
        if known is not None and known != digest:
            raise RequestIdReusedError(
                "request_id: this id came before with another body; use a new one", field="request_id"
            )
        if request_id in self._running:
            raise RequestInProgressError("request_id: a request with this id is still running", field="request_id")
        self._running[request_id] = digest
        try:
            yield
        finally:
            del self._running[request_id]
            self._ended[request_id] = digest
            self._ended.move_to_end(request_id)
            if len(self._ended) > self._remember:
                self._ended.popitem(last=False)
