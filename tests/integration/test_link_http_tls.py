"""The link over TLS: both sides show certificates, which are renewed while the agent runs."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from kagent_sdk.link.http import LinkSettings, LinkTls
from tests.integration.fake_link_host import FakeLinkHost, running_link
from tests.integration.fake_orchestrator import running_orchestrator, until


def write_certificates(folder: Path) -> tuple[ssl.SSLContext, LinkTls]:
    """Return a server's context that wants a client's certificate, and files of a client."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("agent@example.org")
    tls = LinkTls(folder / "ca.pem", folder / "agent.pem", folder / "agent.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client.cert_chain_pems[0].write_to_path(folder / "agent.pem")
    client.private_key_pem.write_to_path(folder / "agent.key")
    return context, tls


async def test_both_sides_show_certificates(tmp_path: Path) -> None:
    """A token alone may be copied; and its receiver must be the right one."""
    context, tls = write_certificates(tmp_path)
    async with running_orchestrator(context) as orchestrator:
        settings = LinkSettings(orchestrator.url, heartbeat_s=0.2, tls=tls)
        async with running_link(settings, FakeLinkHost()) as link:
            await orchestrator.came("heartbeat", 2)

            assert link.status.state == "up"


@pytest.mark.parametrize("missing", ["agent.pem", "own certificate", "ca"])
async def test_tls_that_fails_is_named_and_new_files_are_found(
    tmp_path: Path, missing: str
) -> None:
    """Certificates are renewed by others, while the agent runs."""
    context, tls = write_certificates(tmp_path)
    right = tmp_path / "agent.pem"
    text = right.read_text()
    strangers = trustme.CA()
    if missing == "agent.pem":
        right.unlink()
    elif missing == "own certificate":
        other = strangers.issue_cert("agent@example.org")
        (tmp_path / "other.key").write_bytes((tmp_path / "agent.key").read_bytes())
        other.cert_chain_pems[0].write_to_path(right)
        other.private_key_pem.write_to_path(tmp_path / "agent.key")
    else:
        (tmp_path / "right.pem").write_bytes((tmp_path / "ca.pem").read_bytes())
        strangers.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with running_orchestrator(context) as orchestrator:
        settings = LinkSettings(orchestrator.url, heartbeat_s=0.2, tls=tls)
        async with running_link(settings, FakeLinkHost()) as link:
            await until(lambda: link.status.state == "down")
            reason = link.status.last_error or ""
            if missing == "own certificate":
                (tmp_path / "agent.key").write_bytes((tmp_path / "other.key").read_bytes())
            elif missing == "ca":
                (tmp_path / "ca.pem").write_bytes((tmp_path / "right.pem").read_bytes())
            right.write_text(text)
            await until(lambda: link.status.state == "up")

    assert "orchestrator.tls" in reason
    assert str(tmp_path) not in reason


async def test_a_key_that_needs_a_password_asks_nobody(tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal, and the agent would wait for an answer."""
    context, tls = write_certificates(tmp_path)
    path = tmp_path / "agent.key"
    key = load_pem_private_key(path.read_bytes(), None)
    encryption = BestAvailableEncryption(b"hunter2")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    async with running_orchestrator(context) as orchestrator:
        settings = LinkSettings(orchestrator.url, heartbeat_s=0.2, tls=tls)
        async with running_link(settings, FakeLinkHost()) as link:
            await until(lambda: link.status.state == "down")

            assert "orchestrator.tls" in (link.status.last_error or "")
