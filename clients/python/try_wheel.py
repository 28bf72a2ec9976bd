"""Install the built wheels into empty environments and import all of them with warnings as errors.

    try_wheel.py FOLDER    FOLDER holds one wheel of each distribution

Each is tried at the lowest versions that its own metadata allows and at the newest.
"""

import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

# Imports each module below the given packages. Modules, but no packages, may need what only an extra brings.
IMPORT_ALL = """
import importlib, pkgutil, sys
packages, without, extras = sys.argv[1].split(","), sys.argv[2] or None, sys.argv[3].split(",")
for name in packages:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if (without and module.name.startswith(without)) or module.name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(module.name)
            print("  imported", module.name)
        except ModuleNotFoundError as error:
            if module.ispkg or (error.name or "").partition(".")[0] not in extras:
                raise
            print("  needs", error.name, module.name)
"""
CLIENT_PACKAGES = "execution_platform.v1,execution_platform.client"
SERVER_PACKAGES = f"{CLIENT_PACKAGES},execution_platform.adapters,execution_platform.server"
CLI = "execution_platform.client.cli"
#: What extras bring, and who needs it imports at once; whoever imports that asks before whether the extra is there.
OF_EXTRAS = "botocore,claude_agent_sdk,numpy,statsmodels"


def fail(reason: str) -> None:
    """End with status 1 and one line that says why."""
    sys.exit(f"wheel: {reason}")


def only_wheel(folder: Path, distribution: str) -> Path:
    """Return the one wheel of a distribution in the folder."""
    found = sorted(folder.glob(f"{distribution}-[0-9]*.whl"))
    if len(found) != 1:
        fail(f"{len(found)} wheels of {distribution} in {folder}, not one")
    return found[0]


def lowest_requirements(wheel: Path) -> list[str]:
    """Return the wheel's requirements (not those of extras, nor the other wheel), each at its lower bound."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    pinned = []
    for requirement in metadata.get_all("Requires-Dist", []):
        if "extra ==" in requirement or requirement.startswith("execution-platform"):
            continue
        if re.fullmatch(r"[A-Za-z0-9-]+==[0-9a-z.]+", requirement):
            pinned.append(requirement)  # one version only: the lowest as well
            continue
        bound = re.match(r"([A-Za-z0-9-]+).*>=([0-9.]+)", requirement)
        if bound is None:
            fail(f"no lower bound in {requirement!r}")
            continue
        pinned.append(f"{bound[1]}=={bound[2]}")
    return pinned


def check_content(wheel: Path, needed: list[str]) -> None:
    """End with status 1 unless the wheel holds the needed files and leaves the namespace open."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    if missing := [name for name in needed if name not in names]:
        fail(f"{wheel.name} lacks {', '.join(missing)}")
    if "execution_platform/__init__.py" in names:
        fail(f"{wheel.name} closes the namespace with execution_platform/__init__.py")


def try_install(label: str, requirements: list[str], packages: str, without: str = "") -> None:
    """Install the requirements into a new environment and import every module of the packages there."""
    print(f"{label}: {' '.join(Path(part).name for part in requirements)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin/python"))
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        subprocess.run([python, "-m", "pip", "check"], check=True)
        # -I: nothing but the environment is importable, so the wheel is what is tried.
        command = [python, "-I", "-W", "error", "-c", IMPORT_ALL, packages, without, OF_EXTRAS]
        subprocess.run(command, cwd=folder, check=True)


def main() -> None:
    """Try every combination that the wheels promise to work in."""
    dist = Path(sys.argv[1]).resolve()
    client = only_wheel(dist, "execution_platform_client")
    server = only_wheel(dist, "execution_platform")
    stubs = "execution_platform/v1"
    check_content(
        client,
        [f"{stubs}/{name}" for name in ("chat.proto", "chat_pb2.pyi", "chat_pb2_grpc.pyi")]
        + [f"{stubs}/py.typed", "execution_platform/client/py.typed"],
    )
    check_content(
        server,
        [f"execution_platform/{part}/py.typed" for part in ("adapters", "server")],
    )
    try:
        lowest = [str(client), *lowest_requirements(client)]
        try_install("client, lowest", lowest, CLIENT_PACKAGES, without=CLI)
        try_install("client, newest", [str(client)], CLIENT_PACKAGES, without=CLI)
        try_install("client with its command line", [f"{client}[cli]"], CLIENT_PACKAGES)
        both = [f"{client}[cli]", str(server)]
        try_install("server, lowest", [*both, *lowest_requirements(server)], SERVER_PACKAGES)
        try_install("server, newest", both, SERVER_PACKAGES)
    except subprocess.CalledProcessError as error:
        fail(f"this failed with status {error.returncode}: {error.cmd[:6]}")
    print("wheel: all good")


if __name__ == "__main__":
    main()
