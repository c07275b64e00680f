"""A session as the host follows it: whatever worker and client do, it has an end, and costs little."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk.host import debug_session
from kagent_sdk.host.debug_channel import CHANNEL_TYPE, DebugChannel
from kagent_sdk.host.debug_session import WorkerSession
from kagent_sdk.protocol.debug import Hello
from kagent_sdk.worker.debugging import receive

HELLO = Hello(("ps",))


class Rig:
    """Host, worker and client in one process.

    Attributes:
        client: the client's end of the connection; ours is the host's.
        worker: the worker's end of the channel.
        commands: what the session has told.
    """

    def __init__(self) -> None:
        self.ours, self.client = socket.socketpair()
        self.ours.settimeout(0)
        host_end, self.worker = socket.socketpair(socket.AF_UNIX, CHANNEL_TYPE)
        self.channel = DebugChannel(host_end)
        self.commands: list[str] = []

    def close(self) -> None:
        """Close all that a test has left open."""
        for each in (self.ours, self.client, self.worker, self.channel):
            each.close()

    def begin(self) -> asyncio.Task[str]:
        """Let the host hand the session over, and follow it."""
        session = WorkerSession(1, self.ours, self.channel, self.commands.append)
        return asyncio.create_task(session.run(HELLO))

    async def take(self) -> tuple[int, int]:
        """Be the worker: return the connection and the report."""
        _, (connection, report) = await asyncio.to_thread(receive, self.worker)
        return connection, report


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Return a rig whose descriptors are closed at the end."""
    made = Rig()
    yield made
    made.close()


async def test_it_is_over_when_the_worker_lets_go_of_its_report(rig: Rig) -> None:
    """Also when it dies: the kernel closes what it held."""
    job = rig.begin()
    connection, report = await rig.take()
    os.write(report, b'{"command": "ps"}\n')
    os.close(connection)
    os.close(report)

    assert await job == "done"
    assert rig.commands == ["ps"]
    assert rig.client.recv(1) == b""


async def test_it_is_over_when_the_worker_is_known_to_be_gone(rig: Rig) -> None:
    """Even if something of it has kept the report, such as a process that it has started."""
    job = rig.begin()
    connection, report = await rig.take()
    rig.channel.close()

    assert await job == "worker_gone"
    assert rig.client.recv(1) == b""
    os.close(connection)
    os.close(report)


async def test_a_client_that_is_gone_frees_its_place_though_the_worker_stands_still(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a few that lost patience would lock everybody out."""
    monkeypatch.setattr(debug_session, "LINGER_S", 0)
    job = rig.begin()
    await asyncio.sleep(0)
    rig.client.close()

    assert await job == "client_gone"


async def test_what_a_client_sends_is_not_read_by_the_host(rig: Rig) -> None:
    """It is for the worker; and bytes that wait cost the host nothing."""
    job = rig.begin()
    connection, report = await rig.take()
    rig.client.send(b"keys")
    os.write(report, b'{"command": "seen"}\n')
    while not rig.commands:  # noqa: ASYNC110 - what the host does has no event
        await asyncio.sleep(0.01)

    assert os.read(connection, 10) == b"keys"
    os.close(connection)
    os.close(report)
    assert await job == "done"


async def test_a_worker_that_takes_nothing_is_told_and_nothing_leaks(rig: Rig) -> None:
    """It is gone, or its queue is full; the host keeps no descriptor of what it could not give."""
    rig.worker.close()
    before = _descriptors()
    with pytest.raises(OSError, match="Broken pipe"):
        await rig.begin()
    assert _descriptors() == before

    full = Rig()
    reports: list[int] = []

    def fill() -> None:
        while True:
            reports.append(full.channel.hand_over(1, HELLO, full.ours))

    with pytest.raises(BlockingIOError):
        fill()
    assert len(reports) > 4
    for report in reports:
        os.close(report)
    full.close()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
