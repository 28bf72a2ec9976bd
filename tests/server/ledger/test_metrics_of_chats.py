"""What chats spend, and what budgets refuse, can be scraped."""

from __future__ import annotations

from tests.server.conftest import Serve, events_of, failed_stream
from tests.server.ledger.served import make_budget, with_ledger
from tests.server.ledger.test_budgets_of_chats import any_of
from tests.server.ledger.test_records_of_chats import GOOD, platform, specs
from tests.server.test_metrics import METERED, scrape, value

from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.server.ledger.store.database import Database


async def test_what_chats_spend_is_counted(serve: Serve, database_url: str) -> None:
    """Cost and tokens are told by provider, model and persona, and the ledger's transactions by what they do."""
    environ = {**with_ledger(database_url), **METERED}
    async with serve(environ, specs([GOOD], []), platform(fallback=[])) as served:
        for _ in range(2):
            await events_of(served.chat.Chat(any_of(100)))
        samples = await scrape(served.app.metrics_endpoint)
    who = {"provider": "a", "model": "echo", "persona": "writer"}
    assert value(samples, "ep_cost_nanos_total", **who) == 108_000_000
    assert value(samples, "ep_tokens_total", **who, kind="input") == 60
    assert value(samples, "ep_tokens_total", **who, kind="output") == 24
    assert value(samples, "ep_ledger_batch_size_sum") == 2
    assert value(samples, "ep_ledger_available") == 1
    assert value(samples, "ep_ledger_spooled") == 0


async def test_what_budgets_refuse_is_counted(serve: Serve, database: Database, database_url: str) -> None:
    """An attempt that no budget has room for is counted, and so is one whose price is not known."""
    configuration = platform(fallback=[])
    configuration["models"] = {}
    environ = {**with_ledger(database_url), **METERED}
    async with serve(environ, specs(ScriptedAdapter(GOOD), []), configuration) as served:
        await make_budget(served, database, tokens=300)
        await events_of(served.chat.Chat(any_of(100)))
        await failed_stream(served.chat.Chat(any_of(1000)))
        samples = await scrape(served.app.metrics_endpoint)
    assert value(samples, "ep_budget_refusals_total", when="before") == 1
    assert value(samples, "ep_attempts_unpriced_total", provider="a") == 1
    assert value(samples, "ep_cost_nanos_total") == 0
