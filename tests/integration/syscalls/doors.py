"""Attempts on the network, on terminals and signals, on files, and by other doors to the kernel."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import pty
import socket
import struct
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

from tests.integration.syscalls.raw import call

AT_FDCWD = -100
GARBAGE = 0xABCDEF << 32


def make_tcp() -> Iterator[None]:
    """Make a socket that can connect."""
    yield
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def make_udp() -> Iterator[None]:
    """Make a socket that can send anywhere."""
    yield
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def make_udp_with_garbage() -> Iterator[None]:
    """The same with garbage where the kernel does not look."""
    yield
    call("socket", socket.AF_INET | GARBAGE, socket.SOCK_DGRAM | GARBAGE, GARBAGE)


def make_mptcp() -> Iterator[None]:
    """Make a socket whose connections Landlock does not see."""
    yield
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)


def make_raw() -> Iterator[None]:
    """Make a socket that forges packets."""
    yield
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def make_packet() -> Iterator[None]:
    """Make a socket that sees all packets."""
    yield
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


def make_packet_in_the_old_way() -> Iterator[None]:
    """Make the same by the type SOCK_PACKET of AF_INET."""
    yield
    call("socket", socket.AF_INET, 10, 0)


def make_netlink() -> Iterator[None]:
    """Make a socket that talks to the kernel about the network."""
    yield
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


def make_vsock() -> Iterator[None]:
    """Make a socket that talks to the machine below this one."""
    yield
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)


def make_unix() -> Iterator[None]:
    """Make a socket that talks to services of the machine."""
    yield
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def make_unix_of_pair() -> Iterator[None]:
    """Send to a socket of the file system from a pair, which anybody may make."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with tempfile.TemporaryDirectory() as folder:
        receiver.bind(f"{folder}/socket")
        yield
        one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.sendto(b"out", receiver.getsockname())
        assert receiver.recv(10) == b"out"


def connect_by_sending() -> Iterator[None]:
    """Connect without connect(2)."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.socket()
    yield
    client.sendto(b"x", socket.MSG_FASTOPEN, server.getsockname())


def connect_by_sending_a_message() -> Iterator[None]:
    """The same, by sendmsg(2)."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.socket()
    yield
    client.sendmsg([b"x"], [], socket.MSG_FASTOPEN, server.getsockname())


def connect_later() -> Iterator[None]:
    """Have connect(2) do nothing until something is sent."""
    client = socket.socket()
    yield
    client.setsockopt(socket.IPPROTO_TCP, 30, 1)


def listen_without_port() -> Iterator[None]:
    """Listen on a port that the kernel chooses."""
    server = socket.socket()
    yield
    server.listen()
    assert server.getsockname()[1] > 0


def type_into_terminal() -> Iterator[None]:
    """Have the shell outside run something."""
    terminal = _own_terminal()
    yield
    fcntl.ioctl(terminal, termios.TIOCSTI, b"x")


def type_into_terminal_with_garbage() -> Iterator[None]:
    """The same, with garbage where the kernel does not look (CVE-2019-10063)."""
    terminal = _own_terminal()
    yield
    call("ioctl", terminal, termios.TIOCSTI | GARBAGE, b"x")


def have_signal_sent() -> Iterator[None]:
    """Have the kernel send another process a signal when there is something to read."""
    one, _ = socket.socketpair()
    yield
    fcntl.fcntl(one, fcntl.F_SETOWN, os.getppid())


def have_signal_sent_by_ioctl() -> Iterator[None]:
    """The same by ioctl(2) (FIOSETOWN)."""
    one, _ = socket.socketpair()
    yield
    fcntl.ioctl(one, 0x8901, struct.pack("=i", os.getppid()))


def have_signal_sent_by_kind() -> Iterator[None]:
    """The same by the newer call (F_SETOWN_EX)."""
    one, _ = socket.socketpair()
    yield
    fcntl.fcntl(one, 15, struct.pack("=ii", 1, os.getppid()))


def make_file_set_user_id() -> Iterator[None]:
    """Make a file run as its owner."""
    with tempfile.NamedTemporaryFile() as file:
        yield
        Path(file.name).chmod(0o4755)


def make_open_file_set_user_id() -> Iterator[None]:
    """The same, of a file that is open."""
    with tempfile.TemporaryFile() as file:
        yield
        os.fchmod(file.fileno(), 0o4755)


def create_file_set_user_id() -> Iterator[None]:
    """Make a file that runs as its owner from the start."""
    with tempfile.TemporaryDirectory() as folder:
        yield
        os.close(os.open(f"{folder}/file", os.O_CREAT | os.O_WRONLY, 0o4755))


def make_node_set_user_id() -> Iterator[None]:
    """The same by mknod(2)."""
    with tempfile.TemporaryDirectory() as folder:
        yield
        os.mknod(f"{folder}/file", 0o104755)


def open_by_structure() -> Iterator[None]:
    """Open a file by the call whose flags are in memory."""
    yield
    call("openat2", AT_FDCWD, b"/", struct.pack("=3Q", os.O_PATH, 0, 0), 24)


def share_named_memory() -> Iterator[None]:
    """Make memory that all processes of the user find by its number."""
    yield
    segment = call("shmget", 0, 4096, 0o1600)
    call("shmctl", segment, 0, None)


def share_named_counter() -> Iterator[None]:
    """Make a counter that all find."""
    yield
    call("semctl", call("semget", 0, 1, 0o1600), 0, 0, 0)


def share_numbered_queue() -> Iterator[None]:
    """Make a queue that all find by its number."""
    yield
    call("msgctl", call("msgget", 0, 0o1600), 0, None)


def share_named_queue() -> Iterator[None]:
    """Make a queue that all find by its name."""
    name = f"kagent-{os.getpid()}".encode()
    yield
    call("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, None)
    call("mq_unlink", name)


def call_by_interrupt() -> Iterator[None]:
    """Call the kernel by the numbers of 32-bit programs (getpid)."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")  # push rbx; eax = 20; int 0x80; pop rbx
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    yield
    if function() != os.getpid():
        raise ProcessLookupError(platform.machine())


def _own_terminal() -> int:
    """Return a terminal that is this process's own."""
    os.setsid()
    _, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    return terminal
