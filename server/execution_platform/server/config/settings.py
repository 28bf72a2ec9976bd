"""The server's settings. ``docs/reference/configuration.md`` is generated from this file and the providers' specs."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from execution_platform.server.telemetry import LogFormat, LogLevel

__all__ = ["Settings", "Watch"]

Watch = Literal["auto", "poll", "off"]

_LISTEN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]]+):(?P<port>\d{1,5})\Z")

_DATABASE = re.compile(r"sqlite:///.+\Z|postgres(ql)?://\S+\Z")

_REDIS = re.compile(r"rediss?://[^/\s]+(/\S*)?\Z|unix://(\S+@)?/\S+\Z")


def _aliases(value: Any) -> Any:
    """Read ``name=provider/model,name=...`` or a JSON object."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"not valid JSON ({error})") from None
    pairs = [part.strip() for part in text.split(",") if part.strip()]
    if any("=" not in pair for pair in pairs):
        raise ValueError("write it as name=provider/model,name=provider/model or as a JSON object")
    return {name.strip(): target.strip() for name, target in (pair.split("=", 1) for pair in pairs)}


class Settings(BaseModel):
    """Each field is read from the variable ``EP_`` + its name in upper case, or from a line in ``.env``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = Field(
        default="127.0.0.1:50051",
        description="Address to serve on: `host:port` (port 0: any free one) or `unix:/path`.",
    )
    workers: int = Field(default=1, ge=1, le=256, description="Server processes that share the port.")
    default_model: str = Field(
        default="",
        description="What a request without a model gets: `provider/model`, an alias or a provider. "
        "Empty: the first provider that has credentials, else `local`, else `scripted`.",
    )
    model_aliases: Annotated[dict[str, str], BeforeValidator(_aliases)] = Field(
        default_factory=dict,
        description="Further names of models: `fast=openai/gpt-5-mini,deep=anthropic/...` or a JSON object.",
    )
    config_path: str = Field(
        default="", description="File of personas and routes, YAML or JSON: see docs/personas.md. Empty: none."
    )
    persona_provider_map_path: str = Field(
        default="", description="File of personas alone, YAML or JSON, read beside EP_CONFIG_PATH. Empty: none."
    )
    config_watch: Watch = Field(
        default="auto",
        description="How changes of these two are noticed: `auto`, by the system's notices and once a second by their "
        "times; `poll`, by their times alone; `off`, by SIGHUP only.",
    )
    default_deadline_seconds: float = Field(
        default=600.0, gt=0, le=86_400, description="Time for a call whose caller set no deadline."
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, le=3_600, description="Time that running chats get to finish after SIGTERM or SIGINT."
    )
    heartbeat_seconds: float = Field(
        default=15.0, gt=0, le=3_600, description="Silence after which a stream tells that it lives."
    )
    max_concurrent_chats: int = Field(
        default=1_000, ge=1, le=1_000_000, description="Chats that one process runs at once."
    )
    admission_queue: int = Field(
        default=100,
        ge=0,
        le=100_000,
        description="Chats that wait for a place when all are taken; more are refused at once. 0: none waits.",
    )
    admission_wait_seconds: float = Field(
        default=1.0, gt=0, le=600, description="Longest wait for a place; who would wait longer is refused at once."
    )
    max_receive_bytes: int = Field(
        default=32 * 1024 * 1024, ge=64 * 1024, le=2**31 - 1, description="Largest message that the server takes."
    )
    provider_connect_seconds: float = Field(default=10.0, gt=0, le=600, description="Time to connect to a provider.")
    provider_read_seconds: float = Field(
        default=300.0, gt=0, le=86_400, description="Longest silence of a provider, before and within an answer."
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="Redis where replicas share circuits and limits: `redis://`, `rediss://` or `unix://`. "
        "Empty: each process has its own.",
    )
    redis_prefix: str = Field(
        default="ep",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="What the names of the keys in Redis begin with. Replicas that share have the same one.",
    )
    redis_wait_seconds: float = Field(
        default=0.25,
        gt=0,
        le=60,
        description="Longest time that Redis may take for an answer before a process goes on alone.",
    )
    ledger: Literal["on", "off"] = Field(
        default="on", description="Keep account of what chats use and cost, and hold them to budgets: `on` or `off`."
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="Database of the ledger: `sqlite:///path/to/ledger.db` (four slashes before an absolute path) or "
        "`postgresql://user:password@host:5432/name`. Empty: `execution-platform/ledger.db` in `$XDG_STATE_HOME`, "
        "which is `~/.local/state` where it is not set.",
    )
    ledger_outage: Literal["refuse", "spool"] = Field(
        default="refuse",
        description="New chats while the database is away: `refuse` them, or `spool`: let them go on without budgets "
        "being checked. Records of chats that end meanwhile are kept in a file in both cases.",
    )
    ledger_spool: str = Field(
        default="",
        description="Folder for records that the database cannot take. Empty: beside the SQLite file, or "
        "`execution-platform/spool` in `$XDG_STATE_HOME`.",
    )
    ledger_lease_seconds: float = Field(
        default=60.0,
        ge=1,
        le=3_600,
        description="How long what a chat holds of budgets stays held without a word of its server; it is renewed "
        "three times within that. After it a killed server's chats are settled by what was known of them.",
    )
    reflection: bool = Field(default=True, description="Serve gRPC reflection, which grpcurl and `buf curl` use.")
    metrics_listen: str = Field(
        default="",
        description="Address to serve metrics for Prometheus on: `host:port`, such as `127.0.0.1:9464` "
        "(port 0: any free one). Each worker takes the port plus its number. Empty: off.",
    )
    tls_cert_file: str = Field(default="", description="PEM file with the server's certificate chain. Empty: no TLS.")
    tls_key_file: str = Field(default="", description="PEM file with the certificate's private key.")
    log_level: LogLevel = Field(default="info", description="Lowest level that is logged.")
    log_format: LogFormat = Field(
        default="auto", description="`json`, `text`, or `auto`: text on a terminal, else JSON."
    )

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        if value.startswith("unix:"):
            if len(value) <= len("unix:"):
                raise ValueError("name the socket's path after unix:")
            return value
        match = _LISTEN.match(value)
        if match is None or int(match["port"]) > 65_535:
            raise ValueError("write it as host:port, for example 127.0.0.1:50051, or unix:/path")
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _check_metrics_listen(cls, value: str) -> str:
        match = _LISTEN.match(value)
        if value and (match is None or int(match["port"]) > 65_535):
            raise ValueError("write it as host:port, for example 127.0.0.1:9464")
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not _REDIS.match(value.get_secret_value()):
            raise ValueError(
                "write it as redis://host:6379/0, rediss://host:6380/0 for TLS, or unix:///path; "
                "user:password@ goes before the host"
            )
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not _DATABASE.match(value.get_secret_value()):
            raise ValueError(
                "write it as sqlite:///path/to/ledger.db (four slashes before an absolute path) or "
                "postgresql://user:password@host:5432/name"
            )
        return value

    @field_validator("model_aliases")
    @classmethod
    def _check_aliases(cls, value: dict[str, str]) -> dict[str, str]:
        for name, target in value.items():
            if not name or "/" in name:
                raise ValueError(f"{name!r} cannot be an alias: it must be a name without a slash")
            if not target:
                raise ValueError(f"alias {name!r} has no model")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("EP_TLS_CERT_FILE and EP_TLS_KEY_FILE belong together: set both or none")
        if self.workers > 1 and self.listen.startswith("unix:"):
            raise ValueError("EP_WORKERS above 1 needs host:port in EP_LISTEN: a unix socket cannot be shared")
        if int(self.metrics_listen.rpartition(":")[2] or 0) + self.workers - 1 > 65_535:
            raise ValueError("EP_METRICS_LISTEN: there is no port for each of EP_WORKERS; choose a lower one")
        return self
