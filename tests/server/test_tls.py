"""A server with a certificate speaks TLS, to the client that trusts it and to no other."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.server.conftest import Serve

from execution_platform.client import AsyncExecutionPlatformClient, ExecutionPlatformError, Tls
from execution_platform.server.config.load import ConfigurationError


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """The settings of a server with a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"EP_TLS_CERT_FILE": str(tmp_path / "cert.pem"), "EP_TLS_KEY_FILE": str(tmp_path / "key.pem")}


async def test_client_that_trusts_the_certificate_chats(serve: Serve, certificate: dict[str, str]) -> None:
    """With the certificate as its root the client chats over TLS."""
    roots = await asyncio.to_thread(Path(certificate["EP_TLS_CERT_FILE"]).read_bytes)
    async with (
        serve(certificate) as served,
        AsyncExecutionPlatformClient(served.app.address, tls=Tls(root_certificates=roots)) as client,
    ):
        assert (await client.chat("Hi", model="scripted")).text == "You said: Hi"


@pytest.mark.parametrize("tls", [False, True], ids=["in the clear", "other roots"])
async def test_client_that_does_not_trust_it_is_turned_away(
    serve: Serve, certificate: dict[str, str], tls: bool
) -> None:
    """A client without TLS, or with other roots, gets a transport error and no answer."""
    async with serve(certificate) as served, AsyncExecutionPlatformClient(served.app.address, tls=tls) as client:
        with pytest.raises(ExecutionPlatformError):
            await client.chat("Hi", model="scripted", timeout=10)


async def test_file_that_cannot_be_read_is_named(serve: Serve, certificate: dict[str, str], tmp_path: Path) -> None:
    """A missing certificate file stops the start, with its variable."""
    with pytest.raises(ConfigurationError, match=r"EP_TLS_CERT_FILE: cannot read .*nothing\.pem"):
        async with serve({**certificate, "EP_TLS_CERT_FILE": str(tmp_path / "nothing.pem")}):
            pass


@pytest.mark.parametrize("wrong", ["another's key", "the other way round", "garbage", "a key with a password"])
async def test_files_that_do_not_go_together_are_told_in_one_line(
    serve: Serve, certificate: dict[str, str], tmp_path: Path, wrong: str
) -> None:
    """A certificate without its own key in plain PEM stops the start with one line that names both variables."""
    other = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    cert, key = certificate["EP_TLS_CERT_FILE"], certificate["EP_TLS_KEY_FILE"]
    files = {
        "another's key": (cert, other.private_bytes(pem, pkcs8, serialization.NoEncryption())),
        "the other way round": (key, await asyncio.to_thread(Path(cert).read_bytes)),
        "garbage": (cert, b"garbage"),
        "a key with a password": (
            cert,
            other.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"made up")),
        ),
    }
    first, second = files[wrong]
    (tmp_path / "second.pem").write_bytes(second)
    with pytest.raises(ConfigurationError) as caught:
        async with serve({"EP_TLS_CERT_FILE": first, "EP_TLS_KEY_FILE": str(tmp_path / "second.pem")}):
            pass
    [problem] = caught.value.problems
    assert problem.startswith("EP_TLS_CERT_FILE and EP_TLS_KEY_FILE: ")
    assert "\n" not in problem
