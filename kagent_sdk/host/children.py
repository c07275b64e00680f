"""The host as a parent: it learns of every exit, and reaps what others left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from kagent_sdk.host.worker_process import WorkerProcess


class Children:
    """Waits for the host's own children, and reaps orphans that fell to it.

    As PID 1, or as a subreaper, the host inherits every process that loses its parent; one that
    nobody waits for stays a zombie. Uses the loop's SIGCHLD handler: there is one per process.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._exits: dict[int, tuple[WorkerProcess, asyncio.Future[int]]] = {}
        self.reaped = 0

    def start(self) -> None:
        """Listen for SIGCHLD."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def take_orphans(self) -> None:
        """Let orphaned descendants fall to this process (Linux; else nothing happens)."""
        if sys.platform == "linux":
            from kagent_sdk.sandbox.kernel import (  # noqa: PLC0415 - Linux only
                PR_SET_CHILD_SUBREAPER,
                prctl,
            )

            prctl(PR_SET_CHILD_SUBREAPER, 1)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def watch(self, process: WorkerProcess) -> asyncio.Future[int]:
        """Return a future of the worker's return code; the same one when asked again."""
        known = self._exits.get(process.pid)
        if known is not None:
            return known[1]
        exited: asyncio.Future[int] = self._loop.create_future()
        if process.popen.returncode is not None:
            exited.set_result(process.read_returncode(process.popen.returncode))
            return exited
        self._exits[process.pid] = process, exited
        self._check(process.pid)
        return exited

    def _check(self, pid: int) -> None:
        process, exited = self._exits[pid]
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        # While the zombie holds the number, the group cannot be another one's: end what is left.
        process.kill()
        returncode = process.read_returncode(process.popen.wait())
        del self._exits[pid]
        if not exited.done():
            exited.set_result(returncode)

    def _reap(self) -> None:
        for pid in list(self._exits):
            self._check(pid)
        while (zombie := _next_zombie()) is not None:
            if zombie in self._exits:
                self._check(zombie)
                continue
            self.reaped += _collect(zombie)


def _next_zombie() -> int | None:
    # WNOWAIT leaves the zombie where it is: one of our own is for its Popen to collect.
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _collect(zombie: int) -> bool:
    # A thread that waits for a child of its own, such as the audit's probe, may have been quicker.
    try:
        return os.waitpid(zombie, os.WNOHANG)[0] == zombie
    except ChildProcessError:
        return False
