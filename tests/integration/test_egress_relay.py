"""The relay: from a network namespace without a way out to the proxy's socket."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kagent_sdk.sandbox import relay

NAMESPACES = [
    *("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"),
    "--mount-proc",
]
START_DEADLINE_S = 30


@contextlib.contextmanager
def serving(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Serve connections to a unix socket, each in a thread."""
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve_one, args=(connection,))
            threads.append(thread)
            thread.start()

    def serve_one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join()


def echo(connection: socket.socket) -> None:
    """Send everything back, then end."""
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def running_relay(path: Path) -> Iterator[int]:
    """Run a relay as a process; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, relay.__file__, str(port), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield port
        finally:
            process.terminate()


def read_all(connection: socket.socket) -> bytes:
    """Return all that comes."""
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def test_bytes_go_both_ways_and_ends_are_told(tmp_path: Path) -> None:
    """A client that has said all is still answered."""
    with serving(tmp_path / "s", echo), running_relay(tmp_path / "s") as port:
        for size in (0, 1, 3_000_000):
            with socket.create_connection(("127.0.0.1", port)) as client:
                sender = threading.Thread(target=send_and_end, args=(client, os.urandom(size)))
                sender.start()
                assert len(read_all(client)) == size
                sender.join()


def send_and_end(client: socket.socket, data: bytes) -> None:
    """Send all, and say that it was all."""
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)


def test_an_answer_outlives_the_one_who_gave_it(tmp_path: Path) -> None:
    """A server that sends and hangs up has done all it must; the client may read slowly."""
    answer = os.urandom(2_000_000)

    def serve(connection: socket.socket) -> None:
        connection.sendall(answer)

    with (
        serving(tmp_path / "s", serve),
        running_relay(tmp_path / "s") as port,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        assert client.recv(1, socket.MSG_PEEK) == answer[:1]
        assert read_all(client) == answer


def test_connections_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """One that stands still is no reason for another to."""
    with (
        serving(tmp_path / "s", echo),
        running_relay(tmp_path / "s") as port,
        contextlib.ExitStack() as stack,
    ):
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)
        ]
        for number, client in enumerate(clients):
            if number % 2:
                client.sendall(b"%d" % number)
        echoed = [client.recv(10) for client in clients[1::2]]

    assert echoed == [b"%d" % number for number in range(1, 100, 2)]


def test_more_clients_than_places_wait(tmp_path: Path) -> None:
    """They are served when one has gone."""
    with serving(tmp_path / "s", echo), running_relay(tmp_path / "s") as port:
        with contextlib.ExitStack() as stack:
            for number in range(relay.MAX_CONNECTIONS):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(b"x")
                assert client.recv(1) == b"x", number
            late = socket.create_connection(("127.0.0.1", port))
            late.sendall(b"y")
        with late:
            assert late.recv(1) == b"y"


def test_without_a_proxy_connections_are_closed(tmp_path: Path) -> None:
    """The client's error comes at once, and the relay goes on."""
    with running_relay(tmp_path / "s") as port:
        for _ in range(2):
            client = socket.create_connection(("127.0.0.1", port))
            with client, contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""


def test_the_sockets_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    """An agent's folder lies where it lies."""
    folder = tmp_path / ("a" * 120)
    folder.mkdir()
    with serving(tmp_path / "s", echo):
        (tmp_path / "s").rename(folder / "s")
        with running_relay(folder / "s") as port:
            client = socket.create_connection(("127.0.0.1", port))
            with client:
                client.sendall(b"x")
                answer = client.recv(1)

    assert answer == b"x"


INSIDE = """
import socket, sys
from kagent_sdk.sandbox import relay

path, outside = sys.argv[1:]
try:
    socket.create_connection(("127.0.0.1", int(outside)))
except OSError as exc:
    print("outside:", exc.strerror)
relay.start(3128, path)
with socket.create_connection(("127.0.0.1", 3128)) as client:
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    print("through the relay:", client.recv(100).decode())
"""


def test_the_relay_is_the_way_out_of_a_network_namespace(tmp_path: Path) -> None:
    """Where there is no interface but lo, and that one is down at first."""
    probe = subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"platform: no namespaces here: {probe.stderr.decode().strip()}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        outside = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", outside)):
            pass  # it can be reached from here
        with serving(tmp_path / "s", echo):
            done = subprocess.run(
                [*NAMESPACES, sys.executable, "-c", INSIDE, str(tmp_path / "s"), str(outside)],
                capture_output=True,
                text=True,
                timeout=START_DEADLINE_S,
                check=False,
            )

    assert done.stdout.splitlines() == [
        "outside: Network is unreachable",
        "through the relay: hello",
    ], done.stderr
