"""AWS's signature, version 4, over exactly what is sent. botocore makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import botocore.auth
import botocore.awsrequest

__all__ = ["SERVICE", "Keys", "signature_headers"]

SERVICE = "bedrock"
"""The name that runtime and control plane are signed for. Source: `signingName` in botocore's service models."""

#: What of a request is signed besides its host, as botocore does: what a proxy may change must stay out.
_SIGNED = frozenset({"content-type"})


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What signs requests; shows none of it.

    Attributes:
        access_key: the id of the key.
        secret_key: the key.
        token: of a session; None: the key is no session's.
    """

    access_key: str
    secret_key: str
    token: str | None = None


def signature_headers(
    keys: Keys, region: str, *, method: str, url: str, headers: Mapping[str, str], body: bytes
) -> dict[str, str]:
    """Return the headers that sign a request, under the time of now.

    Args:
        keys: who signs.
        region: the one that is asked.
        method: of the request.
        url: with path and query encoded as they are sent. AWS encodes the path once more for the signature.
        headers: those that are sent; of them only the kind of the content is signed.
        body: exactly what is sent.
    """
    signed = {name: value for name, value in headers.items() if name.lower() in _SIGNED}
    request = botocore.awsrequest.AWSRequest(method, url, signed, body)
    botocore.auth.SigV4Auth(keys, SERVICE, region).add_auth(request)
    return {name: value for name, value in request.headers.items() if name not in signed}
