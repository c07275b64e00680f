"""A TCP relay that tests cut: what is sent through it breaks off, or falls silent."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Self

CHUNK_BYTES = 65_536
HOST = "127.0.0.1"


class Cable:
    """Listens on a loopback port and carries every connection to another one.

    Args:
        find_port: returns where connections lead to now; None while nobody is there.

    Attributes:
        cuts: connections that were broken, or refused.
        held_back: pieces of data that had to wait for `heal`.
    """

    def __init__(self, find_port: Callable[[], int | None]) -> None:
        self.cuts = 0
        self.held_back = 0
        self._find_port = find_port
        self._server: asyncio.Server | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._is_carrying = asyncio.Event()
        self._is_carrying.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break all connections, with a reset, and refuse new ones."""
        self._is_cut = True
        for writer in self._ends.copy():
            self.cuts += 1
            _reset(writer)

    def hush(self) -> None:
        """Carry nothing more; nobody is told."""
        self._is_carrying.clear()

    def heal(self) -> None:
        """Carry again: what was held back too."""
        self._is_cut = False
        self._is_carrying.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = asyncio.current_task()
        assert job is not None
        self._jobs.add(job)
        self._ends.add(writer)
        try:
            await self._connect(reader, writer)
        except asyncio.CancelledError:
            return  # by __aexit__, or by a server that closes: a stream's handler reports none
        finally:
            self._jobs.discard(job)
            self._ends.discard(writer)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.cuts += self._is_cut
        port = None if self._is_cut else self._find_port()
        if port is None:
            return _reset(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return _reset(writer)
        self._ends.add(far_writer)
        try:
            with suppress(OSError):
                ways = (self._carry(reader, far_writer), self._carry(far_reader, writer))
                await asyncio.gather(*ways)
        finally:
            self._ends.discard(far_writer)
            far_writer.transport.abort()
        return None

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            self.held_back += not self._is_carrying.is_set()
            await self._is_carrying.wait()
            writer.write(chunk)
            await writer.drain()
        with suppress(OSError, RuntimeError):  # the other end has gone already
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that its peer gets a reset: no time to linger (socket(7))."""
    peer = writer.get_extra_info("socket")
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
