"""Read a manifest that somebody has written, and what lies beside it: never much of it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.text import clean_line

MAX_BYTES = 1024 * 1024

STDIN = "-"


def read_manifest(file: str) -> str:
    """Return the text of a file, or of stdin for ``-``.

    Raises:
        UsageError: there is none, it is too large, or no text.
    """
    label = "stdin" if file == STDIN else clean_line(file)
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if file == STDIN else _read(Path(file))
    except OSError as exc:
        raise UsageError(f"{label} cannot be read: {exc.strerror}") from None
    if data is None:
        raise UsageError(f"{label} is no file")
    if len(data) > MAX_BYTES:
        raise UsageError(f"{label} is over {MAX_BYTES} bytes: this is no manifest")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{label} is no text in UTF-8") from None


def beside(file: str) -> Callable[[str], str | None]:
    """Return a reader of the files in a manifest's folder; what cannot be read is not there."""

    def read(name: str) -> str | None:
        if file == STDIN or name != os.path.basename(name):  # noqa: PTH119 - a name from a manifest
            return None
        try:
            data = _read(Path(file).with_name(name))
            return None if data is None or len(data) > MAX_BYTES else data.decode()
        except (OSError, ValueError):
            return None

    return read


def _read(path: Path) -> bytes | None:
    """Return the first bytes of a plain file, one more than a manifest may have; None: it is none."""
    # A pipe, a terminal or a device would wait, or never end.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:  # noqa: PTH123 - of a descriptor
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            return None
        return opened.read(MAX_BYTES + 1)
