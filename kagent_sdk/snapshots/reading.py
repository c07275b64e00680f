"""Reading a snapshot, member by member. Nothing in the file is believed before it is checked."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots import layout
from kagent_sdk.snapshots.frame import MAX_WINDOW_BYTES, read_frame
from kagent_sdk.snapshots.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Manifest,
    Member,
    parse_manifest,
)
from kagent_sdk.snapshots.rows import MAX_LINE_BYTES, RowError
from kagent_sdk.snapshots.spool import CHUNK_BYTES

OnRead = Callable[[int, int], None]
"""Told how many bytes of the file were read, and how many there are."""


class MemberError(Exception):
    """A member is not what the manifest says.

    Attributes:
        is_end: nothing behind it can be read.
    """

    def __init__(self, reason: str, *, is_end: bool = False) -> None:
        super().__init__(reason)
        self.is_end = is_end


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Archive:
    """A snapshot that is open, at its next member.

    Args:
        tar: the unpacked bytes.
        on_read: called with every chunk.

    Attributes:
        manifest: the first member.
    """

    def __init__(self, tar: _Source, on_read: Callable[[], None]) -> None:
        self._tar = tar
        self._on_read = on_read
        self.manifest, self._mtime_s = self._read_manifest()

    def _read_manifest(self) -> tuple[Manifest, int]:
        block = self._take(layout.BLOCK_BYTES)
        numbers = layout.read_numbers(block)
        if numbers is None or block != layout.head(MANIFEST, *numbers):
            raise SnapshotError(
                f"the file is no snapshot: it begins with {layout.describe(block)}, and not as "
                f"{MANIFEST} does"
            )
        size, mtime_s = numbers
        if size > MAX_MANIFEST_BYTES:
            raise SnapshotError(f"{MANIFEST} is damaged: it is over {MAX_MANIFEST_BYTES} bytes")
        manifest = parse_manifest(self._take(size))
        if self._take(len(layout.padding(size))).strip(b"\0") or manifest.created_s != mtime_s:
            raise SnapshotError(f"{MANIFEST} is damaged: its head does not fit it")
        return manifest, mtime_s

    def chunks(self, member: Member) -> Iterator[bytes]:
        """Give the bytes of the next member; at the end they are known to be right.

        Raises (while it is read):
            MemberError: something else is there, or its bytes are others.
        """
        expected = layout.head(member.name, member.size_bytes, self._mtime_s)
        found = self._take_of(member, len(expected))
        if found != expected:
            said = layout.describe(found[-layout.BLOCK_BYTES :])
            raise MemberError(f"in its place is {said}, or its head is odd", is_end=True)
        digest = hashlib.sha256()
        left = member.size_bytes
        while left:
            chunk = self._take_of(member, min(left, CHUNK_BYTES))
            digest.update(chunk)
            left -= len(chunk)
            self._on_read()
            yield chunk
        if self._take_of(member, len(layout.padding(member.size_bytes))).strip(b"\0"):
            raise MemberError("something stands behind its end")
        if digest.hexdigest() != member.sha256:
            raise MemberError("its bytes are not those that were written: the sha256 differs")

    def check_end(self) -> None:
        """See that nothing follows the last member.

        Raises:
            MemberError: something does.
        """
        try:
            rest = self._take(len(layout.END))
            if rest != layout.END or self._tar.read(1):
                raise MemberError(f"behind the last member is {layout.describe(rest)}", is_end=True)
        except SnapshotError as exc:
            raise MemberError(str(exc), is_end=True) from None

    def _take_of(self, member: Member, size: int) -> bytes:
        try:
            return self._take(size)
        except SnapshotError as exc:
            raise MemberError(f"cannot be read: {exc}", is_end=True) from None

    def _take(self, size: int) -> bytes:
        from zstandard import ZstdError  # noqa: PLC0415 - as in `open_archive`

        try:
            taken = self._tar.read(size)
        except ZstdError as exc:
            raise SnapshotError(f"the snapshot is damaged ({exc})") from None
        except OSError as exc:
            raise _unreadable(exc) from exc
        if len(taken) < size:
            raise SnapshotError("the snapshot is damaged: its end is missing")
        return taken


@contextmanager
def open_archive(
    path: Path, max_bytes: int, on_read: OnRead = lambda _done, _all: None
) -> Iterator[Archive]:
    """Open a snapshot and read its manifest.

    Args:
        path: a regular file.
        max_bytes: what it may unpack to.
        on_read: see `OnRead`.

    Raises:
        SnapshotError: it is none, damaged or too large.
    """
    from zstandard import ZstdDecompressor  # noqa: PLC0415 - only where a snapshot is read

    with _open(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        try:
            read_frame(file, size_bytes, max_bytes)
            file.seek(0)
        except OSError as exc:
            raise _unreadable(exc) from exc
        decompressor = ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        with decompressor.stream_reader(file, closefd=False) as tar:
            yield Archive(tar, lambda: on_read(file.tell(), size_bytes))


def _unreadable(exc: OSError) -> SnapshotError:
    return SnapshotError(f"cannot read the snapshot: {exc.strerror}")


def _open(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise SnapshotError(f"cannot open the snapshot: {exc.strerror}") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SnapshotError("the snapshot is not a regular file")
    return os.fdopen(descriptor, "rb")


def iter_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut a member into lines, without their newlines; each is bounded.

    Raises:
        MemberError: what ``chunks`` raises.
        RowError: a line is too long, or the last has no end.
    """
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield b"".join((*parts, line))
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise RowError(f"takes more than {MAX_LINE_BYTES} bytes")
    if size:
        raise RowError("has no end")
