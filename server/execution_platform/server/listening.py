"""Whether an address can be served on, asked before gRPC is: its own complaint is several lines of its inside."""

from __future__ import annotations

import socket
from pathlib import Path

__all__ = ["ListenError", "check_address", "check_socket", "family_of"]


class ListenError(Exception):
    """The address cannot be served on."""


def family_of(host: str) -> socket.AddressFamily:
    """Return the address family of a host."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def check_address(listen: str, setting: str = "EP_LISTEN") -> tuple[str, int]:
    """Return host and port of ``host:port``, with a free port where it says 0.

    Args:
        listen: the address.
        setting: which the error says to change.

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
        raise ListenError(f"cannot serve on {listen}: {why}; choose another address with {setting}") from error


def check_socket(listen: str) -> None:
    """Check ``unix:path`` or ``unix:///path``, since gRPC takes the socket away from a server that still serves on it.

    A socket that a crashed server left behind is in nobody's way.

    Raises:
        ListenError: a server answers there, or no socket can be there.
    """
    path = Path(listen.removeprefix("unix:").removeprefix("//"))
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
        why = "address already in use"
    except FileNotFoundError:
        why = "" if path.parent.is_dir() else f"there is no folder {path.parent}"
    except ConnectionRefusedError:
        why = "" if path.is_socket() else "a file is there that is not a socket"
    except OSError as error:
        why = (error.strerror or str(error)).lower()
    if why:
        raise ListenError(f"cannot serve on {listen}: {why}; choose another address with EP_LISTEN")
