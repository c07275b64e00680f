"""Servers as pinned process trees: start, wait, look at, stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from rig.cores import pinned, take_precedence
from rig.wire import HOST, build_request, is_answered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.001


class ServerError(Exception):
    """A contender did not start, or died; the message ends with what it printed."""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One contender's process tree, in a session of its own. Made by `start`.

    Args:
        process: the first process of the tree.
        port: where it will listen on loopback.
        output: the file that takes what it prints.
        started_at: when it was spawned, `time.perf_counter`.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, output: IO[bytes], started_at: float
    ) -> None:
        self.port = port
        self._process = process
        self._output = output
        self._started_at = started_at

    def stop(self) -> None:
        """Ask the server to end, and kill what has not ended in time."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            print(f"killing a server that ignored SIGTERM: {self._command}", file=sys.stderr)
        self.kill()

    def kill(self) -> None:
        """Kill whatever is left of the tree, at once."""
        for pid in reversed(self.pids()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def pids(self) -> list[int]:
        """Return all living processes of the tree, parents first."""
        found = [self._process.pid] if self._process.poll() is None else []
        for pid in found:
            found.extend(_children(pid))
        return found

    def cpu_s(self) -> float:
        """Return the CPU time, user and system, that the tree's processes used so far."""
        return sum(_cpu_s(pid) for pid in self.pids())

    def wait_until_ok(self, path: str, *, timeout_s: float = START_TIMEOUT_S) -> float:
        """Poll a path until it answers 200; return the seconds since the start.

        Raises:
            ServerError: it does not in time, or the process ended.
        """
        request = build_request("GET", path, close=True)
        end = time.perf_counter() + timeout_s
        while time.perf_counter() < end:
            if is_answered(self.port, request, timeout_s=1.0):
                return time.perf_counter() - self._started_at
            if self._process.poll() is not None:
                raise ServerError(f"{self._command} ended:\n{self.printed()}")
            time.sleep(POLL_S)
        raise ServerError(f"{self._command} does not answer {path}:\n{self.printed()}")

    def printed(self) -> str:
        """Return the end of what the server printed."""
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - 4000))
        return self._output.read().decode(errors="replace")

    @property
    def _command(self) -> str:
        return str(self._process.args)


@contextmanager
def start(
    command: Sequence[str],
    port: int,
    *,
    core: int | None,
    folder: Path,
    environment: Mapping[str, str],
) -> Iterator[Server]:
    """Spawn a server, yield it at once, and stop it at the end.

    Args:
        command: what to run.
        port: where it will listen on loopback.
        core: the core that it and all its children stay on; None leaves them free.
        folder: its working directory.
        environment: the whole of its environment.
    """
    # The output goes to a file: a pipe that nobody reads would stop a server that logs a lot.
    with tempfile.TemporaryFile() as output:
        with pinned(core) if core is not None else nullcontext():
            started_at = time.perf_counter()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
            )
        take_precedence(process.pid)
        server = Server(process, port, output, started_at)
        try:
            yield server
        finally:
            server.stop()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found.extend(int(child) for child in (thread / "children").read_text().split())
    except OSError:  # the process or thread is gone: it has no children any more
        return found
    return found


def _cpu_s(pid: int) -> float:
    """Read the time on a CPU of all threads, which the kernel counts in nanoseconds.

    ``/proc/PID/stat`` counts in steps of 10 ms: too coarse for a short turn
    (https://docs.kernel.org/scheduler/sched-stats.html).
    """
    total_ns = 0
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((thread / "schedstat").read_text().split()[0])
    except OSError:  # the process or thread is gone
        return total_ns / 1e9
    return total_ns / 1e9


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process tree, in MiB.

    Attributes:
        pss: each page divided among all who map it, other programs included.
        private: pages that nobody else maps.
    """

    pss: float
    private: float


def tree_memory(pids: Sequence[int]) -> Memory:
    """Sum up ``smaps_rollup`` of the processes (proc(5))."""
    totals = dict.fromkeys(("Pss", "Private_Clean", "Private_Dirty"), 0)
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            key, _, value = line.partition(":")
            if key in totals:
                totals[key] += int(value.split()[0])
    private = totals["Private_Clean"] + totals["Private_Dirty"]
    return Memory(totals["Pss"] / 1024, private / 1024)
