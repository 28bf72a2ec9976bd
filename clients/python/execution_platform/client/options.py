"""How to reach a server: target, encryption, credentials, limits. Shared by both clients."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata as distribution
from typing import Any

import grpc

__all__ = [
    "DEFAULT_TARGET",
    "MAX_RECEIVE_BYTES",
    "MAX_SEND_BYTES",
    "ConnectionOptions",
    "TargetError",
    "Tls",
    "client_version",
]

DEFAULT_TARGET = "127.0.0.1:50051"

MAX_RECEIVE_BYTES = 64 << 20
"""Largest message taken: room for a whole answer with media, which streams deliver in pieces of 1 MiB."""

MAX_SEND_BYTES = 32 << 20
"""Largest message sent: what a server receives by default."""

_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%a-z]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")
_RESOLVERS = ("dns:", "ipv4:", "ipv6:", "unix-abstract:", "xds:", "vsock:")


class TargetError(ValueError):
    """A target that names no server."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Encryption of the connection.

    Attributes:
        root_certificates: PEM of the authorities to trust; None: those that gRPC brings along.
        certificate_chain: PEM of the client's own certificate, for servers that ask for one.
        private_key: PEM of its key; never shown.
        server_name: name that the server's certificate must carry, where it differs from the target's host.
    """

    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        """Refuse half of a client certificate."""
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ValueError("a client certificate needs both certificate_chain and private_key")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the channel credentials."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How a client reaches its server.

    Attributes:
        target: ``host:port``, ``unix:/path``, ``unix:///path``, or another gRPC name such as ``dns:///host:port``.
        tls: True: encrypted, trusting the authorities that gRPC brings along; a Tls says more; False: not encrypted.
        token: bearer token, or what gives one at each call; sent only encrypted or to this machine. Never shown.
        metadata: more metadata of every call; never shown, for it may hold credentials.
        timeout: seconds that a call may take unless it says otherwise; None: the server's default.
        max_receive_bytes: largest message taken.
        max_send_bytes: largest message sent.
        channel_options: more gRPC channel arguments; they win over those set here.

    Raises:
        TargetError: the target names no server.
        ValueError: a token would travel unencrypted to another machine, or cannot travel at all.
    """

    target: str = DEFAULT_TARGET
    tls: bool | Tls = False
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    metadata: Mapping[str, str | bytes] = field(default_factory=dict, repr=False)
    timeout: float | None = None
    max_receive_bytes: int = MAX_RECEIVE_BYTES
    max_send_bytes: int = MAX_SEND_BYTES
    channel_options: Sequence[tuple[str, Any]] = ()

    def __post_init__(self) -> None:
        """Check what can be checked without a connection."""
        _check_target(self.target)
        if self.token is not None and not self.tls and not self.is_local:
            raise ValueError("a token is sent only encrypted (tls=...) or to this machine")
        if isinstance(self.token, str):
            _check_token(self.token)

    @property
    def is_local(self) -> bool:
        """Whether the target is on this machine."""
        return self.target.startswith(("unix:", "unix-abstract:")) or _is_loopback(self.target)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return the channel credentials; None: not encrypted."""
        if isinstance(self.tls, Tls):
            return self.tls.credentials()
        return grpc.ssl_channel_credentials() if self.tls else None

    def channel_arguments(self) -> list[tuple[str, Any]]:
        """Return the channel arguments, those of the caller last."""
        ours: dict[str, Any] = {
            "grpc.primary_user_agent": f"execution-platform-client/{client_version()}",
            "grpc.max_receive_message_length": self.max_receive_bytes,
            "grpc.max_send_message_length": self.max_send_bytes,
            # The server accepts a ping every 10 s, also without calls: a dead connection is found within half a minute.
            "grpc.keepalive_time_ms": 20_000,
            "grpc.keepalive_timeout_ms": 10_000,
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.http2.max_pings_without_data": 0,
            # Retrying is the server's work: a channel that retries by itself would run, and pay, a chat twice.
            "grpc.enable_retries": 0,
            "grpc.service_config_disable_resolution": 1,
            # A restarted server is found soon; gRPC's own longest wait is two minutes.
            "grpc.initial_reconnect_backoff_ms": 500,
            "grpc.max_reconnect_backoff_ms": 5_000,
        }
        if self.is_local:
            ours["grpc.enable_http_proxy"] = 0  # an http_proxy of the environment cannot reach this machine's servers
        if isinstance(self.tls, Tls) and self.tls.server_name:
            ours["grpc.ssl_target_name_override"] = self.tls.server_name
        return list((ours | dict(self.channel_options)).items())

    def call_metadata(self, more: Iterable[tuple[str, str | bytes]] = ()) -> tuple[tuple[str, str | bytes], ...]:
        """Return the metadata of one call. Raises ValueError if the token is none."""
        token = self.token() if callable(self.token) else self.token
        if token:
            _check_token(token)
        bearer = (("authorization", f"Bearer {token}"),) if token else ()
        return (*bearer, *self.metadata.items(), *more)


def _check_token(token: str) -> None:
    # Such as the line feed at the end of a file. gRPC would print the matter over several lines.
    if not re.fullmatch(r"[!-~]+(?: [!-~]+)*", token):
        raise ValueError("the token holds a character that no header can carry")


def client_version() -> str:
    """Return the version of this client; ``0`` when it runs from a source tree that was never installed."""
    try:
        return distribution.version("execution-platform-client")
    except distribution.PackageNotFoundError:
        return "0"


def _check_target(target: str) -> None:
    if target.startswith("unix:"):
        if not target.removeprefix("unix:").removeprefix("//"):
            raise TargetError(f"target {target!r} has no path: write unix:/path or unix:///path")
        return
    if target.startswith(_RESOLVERS):
        return
    if "://" in target:
        scheme, _, rest = target.partition("://")
        raise TargetError(
            f"target {target!r} is a URL: leave out {scheme}:// and write {rest.strip('/') or 'host:port'}"
        )
    parts = _HOST_PORT.fullmatch(target)
    if parts is None or not 0 < int(parts["port"]) < 65536:
        raise TargetError(f"target {target!r} is neither host:port nor unix:/path")


def _is_loopback(target: str) -> bool:
    parts = _HOST_PORT.fullmatch(target)
    if parts is None:
        return False
    host = parts["host"].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
