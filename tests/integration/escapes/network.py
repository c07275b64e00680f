"""Attempts on the network, and on the ways by which processes of one machine talk."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import time

from .ground import BlockedError, Ground, attempt
from .kernel_calls import libc

_MPTCP = 262  # linux/in.h IPPROTO_MPTCP
_FASTOPEN = 0x20000000  # linux/socket.h MSG_FASTOPEN
_FASTOPEN_CONNECT = 30  # linux/tcp.h
_LOCAL_CID = 1  # linux/vm_sockets.h
_FIVE_SECONDS = struct.pack("@ll", 5, 0)
_ALG = 38  # AF_ALG

LOOPBACK = "127.0.0.1"


def ask(ground: Ground, connection: socket.socket) -> str:
    """Have the neighbour tell the secret."""
    connection.settimeout(5)
    connection.sendall(b"tell\n")
    return ground.expect(connection.recv(100))


def speak_to_host(connection: socket.socket) -> str:
    """Ask the host how it is."""
    connection.settimeout(5)
    connection.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = connection.recv(100)
    if not answer.startswith(b"HTTP/1.1"):
        raise BlockedError(f"not the host: {answer!r}")
    return answer.partition(b"\r\n")[0].decode()


@attempt()
def connect_to_neighbour(ground: Ground) -> str:
    """Connect to a server on the machine."""
    with socket.create_connection((LOOPBACK, ground.tcp_port), 5) as connection:
        return ask(ground, connection)


@attempt()
def connect_over_ipv6(ground: Ground) -> str:
    """The same over IPv6."""
    with socket.create_connection(("::1", ground.tcp_port), 5) as connection:
        return ask(ground, connection)


@attempt()
def connect_over_mapped_address(ground: Ground) -> str:
    """The same with an IPv4 address inside an IPv6 one."""
    with socket.create_connection(("::ffff:127.0.0.1", ground.tcp_port), 5) as connection:
        return ask(ground, connection)


@attempt(lacking="a kernel without MPTCP")
def connect_over_mptcp(ground: Ground) -> str:
    """The same over MPTCP, which Landlock does not know."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, _MPTCP) as connection:
        connection.settimeout(5)
        connection.connect((LOOPBACK, ground.tcp_port))
        return ask(ground, connection)


@attempt(lacking="net.ipv4.tcp_fastopen may be off")
def connect_by_fastopen(ground: Ground) -> str:
    """Connect by sending (MSG_FASTOPEN), which is no connect(2)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _FIVE_SECONDS)
        connection.sendto(b"tell\n", _FASTOPEN, (LOOPBACK, ground.tcp_port))
        return ground.expect(connection.recv(100))


@attempt(lacking="net.ipv4.tcp_fastopen may be off")
def connect_by_fastopen_message(ground: Ground) -> str:
    """The same by sendmsg(2)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _FIVE_SECONDS)
        connection.sendmsg([b"tell\n"], [], _FASTOPEN, (LOOPBACK, ground.tcp_port))
        return ground.expect(connection.recv(100))


@attempt(lacking="net.ipv4.tcp_fastopen may be off")
def connect_late(ground: Ground) -> str:
    """Have connect(2) wait for the first data (TCP_FASTOPEN_CONNECT)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, _FASTOPEN_CONNECT, 1)
        connection.settimeout(5)
        connection.connect((LOOPBACK, ground.tcp_port))
        return ask(ground, connection)


@attempt()
def send_datagram(ground: Ground) -> str:
    """Talk UDP to a server on the machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(5)
        connection.sendto(b"tell\n", (LOOPBACK, ground.udp_port))
        return ground.expect(connection.recv(100))


@attempt()
def send_datagram_over_ipv6(ground: Ground) -> str:
    """Talk UDP over IPv6."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as connection:
        connection.settimeout(5)
        connection.sendto(b"tell\n", ("::1", ground.udp_port))
        return ground.expect(connection.recv(100))


@attempt()
def receive_datagrams(ground: Ground) -> str:
    """Be there for datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.bind((LOOPBACK, 0))
        return f"port {connection.getsockname()[1]}"


@attempt()
def listen_on_another_port(ground: Ground) -> str:
    """Serve on a port that nobody allowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        return f"port {server.getsockname()[1]}"


@attempt()
def listen_without_bind(ground: Ground) -> str:
    """Serve on the port that listen(2) chooses for a socket that has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.listen()
        port = server.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM):
            return f"port {port}"


@attempt()
def ask_for_names(ground: Ground) -> str:
    """Open the socket of a resolver: data leave by the names that are asked for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.connect((LOOPBACK, 53))
        return "connected"


@attempt(needs_root=True)
def make_raw_socket(ground: Ground) -> str:
    """Make IP packets by hand."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        return "made it"


@attempt(needs_root=True)
def make_packet_socket(ground: Ground) -> str:
    """Listen to the wire."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)):
        return "made it"


@attempt(needs_root=True, lacking="net.ipv4.ping_group_range may leave everybody out")
def ping(ground: Ground) -> str:
    """Send an echo request by the unprivileged kind of socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP):
        return "made it"


@attempt()
def ask_kernel_for_routes(ground: Ground) -> str:
    """Ask the kernel for its interfaces and addresses (rtnetlink(7))."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as connection:
        connection.settimeout(5)
        request = struct.pack("=IHHIIB3x", 20, 18, 0x301, 1, 0, 0)  # RTM_GETLINK, dump
        connection.send(request)
        return f"{len(connection.recv(65536))} bytes about interfaces"


@attempt(lacking="a kernel without sock_diag")
def ask_kernel_for_sockets(ground: Ground) -> str:
    """Ask the kernel for the sockets of all processes (sock_diag(7))."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as connection:
        connection.settimeout(5)
        header = struct.pack("=IHHII", 16 + 56, 20, 0x301, 1, 0)
        body = struct.pack("=BBBBI48x", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
        connection.send(header + body)
        return f"{len(connection.recv(65536))} bytes about sockets"


@attempt()
def listen_to_kernels_events(ground: Ground) -> str:
    """Hear of the machine's devices (NETLINK_KOBJECT_UEVENT)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as connection:
        connection.bind((0, 1))
        return "bound"


@attempt(lacking="a kernel without vsock")
def make_vsock(ground: Ground) -> str:
    """Make a socket to the machine around this one, which no network namespace holds."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as server:
        server.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        return f"bound {server.getsockname()}"


@attempt(lacking="a kernel without vsock")
def make_vsock_datagram(ground: Ground) -> str:
    """The same without a connection."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_SEQPACKET):
        return "made it"


@attempt(lacking="a kernel without AF_ALG")
def make_crypto_socket(ground: Ground) -> str:
    """Reach the kernel's ciphers, where holes were found."""
    with socket.socket(_ALG, socket.SOCK_SEQPACKET) as connection:
        connection.bind(("hash", "sha256"))
        return "bound"


@attempt()
def make_other_sockets(ground: Ground) -> str:
    """Make a socket of any family but IP and the unix one."""
    made = []
    plain = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}
    for family in range(1, 47):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            with contextlib.suppress(OSError):
                libc_fd = libc("socket", family, int(kind), 0)
                os.close(libc_fd)
                if family not in plain:
                    made.append((family, int(kind)))
    if not made:
        raise BlockedError("no socket of any other family")
    return f"made {made}"


@attempt()
def make_other_ip_sockets(ground: Ground) -> str:
    """Make an IP socket of a kind or protocol that is not TCP."""
    made = []
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in kinds:
            for protocol in (0, 1, 2, 6, 17, 33, 58, 132, 136, 255, 256, 262, 263):
                if kind is socket.SOCK_STREAM and protocol in {0, 6}:
                    continue
                with contextlib.suppress(OSError):
                    os.close(libc("socket", int(family), int(kind), protocol))
                    made.append((int(family), int(kind), protocol))
    if not made:
        raise BlockedError("none")
    return f"made {made}"


@attempt()
def make_socket_with_odd_type(ground: Ground) -> str:
    """Hide the kind of a socket behind bits that a filter may not look at."""
    # The kernel reads `type` as an int: the upper half of the register is nobody's.
    odd = ctypes.c_ulonglong(int(socket.SOCK_DGRAM) | 1 << 32)
    number = 41 if os.uname().machine == "x86_64" else 198
    fd = libc("syscall", ctypes.c_long(number), ctypes.c_long(2), odd, ctypes.c_long(0))
    return f"descriptor {fd}"


@attempt()
def connect_to_abstract_socket(ground: Ground) -> str:
    """Talk to a process by a name that is in no folder (unix(7))."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("\0" + ground.abstract)
        return ask(ground, connection)


@attempt()
def connect_to_socket_file(ground: Ground) -> str:
    """Talk to a process by a socket in a folder, as to an engine of containers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(ground.outside("socket"))
        return ask(ground, connection)


@attempt()
def send_to_socket_file(ground: Ground) -> str:
    """The same without a connection, as to the system's log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.bind("")
        connection.settimeout(5)
        connection.sendto(b"tell\n", ground.outside("datagrams"))
        return ground.expect(connection.recv(100))


@attempt()
def send_from_socket_pair(ground: Ground) -> str:
    """Send from a socket of a pair, which is always allowed, to a socket in a folder."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.sendto(b"mark\n", ground.outside("datagrams"))
        return "sent"


@attempt()
def connect_socket_pair(ground: Ground) -> str:
    """Connect a socket of a pair to a socket in a folder."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.connect(ground.outside("datagrams"))
        ours.send(b"mark\n")
        return "sent"


@attempt()
def bind_socket_pair(ground: Ground) -> str:
    """Give a socket of a pair an abstract name, by which others find it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.bind(f"\0kos-{os.getpid()}")
        return "bound"


@attempt()
def speak_to_control_port(ground: Ground) -> str:
    """Give our own host orders."""
    with socket.create_connection((LOOPBACK, ground.port), 5) as connection:
        return speak_to_host(connection)


@attempt()
def speak_to_control_port_over_any(ground: Ground) -> str:
    """The same by the address that means this machine."""
    with socket.create_connection(("0.0.0.0", ground.port), 5) as connection:  # noqa: S104 - the point
        return speak_to_host(connection)


@attempt()
def speak_to_control_port_by_another_way(ground: Ground) -> str:
    """The same with a socket that does not wait, connected again and again."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(0)
        for _ in range(100):
            code = connection.connect_ex((LOOPBACK, ground.port))
            if code in {0, 106}:
                connection.settimeout(5)
                return speak_to_host(connection)
            if code not in {11, 114, 115}:
                raise OSError(code, os.strerror(code))
            time.sleep(0.01)
    raise BlockedError("never connected")
