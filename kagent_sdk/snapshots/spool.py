"""Members on their way into an archive: written down first, for the manifest names their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.manifest import MAX_MEMBER_BYTES, Member

CHUNK_BYTES = 256 * 1024

Check = Callable[[], None]
"""Called between two chunks: may raise, to give up."""


class Spool:
    """Collects members in a file that has no name.

    Args:
        file: empty, for reading and writing.
        max_bytes: of all members.
        check: called between two chunks.

    Attributes:
        members: those that are whole, in order.
    """

    def __init__(self, file: BinaryIO, max_bytes: int, check: Check) -> None:
        self._file = file
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._check = check
        self.members: list[Member] = []

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """Add a member.

        Raises:
            SnapshotError: it is larger than may be.
            OSError: the disk does not take it.
        """
        digest = hashlib.sha256()
        size = 0
        for chunk in gather(pieces):
            self._check()
            size += len(chunk)
            self._left -= len(chunk)
            if self._left < 0 or size > MAX_MEMBER_BYTES:
                limit = min(self._max_bytes, MAX_MEMBER_BYTES)
                raise SnapshotError(
                    f"the snapshot would be over {limit} bytes (snapshots.max_bytes), in {name}"
                )
            digest.update(chunk)
            self._file.write(chunk)
        self.members.append(Member(name=name, size_bytes=size, sha256=digest.hexdigest()))

    def replay(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Give the members back in order; each must be read to its end before the next."""
        self._file.seek(0)
        for member in self.members:
            yield member, self._chunks(member.size_bytes)

    def _chunks(self, left: int) -> Iterator[bytes]:
        while left:
            self._check()
            chunk = self._file.read(min(left, CHUNK_BYTES))
            assert chunk, "the file is ours and has no name: nobody cuts it"
            left -= len(chunk)
            yield chunk


def gather(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to chunks of some `CHUNK_BYTES`."""
    buffer: list[bytes] = []
    size = 0
    for piece in pieces:
        buffer.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(buffer)
            buffer, size = [], 0
    if buffer:
        yield b"".join(buffer)
