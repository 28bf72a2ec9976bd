"""`ep personas check` and `ep personas schema` work without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
from tests.e2e.processes import environment


def ep(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the group `personas`."""
    return subprocess.run(
        [sys.executable, "-m", "execution_platform.server", "personas", *arguments],
        cwd=folder,
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_configured_files_are_checked(tmp_path: Path) -> None:
    """Without FILE the configured files are read together; the summary tells whom each persona asks, and warnings."""
    (tmp_path / "personas.yaml").write_text("defaults: {fallback: [gemini]}\npersonas:\n  a:\n    model: fast\n")
    (tmp_path / "map.json").write_text('{"b": {"provider": "openai"}, "c": {"provider": "mistral"}}')
    (tmp_path / ".env").write_text(
        "EP_CONFIG_PATH=personas.yaml\nEP_PERSONA_PROVIDER_MAP_PATH=map.json\nEP_MODEL_ALIASES=fast=anthropic/claude-x\n"
        "EP_OPENAI_API=telegraph\n"
    )
    checked = ep(tmp_path, "check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines() == [
        "personas.yaml:3: a: anthropic/claude-x, then gemini",
        "map.json:1: b: openai, then gemini",
        "map.json:1: c: mistral, then gemini",
        (
            "warning: map.json:1: b.provider: openai cannot be asked and is passed over: "
            "EP_OPENAI_API must be auto, chat or responses, not 'telegraph'"
        ),
        "3 personas, 1 warning",
    ]


def test_problems_are_told_with_status_2(tmp_path: Path) -> None:
    """Files that are named take the place of the configured ones; every problem is a line, and the status is 2."""
    (tmp_path / "broken.yaml").write_text("a: {provider: opnai}\nb: {strategy: wieghted}\n")
    checked = ep(tmp_path, "check", "broken.yaml", EP_CONFIG_PATH="nothing.yaml", EP_PERSONA_PROVIDER_MAP_PATH="none")
    assert checked.returncode == 2
    assert checked.stdout.splitlines() == [
        "broken.yaml:1: a.provider: no provider 'opnai'; did you mean 'openai'?",
        "broken.yaml:2: b.strategy: 'wieghted' is not known here; did you mean 'weighted'?",
    ]
    assert checked.stderr == "ep personas check: 2 problems\n"


def test_two_files_are_read_together(tmp_path: Path) -> None:
    """A second FILE is read as the map: its personas may extend those of the first."""
    (tmp_path / "personas.yaml").write_text("personas:\n  a: {provider: openai}\n")
    (tmp_path / "map.json").write_text('{"b": {"extends": "a", "model": "gpt-4"}}')
    checked = ep(tmp_path, "check", "personas.yaml", "map.json")
    assert checked.stdout.splitlines()[1:] == ["map.json:1: b: openai/gpt-4", "2 personas, 0 warnings"]
    assert ep(tmp_path, "check", "map.json").returncode == 2


def test_nothing_to_check_is_told(tmp_path: Path) -> None:
    """Without FILE and without a configured file the command says what to do, with status 2."""
    checked = ep(tmp_path, "check")
    assert checked.returncode == 2
    assert "EP_CONFIG_PATH" in checked.stderr


def test_the_schema_is_written(tmp_path: Path) -> None:
    """The schema is JSON, knows the aliases that are set, and does not ask for the configured files to be right."""
    written = ep(tmp_path, "schema", EP_MODEL_ALIASES="speedy=openai/gpt-4", EP_CONFIG_PATH="nothing.yaml")
    assert (written.returncode, written.stderr) == (0, "")
    schema = json.loads(written.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert jsonschema.Draft202012Validator(schema).is_valid({"a": {"fallback": ["speedy"]}})
    assert not jsonschema.Draft202012Validator(schema).is_valid({"a": {"fallback": ["fast"]}})
