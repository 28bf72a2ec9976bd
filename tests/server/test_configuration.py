"""Settings and providers are read from the environment and .env; every mistake is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from execution_platform.adapters import scripted
from execution_platform.adapters.registry import Registry
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import ProviderOption, ProviderSpec
from execution_platform.server.app import App
from execution_platform.server.config.load import ConfigurationError, load
from execution_platform.server.telemetry import make_logger

KEYED = ProviderSpec(
    name="keyed",
    display_name="Keyed",
    family="keyed",
    create=lambda _: ScriptedAdapter(),
    default_base_url="https://api.example.test/v1",
    options=[ProviderOption("api_version", "which version", default="2026-01-01")],
)
SPECS = [*scripted.PROVIDERS, KEYED]


def test_defaults_serve_on_loopback() -> None:
    """With nothing set the server listens on 127.0.0.1:50051 and providers have their defaults."""
    configuration = load(SPECS, {})
    assert configuration.settings.listen == "127.0.0.1:50051"
    assert configuration.providers["keyed"].api_key is None
    assert configuration.providers["keyed"].base_url == "https://api.example.test/v1"
    assert configuration.providers["keyed"].options == {"api_version": "2026-01-01"}


def test_command_line_wins_over_environment_over_file(tmp_path: Path) -> None:
    """A value of the command line wins over the environment's, and that over the file's."""
    env_file = tmp_path / ".env"
    env_file.write_text("EP_LISTEN=127.0.0.1:1\nEP_WORKERS=2\nEP_DRAIN_SECONDS=3\nOTHER=x\n")
    configuration = load(SPECS, {"EP_LISTEN": "127.0.0.1:2", "EP_WORKERS": "3"}, env_file, {"EP_LISTEN": "[::1]:3"})
    settings = configuration.settings
    assert (settings.listen, settings.workers, settings.drain_seconds) == ("[::1]:3", 3, 3.0)


def test_provider_is_configured_by_its_own_variables() -> None:
    """Key, address and options of a provider are read from EP_<NAME>_*."""
    environ = {
        "EP_KEYED_API_KEY": "made-up-key",
        "EP_KEYED_BASE_URL": "http://127.0.0.1:9/v1/",
        "EP_KEYED_API_VERSION": "v9",
    }
    config = load(SPECS, environ).providers["keyed"]
    assert config.api_key is not None
    assert config.api_key.get_secret_value() == "made-up-key"
    assert (config.base_url, config.options["api_version"]) == ("http://127.0.0.1:9/v1", "v9")


def test_key_is_never_shown() -> None:
    """Neither the configuration nor its repr shows a key."""
    configuration = load(SPECS, {"EP_KEYED_API_KEY": "made-up-key"})
    assert "made-up-key" not in repr(configuration)
    assert "made-up-key" not in str(configuration.providers)


WRONG = {
    "EP_LISTEN": ["localhost", "127.0.0.1:99999", "unix:", ":50051", "a:b:c"],
    "EP_WORKERS": ["0", "many", "-1"],
    "EP_DRAIN_SECONDS": ["-1", "soon"],
    "EP_LOG_LEVEL": ["loud"],
    "EP_LOG_FORMAT": ["xml"],
    "EP_MODEL_ALIASES": ["{", "justaname", "a/b=scripted/echo", "fast="],
    "EP_REFLECTION": ["perhaps"],
    "EP_KEYED_BASE_URL": ["ftp://x", "api.example.test"],
    "EP_KEYED_API_KEY": ["made up key with spaces", "made-up-\u00fc"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_wrong_value_is_refused_by_its_variable(name: str, value: str) -> None:
    """A wrong value is told with the name of its variable, and a wrong key without the key."""
    with pytest.raises(ConfigurationError) as caught:
        load(SPECS, {name: value})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [name]
    assert "made" not in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    """Several wrong values give one error with a line for each."""
    with pytest.raises(ConfigurationError) as caught:
        load(SPECS, {"EP_WORKERS": "0", "EP_LOG_LEVEL": "loud", "EP_KEYED_BASE_URL": "x"})
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "environ", [{"EP_TLS_CERT_FILE": "cert.pem"}, {"EP_WORKERS": "2", "EP_LISTEN": "unix:/run/ep.sock"}]
)
def test_values_that_do_not_go_together_are_refused(environ: dict[str, str]) -> None:
    """Half a TLS pair, and workers on a unix socket, are refused."""
    with pytest.raises(ConfigurationError):
        load(SPECS, environ)


def test_variable_that_nobody_reads_is_told_with_the_nearest() -> None:
    """A misspelt variable gives a warning that names the one that was probably meant."""
    warnings = load(SPECS, {"EP_KEYED_APIKEY": "made-up-key", "EP_LISTEN": "127.0.0.1:1"}).warnings
    assert warnings == ("EP_KEYED_APIKEY is not a setting; did you mean EP_KEYED_API_KEY?",)


def test_an_odd_line_of_the_file_is_told_without_its_text(tmp_path: Path) -> None:
    """A line that is no NAME=value is named by its number, not by its text, and the other lines count all the same."""
    file = tmp_path / "settings"
    file.write_text(
        '# ours\nexport EP_DRAIN_SECONDS = 5\nmade up\nEP_KEYED_API_KEY="made-up\n\nEP_WORKERS=2 # two\n',
        encoding="utf-8",
    )
    configuration = load(SPECS, {}, file)
    assert (configuration.settings.drain_seconds, configuration.settings.workers) == (5, 2)
    assert [warning.partition(" is passed over")[0] for warning in configuration.warnings] == [
        f"{file}, line 3",
        f"{file}, line 4",
    ]
    assert "made" not in "".join(configuration.warnings)


def test_a_file_from_another_system_is_read(tmp_path: Path) -> None:
    """A byte order mark and CRLF change no name and no value."""
    file = tmp_path / "settings"
    file.write_bytes(b"\xef\xbb\xbfEP_DRAIN_SECONDS=5\r\nEP_KEYED_API_KEY=made-up\r\n")
    configuration = load(SPECS, {}, file)
    assert (configuration.settings.drain_seconds, configuration.warnings) == (5, ())


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are told with file and line."""
    file = tmp_path / "settings"
    file.write_bytes(b"EP_DRAIN_SECONDS=5\nEP_KEYED_API_KEY=\xff\n")
    with pytest.raises(ConfigurationError, match="settings, line 2: is not UTF-8"):
        load(SPECS, {}, file)


def test_the_clients_variables_are_known() -> None:
    """Variables of the command line that serve does not read give no warning, for both run in one environment."""
    clients = ("EP_TARGET", "EP_TOKEN", "EP_TLS", "EP_CA", "EP_CERT", "EP_KEY")
    assert load(SPECS, dict.fromkeys(clients, "1")).warnings == ()


def test_aliases_are_read_in_both_forms() -> None:
    """Aliases come as name=model pairs or as a JSON object."""
    expected = {"fast": "scripted/echo", "deep": "keyed/big"}
    assert load(SPECS, {"EP_MODEL_ALIASES": "fast=scripted/echo, deep=keyed/big"}).settings.model_aliases == expected
    json_form = '{"fast": "scripted/echo", "deep": "keyed/big"}'
    assert load(SPECS, {"EP_MODEL_ALIASES": json_form}).settings.model_aliases == expected


@pytest.mark.parametrize(
    "environ", [{"EP_DEFAULT_MODEL": "nobody/x"}, {"EP_MODEL_ALIASES": "fast=nobody/x"}, {"EP_DEFAULT_MODEL": "fst"}]
)
async def test_default_or_alias_that_leads_nowhere_stops_the_start(environ: dict[str, str]) -> None:
    """A default model or an alias of an unknown provider is refused at start, with its variable."""
    with pytest.raises(ConfigurationError, match=next(iter(environ))):
        App(load(SPECS, environ), Registry(SPECS), make_logger())
