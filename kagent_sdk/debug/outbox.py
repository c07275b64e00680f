"""What an agent says to a client of the debug socket: bounded in memory, and in time.

Commands write from threads of their own, and wait while the client does not read; the server's
thread never waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from kagent_sdk.protocol.debug import MAX_PAYLOAD_BYTES, Kind, encode_frame

SOFT_BYTES = 256 * 1024
"""A command's thread waits while so much has not been sent."""

HARD_BYTES = 1024 * 1024
"""The terminal's own output cannot wait; with so much unsent the client is given up."""

STALL_S = 10.0
"""A client that makes no room for so long is given up."""


class Outbox:
    """Frames on their way to one client."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server_thread = threading.get_ident()
        self._room = threading.Condition()
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._is_open = True
        self._is_finished = False
        self._wake = asyncio.Event()

    def put(self, kind: Kind, data: bytes) -> None:
        """Send what is written; wait for room, unless this is the server's thread.

        Raises:
            BrokenPipeError: the client is gone, or does not read; not in the server's thread.
        """
        for start in range(0, len(data), MAX_PAYLOAD_BYTES):
            self._put(encode_frame(kind, data[start : start + MAX_PAYLOAD_BYTES]))

    def finish(self, code: int) -> None:
        """Let EXIT be the last frame: `pump` returns when it is sent."""
        with self._room:
            if self._is_open:
                self._add(encode_frame(Kind.EXIT, bytes([code & 0xFF])))
            self._is_open = False
            self._is_finished = True
            self._room.notify_all()
        self._wake.set()

    def close(self) -> None:
        """Take nothing more, and drop what is not sent: whoever waits for room gets its error."""
        with self._room:
            self._is_open = False
            self._frames.clear()
            self._size = 0
            self._room.notify_all()

    async def pump(self, writer: asyncio.StreamWriter) -> None:
        """Send until all is sent that was put before `finish`.

        Raises:
            TimeoutError: the client does not read.
            OSError: it is gone.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._size > HARD_BYTES:
                raise TimeoutError("the client does not read")
            if data := self._take():
                writer.write(data)
                async with asyncio.timeout(STALL_S):
                    await writer.drain()
                self._wake.set()
            elif self._is_finished:
                return

    def _put(self, frame: bytes) -> None:
        with self._room:
            if threading.get_ident() == self._server_thread:
                # prompt_toolkit writes when it is cancelled too, and must not fail in that.
                if self._is_open and self._size <= HARD_BYTES:
                    self._add(frame)
                self._wake.set()
                return
            has_room = self._room.wait_for(self._has_room, STALL_S)
            self._is_open = self._is_open and has_room
            if not self._is_open:
                raise BrokenPipeError("the debug session is over")
            self._add(frame)
            # Once for all frames that are sent together: each call is a byte through a socket.
            if len(self._frames) == 1 and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._wake.set)

    def _has_room(self) -> bool:
        return self._size < SOFT_BYTES or not self._is_open

    def _add(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._size += len(frame)

    def _take(self) -> bytes:
        with self._room:
            data = b"".join(self._frames)
            self._frames.clear()
            self._size = 0
            self._room.notify_all()
        return data
