"""One hard budget holds for the callers of four servers, on both databases, whatever happens to chats and servers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.e2e.budget_load import PIECE_TOKENS, Plan, judged, played
from tests.real_postgres import RealPostgres

#: A lease that outlasts whatever holds up a busy machine: a server that lives loses no chat.
PLAN = Plan(lease_seconds=20)


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_one_budget_holds_for_four_servers(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """No more is spent than the limit and a piece a stream; who is refused reached nobody; nothing is lost or left."""
    # A third of the chats is cancelled, a third is answered far longer than it asked for, and one server is killed.
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if database == "postgresql":
        server: RealPostgres = request.getfixturevalue("postgres")
        url = server.new_database()
    result = asyncio.run(played(PLAN, url, tmp_path))
    assert judged(PLAN, result) == []
    ends = result.ends
    # It was worth the while: all that can happen did.
    assert min(ends[each] for each in ("finished", "cut", "refused", "cancelled", "broken")) > 0, ends
    assert result.ledger.spent > 0.8 * PLAN.limit
    assert max(each.largest for each in result.heard.values()) >= PIECE_TOKENS
