"""Starting a worker process, and the descriptors that tie it to the host."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.config.models import LogsConfig
from kagent_sdk.host.worker_start import Call, WorkerStart
from kagent_sdk.sandbox.start import MODULE

if TYPE_CHECKING:
    from kagent_sdk.host.debug_channel import DebugChannel

STACKS_SIGNAL = getattr(signal, "SIGRTMIN", signal.SIGUSR2) + (
    5 if hasattr(signal, "SIGRTMIN") else 0
)
"""Makes the worker's faulthandler write all stacks. A real-time signal, because authors use the
others; the first few of those belong to libc (signal(7))."""

SERVICE_VARIABLES = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"}
)
"""What a service manager tells the host, and the host alone (sd_notify(3), systemd.exec(5))."""


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A started worker of any kind and the host's ends of its descriptors.

    Attributes:
        popen: the process; its process group has the same number.
        stdout_fd, stderr_fd: what the worker prints.
        report_fd: what the launcher says of its confinement; ends when the worker runs.
        is_wrapped: the process is bubblewrap's monitor, which ends as the worker does, and whose
            end ends the worker.
    """

    popen: subprocess.Popen[bytes]
    stdout_fd: int
    stderr_fd: int
    report_fd: int
    is_wrapped: bool

    @property
    def pid(self) -> int:
        """The process id, also the id of its process group."""
        return self.popen.pid

    @property
    def inner_pid(self) -> int | None:
        """The process id of the worker itself; None while it is not there, in bubblewrap."""
        if not self.is_wrapped:
            return self.pid
        first = _first_child(self.pid)
        return None if first is None else _first_child(first)

    def kill(self) -> None:
        """End the worker and everything in its process group at once; nothing once it is reaped."""
        self._signal(self.pid, signal.SIGKILL)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to its process group; nothing once the worker is reaped."""
        # Bubblewrap's first process inside leads the group there, and ignores what it can.
        group = _first_child(self.pid) if self.is_wrapped else self.pid
        self._signal(self.pid if group is None else group, number)

    def _signal(self, group: int, number: signal.Signals) -> None:
        if self.popen.returncode is not None:
            return
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return

    def read_returncode(self, returncode: int) -> int:
        """Return how the worker ended, from how its process did."""
        # Bubblewrap says it as a shell does: 128 and the signal.
        if self.is_wrapped and 128 < returncode < 128 + signal.NSIG:
            return 128 - returncode
        return returncode

    def discard(self) -> None:
        """End a worker that nobody has listened to yet, and close what leads to it."""
        raise NotImplementedError

    def ask_for_stacks(self) -> bool:
        """Make it show where it hangs, if it can without ending; tell whether it can."""
        return False


@dataclass(frozen=True, slots=True)
class EntrypointProcess(WorkerProcess):
    """A process that runs the agent's entrypoint.

    Attributes:
        socket: the frames.
        stacks_fd: what faulthandler writes, non-blocking.
        debug: the way of debug sessions to it; None where debugging is off.
    """

    socket: socket.socket
    stacks_fd: int
    debug: DebugChannel | None = None

    def discard(self) -> None:
        """End a worker that nobody has listened to yet, and close what leads to it."""
        self.kill()
        self.socket.close()
        if self.debug is not None:
            self.debug.close()
        for descriptor in (self.stacks_fd, self.stdout_fd, self.stderr_fd, self.report_fd):
            os.close(descriptor)

    def ask_for_stacks(self) -> bool:
        """Make faulthandler write every thread's stack; works while the GIL is held.

        An interpreter that still starts has no handler for the signal: it would end.
        """
        pid = self.inner_pid
        if self.popen.returncode is not None or pid is None or not _catches(pid, STACKS_SIGNAL):
            return False
        os.kill(pid, STACKS_SIGNAL)
        return True


def _catches(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal; where nothing says so, it is taken to."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    # Bit 0 is signal 1 (proc(5), SigCgt).
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is None or bool(int(found[1], 16) >> (number - 1) & 1)


def has_spare_core() -> bool:
    """Tell whether a worker can start beside the host without taking turns with it."""
    if sys.platform != "linux":
        return (os.cpu_count() or 1) > 1
    return len(os.sched_getaffinity(0)) > 1


def spawn_worker(start: WorkerStart, environ: Mapping[str, str]) -> EntrypointProcess:
    """Start a worker that runs the entrypoint, in a process group of its own.

    Must be called from the main thread; see `WorkerStart.start`.

    Raises:
        OSError: descriptors, processes or memory are used up; nothing stays open.
    """
    config = start.config
    with ExitStack() as theirs, ExitStack() as ours:
        host_end, worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.callback(host_end.close)
        theirs.callback(worker_end.close)
        stacks_read, stacks_write = make_pipe(ours, theirs)
        stdout_read, stdout_write = make_pipe(ours, theirs)
        stderr_read, stderr_write = make_pipe(ours, theirs)
        kept: tuple[int, ...] = (worker_end.fileno(), stacks_write)
        environment = worker_environment(
            start.directory, environ, worker_end.fileno(), stacks_write, config.logs
        )
        debug = _make_debug_channel(ours, theirs) if config.debug.enabled else None
        if debug is not None:
            kept = (*kept, debug[1])
            environment["AGENT_DEBUG_FD"] = str(debug[1])
        call = Call(
            MODULE,
            ("kagent_sdk.worker.bootstrap", config.entrypoint),
            environment | start.environment,
            stdout=stdout_write,
            stderr=stderr_write,
            keep_fds=kept,
        )
        started = start.start(call, ours, theirs)
        ours.pop_all()
    host_end.settimeout(0)
    os.set_blocking(stacks_read, False)
    return EntrypointProcess(
        started.popen,
        stdout_read,
        stderr_read,
        started.report_fd,
        started.is_wrapped,
        host_end,
        stacks_read,
        None if debug is None else debug[0],
    )


def _make_debug_channel(ours: ExitStack, theirs: ExitStack) -> tuple[DebugChannel, int]:
    """Return the way of debug sessions to a worker, and the worker's end of it."""
    from kagent_sdk.host.debug_channel import CHANNEL_TYPE, DebugChannel  # noqa: PLC0415 - few need it

    host_end, worker_end = socket.socketpair(socket.AF_UNIX, CHANNEL_TYPE)
    channel = DebugChannel(host_end)
    ours.callback(channel.close)
    theirs.callback(worker_end.close)
    return channel, worker_end.fileno()


def make_pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """Return a new pipe's ends: ours to read from, and the worker's to write to."""
    read, write = os.pipe()
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    return read, write


def worker_environment(
    directory: Path,
    environ: Mapping[str, str],
    socket_fd: int,
    stacks_fd: int,
    logs: LogsConfig,
) -> dict[str, str]:
    """Return the environment of a worker that runs the entrypoint."""
    # The level is known before the author's first import; without it logging is left alone.
    level = {"AGENT_LOG_LEVEL": logs.level} if logs.configure else {}
    return clean_environment(directory, environ) | {
        **level,
        "AGENT_WORKER_FD": str(socket_fd),
        "AGENT_STACKS_FD": str(stacks_fd),
        "AGENT_STACKS_SIGNAL": str(int(STACKS_SIGNAL)),
    }


def clean_environment(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the host's environment without anything that is the host's alone."""
    cache = str(directory / "runtime" / "cache")
    kept = {
        key: value
        for key, value in environ.items()
        if not key.startswith("AGENT_") and key not in SERVICE_VARIABLES
    }
    return kept | {"HOME": cache, "TMPDIR": cache}


def _first_child(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[0])
    except (OSError, IndexError):
        return None


def describe_exit(returncode: int) -> str:
    """Say how a process ended: ``exit code 1``, ``SIGKILL``."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
