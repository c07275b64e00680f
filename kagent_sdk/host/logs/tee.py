"""The tee: the same records on the container's stdout, by a thread that may stand still.

A terminal that was stopped, or a pipe that nobody reads, blocks whoever writes to it. So a thread of
its own writes, from a queue that is bounded in bytes; what does not fit is counted.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

QUEUE_BYTES = 4 * 1024 * 1024
WRITE_BYTES = 64 * 1024
"""So much is written at a time, and in text so much is made readable at a time."""

BLOCKED_S = 1.0


class Tee:
    """Writes records to a descriptor, or drops them.

    Args:
        fd: never closed.
        render: makes of lines of JSON what is shown; None shows them as they are.
        tell: called in the tee's thread with an event and its values: when records were dropped and
            it flows again, and when it has failed.

    Attributes:
        lost_lines: records that were dropped.
        last_error: why nothing is written any more.
    """

    def __init__(
        self,
        fd: int,
        *,
        render: Callable[[bytes], bytes] | None,
        tell: Callable[..., None],
    ) -> None:
        self._fd = fd
        self._render = render
        self._tell = tell
        self._changed = threading.Condition()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._untold = 0
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="kagent-log-tee", daemon=True)
        self.lost_lines = 0
        self.last_error: str | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, data: bytes, count: int) -> None:
        """Take records if there is room; never blocks.

        Args:
            data: one line for each record.
            count: how many they are.
        """
        with self._changed:
            is_full = self._bytes + len(data) > QUEUE_BYTES and self._bytes
            # From the first loss on until it is told, so that there is one gap and not many.
            if is_full or self._untold or self.last_error is not None:
                self.lost_lines += count
                self._untold += count
                return
            self._queue.append((data, count))
            self._bytes += len(data)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most that long; a thread that hangs in a write is left behind."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            data, count = item
            try:
                for piece in _pieces(data):
                    self._write(piece if self._render is None else self._render(piece))
            except OSError as exc:
                self._fail(exc, count)

    def _fail(self, error: OSError, count: int) -> None:
        is_first = self.last_error is None
        with self._changed:
            self.last_error = error.strerror or str(error)
            self.lost_lines += count
        if is_first:
            self._tell("tee_failed", error=self.last_error)

    def _next(self) -> tuple[bytes, int] | None:
        """Wait for records; None at the end."""
        while True:
            with self._changed:
                lost, self._untold = self._take_untold()
                if not lost:
                    while not self._queue and not self._is_closing:
                        self._changed.wait()
                    if not self._queue:
                        return None
                    data, count = self._queue.popleft()
                    self._bytes -= len(data)
                    return data, count
            self._tell("tee_lines_lost", lines=lost)

    def _take_untold(self) -> tuple[int, int]:
        flows = not self._queue and self.last_error is None
        return (self._untold, 0) if flows else (0, self._untold)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                select.select([], [self._fd], [], BLOCKED_S)


def _pieces(data: bytes) -> list[bytes]:
    """Cut lines into pieces of about `WRITE_BYTES`."""
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start + WRITE_BYTES) + 1 or len(data)
        pieces.append(data[start:end])
        start = end
    return pieces
