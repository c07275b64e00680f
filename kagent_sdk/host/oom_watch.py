"""Watches the kernel's counters of kills for memory, and how large the workers are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from kagent_sdk.host.cgroup import CgroupReader, Place, read_oom_count
from kagent_sdk.host.oom import OomCount, OomLedger

RESIDENT_FIELD = 1  # of /proc/PID/statm, in pages (proc_pid_statm(5))


class OomWatch:
    """Reads counters; for any thread. Every method blocks for well under a millisecond.

    A worker may be in a cgroup of its own, so each one's is looked up while it lives: afterwards
    nothing tells where it was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ledger = OomLedger()
        self._homes: dict[int, Place] = {}
        self._rss_bytes: dict[int, int] = {}
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def sample(self, pids: Iterable[int]) -> OomCount | None:
        """Read the counters of this process and of these workers; return that of this process."""
        own = CgroupReader().find_memory()
        with self._lock:
            for pid in pids:
                self._look_at(pid)
            count = None if own is None else read_oom_count(own)
            if count is not None:
                self._ledger.note(time.monotonic(), count)
            return count

    def claim(self, pid: int) -> bool | None:
        """Say whether the kernel killed for memory when that worker ended; see `OomLedger`."""
        with self._lock:
            home = self._homes.pop(pid, None) or CgroupReader().find_memory()
            count = None if home is None else read_oom_count(home)
            return self._ledger.claim(time.monotonic(), count)

    def take_rss_bytes(self, pid: int) -> int | None:
        """Return how large a worker that has ended was in the last sample, and forget it."""
        with self._lock:
            return self._rss_bytes.pop(pid, None)

    def _look_at(self, pid: int) -> None:
        pages = _read_pages(pid)
        home = CgroupReader(process=pid).find_memory()
        if not pages or home is None:
            return  # it has just ended: what is known of it is better than what a zombie shows
        self._rss_bytes[pid] = pages * self._page_bytes
        self._homes[pid] = home
        count = read_oom_count(home)
        if count is not None:
            self._ledger.note(time.monotonic(), count)


def _read_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[RESIDENT_FIELD])
    except (OSError, ValueError, IndexError):
        return 0  # a zombie, or gone
