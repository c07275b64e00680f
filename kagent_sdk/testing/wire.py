"""A stream between two protocols of one event loop, with the pressure of a socket and none of it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context, copy_context

HIGH_WATER_BYTES = 64 * 1024
"""Bytes under way from which the writer is paused, unless its protocol says otherwise."""


class MemoryTransport(asyncio.Transport):
    """One end. What is written reaches the other end in a later turn of the loop.

    Args:
        loop: of both ends.
        protocol: whose end it is.
        context: what its protocol is called in, as a socket's is in that of its connection.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BufferedProtocol, context: Context
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._context = context
        self._peer: MemoryTransport | None = None
        self._arrived: deque[memoryview] = deque()
        self._arrived_bytes = 0
        self._high_bytes = HIGH_WATER_BYTES
        self._is_called = False
        self._is_reading = True
        self._is_writer_paused = False
        self._is_closing = False
        self._is_lost = False

    def join(self, peer: MemoryTransport) -> None:
        """Take the other end, and tell the protocol."""
        self._peer = peer
        self._protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; dropped once this end is closed."""
        peer = self._peer
        if peer is None or self._is_closing or not data:
            return
        peer._arrived.append(memoryview(bytes(data)))  # noqa: SLF001 - the other half of it
        peer._arrived_bytes += len(data)  # noqa: SLF001
        peer._call_deliver()  # noqa: SLF001
        if peer._arrived_bytes > self._high_bytes and not self._is_writer_paused:  # noqa: SLF001
            self._is_writer_paused = True
            self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may be under way before the protocol is paused."""
        self._high_bytes = HIGH_WATER_BYTES if high is None else high

    def pause_reading(self) -> None:
        """Let what comes wait."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Take what has come."""
        self._is_reading = True
        self._call_deliver()

    def is_reading(self) -> bool:
        """Tell whether it takes what comes."""
        return self._is_reading and not self._is_closing

    def is_closing(self) -> bool:
        """Tell whether it is closed or about to be."""
        return self._is_closing

    def close(self) -> None:
        """Let the other end have what was written, then lose the connection."""
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._lose, context=self._context)

    def abort(self) -> None:
        """Lose the connection; what is under way is dropped on both sides."""
        peer = self._peer
        for end in (self, peer):
            if end is not None:
                end._arrived.clear()  # noqa: SLF001 - the other half of it
                end._arrived_bytes = 0  # noqa: SLF001
        self.close()

    def _call_deliver(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._deliver, context=self._context)

    def _deliver(self) -> None:
        self._is_called = False
        while self._arrived and self._is_reading and not self._is_lost and not self._is_closing:
            data = self._arrived.popleft()
            buffer = memoryview(self._protocol.get_buffer(len(data)))
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            if count < len(data):
                self._arrived.appendleft(data[count:])
            self._arrived_bytes -= count
            self._protocol.buffer_updated(count)
        peer = self._peer
        if peer is None:
            return
        if self._arrived_bytes <= peer._high_bytes:  # noqa: SLF001 - the other half of it
            peer._resume_writing()  # noqa: SLF001
        if peer._is_lost and not self._arrived:  # noqa: SLF001
            self.close()

    def _resume_writing(self) -> None:
        if self._is_writer_paused and not self._is_closing:
            self._is_writer_paused = False
            self._loop.call_soon(self._protocol.resume_writing, context=self._context)

    def _lose(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._protocol.connection_lost(None)
        if self._peer is not None:
            self._peer._call_deliver()  # noqa: SLF001 - it finds that nothing more comes


def join_protocols(
    first: asyncio.BufferedProtocol,
    second: asyncio.BufferedProtocol,
    second_context: Context | None = None,
) -> None:
    """Connect two protocols of the running loop; the second is called in a context of its own."""
    loop = asyncio.get_running_loop()
    one = MemoryTransport(loop, first, copy_context())
    other = MemoryTransport(loop, second, second_context or copy_context())
    one.join(other)
    other.join(one)
