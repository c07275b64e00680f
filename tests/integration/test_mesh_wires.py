"""The wires that tests of a mesh cut: do they carry, delay, and break as those tests believe?"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.integration.cables import Cable
from tests.integration.netns import Network, Place, make_network

SERVE = """
import socket, sys
server = socket.create_server((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
while True:
    peer = server.accept()[0]
    peer.sendall(b"hello")
    peer.close()
"""
ASK = """
import socket, sys, time
began = time.monotonic()
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as peer:
        print(peer.recv(5).decode(), time.monotonic() - began)
except TimeoutError:
    print("silence")
"""


def test_a_wire_delays_drops_and_heals() -> None:
    """A test of a partition proves nothing on a network that never fell apart."""
    with make_network(delay_s=0.05) as network:
        server = _spawn(network.right, SERVE, network.right.address)
        try:
            assert server.stdout is not None
            port = server.stdout.readline().decode().strip()
            word, took_s = _ask(network, port, 30).split()

            assert word == "hello"
            assert float(took_s) >= 0.2, "two round trips of 0.1 s each"
            network.wire.cut()
            assert _ask(network, port, 0.3) == "silence"
            assert network.wire.dropped > 0
            network.wire.heal()
            assert _ask(network, port, 30).startswith("hello")
        finally:
            server.kill()
            server.communicate()


async def test_a_cable_carries_falls_silent_and_breaks() -> None:
    """Silence is another fault than a reset: who waits for an answer hears of one of them alone."""
    async with echo_port() as port, Cable(lambda: port) as cable:
        reader, writer = await _connect(cable)
        writer.write(b"one")

        assert await reader.readexactly(3) == b"one"
        cable.hush()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(3), 0.1)
        cable.heal()
        assert await reader.readexactly(3) == b"two"
        cable.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert cable.cuts > 0
        refused, late_writer = await _connect(cable)
        with pytest.raises(ConnectionResetError):
            await refused.readexactly(1)
        for each in (writer, late_writer):
            each.transport.abort()


@asynccontextmanager
async def echo_port() -> AsyncIterator[int]:
    """Serve an echo on a loopback port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(100):
                writer.write(chunk)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def _connect(cable: Cable) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(cable.url.rpartition(":")[2]))


def _spawn(place: Place, code: str, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, *words]
    return place.run(lambda: subprocess.Popen(command, stdout=subprocess.PIPE))


def _ask(network: Network, port: str, timeout_s: float) -> str:
    asking = _spawn(network.left, ASK, network.right.address, port, str(timeout_s))
    return asking.communicate()[0].decode().strip()
