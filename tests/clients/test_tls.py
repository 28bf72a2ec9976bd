"""Encrypted connections, with certificates made for the test."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.clients.platform_server import Platform, serving
from typer.testing import CliRunner

from execution_platform.client import AsyncExecutionPlatformClient, ExecutionPlatformClient, Tls, TransportError
from execution_platform.client.cli import build_app

x509: Any = pytest.importorskip("cryptography.x509", reason="certificates are made with the package cryptography")


@dataclass
class Certificate:
    """A certificate and its key, as PEM."""

    chain: bytes
    key: bytes


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """A certificate for localhost that is its own authority, good for servers and clients."""
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - not everywhere installed
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - not everywhere installed

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(made.public_bytes(pem), private)


def demanding(certificate: Certificate) -> grpc.ServerCredentials:
    """Return credentials of a server that wants a certificate of its clients too."""
    pairs = [(certificate.key, certificate.chain)]
    return grpc.ssl_server_credentials(pairs, certificate.chain, require_client_auth=True)


async def test_both_sides_can_show_a_certificate(certificate: Certificate) -> None:
    """Both clients reach a server that wants a certificate, under the name that its own one carries."""
    with serving(Platform(), credentials=demanding(certificate)) as target:
        tls = Tls(certificate.chain, certificate.chain, certificate.key, server_name="localhost")
        with ExecutionPlatformClient(target, tls=tls, token="made-up") as client:
            assert client.chat("Hello").text == "Hello"
        async with AsyncExecutionPlatformClient(target, tls=tls) as asynchronous:
            assert (await asynchronous.chat("Hello")).text == "Hello"


def test_a_server_that_nobody_vouches_for_is_not_spoken_to(certificate: Certificate) -> None:
    """Without the authority of the server's certificate nothing is sent, and the error is one of the transport."""
    platform = Platform()
    with serving(platform, credentials=grpc.ssl_server_credentials([(certificate.key, certificate.chain)])) as target:
        with ExecutionPlatformClient(target, tls=True) as client, pytest.raises(TransportError):
            client.chat("Hello", timeout=20)
        with ExecutionPlatformClient(target) as client, pytest.raises(TransportError):
            client.chat("Hello", timeout=20)
    assert platform.requests == []


def test_the_command_line_takes_certificates(certificate: Certificate, tmp_path: Path) -> None:
    """The options --ca, --cert and --key open an encrypted connection."""
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.chain)
    key.write_bytes(certificate.key)
    with serving(Platform(), credentials=demanding(certificate)) as target:
        by_name = target.replace("127.0.0.1", "localhost")
        options = ["--target", by_name, "--ca", str(chain), "--cert", str(chain), "--key", str(key)]
        ran = CliRunner().invoke(build_app(), ["chat", "-q", "Hello", *options])
    assert (ran.exit_code, ran.stdout) == (0, "Hello\n"), ran.output
