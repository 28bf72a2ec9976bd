"""Reads settings and providers from the environment and ``.env``, and tells every mistake at once."""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import SecretStr, ValidationError

from execution_platform.adapters.spi import ProviderConfig, ProviderSpec, Timeouts
from execution_platform.server.config.alert_addresses import VARIABLES
from execution_platform.server.config.known import KnownNames
from execution_platform.server.config.read import PlatformError
from execution_platform.server.config.settings import Settings
from execution_platform.server.config.source import PlatformSource

__all__ = ["Configuration", "ConfigurationError", "load"]

PREFIX = "EP_"

#: Variables with our prefix that are no settings: the client's, and what a parent tells its workers.
_FOREIGN = frozenset({"EP_TARGET", "EP_TOKEN", "EP_TLS", "EP_CA", "EP_CERT", "EP_KEY", "EP_WORKER"})


class ConfigurationError(Exception):
    """The configuration is wrong.

    Attributes:
        problems: one line each, naming the variable and the fix.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that was configured.

    Attributes:
        settings: of the server.
        providers: how each known provider is reached, by name; also those that are not configured.
        warnings: what somebody should look at, such as variables that nobody reads.
        platform: personas and routes.
    """

    settings: Settings
    providers: Mapping[str, ProviderConfig]
    warnings: tuple[str, ...] = ()
    platform: PlatformSource = field(default_factory=PlatformSource)


def load(
    specs: Iterable[ProviderSpec],
    environ: Mapping[str, str],
    env_file: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Configuration:
    """Read the configuration.

    Args:
        specs: the providers whose settings to read.
        environ: the environment; wins over the file.
        env_file: a file of ``NAME=value`` lines; a missing one is as an empty one.
        overrides: values of the command line by variable; win over everything.

    Raises:
        ConfigurationError: something is wrong; it names everything that is.
    """
    specs = list(specs)
    warnings: list[str] = []
    values = _merged(environ, _file_values(env_file, warnings), overrides or {})
    problems: list[str] = []
    settings = _settings(values, problems)
    timeouts = Timeouts(connect=settings.provider_connect_seconds, read=settings.provider_read_seconds)
    providers = {spec.name: spec.settle(_provider(spec, values, timeouts, problems), environ) for spec in specs}
    platform = _platform(settings, specs, values, providers, problems)
    if problems or platform is None:
        raise ConfigurationError(problems)
    return Configuration(settings, providers, (*warnings, *_unread(values, specs), *platform.warnings), platform)


def _merged(environ: Mapping[str, str], from_file: Mapping[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    merged = {**from_file, **environ, **overrides}
    return {name: value for name, value in merged.items() if name.startswith(PREFIX)}


def _file_values(env_file: Path | None, warnings: list[str]) -> dict[str, str]:
    """Return what a file says. Raises ConfigurationError if it is there and cannot be read."""
    if env_file is None or not env_file.exists() or env_file.is_dir():
        return {}
    try:
        text = env_file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"{env_file}: cannot be read: {(error.strerror or str(error)).lower()}"]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError([f"{env_file}, line {line}: is not UTF-8"]) from None
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # Without the line itself: it may hold a key.
            warnings.append(f"{env_file}, line {binding.original.line} is passed over: write it as NAME=value")
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values


def _settings(values: Mapping[str, str], problems: list[str]) -> Settings:
    given = {
        name: values[variable]
        for name in Settings.model_fields
        if values.get(variable := PREFIX + name.upper(), "") != ""
    }
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False):
            place = PREFIX + str(item["loc"][0]).upper() + ": " if item["loc"] else ""
            problems.append(place + item["msg"].removeprefix("Value error, "))
        return _rest_of(given, {str(item["loc"][0]) for item in error.errors() if item["loc"]})


def _rest_of(given: Mapping[str, str], wrong: set[str]) -> Settings:
    """Return what is right of the settings, so that the files which they name are looked at too."""
    try:
        return Settings.model_validate({name: value for name, value in given.items() if name not in wrong})
    except ValidationError:
        return Settings()


def _platform(
    settings: Settings,
    specs: list[ProviderSpec],
    values: Mapping[str, str],
    providers: Mapping[str, ProviderConfig],
    problems: list[str],
) -> PlatformSource | None:
    given = [(settings.config_path, False), (settings.persona_provider_map_path, True)]
    alert_variables = {name: value for name, value in values.items() if name.startswith(VARIABLES)}
    try:
        return PlatformSource(
            files=[(path, only_personas) for path, only_personas in given if path],
            known=KnownNames.of(specs, settings.model_aliases, alert_variables, providers),
        )
    except PlatformError as error:
        problems.extend(error.problems)
        return None


def _provider(spec: ProviderSpec, values: Mapping[str, str], timeouts: Timeouts, problems: list[str]) -> ProviderConfig:
    prefix = f"{PREFIX}{spec.name.upper()}_"
    key = values.get(prefix + "API_KEY", "").strip()
    base_url = values.get(prefix + "BASE_URL", "").strip().rstrip("/")
    if base_url and (urlsplit(base_url).scheme not in {"http", "https"} or not urlsplit(base_url).hostname):
        problems.append(f"{prefix}BASE_URL: must be an http or https address, for example http://127.0.0.1:8080/v1")
    if any(ord(character) < 33 or ord(character) > 126 for character in key):
        problems.append(f"{prefix}API_KEY: holds a character that no HTTP header can carry")
    return ProviderConfig(
        name=spec.name,
        api_key=SecretStr(key) if key else None,
        base_url=base_url or spec.default_base_url,
        options={option.name: values.get(prefix + option.name.upper(), option.default) for option in spec.options},
        timeouts=timeouts,
    )


def _unread(values: Mapping[str, str], specs: list[ProviderSpec]) -> Iterable[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | _FOREIGN
    for spec in specs:
        names = ["API_KEY", "BASE_URL", *(option.name.upper() for option in spec.options)]
        known.update(f"{PREFIX}{spec.name.upper()}_{name}" for name in names)
    # Addresses of alerts may name any of these, and say so where one is missing.
    known.update(name for name in values if name.startswith(VARIABLES))
    for name in sorted(set(values) - known):
        near = difflib.get_close_matches(name, known, n=1)
        yield f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
