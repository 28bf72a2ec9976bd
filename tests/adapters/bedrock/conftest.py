"""No test sees the AWS of whoever runs it: neither files, nor variables, nor the machine's own role."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.adapters.bedrock.givers import Sts
from tests.adapters.bedrock.serving import KEYS
from tests.adapters.upstream import upstream


@pytest.fixture(autouse=True)
def aws_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home with `config` and `credentials` to be written; nothing of AWS in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return home


@pytest.fixture
async def sts(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sts]:
    """An STS of this test's own, and a key in the environment that may ask it."""
    giver = Sts()
    async with upstream(giver) as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", served.url)
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        yield giver
