"""The environment of a run: what is written here and nothing else. The server's own is never passed on."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from execution_platform.adapters.claude_agent.guard import GUARD_VARIABLES

__all__ = ["CREDENTIALS", "agent_environment"]

#: Variables that hold a credential, and those that name a file descriptor to read it from instead. A process's
#: environment can be read by whatever it starts; a pipe is empty once it was read. Source: tried at the pinned version.
CREDENTIALS = {
    "ANTHROPIC_API_KEY": "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
    "CLAUDE_CODE_OAUTH_TOKEN": "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
}

#: A token of a subscription's login begins so. Source: `claude setup-token`.
_LOGIN_TOKEN = "sk-ant-oat"  # noqa: S105 - how such a token begins, not one

_FIXED = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/home/agent",
    "USER": "agent",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",  # noqa: S108 - the cage's own, in memory
    # The four that keep the program to its model. Source: its documentation of settings.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    # Retrying is the server's; one more try spares a run that has worked for minutes.
    "CLAUDE_CODE_MAX_RETRIES": "1",
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    **GUARD_VARIABLES,
}


def agent_environment(
    api_key: SecretStr | None = None, base_url: str = "", further: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of a run.

    Args:
        api_key: an API key, or the token of a login; None: the configuration folder holds a login.
        base_url: where the Messages API is; empty: the program's default.
        further: further variables of the operator's, never a caller's.
    """
    environment = _FIXED | dict(further or {})
    if api_key is not None:
        key = api_key.get_secret_value()
        name = "CLAUDE_CODE_OAUTH_TOKEN" if key.startswith(_LOGIN_TOKEN) else "ANTHROPIC_API_KEY"
        environment[name] = key
    if base_url:
        environment["ANTHROPIC_BASE_URL"] = base_url
    return environment
