"""One host process, started by a test: its environment, its output, and every process of its agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from kagent_sdk.testing.process_failures import AgentFailedError, with_output

MARKER_NAME = "KOS_TEST_AGENT"
"""Inherited by all processes of one agent (the host drops only ``AGENT_*``): finds orphans too."""

KILL_S = 10.0
"""How long the kernel may take to end a process that was killed."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Nothing that a test calls is behind one; in small letters they count as well."""


def agent_environment(more: Mapping[str, str], marker: str) -> dict[str, str]:
    """Return an environment that no surrounding agent, proxy or terminal can leak into.

    The agent listens on a free port of the loopback, and stays the user that it is started by:
    whoever runs tests as root has the interpreter and the folder where user 1000 cannot read them.

    Args:
        more: what to add; it wins.
        marker: value of `MARKER_NAME`.
    """
    dropped = {*PROXIES, *map(str.lower, PROXIES)}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AGENT_") and name not in dropped
    }
    own = {
        "AGENT_HTTP__HOST": "127.0.0.1",
        "AGENT_HTTP__PORT": "0",
        "AGENT_WORKER__USER": "keep",
        MARKER_NAME: marker,
    }
    return {**kept, **own, **coverage_environment(), **more}


def coverage_environment() -> dict[str, str]:
    """Return what lets confined workers write what coverage sees in them, where it looks."""
    if "COVERAGE_PROCESS_CONFIG" not in os.environ or "COVERAGE_FILE" not in os.environ:
        return {}
    folder = Path(os.environ["COVERAGE_FILE"]).parent
    return {"AGENT_SANDBOX__WRITE": json.dumps([str(folder)])}


def find_processes(marker: str) -> list[psutil.Process]:
    """Return every living process that has inherited this marker."""
    return [process for process in psutil.process_iter() if _has_marker(process, marker)]


def _has_marker(process: psutil.Process, marker: str) -> bool:
    try:
        return process.environ().get(MARKER_NAME) == marker
    except (psutil.Error, OSError):
        return False  # it has ended, or is somebody else's


class HostProcess:
    """A host in a process group of its own, and what it and its workers write.

    Args:
        folder: the agent's.
        environment: what to add to `agent_environment`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._marker = uuid.uuid4().hex
        self._chunks: list[bytes] = []
        # A pipe and a thread, not a file: a full disk must not silence the host.
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "kagent_sdk", "run", str(folder)],
            cwd=folder,
            env=agent_environment(environment, self._marker),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        assert self._popen.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._popen.stdout,), name="agent output", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """The host's process id."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """How the host has ended; None while it runs; -9 for SIGKILL."""
        return self._popen.poll()

    @property
    def output(self) -> str:
        """What host and workers have written so far."""
        return b"".join(self._chunks).decode(errors="replace")

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records among it."""
        lines = self.output.rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def signal(self, number: int) -> None:
        """Send a signal to the host, if it runs."""
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def find_url(self) -> str | None:
        """Return the address of the control plane, once it is known."""
        try:
            document = json.loads((self._folder / "runtime" / "host.json").read_bytes())
        except (OSError, ValueError):
            return None
        is_ours = document.get("pid") == self.pid
        return str(document["url"]).rstrip("/") if is_ours else None

    def processes(self) -> list[psutil.Process]:
        """Return every living process of this agent, orphans included."""
        return find_processes(self._marker)

    def kill_all(self) -> None:
        """Kill whatever is left of the agent, and let go of its output."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        left = self.processes()
        for process in left:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=KILL_S)
        # What may still hold the pipe is stuck in the kernel: the thread is a daemon.
        self._reader.join(KILL_S)

    def fail(self, message: str) -> AgentFailedError:
        """Return a failure with the end of the output."""
        return AgentFailedError(with_output(message, self.output))

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), 65536):
                self._chunks.append(data)
