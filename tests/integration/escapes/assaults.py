"""What a worker can do with what is its own by right: its pipes, its socket, its scratch folders."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from kagent_sdk.protocol.frames import Kind, encode

from .kernel_calls import libc

LEFT = "kos-left"
"""Name of the process that `stay` leaves."""

_SET_NAME = 15  # linux/prctl.h
_STEP_S = 0.01


def hold(sign: str) -> str:
    """Run until the sign is there; leave one that it has begun."""
    Path(f"{sign}-begun").write_text(str(os.getpid()))
    while not Path(sign).exists():
        time.sleep(_STEP_S)
    return "held"


def forge_results(numbers: list[int], note: str) -> str:
    """Tell the host that tasks have ended, in the name of whoever runs them; note down who did."""
    Path(note).write_text(str(os.getpid()))
    with _socket_to_host() as connection:
        for number in numbers:
            connection.sendall(encode(Kind.RESULT, number, b'"forged"'))
    return "sent"


def send_descriptors(count: int) -> str:
    """Send open files along with the frames, for the host to hold."""
    with _socket_to_host() as connection:
        for _ in range(count):
            file = os.open("/dev/null", os.O_RDONLY)
            # A frame in pieces: a heartbeat, whose parts alone are nothing.
            for piece in _pieces(encode(Kind.HEARTBEAT, 0, b'{"lag_ms":0,"running":1}')):
                socket.send_fds(connection, [piece], [file])
            os.close(file)
    return "sent"


def stay(marker: str) -> int:
    """Leave a process that nobody waits for: in a session of its own, with the worker's pipes open.

    Returns:
        Its process id, as the worker sees it.
    """
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        child = os.fork()
        if child == 0:
            os.close(ours)
            libc("prctl", _SET_NAME, LEFT.encode(), 0, 0, 0)
            Path(marker).write_text(str(os.getpid()))
            os.close(theirs)
            while True:
                time.sleep(60)
        os._exit(0)
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    os.wait()
    return int(Path(marker).read_text())


def plant_links(target: str) -> str:
    """Leave links to a file of root's wherever the worker may write."""
    planted = []
    for folder in ("runtime/cache", "runtime/data"):
        for name in ("link", "journal.db", "memory_store.json"):
            path = Path(folder, name)
            with contextlib.suppress(FileExistsError):
                path.symlink_to(target)
                planted.append(name)
        Path(folder, "folder").symlink_to(Path(target).parent)
    return " ".join(planted)


def _pieces(frame: bytes) -> Iterator[bytes]:
    yield frame[:5]
    yield frame[5:]


@contextlib.contextmanager
def _socket_to_host() -> Iterator[socket.socket]:
    """Find the socket whose other end the host made, among the descriptors of this process."""
    for name in sorted(os.listdir("/proc/self/fd")):  # noqa: PTH208 - names alone
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as found:
            if found.family != socket.AF_UNIX or found.type != socket.SOCK_STREAM:
                continue
            peer = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", peer)[0] == os.getppid():
                found.setblocking(True)  # noqa: FBT003 - the standard library's way
                yield found
                return
    raise LookupError("there is no socket to the host")
