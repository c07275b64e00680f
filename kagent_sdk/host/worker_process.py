"""Starting a worker process, and the descriptors that tie it to the host."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

STACKS_SIGNAL = getattr(signal, "SIGRTMIN", signal.SIGUSR2) + (
    5 if hasattr(signal, "SIGRTMIN") else 0
)
"""Makes the worker's faulthandler write all stacks. A real-time signal, because authors use the
others; the first few of those belong to libc (signal(7))."""


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A started worker and the host's ends of its descriptors.

    Attributes:
        popen: the process; its process group has the same number.
        socket: the frames.
        stacks_fd: what faulthandler writes, non-blocking.
        stdout_fd, stderr_fd: what the worker prints.
    """

    popen: subprocess.Popen[bytes]
    socket: socket.socket
    stacks_fd: int
    stdout_fd: int
    stderr_fd: int

    @property
    def pid(self) -> int:
        """The process id, also the id of its process group."""
        return self.popen.pid

    def kill(self) -> None:
        """End the worker and everything in its process group at once; nothing once it is reaped."""
        if self.popen.returncode is not None:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def discard(self) -> None:
        """End a worker that nobody has listened to yet, and close what leads to it."""
        self.kill()
        self.socket.close()
        for descriptor in (self.stacks_fd, self.stdout_fd, self.stderr_fd):
            os.close(descriptor)

    def ask_for_stacks(self) -> None:
        """Make faulthandler write every thread's stack; works while the GIL is held."""
        if self.popen.returncode is None:
            os.kill(self.pid, STACKS_SIGNAL)


def has_spare_core() -> bool:
    """Tell whether a worker can start beside the host without taking turns with it."""
    if sys.platform != "linux":
        return (os.cpu_count() or 1) > 1
    return len(os.sched_getaffinity(0)) > 1


def spawn_worker(directory: Path, entrypoint: str, environ: Mapping[str, str]) -> WorkerProcess:
    """Start a worker in a process group of its own.

    Takes a few milliseconds (vfork and exec). Must be called from the main thread: the worker asks
    the kernel to die with the thread that started it (prctl(2), PR_SET_PDEATHSIG).

    Raises:
        OSError: descriptors, processes or memory are used up; nothing stays open.
    """
    with ExitStack() as theirs, ExitStack() as ours:
        host_end, worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.callback(host_end.close)
        theirs.callback(worker_end.close)
        stacks_read, stacks_write = _pipe(ours, theirs)
        stdout_read, stdout_write = _pipe(ours, theirs)
        stderr_read, stderr_write = _pipe(ours, theirs)
        popen = subprocess.Popen(
            [sys.executable, "-m", "kagent_sdk.worker.bootstrap", entrypoint],
            cwd=directory,
            env=worker_environment(directory, environ, worker_end.fileno(), stacks_write),
            stdin=subprocess.DEVNULL,
            stdout=stdout_write,
            stderr=stderr_write,
            pass_fds=(worker_end.fileno(), stacks_write),
            process_group=0,
        )
        ours.pop_all()
    host_end.settimeout(0)
    os.set_blocking(stacks_read, False)
    return WorkerProcess(popen, host_end, stacks_read, stdout_read, stderr_read)


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """Return a new pipe's ends: ours to read from, and the worker's to write to."""
    read, write = os.pipe()
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    return read, write


def worker_environment(
    directory: Path, environ: Mapping[str, str], socket_fd: int, stacks_fd: int
) -> dict[str, str]:
    """Return the worker's environment: the host's, without anything that is the host's alone."""
    cache = str(directory / "runtime" / "cache")
    kept = {key: value for key, value in environ.items() if not key.startswith("AGENT_")}
    return kept | {
        "AGENT_WORKER_FD": str(socket_fd),
        "AGENT_STACKS_FD": str(stacks_fd),
        "AGENT_STACKS_SIGNAL": str(int(STACKS_SIGNAL)),
        "HOME": cache,
        "TMPDIR": cache,
    }


def describe_exit(returncode: int) -> str:
    """Say how a process ended: ``exit code 1``, ``SIGKILL``."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
