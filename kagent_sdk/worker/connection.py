"""The worker's end of the socket to the host: frames in, batched writes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.frames import HEADER, TO_WORKER, FrameDecoder

MAX_FRAME_BYTES = 2**32 - 1
"""All that a header can announce: the host is trusted and has limits of its own on inputs."""

READ_BYTES = 64 * 1024
"""Size of the one buffer that every read uses: a fresh one of asyncio's 256 KiB is mapped and
unmapped by the kernel each time."""

HIGH_WATER_BYTES = 256 * 1024
"""Unsent bytes from which events wait: about what a unix socket's own buffer holds."""

FrameHandler = Callable[[int, int, bytes], None]
"""Takes kind, number and payload of a frame."""


class RoomWaiter(Protocol):
    """Something that wants to send but found the connection full."""

    def pump(self) -> None:
        """Try again: there is room now."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A job that looks for itself, in a turn of its own: the one before it may fill the room."""

    has_room: asyncio.Future[None]

    def pump(self) -> None:
        if not self.has_room.done():
            self.has_room.set_result(None)


class Connection(asyncio.BufferedProtocol):
    """Frames over a stream socket.

    The frames of one turn of the event loop are written with one ``send``: that is what makes the
    way over two processes cheap. Everything here belongs to the loop's thread.

    Args:
        on_frame: called for every frame, in order.

    Attributes:
        lost: done when the connection is gone; its exception is a `ProtocolError` when the host
            broke the protocol.
        is_full: whether what is still to be made should wait: events, and the outputs of jobs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_frame: FrameHandler) -> None:
        self._loop = loop
        self._on_frame = on_frame
        self._decoder = FrameDecoder(limit_bytes=MAX_FRAME_BYTES, kinds=TO_WORKER)
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._is_flush_called = False
        self._is_paused = False
        self._room_waiters: list[RoomWaiter] = []
        self.is_full = False
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by asyncio)."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer to read into (called by asyncio)."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read (called by asyncio)."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into frames and hand them on."""
        try:
            for kind, number, payload in self._decoder.feed(data):
                self._on_frame(kind, number, payload)
            # Behind the first steps of the jobs that these frames have started: what they answer
            # at once leaves in the same turn of the loop.
            self._call_flush()
        except ProtocolError as exc:
            if not self.lost.done():
                self.lost.set_exception(exc)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the host is gone; why does not matter (called by asyncio)."""
        self._transport = None
        self._batch.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """Let events wait (called by asyncio above `HIGH_WATER_BYTES`)."""
        self._is_paused = self.is_full = True

    def resume_writing(self) -> None:
        """Let events go on (called by asyncio)."""
        self._is_paused = False
        self._make_room()

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Write one frame at the end of this turn of the loop; dropped when the host is gone."""
        if not self._is_flush_called:
            self._call_flush()
        self._batch.append(HEADER.pack(len(payload), kind, number))
        self._batch.append(payload)
        self._batch_bytes += len(payload)
        if self._batch_bytes > HIGH_WATER_BYTES:
            self.is_full = True

    def flush(self) -> None:
        """Write what `send` has gathered."""
        self._is_flush_called = False
        if self._transport is not None and self._batch:
            self._transport.write(b"".join(self._batch))
        self._batch.clear()
        self._batch_bytes = 0
        if self.is_full and not self._is_paused:
            self._make_room()

    def wait_for_room(self, waiter: RoomWaiter) -> None:
        """Call ``waiter.pump`` once, as soon as the connection is not full."""
        if not self.is_full:
            waiter.pump()
        elif waiter not in self._room_waiters:
            self._room_waiters.append(waiter)

    async def room(self) -> None:
        """Wait until the connection is not full."""
        while self.is_full:
            job = _Job(self._loop.create_future())
            self._room_waiters.append(job)
            await job.has_room

    def close(self) -> None:
        """Write everything that is left, then close; `lost` tells when that is done."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close without writing what is left."""
        if self._transport is not None:
            self._transport.abort()

    def _call_flush(self) -> None:
        if not self._is_flush_called:
            self._is_flush_called = True
            self._loop.call_soon(self.flush)

    def _make_room(self) -> None:
        self.is_full = False
        waiters, self._room_waiters = self._room_waiters, []
        for waiter in waiters:
            waiter.pump()
