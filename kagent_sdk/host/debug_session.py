"""One debug session that a worker serves, as the host follows it: until when, and what was run."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress

from kagent_sdk.host.debug_channel import DebugChannel
from kagent_sdk.host.debug_reports import MAX_LINE_BYTES, ReportReader
from kagent_sdk.protocol.debug import Hello

PAUSE_S = 0.05
"""Between two reads of a report, so that a worker that floods it costs the host nothing."""

LINGER_S = 2.0
"""How long a worker may take to see that the client is gone; one that stands still never does."""


class WorkerSession:
    """Hands a connection to a worker, and waits until the session is over.

    The host keeps the connection too, so that it can cut it.

    Args:
        number: of the session.
        connection: to the client; the caller closes it.
        channel: to the worker.
        on_command: called with each command that the worker says is run.
    """

    def __init__(
        self,
        number: int,
        connection: socket.socket,
        channel: DebugChannel,
        on_command: Callable[[str], None],
    ) -> None:
        self._number = number
        self._connection = connection
        self._channel = channel
        self._on_command = on_command
        self._reader = ReportReader()
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._report_fd = -1
        self._pause: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None

    @property
    def dropped(self) -> int:
        """Lines of the worker's report that were too many, or none."""
        return self._reader.dropped

    async def run(self, hello: Hello) -> str:
        """Serve the session; return why it is over.

        Whatever ends it, the client sees the end of the connection.

        Raises:
            OSError: the worker is gone, or takes no more.
        """
        self._report_fd = self._channel.hand_over(self._number, hello, self._connection)
        forget = self._channel.on_close(lambda: self._end("worker_gone"))
        hang_up = select.epoll(1)
        try:
            # Nothing is waited for but the end of the other side, which epoll always tells
            # (EPOLLHUP, epoll_ctl(2)): what the client sends is for the worker to read.
            hang_up.register(self._connection.fileno(), 0)
            self._loop.add_reader(hang_up.fileno(), self._note_hang_up, hang_up)
            self._loop.add_reader(self._report_fd, self._read)
            return await self._over
        finally:
            forget()
            for timer in (self._pause, self._linger):
                if timer is not None:
                    timer.cancel()
            self._loop.remove_reader(hang_up.fileno())
            self._loop.remove_reader(self._report_fd)
            hang_up.close()
            os.close(self._report_fd)
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _end(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    def _note_hang_up(self, hang_up: select.epoll) -> None:
        self._loop.remove_reader(hang_up.fileno())
        self._linger = self._loop.call_later(LINGER_S, self._end, "client_gone")

    def _read(self) -> None:
        self._loop.remove_reader(self._report_fd)
        try:
            data = os.read(self._report_fd, MAX_LINE_BYTES)
        except BlockingIOError:
            data = None
        if data == b"":
            self._end("done")
            return
        if data:
            for command in self._reader.feed(data):
                self._on_command(command)
        self._pause = self._loop.call_later(PAUSE_S, self._read_on)

    def _read_on(self) -> None:
        self._loop.add_reader(self._report_fd, self._read)
