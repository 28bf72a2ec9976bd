"""What the provider needs, what it says of itself, and what it does not cost who does not use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.adapters.claude_agent.cages import require_cages

from execution_platform.adapters.claude_agent import PROVIDERS
from execution_platform.adapters.claude_agent.settings import settings_of
from execution_platform.adapters.errors import NotConfiguredError
from execution_platform.adapters.spi import ProviderConfig

SPEC = PROVIDERS[0]


def config(*, key: str | None = "made-up", **options: str) -> ProviderConfig:
    """Return the provider's configuration."""
    defaults = {option.name: option.default for option in SPEC.options}
    return ProviderConfig(SPEC.name, SecretStr(key) if key else None, options=defaults | options)


def test_a_key_is_enough(tmp_path: Path) -> None:
    """With a key and the two programs nothing is missing."""
    require_cages()
    assert SPEC.missing(config(config_dir=str(tmp_path))) == ""


def test_a_login_takes_the_place_of_a_key(tmp_path: Path) -> None:
    """Without a key a login must be there; only whether its file is there is looked at."""
    require_cages()
    without = config(key=None, config_dir=str(tmp_path))
    assert SPEC.missing(without) == (
        f"set EP_CLAUDE_AGENT_API_KEY, or log in with CLAUDE_CONFIG_DIR={tmp_path / 'login'}"
    )
    login = tmp_path / "login" / ".credentials.json"
    login.parent.mkdir()
    login.touch(mode=0o000)
    assert SPEC.missing(without) == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"most_runs": "0"}, "EP_CLAUDE_AGENT_MOST_RUNS must be a whole number from 1 to 256"),
        ({"most_waiting": "many"}, "EP_CLAUDE_AGENT_MOST_WAITING must be a whole number from 0 to 100000"),
        ({"max_turns": "-1"}, "EP_CLAUDE_AGENT_MAX_TURNS must be a whole number from 0 to 10000"),
        ({"config_dir": "here"}, "EP_CLAUDE_AGENT_CONFIG_DIR must be an absolute path"),
        ({"workspaces": "/nowhere/at/all"}, "EP_CLAUDE_AGENT_WORKSPACES: /nowhere/at/all is no absolute path"),
        ({"read_only": "here"}, "EP_CLAUDE_AGENT_READ_ONLY: here is no absolute path"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, str], said: str) -> None:
    """A setting that is not valid is told by its name."""
    with pytest.raises(NotConfiguredError) as caught:
        settings_of(config(**options))
    assert caught.value.message.startswith(said)


def test_settings_are_read(tmp_path: Path) -> None:
    """Folders are resolved, numbers read."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    folders = f"{tmp_path / 'link'}:{tmp_path}"
    kept = tmp_path / "kept"
    read_only = str(tmp_path / "link")
    settings = settings_of(config(workspaces=folders, read_only=read_only, most_runs="7", config_dir=str(kept)))
    assert settings.workspaces == (tmp_path / "real", tmp_path)
    assert (settings.read_only, settings.most_runs, settings.config_dir) == ((tmp_path / "real",), 7, kept)


def test_no_run_may_read_the_sessions_of_all(tmp_path: Path) -> None:
    """A folder that runs may read neither holds the agent's own folder nor lies in it."""
    own = tmp_path / "own"
    (own / "login").mkdir(parents=True)
    for shown in ("/", str(tmp_path), str(own), str(own / "login")):
        with pytest.raises(NotConfiguredError, match="EP_CLAUDE_AGENT_READ_ONLY"):
            settings_of(config(read_only=shown, config_dir=str(own)))


def test_who_does_not_use_it_does_not_load_it() -> None:
    """Neither finding the providers nor asking what is missing loads the SDK."""
    program = (
        "import sys\n"
        "from execution_platform.adapters.registry import Registry\n"
        "from execution_platform.adapters.spi import ProviderConfig\n"
        "spec = Registry.discover().spec('claude_agent')\n"
        "spec.missing(ProviderConfig('claude_agent', options={}))\n"
        "print('claude_agent_sdk' in sys.modules, 'mcp' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_aliases_are_priced_as_what_they_stand_for() -> None:
    """The CLI's own names are looked up under the models that they stand for, a larger context under its model."""
    assert SPEC.price_listing is not None
    assert SPEC.price_listing.names("opus") == ("claude-opus-5-5",)
    assert SPEC.price_listing.names("claude-opus-5[1m]") == ("claude-opus-5",)


def test_a_persona_s_options_are_checked_when_it_is_read() -> None:
    """What a run would refuse is told by the option's name; null takes an option away."""
    wrong = SPEC.wrong_options({"permision_mode": "plan", "max_turns": "many", "effort": None, "tools": ["Bash"]})
    assert set(wrong) == {"permision_mode", "max_turns"}
    assert "permission_mode" in wrong["permision_mode"]
    assert wrong["max_turns"] == "must be a whole number from 1 to 10000"
