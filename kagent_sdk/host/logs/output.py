"""One pipe from a worker, as the rest of the host knows it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

TAIL_BYTES = 16 * 1024
_TAG = re.compile(rb"\x1e[^\x1f\n]*\x1f")


class WorkerOutput:
    """One pipe from a worker, and its last lines for a crash report.

    Args:
        fd: the read end; the pump closes it.
        stream: ``stdout`` or ``stderr``.
        pid: of the worker.
        on_end: called in the pump's thread when the pipe has ended.
    """

    def __init__(
        self, fd: int, *, stream: str, pid: int, on_end: Callable[[], None] | None = None
    ) -> None:
        self.fd = fd
        self.stream = stream
        self.pid = pid
        self.on_end = on_end
        self._tail = b""

    @property
    def tail(self) -> str:
        """The last lines, at most `TAIL_BYTES`, without secrets and tags."""
        return self._tail.decode(errors="replace")

    def note(self, text: bytes) -> None:
        """Keep the end of what came; secrets are out of it already."""
        self._tail = (self._tail + _TAG.sub(b"", text[-TAIL_BYTES:]))[-TAIL_BYTES:]
