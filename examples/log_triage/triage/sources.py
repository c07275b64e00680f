"""Find log files and read them in bounds: globs, folders, compressed files, endless lines."""

from __future__ import annotations

import bz2
import glob
import gzip
import lzma
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, Self, cast

MAX_LINE_BYTES = 16 * 1024
"""Bytes kept of one line; the rest of it is skipped, whatever its length."""

MAX_DEPTH = 3
"""How deep a folder is searched: /var/log/postgresql/15/main is the deepest in use."""

_LOG_NAME = re.compile(
    r"(?:.*(?:\.log|\.jsonl|\.err|\.out)|syslog|messages|secure|kern|auth|daemon|maillog"
    r"|.*_log)(?:[.-]\d[\d-]*)?(?:\.(?:gz|xz|bz2))?$"
)
# Not logs in spite of the name: apt's dump of its last plan.
_NOT_A_LOG = re.compile(r"eipp\.log")
_SNIFF_BYTES = 8192


class NoSuchLogError(Exception):
    """Nothing is at a path that was asked for.

    Attributes:
        path: what was asked for.
        nearest: paths that exist and look like it, best first.
    """

    def __init__(self, path: str, nearest: Sequence[str]) -> None:
        super().__init__(f"no file matches {path!r}")
        self.path = path
        self.nearest = tuple(nearest)


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file to read. ``size_bytes`` is its size on the disk, compressed if it is."""

    path: Path
    size_bytes: int
    modified_at_s: float


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not read, and why."""

    path: Path
    reason: str


def find_logs(patterns: Sequence[str], max_files: int) -> tuple[list[LogFile], list[SkippedFile]]:
    """Return the files behind paths, globs and folders, newest first, and those left out.

    Raises:
        NoSuchLogError: nothing matches one of the patterns.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        paths |= dict.fromkeys(_expand(pattern))
    found: list[LogFile] = []
    skipped: list[SkippedFile] = []
    for path in paths:
        reason = _refusal(path)
        if reason is not None:
            skipped.append(SkippedFile(path, reason))
        else:
            status = path.stat()
            found.append(LogFile(path, status.st_size, status.st_mtime))
    found.sort(key=lambda file: (-file.modified_at_s, str(file.path)))
    skipped += [SkippedFile(file.path, f"over {max_files} files") for file in found[max_files:]]
    return found[:max_files], skipped


def nearest_paths(path: str, limit: int = 3) -> list[str]:
    """Return existing paths that look like one that does not exist, best first."""
    wanted = Path(path)
    parent = wanted.parent
    while not parent.is_dir():
        if parent == parent.parent:
            return []
        wanted, parent = parent, parent.parent
    names = _names_in(parent)
    lowered = {name.lower(): name for name in names}
    close = get_close_matches(wanted.name.lower(), lowered, n=limit, cutoff=0.5)
    return [str(parent / lowered[name]) for name in close] or [str(parent)]


class BoundedLines:
    """The lines of one file, each cut at `MAX_LINE_BYTES`, decompressed on the way.

    A context manager and an iterator of strings. Not thread-safe.

    Attributes:
        cut_lines: how many lines were longer than that.
        foreign_lines: how many were not UTF-8 (read as Latin-1 instead, which never fails).
        read_bytes: bytes of text so far, after decompression.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raw: BinaryIO | None = None
        self._text: BinaryIO | None = None
        self.cut_lines = 0
        self.foreign_lines = 0
        self.read_bytes = 0

    def __enter__(self) -> Self:
        self._raw = self._path.open("rb")
        start = self._raw.read(6)
        self._raw.seek(0)
        self._text = _decompress(self._raw, start)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for stream in (self._text, self._raw):
            if stream is not None:
                stream.close()

    def __iter__(self) -> Iterator[str]:
        assert self._text is not None
        readline = self._text.readline
        while line := readline(MAX_LINE_BYTES):
            self.read_bytes += len(line)
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                self._skip_rest()
                line = _whole_characters(line)
            yield self.decode(line)

    @property
    def position_bytes(self) -> int:
        """How much of the file on the disk is read: the measure of progress."""
        return self._raw.tell() if self._raw is not None else 0

    def read_start(self, size_bytes: int) -> bytes:
        """Return the first bytes of text, before any line is taken."""
        assert self._text is not None
        return self._text.read(size_bytes)

    def decode(self, line: bytes) -> str:
        """Return a line as text: UTF-8, else Latin-1."""
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.foreign_lines += 1
            return line.decode("latin-1")

    def _skip_rest(self) -> None:
        assert self._text is not None
        self.cut_lines += 1
        while rest := self._text.readline(MAX_LINE_BYTES):
            self.read_bytes += len(rest)
            if rest.endswith(b"\n"):
                return


def _decompress(raw: BinaryIO, start: bytes) -> BinaryIO:
    if start.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if start.startswith(b"\xfd7zXZ\x00"):
        return cast("BinaryIO", lzma.LZMAFile(raw))
    return cast("BinaryIO", bz2.BZ2File(raw)) if start.startswith(b"BZh") else raw


def _whole_characters(line: bytes) -> bytes:
    """Drop the last bytes of a line that was cut inside a character of UTF-8."""
    for count in (1, 2, 3):
        if line[-count] >= 0xC0:
            return line[:-count]
        if line[-count] < 0x80:
            break
    return line


def _expand(pattern: str) -> list[Path]:
    path = Path(pattern)
    try:
        if path.is_dir():
            return _logs_in(path)
        if path.exists():
            return [path]
    except PermissionError:
        return [path]  # to be named among the skipped
    # Path.glob cannot take an absolute pattern.
    matches = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207
    files = [Path(match) for match in matches if Path(match).is_file()]
    if not files:
        raise NoSuchLogError(pattern, nearest_paths(str(path)))
    return files


def _logs_in(folder: Path) -> list[Path]:
    found: list[Path] = []
    base_depth = len(folder.parts)
    for root, names, files in os.walk(folder):
        names.sort()
        if len(Path(root).parts) - base_depth >= MAX_DEPTH:
            names.clear()
        names_of_logs = (name for name in files if _LOG_NAME.match(name))
        found += [Path(root, name) for name in sorted(names_of_logs) if not _NOT_A_LOG.match(name)]
    if not found:
        raise NoSuchLogError(str(folder), nearest_paths(str(folder / "*.log")))
    return found


def _refusal(path: Path) -> str | None:
    """Return why a file cannot be read as a log, or None if it can."""
    try:
        if not path.is_file():
            return "not a regular file"
        if path.stat().st_size == 0:
            return "empty"
        with BoundedLines(path) as lines:
            start = lines.read_start(_SNIFF_BYTES)
    except PermissionError:
        return "permission denied"
    except (OSError, EOFError, lzma.LZMAError) as exc:
        return f"unreadable: {exc.__class__.__name__}"
    return "binary" if b"\x00" in start else None


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())[:10_000]
    except OSError:
        return []
