"""Whose credentials sign: every link of AWS's chain, and what goes wrong with each."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import logging
import sys
from pathlib import Path

import botocore.exceptions
import pytest
from pydantic import SecretStr
from tests.adapters.bedrock.givers import ROLE, Sts, after, agent, config, machine, session_of, source, sso
from tests.adapters.bedrock.serving import KEYS, REGION
from tests.adapters.upstream import upstream
from tests.ports import nobody

from execution_platform.adapters import errors
from execution_platform.adapters.bedrock.credential_errors import error_of_chain
from execution_platform.adapters.bedrock.credentials import CredentialSource, bearer_key
from execution_platform.adapters.spi import ProviderConfig


async def resolved(**options: str) -> tuple[str, str, str | None]:
    """What a fresh source finds."""
    made = CredentialSource(config(**options), REGION)
    try:
        keys = await made.current()
    finally:
        await made.aclose()
    return keys.access_key, keys.secret_key, keys.token


async def unresolved(**options: str) -> errors.AdapterError:
    """How a fresh source fails."""
    with pytest.raises(errors.AdapterError) as raised:
        await resolved(**options)
    return raised.value


def profile(home: Path, name: str, **lines: str) -> None:
    """Write a profile into the configuration file."""
    heading = "default" if name == "default" else f"profile {name}"
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    with (home / "config").open("a") as file:
        file.write(f"[{heading}]\n{text}")


STATIC = {"aws_access_key_id": "AKIAMADEUPFILE", "aws_secret_access_key": "made-up-file-secret"}


# --- the links of the chain -------------------------------------------------------------------------------------------


async def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's own variables are taken, the token of a session included."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    assert await resolved() == (*KEYS.values(), None)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "made-up-token")
    assert await resolved() == (*KEYS.values(), "made-up-token")


async def test_keys_of_files(aws_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default profile, one that the environment names, and one that the configuration names, from either file."""
    profile(aws_home, "default", **STATIC)
    profile(aws_home, "named", aws_access_key_id="AKIANAMED", aws_secret_access_key="named-secret")
    (aws_home / "credentials").write_text("[shared]\naws_access_key_id = AKIASHARED\naws_secret_access_key = s\n")
    assert await resolved() == (*STATIC.values(), None)
    monkeypatch.setenv("AWS_PROFILE", "named")
    assert await resolved() == ("AKIANAMED", "named-secret", None)
    assert await resolved(profile="shared") == ("AKIASHARED", "s", None)


async def test_a_configured_profile_goes_before_keys_of_the_environment(
    aws_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EP_BEDROCK_PROFILE decides, whatever keys lie around."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    profile(aws_home, "mine", **STATIC)
    assert await resolved(profile="mine") == (*STATIC.values(), None)


async def test_a_profile_assumes_a_role(aws_home: Path, sts: Sts) -> None:
    """role_arn with source_profile asks STS, signed by the source."""
    profile(aws_home, "source", **STATIC)
    profile(aws_home, "role", role_arn=ROLE, source_profile="source", role_session_name="me")
    assert await resolved(profile="role") == session_of(1)
    (asked,) = sts.asked
    assert (asked["Action"], asked["RoleArn"], asked["RoleSessionName"]) == ("AssumeRole", ROLE, "me")
    assert "Credential=AKIAMADEUPFILE/" in asked["authorization"]


async def test_a_configured_role_is_assumed(sts: Sts) -> None:
    """EP_BEDROCK_ROLE_ARN is assumed by what the chain finds, with external id and name, in the region's STS."""
    options = {"role_arn": ROLE, "external_id": "made-up-id", "role_session_name": "execution-platform"}
    assert await resolved(**options) == session_of(1)
    (asked,) = sts.asked
    assert (asked["Action"], asked["RoleArn"]) == ("AssumeRole", ROLE)
    assert (asked["ExternalId"], asked["RoleSessionName"]) == ("made-up-id", "execution-platform")
    assert f"Credential={KEYS['AWS_ACCESS_KEY_ID']}/" in asked["authorization"]
    assert f"/{REGION}/sts/" in asked["authorization"]


async def test_a_web_identity_is_exchanged(sts: Sts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of a Kubernetes service account, or of another issuer, is exchanged for a session, unsigned."""
    for name in KEYS:
        monkeypatch.delenv(name)
    file = tmp_path / "token"
    file.write_text("made-up.web.identity")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    assert await resolved() == session_of(1)
    (asked,) = sts.asked
    assert (asked["Action"], asked["RoleArn"]) == ("AssumeRoleWithWebIdentity", ROLE)
    assert (asked["WebIdentityToken"], asked["authorization"]) == ("made-up.web.identity", "")


async def test_a_container_has_its_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The role of a task or pod is asked of its agent, with the agent's token."""
    async with upstream(agent) as served:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{served.url}/role")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "made-up-agent-token")
        assert await resolved() == ("container-key", "container-secret", "container-token")


async def test_a_machine_has_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    """The role of a machine is asked of its metadata, in the second version of that protocol."""
    async with upstream(machine) as served:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", served.url)
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        assert await resolved() == ("machine-key", "machine-secret", "machine-token")


def sso_profile(home: Path, *, lasts: int) -> None:
    """A profile of SSO, and the session of somebody who has logged in."""
    url = "https://made-up.awsapps.example/start"
    role = {"sso_account_id": "123456789012", "sso_role_name": "made-up"}
    profile(home, "sso", sso_start_url=url, sso_region=REGION, **role)
    cache = home / ".aws/sso/cache"
    cache.mkdir(parents=True)
    name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    kept = {"startUrl": url, "region": REGION, "accessToken": "made-up-portal-token", "expiresAt": after(lasts)}
    (cache / f"{name}.json").write_text(json.dumps(kept))


ASK = f"""
import asyncio
from execution_platform.adapters.bedrock.credentials import CredentialSource
from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import ProviderConfig

async def ask():
    source = CredentialSource(ProviderConfig("bedrock", options={{"profile": "sso"}}), {REGION!r})
    try:
        keys = await source.current()
        print(keys.access_key, keys.secret_key, keys.token)
    except AdapterError as error:
        print(type(error).__name__, error.message)

asyncio.run(ask())
"""


async def resolved_elsewhere() -> str:
    """What a process of its own finds for the profile `sso`: botocore looks at the home once, when it is imported."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ASK, stdout=pipe)
    out, _ = await process.communicate()
    return out.decode().strip()


async def test_sso_of_somebody_who_is_logged_in(aws_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The portal gives a session for the profile's role."""
    sso_profile(aws_home, lasts=3600)
    async with upstream(sso) as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", served.url)
        assert await resolved_elsewhere() == "sso-key sso-secret sso-token"


async def test_a_process_gives_keys(aws_home: Path) -> None:
    """The command of a profile is run, and what it prints is taken."""
    given = {"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "made-up-process-secret"}
    (aws_home / "give.py").write_text(f"print({json.dumps(given)!r})")
    profile(aws_home, "process", credential_process=f"{sys.executable} {aws_home / 'give.py'}")
    assert await resolved(profile="process") == ("AKIAPROCESS", "made-up-process-secret", None)


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_nothing_is_there() -> None:
    """Without credentials the error names each way to give some."""
    error = await unresolved()
    assert type(error) is errors.NotConfiguredError
    assert all(way in error.message for way in ("EP_BEDROCK_API_KEY", "EP_BEDROCK_PROFILE", "environment", "role"))


async def test_a_profile_that_is_not_there_is_named(aws_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt profile is said to be one, by the setting that names it."""
    profile(aws_home, "default", **STATIC)
    error = await unresolved(profile="misspelt")
    assert type(error) is errors.NotConfiguredError
    assert "EP_BEDROCK_PROFILE=misspelt" in error.message
    monkeypatch.setenv("AWS_PROFILE", "misspelt")
    assert "AWS_PROFILE" in (await unresolved()).message


async def test_half_a_key_is_no_key(aws_home: Path) -> None:
    """Keys without their secret are told as a mistake of the configuration."""
    profile(aws_home, "half", aws_access_key_id="AKIAHALF")
    assert type(await unresolved(profile="half")) is errors.NotConfiguredError


async def test_nobody_is_asked_for_a_code(aws_home: Path, sts: Sts) -> None:
    """A profile that wants the code of somebody's device is refused; a server would wait for it for ever."""
    profile(aws_home, "guarded", role_arn=ROLE, source_profile="default", mfa_serial="arn:aws:iam::1:mfa/me")
    profile(aws_home, "default", **STATIC)
    profile(aws_home, "through", role_arn=ROLE, source_profile="guarded")
    for name in ("guarded", "through"):
        error = await unresolved(profile=name)
        assert type(error) is errors.NotConfiguredError
        assert "mfa_serial" in error.message
    assert not sts.asked


async def test_an_ended_login_names_the_command(aws_home: Path) -> None:
    """Where SSO's session is over, the error says how to begin another."""
    sso_profile(aws_home, lasts=-60)
    told = await resolved_elsewhere()
    assert told.startswith("CredentialsError ")
    assert "aws sso login --profile sso" in told


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((403, "AccessDenied"), errors.CredentialsError),
        ((403, "InvalidClientTokenId"), errors.CredentialsError),
        ((400, "Throttling"), errors.UnavailableError),
        ((503, "ServiceUnavailable"), errors.UnavailableError),
    ],
)
async def test_a_refusal_of_sts_is_told_with_its_code(
    sts: Sts, refusal: tuple[int, str], kind: type[errors.AdapterError]
) -> None:
    """A role that may not be assumed is the operator's matter; an STS that is busy is not."""
    sts.refuses = refusal
    error = await unresolved(role_arn=ROLE)
    assert type(error) is kind
    assert (error.provider_status, error.provider_code) == refusal
    assert error.retryable is (kind is errors.UnavailableError)


@pytest.mark.usefixtures("sts")
async def test_an_sts_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network without a way to STS may mend itself."""
    with nobody() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{address}")
        error = await unresolved(role_arn=ROLE)
    assert type(error) is errors.UnavailableError


async def test_what_a_process_prints_stays_secret(aws_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error, nor its causes, nor any log holds what a failing command printed; whose it is, is told."""
    (aws_home / "fail.py").write_text("import sys; sys.exit('made-up-' + 'secret-in-stderr')")
    profile(aws_home, "process", credential_process=f"{sys.executable} {aws_home / 'fail.py'}")
    caplog.set_level(logging.DEBUG)
    error = await unresolved(profile="process")
    assert type(error) is errors.CredentialsError
    assert "EP_BEDROCK_PROFILE=process" in error.message
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert "secret-in-stderr" not in f"{error!r}{caplog.text}"


@pytest.mark.usefixtures("sts")
async def test_what_sts_gives_stays_secret(caplog: pytest.LogCaptureFixture) -> None:
    """No log at any level holds a session's secret or token, nor does the source's own text."""
    caplog.set_level(logging.DEBUG)
    async with source(role_arn=ROLE) as made:
        shown = f"{await made.current()!r}{made!r}{vars(made)!r}"
    for secret in (*session_of(1), KEYS["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in shown
        assert secret not in caplog.text


def exceptions() -> list[type[Exception]]:
    """All exceptions of botocore's."""
    found = [each for _, each in inspect.getmembers(botocore.exceptions, inspect.isclass)]
    return [each for each in found if issubclass(each, Exception)]


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_of_the_chain_is_mapped(kind: type[Exception]) -> None:
    """Each exception of botocore's becomes an error that a caller understands, which tells nothing of its text."""
    raised = kind.__new__(kind)
    raised.args = ("made-up-secret-text",)
    if isinstance(raised, botocore.exceptions.ClientError):
        raised.response, raised.operation_name = {}, "AssumeRole"
    error = error_of_chain(raised, "mine")
    assert isinstance(error, errors.NotConfiguredError | errors.CredentialsError | errors.UnavailableError)
    assert "made-up-secret-text" not in error.message


# --- API keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "environment", "options", "sent"),
    [
        ("mine", "theirs", {}, "mine"),
        (" mine\n", "", {}, "mine"),
        (None, "theirs", {}, "theirs"),
        (None, "theirs", {"profile": "p"}, ""),
        (None, "theirs", {"role_arn": ROLE}, ""),
        ("mine", "theirs", {"profile": "p"}, "mine"),
        (None, "", {}, ""),
    ],
)
def test_which_api_key_is_sent(given: str | None, environment: str, options: dict[str, str], sent: str) -> None:
    """The configured key goes first; one of the environment gives way to a configured profile or role."""
    key = SecretStr(given) if given else None
    environ = {"AWS_BEARER_TOKEN_BEDROCK": environment} if environment else {}
    assert bearer_key(ProviderConfig("bedrock", api_key=key, options=options), environ) == sent
