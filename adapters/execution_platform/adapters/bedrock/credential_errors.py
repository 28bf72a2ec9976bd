"""What goes wrong in botocore's chain of credentials, as errors that name the remedy and hold no secret."""

from __future__ import annotations

import botocore.exceptions

from execution_platform.adapters.errors import AdapterError, CredentialsError, NotConfiguredError, UnavailableError

__all__ = ["error_of_chain"]

_SSO = (
    botocore.exceptions.SSOError,
    botocore.exceptions.TokenRetrievalError,
    botocore.exceptions.LoginError,
)

#: The network between here and whoever gives credentials.
_UNREACHABLE = (
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ConnectionError,
    botocore.exceptions.EndpointConnectionError,
)


def error_of_chain(error: Exception, profile: str) -> AdapterError:
    """Return what an exception of botocore's means. Total; of its text nothing is told.

    Args:
        error: as it was raised.
        profile: the configured profile; empty: none.
    """
    name = type(error).__name__
    if isinstance(error, botocore.exceptions.ClientError):
        return _of_answer(error)
    if isinstance(error, botocore.exceptions.ProfileNotFound):
        named = f"EP_BEDROCK_PROFILE={profile}" if profile else "AWS_PROFILE"
        return NotConfiguredError(f"the AWS configuration has no such profile: check {named}")
    if isinstance(error, _SSO):
        login = f"aws sso login --profile {profile}" if profile else "aws sso login"
        return CredentialsError(f"the SSO session for AWS has ended or was never begun ({name}): run {login}")
    if isinstance(error, _UNREACHABLE):
        return UnavailableError(f"whoever gives the AWS credentials cannot be reached ({name})")
    if isinstance(error, botocore.exceptions.CredentialRetrievalError | botocore.exceptions.MetadataRetrievalError):
        whose = f"of EP_BEDROCK_PROFILE={profile}" if profile else "of the profile"
        return CredentialsError(f"no AWS credentials were given ({name}): check the process {whose}, or the role")
    return NotConfiguredError(f"the AWS configuration does not lead to credentials ({name}): check its files")


def _of_answer(error: botocore.exceptions.ClientError) -> AdapterError:
    """Return what the answer of STS, or of SSO, means."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    action = error.operation_name
    if status >= 500 or status == 429 or "Throttl" in code:
        kind: type[AdapterError] = UnavailableError
        text = f"AWS gives no credentials now: {action} was answered with {code}"
    else:
        kind = CredentialsError
        text = f"AWS gives no credentials: {action} was refused with {code}: check the role and who may assume it"
    return kind(text, provider_status=status, provider_code=code)
