"""Reads the stacks that a worker's faulthandler writes when the host asks for them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from kagent_sdk.host.stacks import QUIET_S, DumpCutter

READ_BYTES = 64 * 1024


class StackReader:
    """Calls ``on_dump`` with each complete dump.

    Args:
        fd: the non-blocking read end of the pipe; closed by `close`.
        on_dump: called in the loop.
    """

    def __init__(self, fd: int, on_dump: Callable[[str], None]) -> None:
        self._fd = fd
        self._on_dump = on_dump
        self._cutter = DumpCutter()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Stop reading."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        if self._timer is not None:
            self._timer.cancel()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._fd)
            return
        for dump in self._cutter.feed(data):
            self._on_dump(dump)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(QUIET_S, self._flush)

    def _flush(self) -> None:
        dump = self._cutter.flush()
        if dump is not None:
            self._on_dump(dump)
