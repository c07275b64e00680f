"""The host's end of the socketpair to one worker: frames in, batched frames out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, cast

from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.frames import TO_HOST, Frame, FrameDecoder, encode

if TYPE_CHECKING:
    from kagent_sdk.host.task import Task

READ_BYTES = 64 * 1024
"""One read per loop iteration: a worker that floods the socket holds the loop for some
milliseconds at most, then it is the probes' turn."""

WRITE_HIGH_BYTES = 1024 * 1024
"""Above this the worker does not read: it gets no new task until it has caught up."""

FrameHandler = Callable[["WorkerConnection", int, bytes], Coroutine[None, None, None] | None]
"""Takes a frame: at once, or with a coroutine that the connection runs before it takes the next."""


class WorkerConnection(asyncio.BufferedProtocol):
    """Reads and writes the frames of one worker process.

    What is written within one iteration of the loop leaves with one ``send``.

    Args:
        limit_bytes: the largest payload that the worker may send.
        handlers: what to call for each frame kind, with this connection, number and payload;
            one that raises `ProtocolError`, at once or later, ends the connection.
        on_room: called when it has caught up with reading.
        on_lost: called once when the connection has ended, with the reason if it was ours.

    Attributes:
        calls: the attempts that this worker holds, by call number.
        capabilities: name → index in the worker's manifest; empty until HELLO.
        places: how many tasks it may hold.
        is_open: takes new tasks: ready, not draining, not lost.
        is_stalled: has shown no pulse for a while, and is given nothing until it does.
        answered: how many attempts it has ended.
        frames_read: how many frames came from it: only a loop that runs can send any.
        bytes_read: how many bytes, those of a frame that is not whole yet included.
    """

    def __init__(
        self,
        *,
        limit_bytes: int,
        places: int,
        handlers: Mapping[int, FrameHandler],
        on_room: Callable[[], None],
        on_lost: Callable[[WorkerConnection, ProtocolError | None], None],
    ) -> None:
        self.calls: dict[int, Task] = {}
        self.capabilities: dict[str, int] = {}
        self.places = places
        self.is_open = False
        self.is_paused = False
        self.is_stalled = False
        self.answered = 0
        self.frames_read = 0
        self.bytes_read = 0
        self._decoder = FrameDecoder(limit_bytes=limit_bytes, kinds=TO_HOST)
        self._handlers = handlers
        self._on_room = on_room
        self._on_lost = on_lost
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._error: ProtocolError | None = None
        self._next_number = 0
        self._is_held = False
        self._work: asyncio.Task[None] | None = None

    @property
    def has_place(self) -> bool:
        """Whether it can be given a task now."""
        return (
            self.is_open
            and not self.is_paused
            and not self.is_stalled
            and len(self.calls) < self.places
        )

    @property
    def is_full(self) -> bool:
        """Whether what can wait should not be sent now: the worker does not read, or has much to."""
        return self.is_paused or self._pending_bytes > WRITE_HIGH_BYTES

    @property
    def is_checking(self) -> bool:
        """Whether a frame is dealt with that takes longer, and nothing is read meanwhile."""
        return self._work is not None

    def next_number(self) -> int:
        """Return a call number that this connection has never used."""
        self._next_number += 1
        return self._next_number

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Write a frame with the next flush; silently dropped when the worker is gone."""
        if self._transport is None:
            return
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(encode(kind, number, payload))
        self._pending_bytes += len(payload)

    def dismiss(self) -> None:
        """Drop whatever it still says: what it held is not its own any more."""
        self.is_open = False
        self._handlers = dict.fromkeys(self._handlers, _drop)

    def close(self) -> None:
        """Close the socket: a worker that finds it closed ends itself."""
        self.is_open = False
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def abort(self, error: ProtocolError | None = None) -> None:
        """Close the socket at once and drop what was not sent."""
        self.is_open = False
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        self._pending_bytes = 0
        if self._transport is not None and pending:
            self._transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and bound its buffer."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the one buffer that every read uses."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Cut what came into frames and hand them on."""
        try:
            self.bytes_read += nbytes
            frames = self._decoder.feed(bytes(self._buffer[:nbytes]))
            self.frames_read += len(frames)
            self._take(iter(frames))
        except ProtocolError as error:
            self.abort(error)

    def _take(self, frames: Iterator[Frame]) -> None:
        for kind, number, payload in frames:
            work = self._handlers[kind](self, number, payload)
            if work is not None:
                self._finish_first(work, frames)
                return

    def _finish_first(self, work: Coroutine[None, None, None], frames: Iterator[Frame]) -> None:
        """Read nothing more before a frame is dealt with that takes longer: frames keep their order."""
        self._work = self._loop.create_task(work)
        if self._transport is not None:
            self._transport.pause_reading()

        def go_on(done: asyncio.Task[None]) -> None:
            self._work = None
            if done.cancelled():
                return
            try:
                done.result()
                self._take(frames)
            except ProtocolError as error:
                self.abort(error)
            self._read_on()

        self._work.add_done_callback(go_on)

    def eof_received(self) -> bool:
        """Close: a worker that closed its end will not answer any more."""
        return False

    def hold_reading(self) -> None:
        """Take nothing more from a worker that asks and does not read the answers, until it does."""
        if self.is_paused and self._transport is not None:
            self._is_held = True
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if self._transport is not None and self._work is None and not self._is_held:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Stop giving it tasks: it does not read."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Give it tasks again."""
        self.is_paused = self._is_held = False
        self._read_on()
        self._on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the pool."""
        self.is_open = False
        self._transport = None
        self._pending.clear()
        if self._work is not None:
            self._work.cancel()
        self._on_lost(self, self._error)


def _drop(connection: WorkerConnection, number: int, payload: bytes) -> None:
    """Take a frame of a worker that was dismissed."""
