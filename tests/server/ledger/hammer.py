"""A process that chats under budgets as fast as it can. Tests run several and kill some.

    python -m tests.server.ledger.hammer URL SPOOL CALLERS CHATS

It prints `ready`, waits for a line, then prints the id of each chat's record once its settlement has returned, and
`refused N` at the end.
"""

from __future__ import annotations

import asyncio
import io
import random
import sys
from pathlib import Path

import uvloop
from tests.server.ledger.chats import facts, record

from execution_platform.server.errors import BudgetExceededError
from execution_platform.server.ledger.facts import Demand
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.writing.spool import Spool
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import cost_pb2

#: What each chat may cost at most, in nanos.
WORST = 100


async def chat(ledger: SqlLedger, chance: random.Random) -> bool:
    """Chat once; return whether it was let."""
    of = facts(chance.choice(["writer", "reader"]))
    lost = record(of, 0, outcome=cost_pb2.USAGE_OUTCOME_LOST)
    asking = asyncio.ensure_future(ledger.reserve(of, 1, "scripted", "plain", Demand(WORST), lambda: lost))
    if chance.random() < 0.3:
        await asyncio.sleep(chance.random() / 100)
        asking.cancel()
        await asyncio.wait([asking])
        await ledger.settle(of, record(of, 0, outcome=cost_pb2.USAGE_OUTCOME_CANCELLED))
        print(of.id, flush=True)
        return True
    try:
        await asking
    except BudgetExceededError:
        return False
    await asyncio.sleep(chance.random() / 100)
    await ledger.settle(of, record(of, chance.randrange(WORST + 1)))
    print(of.id, flush=True)
    return True


async def main(url: str, spool: str, callers: int, chats: int) -> None:
    """Chat."""
    logger = make_logger("error", "json", io.StringIO())
    database = Database(DatabaseAddress.parse(url), logger, patience=60)
    await database.start()
    ledger = SqlLedger(database, Spool(Path(spool)), logger)
    await ledger.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    chance = random.Random()  # noqa: S311 - no secret
    refused = 0

    async def caller() -> None:
        nonlocal refused
        for _ in range(chats):
            let = await chat(ledger, chance)
            refused += not let  # not in one line: others count while this one waits

    await asyncio.gather(*(caller() for _ in range(callers)))
    await ledger.aclose()
    await database.aclose()
    print(f"refused {refused}", flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
