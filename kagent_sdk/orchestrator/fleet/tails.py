"""The ends of files that may be large, and that others write."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_TAIL_BYTES = 1024 * 1024
MAX_LINE_CHARS = 300
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_tail(path: Path, lines: int, limit_bytes: int = MAX_TAIL_BYTES) -> bytes:
    """Return the last lines of a file, whole ones; nothing where there is no regular file.

    Args:
        path: no link is followed.
        lines: how many at most.
        limit_bytes: how much at most.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b""
        begin = max(0, status.st_size - limit_bytes)
        file.seek(begin)
        content = file.read(limit_bytes)
    found = content.splitlines(keepends=True)
    if begin and found:
        del found[0]  # its beginning is missing
    return b"".join(found[-lines:]) if lines > 0 else b""


def last_line(path: Path) -> str:
    """Return the last line of a file that says something, for people; shortened."""
    text = read_tail(path, 20, 16 * 1024).decode("utf-8", "replace")
    said = [line.strip() for line in text.splitlines() if line.strip()]
    line = "".join(char if char.isprintable() else " " for char in said[-1]) if said else ""
    return line if len(line) <= MAX_LINE_CHARS else f"{line[:MAX_LINE_CHARS]}…"
