"""What a worker says of a debug session: the commands that were run. Pure.

It comes from the author's process: it is bounded, and believed only as what a worker says.
"""

from __future__ import annotations

import json

MAX_LINE_BYTES = 4096
"""PIPE_BUF: what is written at once stays in one piece (pipe(7))."""

MAX_COMMAND_CHARS = 1000
MAX_LINES = 8
"""Of one piece that was read; a person types fewer."""


class ReportReader:
    """Finds the commands in the bytes of a report.

    Attributes:
        dropped: lines that were too many, too long or no report.
    """

    __slots__ = ("_line", "dropped")

    def __init__(self) -> None:
        self._line = b""
        self.dropped = 0

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; return the commands in them, `MAX_LINES` at most."""
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest
        if len(rest) > MAX_LINE_BYTES:
            self._line = b""
            self.dropped += 1
        commands = [command for command in map(_command_in, lines[:MAX_LINES]) if command]
        self.dropped += len(lines) - len(commands)
        return commands


def clean_command(command: str) -> str:
    """Return a command as the log may have it: one printable line, bounded."""
    cut = command[:MAX_COMMAND_CHARS]
    return "".join(char if char.isprintable() else "?" for char in cut)


def _command_in(line: bytes) -> str | None:
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):
        return None
    command = report.get("command") if isinstance(report, dict) else None
    return clean_command(command) if isinstance(command, str) else None
