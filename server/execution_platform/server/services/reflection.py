"""gRPC reflection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection

__all__ = ["add_reflection"]


class _Pool:
    """The descriptors of all stubs. It finds methods too, which the runtime's own pool does not.

    Without that `grpcurl describe some.Service.Method` says that there is no such symbol.
    """

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """Return the file that declares a symbol. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file


def add_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Serve reflection of some services, and of itself."""
    pool = cast("descriptor_pool.DescriptorPool", _Pool(descriptor_pool.Default()))
    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server, pool=pool)
