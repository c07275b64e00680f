"""Type commands as a user does: into a pipe, or into a terminal of a given size."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.agents import coverage_environment

DEADLINE_S = 60.0
COMMAND = (sys.executable, "-m", "kagent_sdk")


@dataclass(frozen=True, slots=True)
class Result:
    """What a command wrote, and its exit code; a terminal has stdout and stderr in one."""

    code: int
    out: str
    err: str = ""

    def json(self) -> Any:
        """Return stdout as parsed JSON."""
        return json.loads(self.out)


def kos(
    *arguments: str | Path,
    cwd: Path | None = None,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Run a command with all of its output in pipes."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        check=False,
        text=True,
        timeout=DEADLINE_S,
    )
    return Result(done.returncode, done.stdout, done.stderr)


class Terminal:
    """A command in a terminal of its own.

    Args:
        arguments: of the command.
        columns: how wide the terminal is.
        env: added to the environment.
        cwd: the folder that it is typed in.
        piped: give stdout a pipe, as in ``kos-agent … | other``; stderr stays on the terminal.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        columns: int = 100,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        piped: bool = False,
    ) -> None:
        self._screen, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        # What a terminal's line discipline adds would hide what the command wrote.
        attributes = termios.tcgetattr(other)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(other, termios.TCSANOW, attributes)
        self._process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd,
            env=environment({"TERM": "xterm-256color"} | dict(env or {})),
            stdin=other,
            stdout=subprocess.PIPE if piped else other,
            stderr=other,
        )
        os.close(other)
        self.shown = ""

    def __enter__(self) -> Self:
        """Give the terminal; the command runs since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the command, if the test did not wait for it."""
        if self._process.stdout:
            self._process.stdout.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._screen)

    def read_until(self, text: str) -> str:
        """Wait until the screen has shown a text; return all of it so far."""
        give_up_at = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            assert time.monotonic() < give_up_at, self.shown
            assert self._read(), f"ended without {text!r}: {self.shown}"
        return self.shown

    def read_until_count(self, text: str, count: int) -> str:
        """Wait until the screen has shown a text so often; return all of it so far."""
        give_up_at = time.monotonic() + DEADLINE_S
        while self.shown.count(text) < count:
            assert time.monotonic() < give_up_at, self.shown
            assert self._read(), f"ended without {count} times {text!r}: {self.shown}"
        return self.shown

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """End it from outside."""
        self._process.terminate()

    def type(self, keys: str) -> None:
        """Type keys, as a terminal that is raw gives them to its program."""
        os.write(self._screen, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process.send_signal(signal.SIGWINCH)

    @property
    def modes(self) -> list[object]:
        """The attributes of the terminal, as `termios.tcgetattr` returns them."""
        return termios.tcgetattr(self._screen)

    def wait(self) -> Result:
        """Wait for the end and return what was shown; ``out`` is the pipe, if there is one."""
        while self._read():
            pass
        piped = self._process.stdout.read().decode() if self._process.stdout else None
        code = self._process.wait(DEADLINE_S)
        return Result(code, self.shown) if piped is None else Result(code, piped, self.shown)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._screen, 65_536)
        except OSError:
            return False  # Linux says EIO where the other end is closed
        self.shown += chunk.decode()
        return bool(chunk)


def show(
    *arguments: str | Path, columns: int = 100, env: Mapping[str, str] | None = None
) -> Result:
    """Run a command in a terminal to its end."""
    with Terminal(arguments, columns=columns, env=env) as terminal:
        return terminal.wait()


def environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return an environment in which nothing but the test decides on colours and agents."""
    unset = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "TTY_COMPATIBLE", "CI")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in unset and not name.startswith("AGENT_")
    }
    # As in `tests.agents.agent_environment`.
    return kept | {"AGENT_WORKER__USER": "keep"} | coverage_environment() | dict(extra or {})
