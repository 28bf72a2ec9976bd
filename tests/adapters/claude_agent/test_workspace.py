from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from execution_platform.adapters.claude_agent.workspace import Folders, new_session, resolved_roots
from execution_platform.adapters.errors import InvalidRequestError, NotConfiguredError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a folder, a file, a link to the folder and links out of it."""
    root = tmp_path.resolve() / "root"
    (root / "work").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / "file").write_text("")
    (root / "link").symlink_to(root / "work")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root / "loop")
    return root


def test_a_workspace_within_the_roots_is_resolved(root: Path) -> None:
    """A folder within a root, also through a link, is the folder that the link leads to; a root itself is one too."""
    folders = Folders(root.parent / "config", [root])
    assert folders.workspace(str(root / "work"), "f") == root / "work"
    assert folders.workspace(str(root / "link"), "f") == root / "work"
    assert folders.workspace(f"{root}/work/../link/.", "f") == root / "work"
    assert folders.workspace(str(root), "f") == root


@pytest.mark.parametrize(
    "named", ["", "work", "{root}/nowhere", "{root}/file", "{root}/out", "{root}/..", "{root}/loop", "/etc", "{root}-2"]
)
def test_any_other_workspace_is_refused(root: Path, named: str) -> None:
    """Outside of the roots, behind a link out of them, not there, no folder, not absolute: refused with the field."""
    Path(f"{root}-2").mkdir()
    with pytest.raises(InvalidRequestError, match="workspace") as refused:
        Folders(root.parent / "config", [root]).workspace(named.format(root=root), "provider_options[0].options")
    assert refused.value.field == "provider_options[0].options"
    assert refused.value.message.startswith("provider_options[0].options: ")


def test_what_is_outside_and_what_is_not_there_are_told_alike(root: Path) -> None:
    """A caller cannot find out what exists outside of the roots."""
    folders = Folders(root.parent / "config", [root])
    told = set()
    for named in ("/etc", "/nowhere-at-all", f"{root}/out", f"{root}/nowhere"):
        with pytest.raises(InvalidRequestError) as refused:
            folders.workspace(named, "f")
        told.add(refused.value.message)
    assert len(told) == 1


def test_a_name_with_a_null_byte_is_refused(root: Path) -> None:
    """No path holds a null byte."""
    with pytest.raises(InvalidRequestError):
        Folders(root.parent, [root]).workspace(f"{root}/work\0", "f")


def test_a_workspace_never_shows_the_program_s_own_folders(root: Path) -> None:
    """Neither the folder of logins and sessions nor one in it or around it is a workspace, whatever the roots are."""
    config = root / "work" / "config"
    (config / "login").mkdir(parents=True)
    folders = Folders(config, [root])
    for named in (config, config / "login", root / "work", root):
        with pytest.raises(InvalidRequestError, match="sessions"):
            folders.workspace(str(named), "f")


def test_without_roots_no_workspace_may_be_named(root: Path) -> None:
    """The setting that allows workspaces is named."""
    with pytest.raises(InvalidRequestError, match="EP_CLAUDE_AGENT_WORKSPACES"):
        Folders(root.parent).workspace(str(root), "f")


def test_conversations_and_workspaces_have_folders_of_their_own(tmp_path: Path) -> None:
    """Turns of one conversation share a folder of the program's, others do not; a workspace has one for all."""
    folders = Folders(tmp_path / "config")
    first = new_session()
    second = new_session(first)
    other = new_session()
    assert uuid.UUID(second) != uuid.UUID(first)
    assert folders.config(None, first) == folders.config(None, second) != folders.config(None, other)
    work = folders.config(tmp_path / "a", first)
    assert work == folders.config(tmp_path / "a", other) != folders.config(tmp_path / "b", first)
    for folder in (work, folders.config(None, first)):
        assert folder.is_relative_to(tmp_path / "config")
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_session_that_is_no_id_names_no_folder(tmp_path: Path) -> None:
    """What a caller sends back as a session cannot lead elsewhere."""
    with pytest.raises(ValueError, match="hexadecimal"):
        Folders(tmp_path).config(None, "../../../../etc")


def test_a_login_is_one_folder_for_all(tmp_path: Path) -> None:
    """A login, and with it every session, is shared by all runs."""
    folders = Folders(tmp_path, shared=True)
    assert folders.config(None, new_session()) == folders.config(tmp_path / "a", new_session()) == tmp_path / "login"


def test_old_conversations_and_workspaces_are_forgotten(tmp_path: Path) -> None:
    """Folders of conversations and workspaces that no run has used for long are removed; newer ones stay."""
    folders = Folders(tmp_path)
    old, new = folders.config(None, new_session()), folders.config(None, new_session())
    old_work, new_work = (folders.config(tmp_path / name, new_session()) for name in ("a", "b"))
    os.utime(old, (0, 0))
    os.utime(old_work, (0, 0))
    assert folders.config(None, new_session()).exists()  # another look on the same day
    assert old.exists()
    assert folders.forget() == 2
    assert not old.exists()
    assert not old_work.exists()
    (old / "projects").mkdir(parents=True)
    os.utime(old, (0, 0))
    Folders(tmp_path).config(None, new_session())
    assert not old.exists()
    assert new.exists()
    assert new_work.exists()
    assert Folders(tmp_path / "nowhere").forget() == 0


@pytest.mark.parametrize("shared", [False, True])
def test_old_records_of_what_is_in_use_are_forgotten(tmp_path: Path, shared: bool) -> None:
    """In a workspace's folder that runs use, and in a login's, old sessions go; nothing else does, nor behind links."""
    folders = Folders(tmp_path / "config", shared=shared)
    config = folders.config(tmp_path / "a", new_session())
    project, elsewhere = config / "projects" / "-workspace", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (config / "projects" / "link").symlink_to(elsewhere)
    old, young = new_session(), new_session()
    (project / old).mkdir()
    (project / old / "long").write_text("")
    for path in (project / f"{old}.jsonl", project / f"{young}.jsonl", project / "notes", elsewhere / f"{old}.jsonl"):
        path.write_text("")
        if path.stem != young:
            os.utime(path, (0, 0))
    os.utime(project / old, (0, 0))
    assert folders.forget() == 2
    assert {path.name for path in project.iterdir()} == {f"{young}.jsonl", "notes"}
    assert (elsewhere / f"{old}.jsonl").exists()


def test_a_config_folder_that_cannot_be_made_is_not_configured(tmp_path: Path) -> None:
    """The setting that names the folder is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotConfiguredError, match="EP_CLAUDE_AGENT_CONFIG_DIR"):
        Folders(tmp_path / "file").config(None, new_session())


def test_roots_are_absolute_folders(tmp_path: Path) -> None:
    """The setting lists folders as PATH does; what is none is told."""
    (tmp_path / "link").symlink_to(tmp_path)
    assert resolved_roots("") == ()
    assert resolved_roots(f"{tmp_path / 'link'}:/usr") == (tmp_path.resolve(), Path("/usr"))
    for wrong in ("relative", str(tmp_path / "nowhere")):
        with pytest.raises(NotConfiguredError, match="absolute"):
            resolved_roots(wrong)
