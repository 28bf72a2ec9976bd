"""How one alert is sent to one target: by apprise, in a thread of that target's own.

What apprise 2.2 does, and what is made of it here:

- Its services block. `Apprise.async_notify` runs them all in one pool of a few threads, which it never ends; a receiver
  that answers a byte now and then holds a thread for ever, and a few of those would hold up everybody. So each target
  has a thread of its own, which the end of the process does not wait for, and gets nothing else while that one hangs.
- A service says True or False; why is only in its log, next to addresses with their tokens. That log is kept out of
  everybody's sight; of what it says only the status and the kind of failure are taken.
- A service that is kept sleeps some seconds before each message but its first, whoever it is for. One is made for each
  message; who wants fewer says so with a status, and gets it later.
- `retry` and `optional` in an address count in `async_notify` only: here each try is one, and a failure is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import SecretStr

from execution_platform.server.config.alert_addresses import listening, service_of
from execution_platform.server.ledger.alerts.wording import message_of
from execution_platform.v1 import cost_pb2

if TYPE_CHECKING:
    from apprise import NotifyBase

__all__ = ["AppriseSender", "Sender", "SendingError"]

_STATUS = re.compile(r"\berror=(\d{3})\b")
_FAILURES: Final = frozenset({cost_pb2.ALERT_KIND_BUDGET_EXCEEDED, cost_pb2.ALERT_KIND_LEDGER_OUTAGE})


class SendingError(Exception):
    """A target did not take an alert. Says why, without any address."""


class Sender(Protocol):
    """Sends alerts."""

    async def send(self, name: str, url: SecretStr, alert: cost_pb2.Alert) -> None:
        """Send an alert.

        Args:
            name: of the target.
            url: its address.
            alert: what to send.

        Raises:
            SendingError: it was not taken, or nobody knows.
        """
        ...


class AppriseSender:
    """Sends alerts by apprise.

    Args:
        patience: seconds after which a target counts as hanging.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience
        # Of each target, whether the last sending to it is over.
        self._over: dict[str, threading.Event] = {}

    async def send(self, name: str, url: SecretStr, alert: cost_pb2.Alert) -> None:
        """Send an alert."""
        if name in self._over and not self._over[name].is_set():
            raise SendingError("an earlier alert still hangs there")
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._over[name] = over = threading.Event()
        arguments = (url.get_secret_value(), alert, _teller(ended, over))
        threading.Thread(target=_deliver, args=arguments, name=f"alert-{name}", daemon=True).start()
        try:
            async with asyncio.timeout(self._patience):
                fault = await ended
        except TimeoutError:
            raise SendingError(f"no end of it within {self._patience:g} s") from None
        if fault:
            raise SendingError(fault)


def _teller(ended: asyncio.Future[str], over: threading.Event) -> Callable[[str], None]:
    """Return what another thread ends a sending with: a function that takes why it failed, or nothing."""
    loop = ended.get_loop()

    def end(fault: str) -> None:
        if not ended.done():
            ended.set_result(fault)

    def tell(fault: str) -> None:
        over.set()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(end, fault)

    return tell


def _deliver(url: str, alert: cost_pb2.Alert, tell: Callable[[str], None]) -> None:
    """Send and tell what came of it: nothing, or why not. Runs in a thread."""
    heard = _Heard()
    try:
        with listening(heard):
            tell("" if _notify(url, alert) else heard.why)
    except Exception as error:  # noqa: BLE001 - whatever a service raises is a failure to send
        # Its text may hold the address.
        tell(f"failed with {type(error).__name__}")


def _notify(url: str, alert: cost_pb2.Alert) -> bool:
    from apprise import NotifyFormat, NotifyType  # noqa: PLC0415 - only who has targets needs it

    service = service_of(url)
    if service is None:
        return False
    severity = NotifyType.FAILURE if alert.kind in _FAILURES else NotifyType.WARNING
    if alert.kind == cost_pb2.ALERT_KIND_DAILY_REPORT:
        severity = NotifyType.INFO
    body, body_format = message_of(alert), NotifyFormat.TEXT
    if alert.message_html and _shows_pages(service):
        body, body_format = alert.message_html, NotifyFormat.HTML
    return service.notify(title=alert.title, body=body, notify_type=severity, body_format=body_format)


def _shows_pages(service: NotifyBase) -> bool:
    """Return whether a service shows HTML best, such as mail, and its address (`format=text`) says nothing else."""
    from apprise import NotifyFormat  # noqa: PLC0415 - as above

    best: Any = service.notify_format
    if isinstance(best, tuple):  # which its type does not know
        best = best[0]
    return bool(best == NotifyFormat.HTML and service.resolve_format(NotifyFormat.HTML) == NotifyFormat.HTML)


class _Heard:
    """Takes from what a service logs why it failed, and nothing that could be secret."""

    def __init__(self) -> None:
        self.why = "it did not take it"

    def __call__(self, text: str) -> None:
        if status := _STATUS.search(text):
            self.why = f"it answered {status[1]}"
        elif "connection error" in text.lower():
            self.why = "it could not be reached, or broke off"
