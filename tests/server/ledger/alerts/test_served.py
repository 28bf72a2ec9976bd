"""A server raises alerts for its chats, tells its targets, and lets them be watched until it drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
import yaml
from tests.server.conftest import Serve, Served, chat_request, events_of
from tests.server.ledger.alerts.receivers import Webhook
from tests.server.ledger.served import PRICES, make_budget, with_ledger

from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import cost_pb2

WORD = "made-up-0123456789"
KINDS = cost_pb2.AlertKind


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    """A receiver that runs."""
    one = Webhook()
    await one.start()
    yield one
    await one.stop()


async def watched(served: Served, count: int, after_id: str = "0" * 32) -> list[cost_pb2.Alert]:
    """Return the next alerts, so many."""
    found: list[cost_pb2.Alert] = []
    call = served.costs.WatchBudgetAlerts(cost_pb2.WatchBudgetAlertsRequest(after_id=after_id))
    async with asyncio.timeout(60):
        async for response in call:
            found.extend(response.alerts)
            if len(found) >= count:
                call.cancel()
                break
    return found


async def test_chats_raise_alerts_that_are_told_and_watched(
    serve: Serve, webhook: Webhook, database: Database, database_url: str, tmp_path: Path
) -> None:
    """A threshold, a refusal and an unpriced model reach a watcher and a webhook; no log holds the address."""
    file = {
        "version": 1,
        "models": {"scripted/echo": PRICES},
        "alerts": {"targets": {"ops": {"url": "${EP_ALERT_OPS_URL}"}}},
    }
    (tmp_path / "ep.yaml").write_text(yaml.safe_dump(file))
    address = f"json://ops:{WORD}@127.0.0.1:{webhook.port}/in"
    environ = {"EP_CONFIG_PATH": str(tmp_path / "ep.yaml"), "EP_ALERT_OPS_URL": address}
    async with serve(with_ledger(database_url, **environ)) as served:
        await events_of(served.chat.Chat(chat_request([{"text": "free?"}], model="scripted/slow")))
        budget = await make_budget(served, database, "100")
        script = [{"text": "so"}, {"usage": {"input": 30000, "output": 15000}}]
        await events_of(served.chat.Chat(chat_request(script, model="scripted/echo")))
        with pytest.raises(grpc.aio.AioRpcError):
            await events_of(served.chat.Chat(chat_request(text="far too long " * 15_000, model="scripted/echo")))
        found = await watched(served, 3)
        assert [KINDS.Name(each.kind)[11:] for each in found] == ["UNPRICED_MODEL", "THRESHOLD", "BUDGET_EXCEEDED"]
        assert (found[1].percent, found[1].budget.budget.id) == (50, budget.id)
        async with asyncio.timeout(60):
            await webhook.has_taken(3)
        assert {body["title"] for _, _, body in webhook.taken} == {each.title for each in found}
        assert await watched(served, 1, found[0].id) != []
        assert WORD not in served.log.getvalue()


async def test_watching_ends_well_as_the_server_drains(serve: Serve, database_url: str) -> None:
    """A stream of alerts beats while there are none, and ends with OK when the server does."""
    async with serve(with_ledger(database_url, EP_HEARTBEAT_SECONDS="0.1")) as served:
        call = served.costs.WatchBudgetAlerts(cost_pb2.WatchBudgetAlertsRequest())
        assert not (await anext(aiter(call))).alerts
        await served.app.shut_down()
        async with asyncio.timeout(60):
            while await call.read() is not grpc.aio.EOF:
                pass
        assert await call.code() is grpc.StatusCode.OK


async def test_an_id_that_is_none_is_refused(serve: Serve, database_url: str) -> None:
    """Watching after something that is no id is INVALID_ARGUMENT."""
    async with serve(with_ledger(database_url)) as served:
        call = served.costs.WatchBudgetAlerts(cost_pb2.WatchBudgetAlertsRequest(after_id="yesterday"))
        with pytest.raises(grpc.aio.AioRpcError, match="after_id is not the id of an alert") as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
