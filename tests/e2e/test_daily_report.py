"""The report of a day reaches a mail server once, although several server processes share the ledger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from tests.e2e.processes import Server
from tests.server.ledger.alerts.receivers import Mailbox


@pytest.mark.slow
async def test_one_letter_comes_of_two_servers(tmp_path: Path) -> None:
    """Two servers find the same report due at their start; when both are gone, one letter has come, as a page."""
    mailbox = Mailbox()
    await mailbox.start()
    # Hours ago: the next one is far off, whenever this runs.
    sent = datetime.now(UTC) - timedelta(hours=6)
    url = f"mailto://127.0.0.1:{mailbox.port}/finance@example.test?from=ep@example.test"
    file = {
        "version": 1,
        "alerts": {"targets": {"finance": {"url": url}}},
        "reports": {"daily": {"at": sent.strftime("%H:%M"), "targets": ["finance"]}},
    }
    (tmp_path / "ep.yaml").write_text(yaml.safe_dump(file))
    settings = {
        "EP_LEDGER": "on",
        "EP_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        "EP_CONFIG_PATH": str(tmp_path / "ep.yaml"),
    }
    servers: list[Server] = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            servers.append(Server(tmp_path / name, settings))
        for server in servers:
            await asyncio.to_thread(server.address)
        async with asyncio.timeout(120):
            while not mailbox.letters:  # noqa: ASYNC110 - the mailbox has no event of its own
                await asyncio.sleep(0.1)
    finally:
        for server in servers:
            await asyncio.to_thread(server.end)
        await mailbox.stop()
    assert len(mailbox.letters) == 1
    assert mailbox.letters[0]["subject"].startswith("Spending of ")
    page = mailbox.letters[0].get_body(("html",))
    assert page is not None
    assert "Content-Security-Policy" in page.get_content()
