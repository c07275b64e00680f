"""Read an agent's log from its files, also while the agent writes and rotates them.

``logs/runtime.log`` is the current one, ``runtime.log.1`` the one before, and so on.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LOG_FILE = Path("logs", "runtime.log")

MAX_LINE_BYTES = 4 * 1024 * 1024
"""A line that is longer comes in parts: such a file is none of ours, and memory is bounded."""

CHUNK_BYTES = 64 * 1024


class LogFiles:
    """The log of the agent in a folder.

    The files stay open, so a rotation while they are read loses and repeats nothing.

    Args:
        directory: the agent's folder.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOG_FILE
        self._files: deque[BinaryIO] = deque()
        self._rest = b""

    def open(self, since_s: float = 0.0) -> bool:
        """Open what is there; tell whether it was anything.

        Args:
            since_s: files that were last written before that time are left out.

        Raises:
            OSError: a file cannot be read.
        """
        self._files.extend(reversed(self._open_newer(None)))
        while len(self._files) > 1 and os.fstat(self._files[0].fileno()).st_mtime < since_s:
            self._files.popleft().close()
        return bool(self._files)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._files.popleft().close()

    def read(self) -> Iterator[bytes]:
        """Return all whole lines up to now, from the oldest on; `follow` goes on from there."""
        for file in self._files:
            yield from self._lines(file)
        self._close_older()

    def read_last(
        self, count: int, is_wanted: Callable[[bytes], bool], *, is_chosen: bool = True
    ) -> list[bytes]:
        """Return the last lines that are wanted; older files are read only as far as needed.

        Args:
            count: how many, at most.
            is_wanted: tells it of a line.
            is_chosen: False where every line is wanted: then nothing but these lines is read.
        """
        parts: deque[deque[bytes]] = deque()
        missing = count
        for file in reversed(self._files):
            if not is_chosen:
                _skip_to_last(file, missing)
            last = deque(filter(is_wanted, self._lines(file)), maxlen=missing)
            parts.appendleft(last)
            missing -= len(last)
            if not missing:
                break
        self._close_older()
        return [line for part in parts for line in part]

    def take_rest(self) -> list[bytes]:
        """Return the line at the end that is not whole, if there is one."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def follow(self, pause: Callable[[], None]) -> Iterator[list[bytes]]:
        """Return lines as they are written, for ever, across rotations.

        Args:
            pause: called when there is nothing to read.

        Raises:
            OSError: a file cannot be read.
        """
        while True:
            lines = self._read_new()
            if lines:
                yield lines
            elif not self._move_on():
                pause()

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        is_current = file is self._files[-1]
        while line := file.readline(MAX_LINE_BYTES):
            if line.endswith(b"\n"):
                yield line[:-1]
            elif is_current and len(line) < MAX_LINE_BYTES:
                self._rest = line
            else:
                yield line

    def _read_new(self) -> list[bytes]:
        data = self._files[0].read(CHUNK_BYTES) if self._files else b""
        if not data:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines += self.take_rest()
        # Half a line is nothing to show yet, but there may be more to read.
        return lines or self._read_new()

    def _move_on(self) -> bool:
        """Turn to what came after the file that is read to its end; False: nothing did."""
        if not self._files:
            return self.open()
        if len(self._files) > 1:
            self._files.popleft().close()
            # What the last file ended with without a newline is a line of its own.
            self._rest += b"\n" if self._rest else b""
            return True
        file = self._files[0]
        try:
            now = self._path.stat()
        except OSError:
            return False  # between two steps of a rotation, or removed
        if not _is_same(os.fstat(file.fileno()), now):
            # The writer has left this file: after one more look it is read to its end.
            self._files.extend(reversed(self._open_newer(file)))
            return True
        if now.st_size < file.tell():
            file.seek(0)
            self._rest = b""
            return True
        return False

    def _open_newer(self, known: BinaryIO | None) -> list[BinaryIO]:
        """Open the files that came after one, all if None; the newest first.

        The names are read again behind it: where a rotation came between, the files would be
        missing or in another order.
        """
        names = self._names()
        while True:
            opened = _open_until(known, names)
            names, before = self._names(), names
            if names == before:
                return opened
            for file in opened:
                file.close()

    def _names(self) -> list[tuple[Path, tuple[int, int]]]:
        """Return the names of all log files and which files they are, the newest first."""
        found = []
        for path in self._paths():
            with suppress(FileNotFoundError):
                found.append((path, _identity(path.stat())))
        return found

    def _paths(self) -> Iterator[Path]:
        yield self._path
        rotated = self._path.parent.glob(f"{self._path.name}.*")
        numbers = [path.suffix[1:] for path in rotated]
        known = sorted(int(each) for each in numbers if each.isdecimal() and each.isascii())
        for number in known:
            yield self._path.with_name(f"{self._path.name}.{number}")

    def _close_older(self) -> None:
        while len(self._files) > 1:
            self._files.popleft().close()


def _open_until(
    known: BinaryIO | None, names: Iterable[tuple[Path, tuple[int, int]]]
) -> list[BinaryIO]:
    """Open files in this order, up to the one that is known."""
    end = None if known is None else _identity(os.fstat(known.fileno()))
    opened: list[BinaryIO] = []
    for path, identity in names:
        if identity == end:
            break
        with suppress(FileNotFoundError):
            opened.append(path.open("rb"))
    return opened


def _skip_to_last(file: BinaryIO, count: int) -> None:
    """Go to where at most so many whole lines are left, or few more."""
    position = file.seek(0, os.SEEK_END)
    newlines = 0
    while position > 0 and newlines <= count:
        start = max(0, position - CHUNK_BYTES)
        file.seek(start)
        newlines += file.read(position - start).count(b"\n")
        position = start
    file.seek(position)
    if position:
        file.readline()  # the rest of a line


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    return _identity(one) == _identity(other)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
