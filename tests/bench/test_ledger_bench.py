"""The bench of the ledger measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.bars import Bar
from tests.bench.ledger import Measured, bars_of, measure, text_of
from tests.bench.ledger_rows import fill_postgres, fill_sqlite
from tests.real_postgres import RealPostgres


@pytest.mark.parametrize("sort", ["sqlite", "postgresql"])
async def test_its_records_are_such_as_the_ledger_writes(
    sort: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Records made for the bench are summed and exported like any others, on both sorts of database."""
    file = tmp_path / "ledger.db"
    url = f"sqlite:///{file}"
    if sort == "postgresql":
        server: RealPostgres = request.getfixturevalue("postgres")
        url = server.new_database()

    async def fill() -> None:
        if sort == "sqlite":
            fill_sqlite(file, 300)
        else:
            await fill_postgres(url, 300)

    found = await measure(url, sort, fill, ["CSV", "JSON lines"])
    assert {each.rows for each in found if each.what.startswith("sums by day and persona")} <= set(range(100, 311))
    (lines,) = (each for each in found if each.what == "export as JSON lines")
    assert lines.rows == 300


def test_bars_are_of_the_sum_that_was_asked_for() -> None:
    """The bars are the sum by day and persona, and the memory of each export."""
    found = [
        Measured("SQLite", "sums by day and persona", 310, 1.2, 1.0),
        Measured("SQLite", "sums by hour", 744, 3.0, 1.0),
        Measured("SQLite", "export as CSV", 9, 60.0, 50.0, 400.0, 12.0),
    ]
    assert bars_of(found) == [
        Bar("SQLite: sums by day and persona", 1.2, 1.0, "s"),
        Bar("SQLite: export as CSV, memory", 12.0, 64.0, "MiB"),
    ]
    assert "by day and persona: 1.20 of 1 s: NOT MET" in text_of(found, bars_of(found))
