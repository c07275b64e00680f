"""The calls that one worker has under way, and the pace of the items that come for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import CALL_WINDOW, CALL_WINDOW_BYTES

T = TypeVar("T")

MAX_OPEN_CALLS = 1000
MAX_OPEN_BYTES = 64 * 1024 * 1024
"""Of the inputs of one worker's calls, until they are answered."""


@dataclass(slots=True, eq=False)
class OpenCall:
    """One call under way.

    Attributes:
        number: the worker's.
        size_bytes: of its input.
        job: answers it, once it has begun.
        is_cancelled: nobody wants the answer.
    """

    number: int
    size_bytes: int
    job: asyncio.Task[None] | None = None
    is_cancelled: bool = False
    _under_way: deque[int] = field(default_factory=deque)
    _under_way_bytes: int = 0
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    def sent(self, size_bytes: int) -> None:
        """Note an item that was sent."""
        self._under_way.append(size_bytes)
        self._under_way_bytes += size_bytes

    def acknowledge(self, count: int) -> None:
        """Note items that were read.

        Raises:
            ProtocolError: so many were never sent.
        """
        if not 0 < count <= len(self._under_way):
            raise ProtocolError(f"CALL_ACK for {count} items of {len(self._under_way)}")
        for _ in range(count):
            self._under_way_bytes -= self._under_way.popleft()
        self._room.set()

    async def wait_room(self) -> None:
        """Return when one more item may be under way."""
        while not self._has_room:
            self._room.clear()
            await self._room.wait()

    @property
    def _has_room(self) -> bool:
        # Not "and one more would fit": what the worker has read it acknowledges in shares, and an item
        # larger than the rest of the window would wait for ever.
        return len(self._under_way) < CALL_WINDOW and self._under_way_bytes < CALL_WINDOW_BYTES


class CallDesk:
    """The calls of one worker: bounded in number and size.

    Args:
        connection: the worker's.

    Attributes:
        open: the calls whose answer is still wanted, by number.
    """

    def __init__(self, connection: WorkerConnection) -> None:
        self.open: dict[int, OpenCall] = {}
        self._connection = connection
        self._count = 0
        self._size_bytes = 0
        self._flushed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether no further call is taken; those that are being cancelled count too."""
        return self._count >= MAX_OPEN_CALLS or self._size_bytes >= MAX_OPEN_BYTES

    def enter(self, number: int, size_bytes: int) -> OpenCall:
        """Note a new call.

        Raises:
            ProtocolError: there is one of that number.
        """
        if number in self.open:
            raise ProtocolError(f"a second call of number {number}")
        call = self.open[number] = OpenCall(number, size_bytes)
        self._count += 1
        self._size_bytes += size_bytes
        return call

    async def run(self, call: OpenCall, answer: Callable[[], Awaitable[T]]) -> T | None:
        """Answer a call that was entered, and let it go; None if it was cancelled before."""
        call.job = asyncio.current_task()
        try:
            return None if call.is_cancelled else await answer()
        finally:
            self._count -= 1
            self._size_bytes -= call.size_bytes
            if self.open.get(call.number) is call:
                del self.open[call.number]

    def cancel(self, number: int) -> None:
        """Cancel a call whose answer is not wanted any more, if it is still under way."""
        call = self.open.pop(number, None)
        if call is not None:
            call.is_cancelled = True
            if call.job is not None:
                call.job.cancel()

    def cancel_all(self) -> None:
        """Cancel all calls: their worker is gone."""
        for number in tuple(self.open):
            self.cancel(number)

    def note_flushed(self) -> None:
        """Go on sending: the worker has caught up with reading."""
        self._flushed.set()

    async def send_item(self, call: OpenCall, item: bytes) -> None:
        """Send one item when the worker has room for it."""
        while True:
            await call.wait_room()
            if not self._connection.is_full:
                break
            await self._wait_flushed()
        call.sent(len(item))
        self._connection.send(Kind.CALL_ITEM, call.number, item)

    async def send_answer(self, call: OpenCall, answer: bytes) -> None:
        """Send the answer of a call as soon as the worker reads."""
        while self._connection.is_full:
            await self._wait_flushed()
        self._connection.send(Kind.ANSWER, call.number, answer)

    async def _wait_flushed(self) -> None:
        if self._connection.is_paused:
            self._flushed.clear()
            await self._flushed.wait()
        else:
            await asyncio.sleep(0)  # what was written in this turn of the loop leaves with it
