"""What every command of the client needs: options of the connection, exit codes, and errors in one line."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from execution_platform.client.cli_interrupts import interruptible
from execution_platform.client.errors import (
    DeadlineExceededError,
    ExecutionPlatformError,
    RateLimitedError,
    TransportError,
    UnavailableError,
)
from execution_platform.client.options import TargetError, Tls
from execution_platform.client.sync import ExecutionPlatformClient

__all__ = [
    "EXIT_CODES",
    "EXIT_DEADLINE",
    "EXIT_FAILED",
    "EXIT_UNAVAILABLE",
    "CaOption",
    "CertOption",
    "JsonOption",
    "KeyOption",
    "Server",
    "TargetOption",
    "TimeoutOption",
    "TlsOption",
    "described",
    "error_line",
    "reporting_errors",
]

EXIT_FAILED = 1
EXIT_UNAVAILABLE = 3
EXIT_DEADLINE = 4

EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 server or provider not available now, or its limit "
    "reached: try again later; 4 the timeout has passed; 130 interrupted."
)

TargetOption: TypeAlias = Annotated[
    str, typer.Option("--target", "-t", envvar="EP_TARGET", help="Server: host:port, or unix:/path.")
]
TlsOption: TypeAlias = Annotated[bool, typer.Option("--tls", envvar="EP_TLS", help="Encrypt the connection.")]
CaOption: TypeAlias = Annotated[
    Path | None, typer.Option("--ca", envvar="EP_CA", help="PEM of the authorities to trust; means --tls.")
]
CertOption: TypeAlias = Annotated[
    Path | None, typer.Option("--cert", envvar="EP_CERT", help="PEM of this side's certificate; means --tls.")
]
KeyOption: TypeAlias = Annotated[Path | None, typer.Option("--key", envvar="EP_KEY", help="PEM of its key.")]
TimeoutOption: TypeAlias = Annotated[
    float | None,
    typer.Option("--timeout", min=0.001, help="Seconds the command may take; default: the server's limit."),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Write JSON, one object a line.")]


def described(command: Callable[..., object], examples: Iterable[str]) -> str:
    """Return the help of a command: its docstring, then examples."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"{inspect.getdoc(command)}\n\n\b\nExamples:\n{lines}"  # \b: lines as they stand


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, as the options say. A token comes from EP_TOKEN only: arguments are seen by everybody."""

    target: str
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @contextmanager
    def connect(self, timeout: float | None = None, **defaults: str) -> Iterator[ExecutionPlatformClient]:
        """Yield a client, and close it.

        Raises:
            typer.BadParameter: an option is wrong.
        """
        client = self._client(timeout, defaults)
        try:
            yield client
        finally:
            interruptible(client.close)

    def _client(self, timeout: float | None, defaults: dict[str, str]) -> ExecutionPlatformClient:
        token = os.environ.get("EP_TOKEN") or None
        try:
            return ExecutionPlatformClient(
                self.target, tls=self._tls(), token=token, timeout=timeout, **_known(defaults)
            )
        except TargetError as error:
            raise typer.BadParameter(str(error), param_hint="--target") from error
        except (OSError, ValueError) as error:
            raise typer.BadParameter(str(error)) from error

    def _tls(self) -> bool | Tls:
        if not (self.ca or self.cert or self.key):
            return self.tls
        return Tls(_content(self.ca), _content(self.cert), _content(self.key))


def _known(defaults: dict[str, str]) -> dict[str, Any]:
    return {name: value for name, value in defaults.items() if value}


def _content(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None


@contextmanager
def reporting_errors(server: Server) -> Iterator[None]:
    """End the command with a line on standard error, and the exit code that belongs to it, when a call fails."""
    try:
        yield
    except ExecutionPlatformError as error:
        typer.echo(f"ep: {error_line(error, server.target)}", err=True)
        raise typer.Exit(exit_code(error)) from error
    except BrokenPipeError as error:
        # Whoever read the output has enough. Python would complain once more when it flushes at its end.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it stays open until the end
        raise typer.Exit(EXIT_FAILED) from error


def error_line(error: ExecutionPlatformError, target: str) -> str:
    """Return an error in one line, with what to do where that is known."""
    if isinstance(error, TransportError) and error.retryable:
        cause = _cause(error.message)
        return f"no server answers at {target} ({cause}); `ep serve` starts one, --target names another"
    line = " ".join(str(error).split())
    if error.reason in {"MODEL_NOT_FOUND", "PROVIDER_NOT_FOUND"}:
        line += "; see `ep models`" if error.reason == "MODEL_NOT_FOUND" else "; see `ep providers`"
    if error.reason == "PERSONA_NOT_FOUND":
        line += "; see `ep personas list`"
    if error.reason in {"CAPABILITY_MISSING", "NOT_ALLOWED", "NO_HEALTHY_ROUTE"}:
        line += "; see `ep route explain`"
    if error.retry_after is not None and error.retryable:
        line += f" (try again in {error.retry_after:g} s)"
    return line


def _cause(message: str) -> str:
    """Return what gRPC's words about a connection come down to."""
    tls = re.search(r"SSL routines:[^:]*:([A-Z_]+)", message)
    if tls is not None:
        return f"TLS: {tls[1].lower().replace('_', ' ')}"
    return message.rsplit(": ", 1)[-1].strip().rstrip("]")


def exit_code(error: ExecutionPlatformError) -> int:
    """Return the exit code that an error means."""
    match error:
        case DeadlineExceededError():
            return EXIT_DEADLINE
        case UnavailableError() | RateLimitedError():
            return EXIT_UNAVAILABLE
        case TransportError() if error.retryable:
            return EXIT_UNAVAILABLE
        case _:
            return EXIT_FAILED
