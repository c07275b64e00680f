"""Find what a test left behind: processes and threads that it started and did not end.

Reading all of ``/proc`` twice would double the time of most tests, so that is done only for a test
that starts a process: Python's audit events tell when the first one is about to start.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MARKER_NAME = "KOS_TEST_RUN"
"""In the environment of every process of this run, so that orphans are found too."""

GRACE_S = float(os.environ.get("KOS_TEST_GRACE_S", "10"))
"""How long something that is on its way out may take, on two noisy cores; less where it is planted."""

POLL_S = 0.01

PROCESS_STARTS = frozenset(
    {"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
)
"""Audit events that come before a process (https://docs.python.org/3/library/audit_events.html)."""

_PROC = Path("/proc")
_SHARED_BY_THE_RUN = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")
"""Started once by the standard library for the life of the interpreter."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process; the start time tells it from a later one with the same number."""

    pid: int
    started_ticks: int
    parent_pid: int
    is_marked: bool
    command: str

    @property
    def key(self) -> tuple[int, int]:
        """What no other process has, before or after."""
        return self.pid, self.started_ticks

    def __str__(self) -> str:
        """Say what it is; a zombie has no command line any more."""
        return f"process {self.pid}: {self.command or 'ended, but nobody waited for it'}"


class LeakWatch:
    """Notes what runs when a test begins, and finds what runs besides when it has ended.

    Listens to audit events for the life of the interpreter: make one only.
    """

    def __init__(self) -> None:
        self._threads: frozenset[int | None] = frozenset()
        self._processes: frozenset[tuple[int, int]] | None = None
        self._is_on = False
        sys.addaudithook(self._hear)

    def begin(self) -> None:
        """Begin a test; what runs now belongs to others."""
        self._threads = frozenset(thread.ident for thread in threading.enumerate())
        self._processes = None
        self._is_on = True

    def end(self, grace_s: float = GRACE_S) -> list[str]:
        """Return what the test left running, after giving it ``grace_s`` to end by itself.

        Leaked processes are killed, so that the next test is not blamed for them.
        """
        self._is_on = False
        give_up_at = time.monotonic() + grace_s
        while leaks := [*map(str, self._new_processes()), *self._new_threads()]:
            if time.monotonic() > give_up_at:
                break
            time.sleep(POLL_S)
        for process in self._new_processes():
            os.kill(process.pid, signal.SIGKILL)
        return leaks

    def _hear(self, event: str, _arguments: tuple[object, ...]) -> None:
        if self._is_on and self._processes is None and event in PROCESS_STARTS:
            self._processes = frozenset(process.key for process in read_processes().values())

    def _new_threads(self) -> list[str]:
        return [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread.ident not in self._threads
        ]

    def _new_processes(self) -> list[Process]:
        if self._processes is None:
            return []
        everyone = read_processes()
        return [
            process
            for process in everyone.values()
            if process.key not in self._processes and self._is_the_tests(process, everyone)
        ]

    def _is_the_tests(self, process: Process, everyone: Mapping[int, Process]) -> bool:
        """Tell whether the test is to blame: not if an older process of ours started it."""
        assert self._processes is not None
        parent = everyone.get(process.parent_pid)
        while parent is not None and parent.pid != os.getpid():
            if parent.is_marked and parent.key in self._processes:
                return False
            parent = everyone.get(parent.parent_pid)
        return parent is not None or process.is_marked


def read_processes() -> dict[int, Process]:
    """Return every process of the machine by its number, as far as it can be read."""
    return {process.pid: process for process in _iter_processes()}


def _iter_processes() -> Iterator[Process]:
    marker = f"{MARKER_NAME}={os.environ[MARKER_NAME]}".encode()
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            environment = b""  # another user's; a descendant counts all the same
        if any(name in command for name in _SHARED_BY_THE_RUN):
            continue
        # Fields 4 and 22 of proc_pid_stat(5); the name before them may hold spaces.
        fields = stat.rpartition(")")[2].split()
        yield Process(
            pid=int(folder.name),
            started_ticks=int(fields[19]),
            parent_pid=int(fields[1]),
            is_marked=marker in environment.split(b"\0"),
            command=command.replace(b"\0", b" ").decode(errors="replace").strip(),
        )
