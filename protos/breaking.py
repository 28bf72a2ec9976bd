"""Tell whether the protos break callers of the last published contract.

breaking.py             compare with the newest tag contract-v*, or, in a clone without tags, with
                        protos/contract.binpb; status 1 if something breaks
breaking.py --record    write protos/contract.binpb from the protos as they are (before tagging)
"""

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASELINE = Path("protos/contract.binpb")
TAGS = "contract-v*"


def buf(*arguments: str) -> int:
    """Run buf at the root of the repository; return its exit status."""
    program = Path(sysconfig.get_path("scripts"), "buf")
    return subprocess.run([str(program), *arguments], cwd=ROOT, check=False).returncode


def newest_tag() -> str | None:
    """Return the contract tag with the highest version, or None where there is none."""
    listed = subprocess.run(
        ["git", "tag", "--list", TAGS, "--sort=-version:refname"],  # noqa: S607 - git is where it is
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    return next(iter(listed.stdout.split()), None)


def check() -> int:
    """Compare the protos with the last published contract; return the exit status."""
    tag = newest_tag()
    if tag is not None:
        print(f"contract: compared with tag {tag}")
        return buf("breaking", "--against", f".git#tag={tag}")
    if (ROOT / BASELINE).exists():
        print(f"contract: no tag {TAGS} in this clone, compared with {BASELINE}")
        return buf("breaking", "--against", str(BASELINE))
    print(f"contract: no tag {TAGS} and no {BASELINE}: nothing is published that could break")
    return 0


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare the protos with the last contract.")
    parser.add_argument("--record", action="store_true", help=f"write {BASELINE} and end")
    if parser.parse_args().record:
        return buf("build", "--exclude-source-info", "--output", str(BASELINE))
    return check()


if __name__ == "__main__":
    sys.exit(main())
