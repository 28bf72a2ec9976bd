"""Whose credentials sign: botocore's chain, asked in a thread, kept, and asked again before they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import botocore.config
import botocore.credentials
import botocore.session

from execution_platform.adapters.bedrock.credential_errors import error_of_chain
from execution_platform.adapters.bedrock.signing import Keys
from execution_platform.adapters.errors import AdapterError, NotConfiguredError
from execution_platform.adapters.spi import ProviderConfig

__all__ = ["CredentialSource", "bearer_key"]

_T = TypeVar("_T")

#: Seconds before their end at which credentials are renewed while they still serve, and at which requests wait for it.
#: The shortest session of a role lasts 900 s.
_SOON = 600
_URGENT = 60
_BETWEEN_ATTEMPTS = 30.0

#: Limits on those who give credentials: STS, SSO. Without them botocore waits a minute, several times.
_LIMITS = botocore.config.Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})

_MOST_SOURCES = 8


def bearer_key(config: ProviderConfig, environ: Mapping[str, str] = os.environ) -> str:
    """Return the Bedrock API key to send instead of a signature; empty: there is none.

    One that lies in the environment gives way to a profile or a role that is configured, as in AWS's SDKs.
    """
    key = config.api_key.get_secret_value().strip() if config.api_key else ""
    if key or config.options.get("profile") or config.options.get("role_arn"):
        return key
    return environ.get("AWS_BEARER_TOKEN_BEDROCK", "").strip()


@dataclass(frozen=True, slots=True, repr=False)
class _Held:
    """Credentials as they were resolved."""

    keys: Keys
    origin: Any

    def last(self, seconds: int) -> bool:
        """Return whether they serve for so long."""
        temporary = isinstance(self.origin, botocore.credentials.RefreshableCredentials)
        return not (temporary and self.origin.refresh_needed(refresh_in=seconds))


class CredentialSource:
    """The credentials of one provider, for one event loop.

    Args:
        config: profile, and role to assume, if any.
        region: whose STS is asked.
        between: seconds between attempts to renew what still serves.
    """

    def __init__(self, config: ProviderConfig, region: str, between: float = _BETWEEN_ATTEMPTS) -> None:
        self._options = config.options
        self._region = region
        self._between = between
        self._held: _Held | None = None
        self._refused: Keys | None = None
        self._renewed_in_vain = False
        self._renewal: asyncio.Task[_Held] | None = None
        self._last_attempt = 0.0
        _keep_out_of_logs()

    async def current(self) -> Keys:
        """Return credentials that serve now.

        Raises:
            NotConfiguredError: there are none, or the configuration does not lead to them.
            CredentialsError: whoever gives them refuses.
            UnavailableError: whoever gives them cannot be reached.
        """
        held = self._held
        if held is None:
            return (await self._renewed()).keys
        if held.last(_SOON):
            return held.keys
        if held.last(_URGENT):
            self._renew_meanwhile()
            return held.keys
        try:
            return (await self._renewed()).keys
        except AdapterError:
            if held.last(0):
                return held.keys
            raise

    def refused(self, keys: Keys) -> bool:
        """Take note that AWS does not take these, so that the next request resolves them anew.

        Returns:
            Whether that may help: they are not what a new resolution gave again.
        """
        if self._held is not None and self._held.keys == keys:
            self._held = None
        hopeless = self._renewed_in_vain and keys == self._refused
        self._refused = keys
        return not hopeless

    async def aclose(self) -> None:
        """Wait for nothing any more. Idempotent."""
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)

    async def _renewed(self) -> _Held:
        # Shared by all who wait: one of them that leaves does not end it for the others.
        return await asyncio.shield(self._begin())

    def _renew_meanwhile(self) -> None:
        if asyncio.get_running_loop().time() - self._last_attempt >= self._between:
            _ = self._begin()

    def _begin(self) -> asyncio.Task[_Held]:
        if self._renewal is None or self._renewal.done():
            self._last_attempt = asyncio.get_running_loop().time()
            self._renewal = asyncio.create_task(self._renew(), name="bedrock credentials")
            # Its failure is told to those who wait; where nobody does, the next request tries again.
            self._renewal.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._renewal

    async def _renew(self) -> _Held:
        held = await _in_thread(lambda: _resolve(self._options, self._region))
        self._renewed_in_vain = held.keys == self._refused
        self._held = held
        return held


def _resolve(options: Mapping[str, str], region: str) -> _Held:
    """Ask botocore's chain. Blocks: files, processes and the network. Raises AdapterError."""
    try:
        session = botocore.session.Session(profile=options.get("profile") or None)
        if region:
            session.set_config_variable("region", region)
        session.set_default_client_config(_LIMITS)
        _refuse_to_ask_people(session)
        found = session.get_credentials()
        if found is not None and options.get("role_arn"):
            found = _assumed(session, found, options)
        frozen = None if found is None else found.get_frozen_credentials()
    except AdapterError:
        raise
    except Exception as error:  # noqa: BLE001 - providers in the chain raise what their files and processes make them
        # Its text may hold what a process or a server of tokens printed.
        raise error_of_chain(error, options.get("profile", "")) from None
    if frozen is None or not frozen.access_key:
        raise NotConfiguredError(
            "no AWS credentials found: set EP_BEDROCK_API_KEY, or give credentials of AWS in the environment, in a"
            " profile (EP_BEDROCK_PROFILE), or by the role of the machine or container"
        )
    return _Held(Keys(frozen.access_key, frozen.secret_key, frozen.token or None), found)


def _assumed(session: Any, source: Any, options: Mapping[str, str]) -> Any:
    """Return the credentials of the configured role, which those that were found may assume."""
    extra = {"ExternalId": options.get("external_id"), "RoleSessionName": options.get("role_session_name")}
    fetcher = botocore.credentials.AssumeRoleCredentialFetcher(
        client_creator=session.create_client,
        source_credentials=source,
        role_arn=options["role_arn"],
        extra_args={name: value for name, value in extra.items() if value},
    )
    return botocore.credentials.DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def _refuse_to_ask_people(session: Any) -> None:
    """Refuse a profile that wants a code from somebody's device: botocore would wait at the terminal for it."""
    profiles = session.full_config.get("profiles", {})
    name = session.get_config_variable("profile") or "default"
    for _ in range(_MOST_SOURCES):
        profile = profiles.get(name, {})
        if profile.get("mfa_serial"):
            raise NotConfiguredError(
                f"the AWS profile {name!r} asks for a code (mfa_serial), which a server cannot type: use another"
            )
        name = profile.get("source_profile", "")


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run something that blocks, in a thread that keeps nobody from ending: asyncio's own are waited for."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()

    def tell(result: _T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # None only where T is

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - told to whoever waits
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop may be gone
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="bedrock-credentials", daemon=True).start()
    return await outcome


def _keep_out_of_logs() -> None:
    """Keep secrets out of all logs: botocore tells answers of STS, and tokens in what it signs, for debugging.

    A failing renewal is told with what its process printed, and is ours to tell.
    """
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("botocore.credentials").setLevel(logging.CRITICAL)
