"""Addresses of who is told of alerts: how they are read, checked, and kept out of sight."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.config.complaints import validated
from execution_platform.server.config.nodes import Fields, Node, Problems, Scalar, joined, nearest

if TYPE_CHECKING:
    from apprise import NotifyBase

__all__ = ["VARIABLES", "alerts_of", "listening", "service_of"]

#: What the names of variables begin with that addresses may take values from.
VARIABLES: Final = "EP_ALERT_"

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")

#: Loggers beneath apprise that write addresses, tokens included.
_TALKATIVE = ("urllib3", "requests")


def alerts_of(node: Node, variables: Mapping[str, str], problems: Problems) -> AlertSettings | None:
    """Read the section `alerts`.

    Args:
        node: the section.
        variables: values of the variables EP_ALERT_*.
        problems: takes what is wrong, without any address.

    Returns:
        The settings; None: something is wrong.
    """
    targets = node.get("targets") if isinstance(node, Fields) else None
    if isinstance(node, Fields) and isinstance(targets, Fields):
        read = {name: _target(name, targets, variables, problems) for name in targets.entries}
        node = node.with_entries({**node.entries, "targets": targets.with_entries(read)})
    return validated(AlertSettings, node, problems)


def _target(name: str, targets: Fields, variables: Mapping[str, str], problems: Problems) -> Node:
    """Return a target with a whole address; tell what is wrong with it."""
    target = targets.entries[name]
    if not _NAME.fullmatch(name):
        message = "cannot name a target: use 1 to 128 letters, digits, '_', '-' or '.'"
        problems.at(targets.keys[name], joined(targets.path, name), message)
    url = target.get("url") if isinstance(target, Fields) else None
    if not isinstance(target, Fields) or not isinstance(url, Scalar) or url.kind != "str":
        return target
    whole = _filled(url, variables, problems)
    fault = "" if whole is None else _fault_of(whole)
    if fault:
        problems.add(url, fault)
    # Without its text: what is kept of it is never shown.
    kept = Scalar(url.place, url.path, "str", "", json.dumps(whole or "-"))
    return target.with_entries({**target.entries, "url": kept})


def _filled(url: Scalar, variables: Mapping[str, str], problems: Problems) -> str | None:
    """Return an address with the values of its variables; None: one is missing."""
    wrong = False
    for name in dict.fromkeys(_VARIABLE.findall(url.text)):
        if not re.fullmatch(VARIABLES + r"[A-Z0-9_]{1,64}", name):
            problems.add(url, f"takes only variables that are named {VARIABLES}..., written ${{{VARIABLES}...}}")
            wrong = True
        elif not variables.get(name):
            problems.add(url, f"{name} is not set")
            wrong = True
    return None if wrong else _VARIABLE.sub(lambda match: variables[match[1]], url.text).strip()


def _fault_of(url: str) -> str:
    """Return what is wrong with an address, without it; empty: nothing."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "must be an address as apprise writes it, such as mailtos://... or jsons://..."
    from apprise.manager_plugins import NotificationManager  # noqa: PLC0415 - see service_of

    known = NotificationManager()  # type: ignore[no-untyped-call]  # it has no types
    name = scheme[1].lower()
    if name not in known:
        near = nearest(name, known.schemas())  # type: ignore[no-untyped-call]  # as above
        hint = f"did you mean {near}://?" if near else "docs/alerts.md shows some"
        return f"there is no service {name}://; {hint}"
    plugin = known[name]
    if not plugin.enabled:
        return f"{name}:// needs a package that is not installed"
    if service_of(url) is None:
        return f"is not a whole address of {name}://; write it as {_template(plugin.templates, name)}"
    return ""


def _template(templates: tuple[str, ...], scheme: str) -> str:
    return templates[0].replace("{schema}", scheme) if templates else f"{scheme}://..."


def service_of(url: str) -> NotifyBase | None:
    """Return what sends to an address; None: the address is wrong. Nothing is sent, and nothing logged."""
    from apprise import Apprise, AppriseAsset, PersistentStoreMode  # noqa: PLC0415 - only who has targets needs it

    _silence()
    asset = AppriseAsset(
        app_id="Execution Platform",
        app_desc="Execution Platform",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        storage_mode=PersistentStoreMode.MEMORY,
        allow_templates=False,
        pgp_autogen=False,
        pem_autogen=False,
    )
    return Apprise.instantiate(url, asset=asset)


@contextlib.contextmanager
def listening(hear: Callable[[str], None]) -> Iterator[None]:
    """Have what services log in this thread heard by somebody while the context is entered. It may hold secrets."""
    ears = _silence().ears
    ears[threading.get_ident()] = hear
    try:
        yield
    finally:
        del ears[threading.get_ident()]


def _silence() -> _Silence:
    """Keep addresses out of all logs, whoever has set those up, and at whatever level."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    log = logging.getLogger("apprise")
    log.setLevel(logging.WARNING)
    for each in log.filters:
        if isinstance(each, _Silence):
            return each
    made = _Silence()
    log.addFilter(made)
    return made


class _Silence(logging.Filter):
    """Lets nothing pass, and tells it only whoever listens in the thread where it was logged.

    Attributes:
        ears: who listens, by the thread's number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ears: dict[int, Callable[[str], None]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep a record to ourselves."""
        if (hear := self.ears.get(threading.get_ident())) is not None:
            hear(record.getMessage())
        return False
