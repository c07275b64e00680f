"""Records as lines of JSON on a descriptor, written by a thread: who logs never waits."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from queue import Full, Queue
from threading import Thread
from typing import Any

from kagent_sdk.host.logs.json_lines import encode

MAX_WAITING = 1000
"""Records that a slow reader may let pile up; what comes then is counted, and told with the next one."""

FLUSH_S = 1.0
"""So long the last records may take at the end."""


class JsonOutput:
    """Writes records.

    Args:
        descriptor: where to; it stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: Queue[dict[str, Any] | None] = Queue(MAX_WAITING)
        self._dropped = 0
        # A daemon: a reader that does not read must not keep the process from ending.
        self._thread = Thread(target=self._run, name="json-output", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def log(self, level: str, event: str, **values: Any) -> None:
        """Write one record; never blocks. Call it in one thread."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        record = {"timestamp": now, "level": level, "event": event, **values}
        if self._dropped:
            record["dropped"] = self._dropped
        try:
            self._waiting.put_nowait(record)
        except Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def close(self) -> None:
        """Write what waits, within `FLUSH_S`."""
        try:
            self._waiting.put(None, timeout=FLUSH_S)
        except Full:
            return
        self._thread.join(FLUSH_S)

    def _run(self) -> None:
        while (record := self._waiting.get()) is not None:
            line = encode(record) + b"\n"
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                return  # nobody reads any more: the queue fills, and is dropped
