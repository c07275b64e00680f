"""A process of the same user that is in no sandbox: what the attempts want to reach.

``python -m tests.integration.escapes.neighbour FIELD SECRET`` prints a line of facts and serves until
its stdin is closed: every one of its sockets answers a line with the secret, or with an open file.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from .ground import BlockedError
from .kernel_calls import attach_at, call, libc

LOOPBACK = "127.0.0.1"
_USER = -4  # linux/keyctl.h: the user's keyring
_PERMIT_ALL = 0x3F3F0000
_CREATE = 0o1000 | 0o600  # sys/ipc.h IPC_CREAT


class Neighbour:
    """What the process holds, and where it is found."""

    def __init__(self, field: Path, secret: str) -> None:
        self.field = field
        self.secret = secret
        self.name = f"kos-neighbour-{os.getpid()}"
        # Room behind the secret for what may be written there.
        self.memory = ctypes.create_string_buffer(secret.encode(), 256)
        self.file = (field / "secret").open("rb")
        self.selector = selectors.DefaultSelector()
        self.segment = 0x60000000 + os.getpid()
        self._undo: list[Callable[[], object]] = []

    def open(self) -> dict[str, object]:
        """Open everything, and return the facts."""
        tcp_port = self._listen_tcp()
        udp_port = self._listen_udp()
        self._listen_unix(f"\0{self.name}")
        self._listen_unix(str(self.field / "socket"))
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagrams.bind(str(self.field / "datagrams"))
        self._watch(datagrams, self._answer_datagram)
        self._share()
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        return {
            "neighbour_pid": os.getpid(),
            "address": ctypes.addressof(self.memory),
            "tcp_port": tcp_port,
            "udp_port": udp_port,
            "abstract": self.name,
            "queue": self.name,
            "segment": self.segment,
        }

    def serve(self) -> None:
        """Answer until stdin is closed."""
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)

    def close(self) -> None:
        """Take away what outlives a process."""
        for undo in self._undo:
            with contextlib.suppress(OSError):
                undo()

    def _listen_tcp(self) -> int:
        # One socket for both families would refuse what comes by ::ffff:127.0.0.1 on some kernels.
        server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        with contextlib.suppress(OSError):
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        self._watch(server, self._accept)
        port = server.getsockname()[1]
        assert isinstance(port, int)
        return port

    def _listen_udp(self) -> int:
        server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", 0))
        self._watch(server, self._answer_datagram)
        port = server.getsockname()[1]
        assert isinstance(port, int)
        return port

    def _listen_unix(self, address: str) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.bind(address)
        server.listen()
        self._watch(server, self._accept)

    def _watch(self, server: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        server.settimeout(0)
        self.selector.register(server, selectors.EVENT_READ, answer)

    def _accept(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        self._watch(connection, self._answer)

    def _answer(self, connection: socket.socket) -> None:
        asked = connection.recv(100)
        if asked.startswith(b"file"):
            socket.send_fds(connection, [b"file"], [self.file.fileno()])
        elif asked:
            connection.sendall(self.secret.encode())
        else:
            self.selector.unregister(connection)
            connection.close()

    def _answer_datagram(self, server: socket.socket) -> None:
        asked, sender = server.recvfrom(100)
        if asked.startswith(b"tell"):
            server.sendto(self.secret.encode(), sender)

    def _share(self) -> None:
        """Leave the secret with the kernel, wherever this one has the place."""
        shared = Path("/dev/shm", self.name)  # noqa: S108 - what multiprocessing uses
        shared.write_text(self.secret)
        shared.chmod(0o600)
        self._undo.append(shared.unlink)
        with contextlib.suppress(PermissionError):  # in a container nobody has such memory
            identity = libc("shmget", self.segment, 4096, _CREATE)
            ctypes.memmove(attach_at(identity), self.secret.encode(), len(self.secret))
            self._undo.append(lambda: libc("shmctl", identity, 0, None))
        with contextlib.suppress(OSError, BlockedError):
            # A session that has no keys of its own has none to search from.
            call("keyctl", 1, None)
            key = call(
                "add_key",
                b"user",
                self.name.encode(),
                self.secret.encode(),
                len(self.secret),
                _USER,
            )
            call("keyctl", 5, key, _PERMIT_ALL)
            self._undo.append(lambda: call("keyctl", 3, key))
        with contextlib.suppress(OSError):
            name = f"/{self.name}".encode()
            libc("mq_open", name, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o600, None)
            self._undo.append(lambda: libc("mq_unlink", name))


def main() -> None:
    """Serve in the field that the command line names."""
    neighbour = Neighbour(Path(sys.argv[1]), sys.argv[2])
    facts = neighbour.open()
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    try:
        neighbour.serve()
    finally:
        neighbour.close()


if __name__ == "__main__":
    main()
