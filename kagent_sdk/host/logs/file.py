"""The log file: rotated by size, opened anew when somebody moved it, whole records alone.

Nothing here raises when the disk is full, read-only or gone: records that cannot be written are
counted, and as soon as writing works again one record says how many were lost and why.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 1.0
"""How often to see whether the path is still the file that is open. That the file was removed shows
at once, by its count of links."""

RETRY_ROTATION_S = 1.0
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""Not blocking matters for what is no regular file, such as a pipe that nobody reads."""


class RotatingFile:
    """Appends records to ``runtime.log``; older ones are in ``runtime.log.1``, ``.2`` and so on.

    Belongs to one thread.

    Args:
        path: the current file; its folder is made.
        max_bytes: the size at which it is rotated.
        keep_files: how many rotated files stay.
        notice: makes the record that tells of a loss, from the number of records and the reason.

    Attributes:
        lines: records that were written.
        lost_lines: records that were not.
        size_bytes: of the current file.
        rotations: since the start.
        last_error: why writing or rotating failed last; stays when it works again.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, keep_files: int, notice: Callable[[int, str], bytes]
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep_files = keep_files
        self._notice = notice
        self._fd = -1
        self._is_regular = True
        self._is_reopening = False
        self._look_at_s = 0.0
        self._rotate_from_s = 0.0
        self._untold = 0
        self.lines = 0
        self.lost_lines = 0
        self.size_bytes = 0
        self.rotations = 0
        self.last_error: str | None = None

    @property
    def is_owing(self) -> bool:
        """Whether a loss is still to be told: call `write` with nothing from time to time."""
        return self._untold > 0

    def open(self) -> None:
        """Open the file.

        Raises:
            OSError: the folder or the file cannot be written.
        """
        self._open()

    def reopen(self) -> None:
        """Open the path anew with the next write: an outside rotator has moved the file."""
        self._is_reopening = True

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, data: bytes, count: int) -> None:
        """Append records; those that cannot be written are counted.

        Args:
            data: one line for each record.
            count: how many they are.
        """
        owed = self._notice(self._untold, self.last_error or "unknown") if self._untold else b""
        done = 0
        try:
            self._look_after_file()
            whole = owed + data
            while done < len(whole):
                end = self._fit(whole, done)
                # A notice that fits and records that do not would only lead to the next notice.
                done += self._append(whole[done:end], whole_only=bool(owed) and not done)
                if done < end:
                    break
        except OSError as exc:
            self._note_error(exc)
        if owed and done >= len(owed):
            self._untold = 0
        lost = data.count(b"\n", max(0, done - len(owed))) if done < len(owed) + len(data) else 0
        self._untold += lost
        self.lost_lines += lost
        self.lines += count - lost

    # One file

    def _append(self, data: bytes, *, whole_only: bool) -> int:
        """Write; return how many bytes of whole records stand in the file."""
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:] if done else data)
        except OSError as exc:
            self._note_error(exc)
            kept = 0 if whole_only else data.rfind(b"\n", 0, done) + 1
            if kept < done:
                self._roll_back(self.size_bytes + kept)
            done = kept
        self.size_bytes += done
        return done

    def _roll_back(self, size_bytes: int) -> None:
        """Take a torn record off the end again."""
        with suppress(OSError):
            os.ftruncate(self._fd, size_bytes)
            return
        # It stays, on a line of its own.
        with suppress(OSError):
            os.write(self._fd, b"\n")

    def _note_error(self, error: OSError) -> None:
        self.last_error = error.strerror or str(error)

    # The path

    def _look_after_file(self) -> None:
        """See that the open file is the one to write to.

        Raises:
            OSError: it is not, and another cannot be opened.
        """
        if self._fd < 0:
            self._open()
            return
        found = os.fstat(self._fd)
        self.size_bytes = found.st_size
        is_gone = found.st_nlink == 0
        if not is_gone and not self._is_reopening:
            now_s = time.monotonic()
            if now_s < self._look_at_s:
                return
            self._look_at_s = now_s + LOOK_EVERY_S
            if self._is_at_path(found):
                return
        try:
            self._open()
        except OSError as exc:
            if is_gone:
                raise
            # Moved, and no other can be made: what is open is better than nothing.
            self._note_error(exc)
            self._is_reopening = False

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        is_torn = _is_torn(self._path)
        fd = os.open(self._path, FLAGS, 0o640)
        self.close()
        self._fd = fd
        self._is_reopening = False
        if is_torn:
            # A host that was killed while it wrote: its last line must not swallow ours.
            os.write(fd, b"\n")
        found = os.fstat(fd)
        self.size_bytes = found.st_size
        self._is_regular = stat.S_ISREG(found.st_mode)

    def _is_at_path(self, found: os.stat_result) -> bool:
        try:
            return os.path.samestat(self._path.stat(), found)
        except OSError:
            return False

    # Rotation

    def _fit(self, data: bytes, start: int) -> int:
        """Return up to where the records fit into the file, after a rotation if need be."""
        rest, room = len(data) - start, self._max_bytes - self.size_bytes
        if rest <= room or not self._is_regular:
            return len(data)
        if room > 0 and (end := data.rfind(b"\n", start, start + room) + 1):
            return end
        if self.size_bytes and not self._rotate():
            return len(data)
        if rest <= self._max_bytes:
            return len(data)
        return (data.rfind(b"\n", start, start + self._max_bytes) + 1) or (
            data.find(b"\n", start) + 1
        )

    def _rotate(self) -> bool:
        """Put a new file in place of this one; tell whether that worked."""
        now_s = time.monotonic()
        if now_s < self._rotate_from_s:
            return False
        try:
            if self._is_at_path(os.fstat(self._fd)):
                self._shift()
            self._open()
        except OSError as exc:
            # The file grows over its limit rather than that a line is lost.
            self._note_error(exc)
            self._rotate_from_s = now_s + RETRY_ROTATION_S
            return False
        self.rotations += 1
        return True

    def _shift(self) -> None:
        """Give every rotated file the next number; the oldest one is replaced."""
        names = [self._path, *(self._numbered(n) for n in range(1, self._keep_files + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with suppress(FileNotFoundError):
                newer.rename(older)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _is_torn(path: Path) -> bool:
    """Whether a file's last line has no end."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                file.seek(-1, os.SEEK_END)  # fails for an empty file
                return file.read(1) != b"\n"
    return False
