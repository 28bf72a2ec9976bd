"""``python -m tests.chaos.budgets``: whether one hard budget holds for many callers of several servers.

It tries both databases; what it does and compares is in tests/e2e/budget_load.py. It prints a table in Markdown, then
what should not have happened; it ends with 1 where there is any.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.budget_load import Plan, Result, judged, overrun_allowed, played
from tests.real_postgres import real_postgres

_HEAD = (
    "database",
    "callers",
    "chats",
    "finished",
    "cut",
    "refused",
    "cancelled",
    "server killed",
    "limit",
    "spent",
    "a piece a stream",
    "seconds",
    "nothing held after",
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.budgets", description=__doc__)
    parser.add_argument("--servers", type=int, default=4, help="processes")
    parser.add_argument("--callers", type=int, default=64, help="callers of each")
    parser.add_argument("--chats", type=int, default=8, help="chats of each caller")
    parser.add_argument("--dollars", type=int, default=200, help="the budget's limit")
    parser.add_argument("--lease", type=int, default=10, help="EP_LEDGER_LEASE_SECONDS")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one database")
    return parser.parse_args()


def _row(database: str, plan: Plan, result: Result) -> Iterator[str]:
    ends = result.ends
    yield database
    yield f"{plan.servers} x {plan.callers}"
    yield str(len(result.heard))
    yield from (str(ends[each]) for each in ("finished", "cut", "refused", "cancelled", "broken"))
    yield from (_dollars(each) for each in (plan.limit, result.ledger.spent, overrun_allowed(result)))
    yield f"{result.seconds:.0f}"
    yield f"{result.settled_seconds:.0f} s"


def _dollars(nanos: int) -> str:
    return f"{nanos / 10**9:.2f} USD"


def _played(database: str, plan: Plan, folder: Path) -> Result:
    place = folder / database
    place.mkdir()
    if database == "sqlite":
        return asyncio.run(played(plan, f"sqlite:///{place / 'ledger.db'}", place))
    with real_postgres() as server:
        return asyncio.run(played(plan, server.new_database(), place))


def main() -> int:
    """Run it, print the table. Returns 1 where something should not have happened."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = Plan(
        servers=arguments.servers,
        callers=arguments.callers,
        chats=arguments.chats,
        dollars=arguments.dollars,
        lease_seconds=arguments.lease,
        seed=arguments.seed,
    )
    wrong: list[str] = []
    print(f"| {' | '.join(_HEAD)} |\n|{' --- |' * len(_HEAD)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for database in [arguments.only] if arguments.only else ["sqlite", "postgresql"]:
            result = _played(database, plan, Path(folder))
            print(f"| {' | '.join(_row(database, plan, result))} |", flush=True)
            wrong += [f"{database}: {each}" for each in judged(plan, result)]
    print("\n".join(wrong) or "\nNothing happened that should not have.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
