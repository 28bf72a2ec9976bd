"""Whether a conversation can be gone on with: its file, and its entry in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from execution_platform.adapters.claude_agent.sessions import Place, exists

SESSION = "6f0d7a5e-0f43-4a7e-9f6e-0a3a52a1c0de"
ENTRY = "11111111-0f43-4a7e-9f6e-0a3a52a1c0de"


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """A configuration folder with one session of one entry."""
    folder = tmp_path / "projects" / "-workspace"
    folder.mkdir(parents=True)
    (folder / f"{SESSION}.jsonl").write_text(f'{{"type":"assistant","uuid":"{ENTRY}"}}\n')
    return tmp_path


def test_a_session_is_there_with_its_entry(config_dir: Path) -> None:
    """A place is there where its session's file holds its entry; without an entry the file is enough."""
    assert exists(config_dir, Place(SESSION, ENTRY))
    assert exists(config_dir, Place(SESSION))


def test_what_is_not_there_is_gone(config_dir: Path, tmp_path: Path) -> None:
    """Another session, another entry, an empty file and an empty folder hold no place."""
    assert not exists(config_dir, Place(ENTRY))
    assert not exists(config_dir, Place(SESSION, SESSION))
    assert not exists(tmp_path / "nowhere", Place(SESSION))
    (config_dir / "projects" / "-workspace" / f"{SESSION}.jsonl").write_text("")
    assert not exists(config_dir, Place(SESSION, ENTRY))
