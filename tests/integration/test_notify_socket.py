"""What the host reads from a program's notifications, and what it never takes."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk.host.notify_socket import MAX_READS, NotifySocket, belongs_to, receive
from kagent_sdk.protocol.notify import MAX_DATAGRAM_BYTES


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[NotifySocket]:
    """A socket that nobody reads yet."""
    opened = NotifySocket(tmp_path / "notify")
    yield opened
    opened.close()


@pytest.fixture
def sender(listener: NotifySocket) -> Iterator[socket.socket]:
    """A socket that is connected to it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.connect(str(listener.path))
        yield opened


def count_descriptors() -> int:
    """Return how many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_kernel_says_who_has_sent_it(listener: NotifySocket, sender: socket.socket) -> None:
    """A process id in the text would be a claim, not a proof."""
    sender.send(b"READY=1")

    assert receive(listener._socket) == (b"READY=1", os.getpid())
    with pytest.raises(BlockingIOError):
        receive(listener._socket)


def test_descriptors_never_become_the_hosts(listener: NotifySocket, sender: socket.socket) -> None:
    """A program could use up all that the host may have open, or leave it a disk to close."""
    read, write = os.pipe()
    before = count_descriptors()
    socket.send_fds(sender, [b"BARRIER=1"], [write] * 250)
    assert receive(listener._socket)[0] == b"BARRIER=1"  # it was taken

    assert count_descriptors() == before
    os.close(write)
    assert os.read(read, 1) == b""  # nobody holds the other end: the barrier is passed
    os.close(read)


@pytest.mark.parametrize(
    ("size", "is_taken"), [(MAX_DATAGRAM_BYTES, True), (MAX_DATAGRAM_BYTES + 1, False)]
)
def test_a_datagram_is_taken_whole_or_not_at_all(
    listener: NotifySocket, sender: socket.socket, size: int, is_taken: bool
) -> None:
    """Half of a status could be half of a secret."""
    sender.send(b"x" * size)

    assert (receive(listener._socket)[0] is not None) is is_taken


def test_a_process_belongs_to_its_group_and_its_ancestors() -> None:
    """Whoever else writes to the socket is a stranger."""
    code = "import subprocess, sys; subprocess.run(['sleep', '100'], start_new_session=True)"
    leader = subprocess.Popen([sys.executable, "-c", code], process_group=0)
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        child = _wait_for_child(leader.pid)
        assert belongs_to(leader.pid, leader.pid)
        assert belongs_to(child, leader.pid)
        assert not belongs_to(stranger.pid, leader.pid)
        assert not belongs_to(os.getpid(), leader.pid)
        assert not belongs_to(0, leader.pid)  # what the kernel calls a process of another container
        assert not belongs_to(1, leader.pid)
    finally:
        os.kill(_wait_for_child(leader.pid), 9)
        leader.kill()
        leader.wait()
        stranger.kill()
        stranger.wait()

    assert not belongs_to(leader.pid, leader.pid)  # it is gone


def _wait_for_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        pass
    return int(found[0])


async def test_a_turn_of_the_loop_reads_a_bounded_number(
    listener: NotifySocket, sender: socket.socket
) -> None:
    """However much a program sends, the probes' turn comes."""
    sender.settimeout(0)
    heard: list[bytes] = []
    sent = 0
    begun, gone_on = asyncio.Event(), asyncio.Event()

    def hear(datagram: bytes) -> None:
        nonlocal sent
        heard.append(datagram)
        sender.send(b"more")  # never empty
        sent += 1
        begun.set()
        if len(heard) > MAX_READS:
            gone_on.set()

    sender.send(b"first")
    listener.listen(os.getpgid(0), hear, lambda: None)
    await begun.wait()

    assert len(heard) == MAX_READS == sent
    await gone_on.wait()  # after a pause
    assert listener.refused == 0
