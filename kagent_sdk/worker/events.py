"""A task's events on their way to the host, held back by a window."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable

from kagent_sdk.errors import TaskInterrupted
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import EVENT_WINDOW_BYTES
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.mailbox import Mailbox
from kagent_sdk.worker.turns import DONE, Turns

MAX_WAITING = 10_000
"""Events of one task that may wait for the window: far more means that nobody awaits `emit`."""

MAX_POSTED_BYTES = 1024 * 1024
"""What a thread may put down for the event loop to send before it must wait."""


class EventStream:
    """The events of one task: at most ``window`` that the host has not acknowledged.

    Nor more than `EVENT_WINDOW_BYTES` of them, and one event.

    Args:
        window: events that may be under way.
    """

    __slots__ = (
        "_connection",
        "_drained",
        "_in_flight_bytes",
        "_is_cancelled",
        "_is_closed",
        "_loop",
        "_mailbox",
        "_number",
        "_posted_bytes",
        "_room",
        "_sizes",
        "_turns",
        "_waiting",
        "_window",
    )

    def __init__(
        self,
        number: int,
        window: int,
        connection: Connection,
        mailbox: Mailbox,
    ) -> None:
        self._number = number
        self._window = window
        self._connection = connection
        self._mailbox = mailbox
        self._is_cancelled = False
        self._in_flight_bytes = 0
        self._sizes: deque[int] = deque()
        self._posted_bytes = 0
        self._room = threading.Condition(threading.Lock())
        self._waiting: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._is_closed = False
        self._turns = Turns()

    def emit(self, payload: bytes) -> Awaitable[None]:
        """Send an event, or queue it when the window is full; in the loop's thread.

        Raises:
            RuntimeError: `MAX_WAITING` events wait already.
        """
        if not self._waiting and self._take(len(payload)):
            self._connection.send(Kind.EVENT, self._number, payload)
            return self._turns.next()
        if len(self._waiting) >= MAX_WAITING:
            raise RuntimeError(
                f"{MAX_WAITING} events wait for the reader: write `await ctx.emit(...)`"
            )
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((payload, future))
        if self._connection.is_full:
            self._connection.wait_for_room(self)
        return future

    def emit_from_thread(self, payload: bytes) -> Awaitable[None]:
        """Send an event, blocking this thread while the window is full.

        Raises:
            TaskInterrupted: the task was cancelled while it waited.
        """
        with self._room:
            while True:
                # Read once: the loop may make room between two looks, and then nobody would wake us.
                is_full = self._connection.is_full
                if self._has_window and not is_full and self._may_post():
                    break
                if self._is_cancelled:
                    raise TaskInterrupted("cancelled while waiting for the reader of the events")
                if is_full:
                    self._mailbox.post(self._connection.wait_for_room, self)
                self._room.wait()
            self._note_in_flight(len(payload))
            self._posted_bytes += len(payload)
        self._mailbox.post(self._send_posted, payload)
        return DONE

    def acknowledge(self, count: int) -> None:
        """Take an ACK: the host has taken ``count`` more events."""
        with self._room:
            for _ in range(min(count, len(self._sizes))):
                self._in_flight_bytes -= self._sizes.popleft()
        self.pump()

    def pump(self) -> None:
        """Send what waits as far as there is room, and wake threads that wait for it."""
        while self._waiting:
            payload, future = self._waiting[0]
            if not future.cancelled():
                if not self._take(len(payload)):
                    break
                self._connection.send(Kind.EVENT, self._number, payload)
                if not future.done():
                    future.set_result(None)
            self._waiting.popleft()
        if self._waiting and self._connection.is_full:
            self._connection.wait_for_room(self)
        if not self._waiting and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        with self._room:
            self._room.notify_all()

    def cancel(self) -> None:
        """End the waiting of threads, now and later: the task was cancelled."""
        with self._room:
            self._is_cancelled = True
            self._room.notify_all()

    async def drained(self) -> None:
        """Return when no event waits; the last answer of a task comes after its events."""
        if self._waiting:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def close(self) -> None:
        """Drop what waits and whatever still comes: the task has been answered."""
        self._is_closed = True
        self._waiting.clear()

    def _take(self, size_bytes: int) -> bool:
        with self._room:
            has_room = self._has_window and not self._connection.is_full
            if has_room:
                self._note_in_flight(size_bytes)
            return has_room

    @property
    def _has_window(self) -> bool:
        return len(self._sizes) < self._window and self._in_flight_bytes < EVENT_WINDOW_BYTES

    def _note_in_flight(self, size_bytes: int) -> None:
        self._sizes.append(size_bytes)
        self._in_flight_bytes += size_bytes

    def _may_post(self) -> bool:
        return self._posted_bytes <= MAX_POSTED_BYTES

    def _send_posted(self, payload: bytes) -> None:
        if not self._is_closed:
            self._connection.send(Kind.EVENT, self._number, payload)
        with self._room:
            self._posted_bytes -= len(payload)
            self._room.notify_all()
