"""The outer shape of a snapshot: one zstd frame and nothing else (RFC 8878, 3.1). Pure.

It is looked at before anything is unpacked: a file that was cut off, that something was added to,
that consists of several frames, or that would unpack to more than is allowed ends here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from kagent_sdk.errors import SnapshotError

MAGIC = b"\x28\xb5\x2f\xfd"
MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""What unpacking may hold in memory; RFC 8878, 3.1.1.1.2, recommends that readers support it."""

BLOCK_MAX_BYTES = 128 * 1024
_SMALLEST_BLOCK_BYTES = 4096
"""Writers fill their blocks. Far smaller ones are there to keep a reader busy."""
_SPARE_BLOCKS = 1024

_CHECKSUM_BYTES = 4
_SIZE_FIELD_BYTES = (0, 2, 4, 8)
_RAW, _RLE, _COMPRESSED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Frame:
    """What the frame says of itself.

    Attributes:
        content_bytes: unpacked.
        size_bytes: of the file.
    """

    content_bytes: int
    size_bytes: int


def read_frame(file: BinaryIO, size_bytes: int, max_bytes: int) -> Frame:
    """Walk over a file from its beginning to its end without unpacking it.

    Args:
        file: at its beginning; where it stands afterwards means nothing.
        size_bytes: of the file.
        max_bytes: what it may unpack to.

    Raises:
        SnapshotError: it is no snapshot, is damaged, or too large.
        OSError: it cannot be read.
    """
    content_bytes = _read_head(file)
    if content_bytes > max_bytes:
        raise SnapshotError(
            f"the snapshot unpacks to {content_bytes} bytes, over snapshots.max_bytes ({max_bytes})"
        )
    for _ in range(content_bytes // _SMALLEST_BLOCK_BYTES + _SPARE_BLOCKS):
        if _skip_block(file, size_bytes):
            break
    else:
        raise SnapshotError("the snapshot is damaged: it has too many blocks")
    _take(file, _CHECKSUM_BYTES)
    if file.tell() != size_bytes:
        raise SnapshotError(
            f"the snapshot is damaged: {size_bytes - file.tell()} bytes follow its end"
        )
    return Frame(content_bytes, size_bytes)


def _read_head(file: BinaryIO) -> int:
    """Read the frame's header and return the size of what is in it."""
    if file.read(len(MAGIC)) != MAGIC:
        raise SnapshotError("the file is no snapshot: it does not begin like one (zstd)")
    (flags,) = _take(file, 1)
    is_single, has_checksum = flags >> 5 & 1, flags >> 2 & 1
    if flags & 0b1011 or not has_checksum:  # a dictionary, a reserved bit
        raise SnapshotError("the file is no snapshot: its zstd frame is of another kind")
    window = 0 if is_single else _window(_take(file, 1)[0])
    width = _SIZE_FIELD_BYTES[flags >> 6] or is_single
    if not width:
        raise SnapshotError("the file is no snapshot: it does not say how large it is")
    content_bytes = int.from_bytes(_take(file, width), "little") + (256 if width == 2 else 0)
    if (content_bytes if is_single else window) > MAX_WINDOW_BYTES:
        raise SnapshotError("the file is no snapshot: unpacking it would take too much memory")
    return content_bytes


def _window(descriptor: int) -> int:
    base = 1 << (10 + (descriptor >> 3))
    return base + (base >> 3) * (descriptor & 7)


def _skip_block(file: BinaryIO, size_bytes: int) -> bool:
    """Skip a block and return whether it was the last."""
    header = int.from_bytes(_take(file, 3), "little")
    is_last, kind, length = header & 1, header >> 1 & 3, header >> 3
    if kind not in (_RAW, _RLE, _COMPRESSED) or length > BLOCK_MAX_BYTES:
        raise SnapshotError(f"the snapshot is damaged at byte {file.tell() - 3}")
    if file.seek(1 if kind == _RLE else length, 1) > size_bytes:
        raise _cut_off()
    return bool(is_last)


def _take(file: BinaryIO, count: int) -> bytes:
    taken = file.read(count)
    if len(taken) < count:
        raise _cut_off()
    return taken


def _cut_off() -> SnapshotError:
    return SnapshotError("the snapshot is damaged: its end is missing")
