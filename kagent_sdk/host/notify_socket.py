"""The socket on which a supervised program speaks sd_notify(3) to the host."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from kagent_sdk.protocol.notify import MAX_DATAGRAM_BYTES

MAX_READS = 8
PAUSE_S = 0.02
"""At most so many datagrams so often, some hundred microseconds of work. A program that sends more
waits in its own ``send``: the kernel's queue is full (unix(7))."""

MAX_ANCESTORS = 32
"""So far up is looked for the worker among a sender's parents."""

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid (unix(7))


class NotifySocket:
    """Receives the notifications of one worker, and of its processes alone.

    The kernel says who sent each datagram (SO_PASSCRED). A sender that has ended and was waited for
    cannot be told from a stranger: like systemd's own, a short-lived helper must wait until its
    datagram was read (``systemd-notify`` does, by ``BARRIER=1``).

    Args:
        path: where to listen; nothing may be there yet.

    Attributes:
        refused: datagrams of strangers, or too long ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused = 0
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._socket.bind(str(path))
            path.chmod(0o600)
        except OSError:
            self._socket.close()
            raise
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._hear: Callable[[bytes | None, int], None] = lambda _datagram, _pid: None

    def listen(
        self,
        leader: int,
        on_datagram: Callable[[bytes], None],
        on_refused: Callable[[], None],
    ) -> None:
        """Hand on what the process ``leader``, its group and its descendants say.

        Args:
            leader: the worker, which leads its process group.
            on_datagram: called for each of theirs.
            on_refused: called with the first of another's.
        """

        def hear(datagram: bytes | None, pid: int) -> None:
            if datagram is not None and belongs_to(pid, leader):
                on_datagram(datagram)
                return
            self.refused += 1
            if self.refused == 1:
                on_refused()

        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop = None
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(PAUSE_S, self._resume)
        for _ in range(MAX_READS):
            try:
                datagram, pid = receive(self._socket)
            except BlockingIOError:
                return
            self._hear(datagram, pid)

    def _resume(self) -> None:
        if self._loop is not None:
            self._loop.add_reader(self._socket, self._read)


def receive(listener: socket.socket) -> tuple[bytes | None, int]:
    """Return a datagram, None for one that is too long, and its sender's process id (0: unknown).

    There is room for the credentials alone: descriptors that come with it are dropped by the kernel
    before they are ours (unix(7), SCM_RIGHTS), which is also what answers ``BARRIER=1``.

    Raises:
        BlockingIOError: there is none.
    """
    room = socket.CMSG_SPACE(_CREDENTIALS.size)
    datagram, ancillary, flags, _ = listener.recvmsg(MAX_DATAGRAM_BYTES, room)
    pid = 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, _, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            _close_all(data)
    return (None if flags & socket.MSG_TRUNC else datagram), pid


def _close_all(data: bytes) -> None:
    descriptors = array.array("i")
    descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    for descriptor in descriptors:
        os.close(descriptor)


def belongs_to(pid: int, leader: int) -> bool:
    """Tell whether a process is in the group that ``leader`` leads, or descends from it."""
    if pid <= 0:
        return False
    try:
        if os.getpgid(pid) == leader:
            return True
        for _ in range(MAX_ANCESTORS):
            pid = _parent_of(pid)
            if pid == leader:
                return True
            if pid <= 1:
                return False
    except (OSError, ValueError, IndexError):
        return False
    return False


def _parent_of(pid: int) -> int:
    # proc(5): "pid (name) state ppid …", and the name may hold anything.
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return int(stat[stat.rindex(b")") + 1 :].split()[1])
