"""Follow a growing file through rotation and truncation, and classify what is added."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import BinaryIO, Literal

from .formats import LogClock
from .mining import TemplateMine
from .models import FollowedLine
from .parsing import Record, RecordAssembler
from .sources import MAX_LINE_BYTES
from .summary import utc

READ_BYTES = 256 * 1024
"""Bytes per look: about 2,000 lines, 80 ms of mining."""

TailKind = Literal["line", "rotated", "truncated", "waiting"]


@dataclass(frozen=True, slots=True)
class TailItem:
    """A line that was added, or what happened to the file."""

    kind: TailKind
    text: str = ""


class Tail:
    """The end of one file, as ``tail -F`` shows it. Blocks on the disk only; call `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self._is_waiting = False

    @property
    def position_bytes(self) -> int:
        """Where the next byte is read."""
        return self._file.tell() if self._file is not None else 0

    def open_near_end(self, back_bytes: int) -> bool:
        """Open the file and go back from its end, to the start of a line.

        Returns:
            Whether the file is read from its beginning.

        Raises:
            OSError: it cannot be opened.
        """
        self._file = self.path.open("rb")
        size_bytes = os.fstat(self._file.fileno()).st_size
        start = max(0, size_bytes - back_bytes)
        self._file.seek(start)
        if start:
            self._file.readline(MAX_LINE_BYTES)
        return start == 0

    def read(self) -> list[TailItem]:
        """Return what was added since the last call, at most `READ_BYTES` of it."""
        if self._file is None:
            return self._reopen([])
        items = self._read_lines(self._file)
        if items:
            return items
        change = self._change(self._file)
        if change == "truncated":
            self._file.seek(0)
            self._rest = b""
            return [TailItem("truncated")]
        if change == "rotated":
            items = [TailItem("line", self._decode(self._rest))] if self._rest else []
            self.close()
            return self._reopen(items)
        return []

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file is not None:
            self._file.close()
        self._file = None
        self._rest = b""

    def _read_lines(self, file: BinaryIO) -> list[TailItem]:
        data = file.read(READ_BYTES)
        if not data:
            return []
        *lines, rest = (self._rest + data).split(b"\n")
        # A line that never ends is cut, not collected.
        self._rest = rest[:MAX_LINE_BYTES]
        return [TailItem("line", self._decode(line)) for line in lines]

    def _change(self, file: BinaryIO) -> TailKind | None:
        held = os.fstat(file.fileno())
        try:
            there = self.path.stat()
        except OSError:
            return "rotated"
        if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            return "rotated"
        return "truncated" if there.st_size < file.tell() else None

    def _reopen(self, items: list[TailItem]) -> list[TailItem]:
        try:
            self._file = self.path.open("rb")
        except OSError:
            if not self._is_waiting:
                self._is_waiting = True
                items.append(TailItem("waiting"))
            return items
        self._is_waiting = False
        return [*items, TailItem("rotated")]

    @staticmethod
    def _decode(line: bytes) -> str:
        line = line[:MAX_LINE_BYTES]
        try:
            return line.decode()
        except UnicodeDecodeError:
            return line.decode("latin-1")


class Follower:
    """A tail whose lines are put together to records and mined. Not thread-safe; call `close`.

    Args:
        path: the file.
        mine: where its templates are counted; may be shared by followers of one thread.
        zone: zone of times that name none; None is the machine's own.
    """

    def __init__(self, path: Path, mine: TemplateMine, zone: tzinfo | None = None) -> None:
        self._tail = Tail(path)
        self._name = str(path)
        self._mine = mine
        self._zone = zone
        self._assembler = self._new_assembler()
        self._knows_line_numbers = False

    def start(self, back_bytes: int = READ_BYTES) -> list[FollowedLine]:
        """Open the file, learn the templates of its end, and return those lines, oldest first.

        Raises:
            OSError: it cannot be opened.
        """
        self._knows_line_numbers = self._tail.open_near_end(back_bytes)
        found: list[FollowedLine] = []
        while step := self.step():
            found += step
        return found

    def step(self) -> list[FollowedLine]:
        """Return what was added since the last step; the last record is held until it is idle."""
        items = self._tail.read()
        found = [line for item in items for line in self._take(item)]
        if not items:
            found += self._classify(self._assembler.flush())
        return found

    def close(self) -> None:
        """Close the file; idempotent."""
        self._tail.close()

    def _take(self, item: TailItem) -> Iterator[FollowedLine]:
        if item.kind == "line":
            yield from self._classify(self._assembler.feed(item.text))
            return
        yield from self._classify(self._assembler.flush())
        if item.kind != "waiting":
            self._assembler = self._new_assembler()
            self._knows_line_numbers = True
        yield FollowedLine(kind=item.kind, file=self._name, line=None)

    def _classify(self, record: Record | None) -> Iterator[FollowedLine]:
        if record is None:
            return
        mined = self._mine.add(record, self._name)
        yield FollowedLine(
            kind="line",
            file=self._name,
            line=record.line_number if self._knows_line_numbers else None,
            at=utc(record.at),
            level=record.level.label,
            template=mined.template.text,
            number=mined.template.number,
            count=mined.template.count,
            is_new=mined.is_new,
            text=record.text,
            more=record.extra,
        )

    def _new_assembler(self) -> RecordAssembler:
        return RecordAssembler(LogClock(datetime.now(UTC), self._zone))
