"""The end of what workers have started and left: it ends with its agent.

A process that has left its worker's group falls to the host when its parent ends (the host is a
subreaper, see `kagent_sdk.host.children`), and would go on in the name of an agent that is gone.
"""

from __future__ import annotations

import glob
import os
import select
import signal
from collections.abc import Collection
from contextlib import suppress

PATIENCE_S = 1.0
"""For the end of a killed process: a disk or a network file system may keep one in the kernel."""

ROUNDS = 1000
"""Each ends one generation, and who is quick enough starts another meanwhile."""


def find_children() -> set[int]:
    """Return the children of this process, those that have ended included (Linux; else none).

    See proc_pid_task_tid_children(5): every thread has its own.
    """
    found: set[int] = set()
    for path in glob.glob("/proc/self/task/*/children"):  # noqa: PTH207 - strings, no Path
        with suppress(OSError), open(path, encoding="ascii") as file:  # noqa: PTH123 - early
            found.update(int(word) for word in file.read().split())
    return found


def end_orphans(spared: Collection[int]) -> int:
    """Kill the children of this process, and what falls to it when they are gone.

    Args:
        spared: children that were there before any worker was: a shell may have started them.

    Returns:
        How many there were.
    """
    count = 0
    for _ in range(ROUNDS):
        left = find_children().difference(spared)
        if not left:
            break
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended = sum(_reap(pid) for pid in left)
        if not ended:
            break
        count += ended
    return count


def _reap(pid: int) -> bool:
    """Wait for the end of a killed child; one that the kernel holds must not hold up the host."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        select.select([pidfd], [], [], PATIENCE_S)
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
    finally:
        os.close(pidfd)
