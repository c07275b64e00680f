"""The permissions that docs/nats.md shows are enough for an agent, and not too much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from kagent_sdk.link.nats import streams
from kagent_sdk.link.nats.client import connect_caller
from kagent_sdk.link.nats.link import NatsLink
from kagent_sdk.link.settings import LinkSettings, LinkTls
from tests.docs.blocks import read_blocks
from tests.integration.link_hosts import FakeHost, capability
from tests.integration.link_replicas import QUICK, end_of, task, until
from tests.integration.nats_server import NatsServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "nats.md"


def identity(authority: trustme.CA, folder: Path, name: str) -> LinkTls:
    """Issue a certificate to a client; return its files."""
    issued = authority.issue_cert(name)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return LinkTls(folder / "ca.pem", certificate, key)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Return who signs; the server's files are in the folder, as the page names them."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = authority.issue_cert("127.0.0.1")
    (tmp_path / "server.pem").write_bytes(server.cert_chain_pems[0].bytes())
    (tmp_path / "server.key").write_bytes(server.private_key_pem.bytes())
    return authority


@pytest.fixture
def server(tmp_path: Path, authority: trustme.CA) -> Iterator[NatsServer]:  # noqa: ARG001 - writes the server's files
    """Return a server with the configuration of the page."""
    [conf] = [block for block in read_blocks(PAGE) if block.file == "nats.conf"]
    text = conf.text.replace('jetstream { store_dir: "store" }', "")  # the test's own folder
    for name in ("server.pem", "server.key", "ca.pem"):
        text = text.replace(f'"{name}"', f'"{tmp_path / name}"')
    (tmp_path / "nats.conf").write_text(text)
    server = NatsServer(tmp_path, "--config", str(tmp_path / "nats.conf"))
    server.start()
    yield server
    server.stop()


async def test_an_agent_works_with_its_own_permissions_and_reads_nothing_of_others(
    tmp_path: Path, authority: trustme.CA, server: NatsServer
) -> None:
    """A worker that was taken over through its agent must not read what others answer."""
    url = server.url.replace("nats:", "tls:")
    operator = identity(authority, tmp_path, "operator@mesh.example")
    agent = identity(authority, tmp_path, "log_triage@mesh.example")
    host = FakeHost("log_triage", capability("triage"))
    link = NatsLink(LinkSettings(url, timeout_s=2, heartbeat_s=0.2, tls=agent), host, QUICK)
    async with asyncio.timeout(60), connect_caller(url, tls=operator, limits=QUICK) as caller:
        await streams.open_queue(caller._bus.js, "log_triage", "triage", QUICK)
        job = asyncio.create_task(link.run())
        await until(lambda: link.status.state == "up")
        await caller.submit(task("log_triage", "job", capability="triage"))
        end = await end_of(caller, "log_triage", "job")
        await until(lambda: not host.reports.reports)
        await caller._bus.tasks.put("other.job", b"{}")
        assert link._session is not None
        bus = link._session.bus
        bus.js._timeout = 0.3
        with pytest.raises(TimeoutError):
            await bus.tasks.get("other.job")
        with pytest.raises(TimeoutError):
            await bus.js.get_last_msg("KAGENT_EVENTS", "kagent.events.>")
        error = bus.last_error
        await link.close(2)
        await job

    assert end["state"] == "completed"
    assert error is not None
    assert "permissions violation" in error.lower()
