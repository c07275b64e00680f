"""The files of TLS are read alike for every protocol, and nobody is asked for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from kagent_sdk.errors import LinkError
from kagent_sdk.link.nats.connection import _tls_context
from kagent_sdk.link.settings import LinkTls
from kagent_sdk.link.tls import client_context


@pytest.fixture
def files(tmp_path: Path) -> LinkTls:
    """Write a certificate whose key needs a password."""
    issued = trustme.CA().issue_cert("agent@example.org")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    encryption = BestAvailableEncryption(b"hunter2")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "agent.pem")
    (tmp_path / "agent.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    )
    return LinkTls(None, tmp_path / "agent.pem", tmp_path / "agent.key")


def test_a_key_that_needs_a_password_asks_nobody(files: LinkTls) -> None:
    """OpenSSL would ask on the terminal, and the agent would wait for an answer."""
    with pytest.raises(ValueError, match="password"):
        client_context(files)


def test_nats_says_so_without_a_path(files: LinkTls, tmp_path: Path) -> None:
    """It stands in /status."""
    with pytest.raises(LinkError) as caught:
        _tls_context(files)

    assert caught.value.is_permanent
    assert str(tmp_path) not in str(caught.value)
