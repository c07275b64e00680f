"""Find what a test left behind: processes and threads that it started and did not end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARKER_NAME = "KOS_TEST_RUN"
"""In the environment of every process of this run, so that orphans are found too."""

GRACE_S = 2.0
"""How long something that is on its way out may take, on two noisy cores."""

POLL_S = 0.01

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

    def __str__(self) -> str:
        """Say what it is; a zombie has no command line any more."""
        return f"process {self.pid}: {self.command or 'ended, but nobody waited for it'}"


@dataclass(frozen=True, slots=True)
class Census:
    """The processes and threads of this run at one moment."""

    processes: frozenset[tuple[int, int]]
    threads: frozenset[int]


def take_census() -> Census:
    """Count what runs now."""
    return Census(
        frozenset((process.pid, process.started_ticks) for process in _ours()),
        frozenset(thread.ident for thread in threading.enumerate() if thread.ident is not None),
    )


def find_leaks(before: Census, grace_s: float = GRACE_S) -> list[str]:
    """Return what runs now and did not before, after giving it ``grace_s`` to end by itself.

    Leaked processes are killed, so that the next test is not blamed for them.
    """
    give_up_at = time.monotonic() + grace_s
    while leaks := [*map(str, _new_processes(before)), *_new_threads(before)]:
        if time.monotonic() > give_up_at:
            break
        time.sleep(POLL_S)
    for process in _new_processes(before):
        os.kill(process.pid, signal.SIGKILL)
    return leaks


def _new_processes(before: Census) -> list[Process]:
    return [
        process
        for process in _ours()
        if (process.pid, process.started_ticks) not in before.processes
    ]


def _new_threads(before: Census) -> list[str]:
    return [
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if thread.ident not in before.threads
    ]


def _ours() -> Iterator[Process]:
    """Yield the descendants of this process, and the orphans that carry the run's marker."""
    everyone = {process.pid: process for process in _read_processes()}
    for process in everyone.values():
        if process.pid != os.getpid() and (process.is_marked or _descends(process, everyone)):
            yield process


def _descends(process: Process, everyone: dict[int, Process]) -> bool:
    parent = everyone.get(process.parent_pid)
    while parent is not None and parent.pid != os.getpid():
        parent = everyone.get(parent.parent_pid)
    return parent is not None


def _read_processes() -> Iterator[Process]:
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
