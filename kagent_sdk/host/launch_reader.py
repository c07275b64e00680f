"""Reads what a launched worker says of its confinement."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kagent_sdk.sandbox.report import LaunchReport

READ_BYTES = 64 * 1024

MAX_BYTES = 1024 * 1024
"""A report has a few kilobytes; what is behind this is dropped."""


class LaunchReader:
    """Calls ``on_report`` once, with the whole of it: when the worker runs, or has failed to.

    Args:
        fd: the non-blocking read end of the pipe; closed by this.
        on_report: called in the loop, or by `close`.
    """

    def __init__(self, fd: int, on_report: Callable[[LaunchReport], None]) -> None:
        self._fd: int | None = fd
        self._on_report = on_report
        self._text = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Take what is there and stop."""
        self._read()
        self._finish()

    def _read(self) -> None:
        while self._fd is not None:
            try:
                data = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._finish()
            elif len(self._text) < MAX_BYTES:
                self._text += data

    def _finish(self) -> None:
        if self._fd is None:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = None
        from kagent_sdk.sandbox.report import read_report  # noqa: PLC0415 - behind the start

        self._on_report(read_report(self._text))
