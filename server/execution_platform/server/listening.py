"""Whether an address can be served on, asked before gRPC is: its own complaint is several lines of its inside."""

from __future__ import annotations

import socket

__all__ = ["ListenError", "check_address", "family_of"]


class ListenError(Exception):
    """The address cannot be served on."""


def family_of(host: str) -> socket.AddressFamily:
    """Return the address family of a host."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def check_address(listen: str) -> tuple[str, int]:
    """Return host and port of ``host:port``, with a free port where it says 0.

    Raises:
        ListenError: the address is in use or not this machine's.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.socket(family_of(host), socket.SOCK_STREAM) as probe:
            # As gRPC binds; another server that listens, even one that shares its port, is noticed all the same.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
            return host, int(probe.getsockname()[1])
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ListenError(f"cannot serve on {listen}: {why}; choose another address with EP_LISTEN") from error
