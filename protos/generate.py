"""Make the typed stubs and the contract's reference page from the protos.

    generate.py            write clients/python/execution_platform/v1 and docs/reference/contract.md
    generate.py --check    write nothing; say what differs from the committed files, status 1 if anything does

buf.gen.yaml says which generators run. They live in .venv-protos, made here with the versions of the
dependency group `protos` in pyproject.toml.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLCHAIN = ROOT / ".venv-protos"
STUBS = Path("clients/python/execution_platform/v1")
REFERENCE = Path("docs/reference/contract.md")
PACKAGE_DOC = '''"""Generated from protos/execution_platform/v1 by `make protos`; never edited by hand."""
'''


def ensure_toolchain() -> None:
    """Make .venv-protos with the pinned generators, unless it holds exactly those already."""
    pins: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["protos"]
    stamp = TOOLCHAIN / f".stamp-{hashlib.sha256('|'.join(pins).encode()).hexdigest()[:16]}"
    if stamp.exists():
        return
    print(f"making .venv-protos: {', '.join(pins)}")
    venv.create(TOOLCHAIN, with_pip=True, clear=True)
    python = str(TOOLCHAIN / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins], check=True)
    stamp.touch()


def generate(out: Path) -> None:
    """Run buf.gen.yaml's generators into the folder `out`.

    Raises:
        subprocess.CalledProcessError: a generator refused the protos; its own words are on stderr.
    """
    buf = Path(sysconfig.get_path("scripts"), "buf")
    subprocess.run([str(buf), "generate", "--output", str(out)], cwd=ROOT, check=True)
    stubs = out / STUBS
    for typed in stubs.glob("*_pb2_grpc.pyi"):
        if not typed.with_suffix(".py").exists():
            typed.unlink()  # a file without a service has no gRPC module
    (stubs / "__init__.py").write_text(PACKAGE_DOC)
    (stubs / "py.typed").touch()


def differences(made: Path, committed: Path) -> list[str]:
    """Return a line for each file that is missing, stale or not generated at all."""
    names = {path.name for folder in (made, committed) for path in folder.glob("*.*")}
    found = []
    for name in sorted(names):
        new, old = made / name, committed / name
        if not old.exists():
            found.append(f"missing: {old.relative_to(ROOT)}")
        elif not new.exists():
            found.append(f"not generated: {old.relative_to(ROOT)}")
        elif new.read_bytes() != old.read_bytes():
            found.append(f"stale: {old.relative_to(ROOT)}")
    return found


def check(out: Path) -> int:
    """Compare what was made in `out` with the committed files; return the exit status."""
    found = differences(out / STUBS, ROOT / STUBS)
    page = ROOT / REFERENCE
    if not page.exists() or page.read_bytes() != (out / REFERENCE).read_bytes():
        found.append(f"stale: {REFERENCE}")
    if found:
        print("\n".join(found), "run `make protos` and commit the result", sep="\n")
    return 1 if found else 0


def replace(out: Path) -> int:
    """Put what was made in `out` in place of the committed files; return the exit status."""
    shutil.rmtree(ROOT / STUBS, ignore_errors=True)
    shutil.copytree(out / STUBS, ROOT / STUBS)
    (ROOT / REFERENCE).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(out / REFERENCE, ROOT / REFERENCE)
    return 0


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Make the stubs and the contract's reference.")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args()
    ensure_toolchain()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        try:
            generate(out)
        except subprocess.CalledProcessError as error:
            return error.returncode
        return check(out) if options.check else replace(out)


if __name__ == "__main__":
    sys.exit(main())
