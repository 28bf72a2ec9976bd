"""Those who give credentials, as small servers: STS, SSO, a container's agent, a machine's own."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.adapters.bedrock.serving import REGION
from tests.adapters.upstream import Received, Reply

from execution_platform.adapters.bedrock.credentials import CredentialSource
from execution_platform.adapters.spi import ProviderConfig

ROLE = "arn:aws:iam::123456789012:role/made-up"


def config(**options: str) -> ProviderConfig:
    return ProviderConfig("bedrock", options={"region": REGION, **options})


@contextlib.asynccontextmanager
async def source(*, between: float = 3600, **options: str) -> AsyncIterator[CredentialSource]:
    made = CredentialSource(config(**options), REGION, between)
    try:
        yield made
    finally:
        await made.aclose()


def after(seconds: int) -> str:
    """A moment from now, as AWS writes it."""
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Sts:
    """Gives a new session at each request.

    Attributes:
        lasts: seconds that each lasts.
        asked: the requests, as they were understood.
        refuses: status and code to answer with instead.
    """

    lasts: int = 3600
    asked: list[dict[str, str]] = field(default_factory=list)
    refuses: tuple[int, str] | None = None

    async def __call__(self, received: Received, reply: Reply) -> None:
        form = {name: values[0] for name, values in parse_qs(received.body.decode()).items()}
        self.asked.append({**form, "authorization": received.headers.get("authorization", "")})
        if self.refuses is not None:
            status, code = self.refuses
            await _xml(reply, f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>", status)
            return
        action, number = form["Action"], len(self.asked)
        given = {
            "AccessKeyId": f"ASIAMADEUP{number}",
            "SecretAccessKey": f"session-secret-{number}",
            "SessionToken": f"session-token-{number}",
            "Expiration": after(self.lasts),
        }
        told = "".join(f"<{name}>{value}</{name}>" for name, value in given.items())
        user = f"<AssumedRoleUser><Arn>{ROLE}/x</Arn><AssumedRoleId>A:x</AssumedRoleId></AssumedRoleUser>"
        result = f"<{action}Result>{user}<Credentials>{told}</Credentials></{action}Result>"
        await _xml(reply, f"<{action}Response>{result}</{action}Response>")


async def _xml(reply: Reply, text: str, status: int = 200) -> None:
    await reply.head(status, "text/xml")
    await reply.piece(text.encode())
    await reply.end()


def session_of(number: int) -> tuple[str, str, str]:
    """What the n-th request gets."""
    return f"ASIAMADEUP{number}", f"session-secret-{number}", f"session-token-{number}"


async def agent(received: Received, reply: Reply) -> None:
    """The agent of a container, which wants its own token."""
    assert received.headers["authorization"] == "made-up-agent-token"
    await reply.json(_as_json("container"))


async def machine(received: Received, reply: Reply) -> None:
    """The metadata of a machine, of which a token has to be asked first."""
    if received.method == "PUT":
        assert received.target == "/latest/api/token"
        answer = "made-up-machine-token"
    else:
        assert received.headers["x-aws-ec2-metadata-token"] == "made-up-machine-token"
        named = received.target.removeprefix("/latest/meta-data/iam/security-credentials/")
        answer = json.dumps({"Code": "Success", **_as_json("machine")}) if named else "made-up-role"
    await reply.head(200, "text/plain")
    await reply.piece(answer.encode())
    await reply.end()


async def sso(received: Received, reply: Reply) -> None:
    """The portal of SSO."""
    assert received.headers["x-amz-sso_bearer_token"] == "made-up-portal-token"
    key, secret, token = ("sso-key", "sso-secret", "sso-token")
    expires = int(dt.datetime.now(dt.UTC).timestamp() + 3600) * 1000
    given = {"accessKeyId": key, "secretAccessKey": secret, "sessionToken": token, "expiration": expires}
    await reply.json({"roleCredentials": given})


def _as_json(name: str) -> dict[str, Any]:
    given = {"AccessKeyId": f"{name}-key", "SecretAccessKey": f"{name}-secret", "Token": f"{name}-token"}
    return {**given, "Expiration": after(3600)}
