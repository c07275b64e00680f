"""Notices that files of a folder may have changed, in a thread of its own.

The kernel tells of changes in the folder at once (watchfiles). As a safety net, for what it does not
tell (a file behind links, a network file system, a folder that is replaced), there is a look every
two seconds. So it is up to whoever is called to find out whether anything changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 2.0
STEP_MS = 100
"""How often the thread wakes up to see whether it should end; a change is told after as long."""

GATHER_MS = 500
"""Of changes that follow each other without a pause, at most as much is told at once."""


class FolderWatch:
    """Calls a function when something in a folder may have changed.

    Args:
        folder: need not exist yet.
        on_change: called in the thread; it must not raise.
    """

    def __init__(self, folder: Path, on_change: Callable[[], None]) -> None:
        self._folder = folder
        self._on_change = on_change
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kagent-vault-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end soon; idempotent."""
        self._stopped.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end; it must be gone before the interpreter is."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._on_change()
            if not self._watch():
                self._stopped.wait(LOOK_EVERY_S)

    def _watch(self) -> bool:
        """Watch the folder until it is another one; return whether it could be watched at all."""
        identity = self._identity()
        if identity is None:
            return False
        for _ in self._told():
            self._on_change()
            if self._identity() != identity:
                return True
        return False

    def _told(self) -> Iterator[object]:
        """Yield whenever the kernel tells of a change, and every two seconds."""
        # Late: 20 ms and a megabyte, which an agent without a vault does not pay at all.
        from watchfiles import watch  # noqa: PLC0415

        # The folder may go in the same moment, or there are no inotify watches left.
        with suppress(OSError, RuntimeError):
            yield from watch(
                self._folder,
                watch_filter=None,
                debounce=GATHER_MS,
                step=STEP_MS,
                stop_event=self._stopped,
                rust_timeout=int(LOOK_EVERY_S * 1000),
                yield_on_timeout=True,
                debug=False,
                raise_interrupt=False,
                recursive=False,
            )

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._folder.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino
