"""Carry TCP connections inside a network namespace to a unix socket that leads out of it.

A process in a network namespace of its own has no way to the egress proxy but a socket that was
bound into its file system, and its HTTP clients only speak to TCP ports. The relay listens on
127.0.0.1 and carries bytes; it decides nothing, for the proxy at the other end decides everything. It
is started before the sandbox is locked, as a process of its own:

    python -S kagent_sdk/sandbox/relay.py 3128 /run/egress.sock

or, without a second interpreter, by `start` in the process that is about to confine itself.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from contextlib import suppress

MAX_CONNECTIONS = 256
"""At a time; beyond it clients wait in the kernel's queue."""

CHUNK_BYTES = 64 * 1024
"""What is read at a time, and what waits in one direction."""

BACKLOG = 128

MAX_ADDRESS_BYTES = 107
"""Of ``sun_path``, without the zero at its end."""

_READ = select.POLLIN
_WRITE = select.POLLOUT
_USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Direction:
    """Bytes on their way from one socket to another."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.waiting = b""
        self.is_over = False

    def move(self) -> None:
        """Write what waits; when nothing does, read and write once.

        Raises:
            OSError: one of the two is gone.
        """
        with suppress(BlockingIOError):
            if not self.waiting and not self.is_over:
                self.waiting = self.source.recv(CHUNK_BYTES)
                if not self.waiting:
                    self.is_over = True
                    self.target.shutdown(socket.SHUT_WR)
            if self.waiting:
                self.waiting = self.waiting[self.target.send(self.waiting) :]


class _Pair:
    """A client's connection and the one that was made for it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.sockets = client, server
        self.directions = _Direction(client, server), _Direction(server, client)

    def events(self, one: socket.socket) -> int:
        """Return what to wait for at one of the two sockets."""
        wanted = 0
        for direction in self.directions:
            if direction.waiting and direction.target is one:
                wanted |= _WRITE
            if not direction.waiting and not direction.is_over and direction.source is one:
                wanted |= _READ
        return wanted

    def move(self) -> bool:
        """Carry what can be carried; tell whether there is more to come.

        Raises:
            OSError: one of the two is gone.
        """
        for direction in self.directions:
            direction.move()
        return any(direction.waiting or not direction.is_over for direction in self.directions)

    def close(self) -> None:
        for one in self.sockets:
            one.close()


class Relay:
    """Carries the connections of one listening socket.

    Args:
        listener: listens for clients; it stays the caller's.
        path: the unix socket to connect to.
    """

    def __init__(self, listener: socket.socket, path: str) -> None:
        self._listener = listener
        self._path = _shorten(path)
        self._poll = select.poll()
        self._pairs: dict[int, _Pair] = {}
        listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._poll.register(listener, _READ)

    def run(self) -> None:
        """Carry bytes for ever."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait until something can be carried, and carry it."""
        for descriptor, _ in self._poll.poll():
            if descriptor == self._listener.fileno():
                self._accept()
            elif (pair := self._pairs.get(descriptor)) is not None:
                self._serve(pair)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as exc:
            if exc.errno in _USED_UP and self._pairs:
                self._poll.modify(self._listener, 0)  # until a connection ends
            return
        try:
            server = self._connect()
        except OSError:
            # A queue that is full, or no one who listens: the client sees its connection close.
            client.close()
            return
        client.setblocking(False)  # noqa: FBT003 - the socket's own signature
        # The last piece of a message need not wait for an acknowledgement, up to 40 ms.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(client, server)
        for one in pair.sockets:
            self._pairs[one.fileno()] = pair
            self._poll.register(one, _READ)
        self._bound()

    def _connect(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.setblocking(False)  # noqa: FBT003 - the socket's own signature
            server.connect(self._path)
        except OSError:
            server.close()
            raise
        return server

    def _serve(self, pair: _Pair) -> None:
        try:
            goes_on = pair.move()
        except OSError:
            goes_on = False
        if not goes_on:
            self._close(pair)
            return
        for one in pair.sockets:
            # A socket that nothing is wanted of is not asked: poll(2) would tell of its hang-up
            # again and again, while what it has sent still waits for the other side.
            if wanted := pair.events(one):
                self._poll.register(one, wanted)
            else:
                self._forget(one)

    def _forget(self, one: socket.socket) -> None:
        with suppress(KeyError):
            self._poll.unregister(one)

    def _close(self, pair: _Pair) -> None:
        for one in pair.sockets:
            self._forget(one)
            del self._pairs[one.fileno()]
        pair.close()
        self._bound()

    def _bound(self) -> None:
        """Take no more clients than there are places."""
        is_full = len(self._pairs) >= 2 * MAX_CONNECTIONS
        self._poll.modify(self._listener, 0 if is_full else _READ)


def _shorten(path: str) -> str:
    """Return a name of a socket that fits into an address, which has 107 bytes (unix(7))."""
    if len(os.fsencode(path)) <= MAX_ADDRESS_BYTES:
        return path
    folder, name = os.path.split(path)
    # Kept open for the life of the relay.
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    return f"/proc/self/fd/{descriptor}/{name}"


def listen(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1 of this network namespace, whose ``lo`` is up then.

    Raises:
        OSError: the port is taken, or ``lo`` is down and may not be brought up.
    """
    bring_loopback_up()
    return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)


def bring_loopback_up() -> None:
    """Bring the interface ``lo`` up where it is down (netdevice(7)).

    A new network namespace has it down; bubblewrap brings it up itself.

    Raises:
        OSError: it is down, and this process may not change that.
    """
    import fcntl  # noqa: PLC0415 - most of those who import this module only want `start`
    import struct  # noqa: PLC0415

    get_flags, set_flags, up = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
    request = struct.Struct("16sh22x")  # struct ifreq: the name, and of the union the flags
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, get_flags, request.pack(b"lo", 0))
        flags: int = request.unpack(answer)[1]
        if not flags & up:
            fcntl.ioctl(control, set_flags, request.pack(b"lo", flags | up))


def start(port: int, path: str) -> None:
    """Start a relay beside this process, which must have one thread; it listens when this returns.

    It is no child of the caller's: it ends with the PID namespace that it is in, so make sure that
    there is one. It keeps none of the caller's descriptors.

    Raises:
        OSError: the port is taken, or there is no process to be had.
    """
    with listen(port) as listener:
        child = os.fork()
        if child == 0:
            _become_relay(listener, path)
        os.waitpid(child, 0)


def _become_relay(listener: socket.socket, path: str) -> None:
    status = 1
    try:
        if os.fork() == 0:
            os.setsid()
            _keep_only(listener.fileno())
            Relay(listener, path).run()
        status = 0
    finally:
        os._exit(status)


def _keep_only(kept: int) -> None:
    """Close every descriptor but one: whoever waits for the end of a pipe must not wait for us."""
    # pathlib would be a tenth of the start.
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in {0, 1, 2, kept}:
            with suppress(OSError):  # the one that the listing itself had
                os.close(int(name))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)


def main() -> None:
    """Run a relay for ever: its arguments are the port and the path of the unix socket."""
    port, path = sys.argv[1:]
    with listen(int(port)) as listener:
        print("ready", flush=True)  # noqa: T201 - for who has started it
        Relay(listener, path).run()


if __name__ == "__main__":
    main()
