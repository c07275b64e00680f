"""Processes that outlive who started them: spawned in a session of their own, found again by identity."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

START_FIELD = 19
"""Of /proc/PID/stat behind the name's bracket: starttime, field 22 (proc(5))."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one process from all others, before and after.

    Attributes:
        pid: its number, which others may get when it is gone.
        started: when it started, in clock ticks since the boot (proc(5)).
        boot: of which boot.
    """

    pid: int
    started: int
    boot: str


def identify(pid: int) -> Identity | None:
    """Return the identity of a process; None when there is none that runs."""
    try:
        text = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        if fields[0] in {"Z", "X"}:
            return None
        return Identity(pid, int(fields[START_FIELD]), BOOT_ID.read_text(encoding="ascii").strip())
    except (OSError, ValueError, IndexError):
        return None


def user_of(pid: int) -> int | None:
    """Return the real user of a process; None when there is none.

    Not the owner of its folder in /proc: one that closes its memory has root there (proc(5)).
    """
    try:
        text = Path("/proc", str(pid), "status").read_text(encoding="utf-8", errors="replace")
        line = next(line for line in text.splitlines() if line.startswith("Uid:"))
        return int(line.split()[1])
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def works_in(pid: int, folder: Path) -> bool:
    """Tell whether a process has this folder for its own, as hosts of the fleet have."""
    try:
        return Path("/proc", str(pid), "cwd").samefile(folder)
    except OSError:
        return False


def is_locked(path: Path) -> bool:
    """Tell whether a process has locked a file (flock(2))."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


class HostProcess:
    """A running host, a child or not.

    Args:
        identity: of the process.
        popen: when it is a child.
        adopted: whether another orchestrator has started it.

    Attributes:
        exited: its return code when it has ended; None as the result where it cannot be known.
    """

    def __init__(
        self, identity: Identity, popen: subprocess.Popen[bytes] | None, *, adopted: bool
    ) -> None:
        self.identity = identity
        self.adopted = adopted
        self._popen = popen
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int | None] = self._loop.create_future()
        self._descriptor: int | None = None
        self._watch()

    @property
    def pid(self) -> int:
        """Its number; also that of its session and process group."""
        return self.identity.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; one that is gone gets none."""
        if self._descriptor is not None:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        """Kill its whole process group."""
        self.signal(signal.SIGKILL)
        if self._descriptor is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Let it run, and watch it no more."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _watch(self) -> None:
        try:
            self._descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._end()
            return
        if self._popen is None and identify(self.pid) != self.identity:
            self._end()  # it is gone, and the number belongs to another one
            return
        self._loop.add_reader(self._descriptor, self._end)

    def _end(self) -> None:
        code = None if self._popen is None else self._popen.wait()
        self.forget()
        if not self.exited.done():
            self.exited.set_result(code)


def spawn(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that it outlives this process; it blocks.

    Args:
        words: the program and its arguments.
        folder: its working directory.
        environment: all of its environment.
        out: a file for what it writes, which is emptied.

    Raises:
        OSError: it cannot be started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(out, flags, 0o600)
    try:
        return subprocess.Popen(
            words,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
