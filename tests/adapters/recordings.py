"""Recorded traffic of providers, which lies beside the repository. Where it is missing, its tests are skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"
REASON = "recordings not there: expected in ../shared/recordings beside the repository"

needs_recordings = pytest.mark.skipif(not (FOLDER / "load.py").is_file(), reason=REASON)

Record = dict[str, Any]


def _load() -> ModuleType | None:
    path = FOLDER / "load.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location("recordings_load", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_LOADER = _load()


def records(split: str, provider: str, api: str | None = None) -> Iterator[Record]:
    """The recorded exchanges of one provider; none where the recordings are missing.

    Args:
        split: "open" or "documented".
        provider: for example "anthropic".
        api: only those of one API.
    """
    if _LOADER is not None:
        yield from _LOADER.records(split, provider, api=api)


def body_of(record: Record) -> bytes:
    """The body of a record's answer."""
    assert _LOADER is not None
    body: bytes = _LOADER.body_bytes(record)
    return body


def pieces_of(body: bytes, seed: int) -> list[bytes]:
    """A body cut at random places, as a network may cut it."""
    assert _LOADER is not None
    pieces: list[bytes] = _LOADER.chunks(body, seed)
    return pieces


def params(found: Iterator[Record]) -> list[Any]:
    """Records as test parameters named by their ids; one that is skipped where there are none."""
    cases = [pytest.param(record, id=str(record["id"])) for record in found]
    return cases or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=REASON))]
