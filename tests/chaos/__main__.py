"""``make chaos``: what callers see while providers fail, over real HTTP."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.report import Report
from tests.chaos.run import Row, Stage
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.e2e.processes import ROOT


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--json", type=Path, default=ROOT / "build/chaos.json", help="where the results go")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    parser.add_argument("--patience", type=float, default=1.0, help="seconds of silence until an attempt is given up")
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--logs", type=Path, help="keep there what the processes have written")
    parser.add_argument("--small", action="store_true", help="few chats of each, as in the tests")
    return parser.parse_args()


async def _play(folder: Path, scenarios: list[Scenario], arguments: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    async with Stage.set(folder, arguments.seed, arguments.patience) as stage:
        for scenario in scenarios:
            print(f"{scenario.name} ...", file=sys.stderr, flush=True)
            rows.append(await stage.play(scenario, small=arguments.small))
    return rows


def main() -> int:
    """Run it, print the table, write the JSON. Returns 1 where a bar is missed."""
    arguments = _arguments()
    scenarios = [scenario for scenario in SCENARIOS if arguments.only in scenario.name]
    # As Ctrl-C does: whatever runs is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.logs or Path(temporary)
        rows = asyncio.run(_play(folder, scenarios, arguments))
    machine = {"cores": str(os.cpu_count()), "Python": platform.python_version(), "system": platform.system()}
    report = Report(machine, arguments.seed, round(time.monotonic() - began, 1), rows)
    print(report.text())
    report.write(arguments.json)
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
