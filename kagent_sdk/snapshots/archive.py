"""Writing the file: a tar in one zstd frame, the same bytes for the same members."""

from __future__ import annotations

from typing import BinaryIO

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots import layout
from kagent_sdk.snapshots.manifest import MANIFEST, Manifest
from kagent_sdk.snapshots.spool import Spool

LEVEL = 3
"""zstd's default: more takes several times as long for a few percent."""


def write_archive(spool: Spool, manifest: Manifest, out: BinaryIO, *, max_bytes: int) -> None:
    """Write a snapshot; it takes a second for some 100 MB.

    Args:
        spool: the members that the manifest names.
        manifest: the first member.
        out: at its beginning; not closed.
        max_bytes: of the tar; more is refused before anything is written.

    Raises:
        SnapshotError: it would be too large.
        OSError: the disk does not take it.
    """
    from zstandard import ZstdCompressor  # noqa: PLC0415 - only where a snapshot is made

    text = manifest.to_bytes()
    mtime_s = manifest.created_s
    size = len(layout.END) + _room(MANIFEST, len(text), mtime_s)
    size += sum(_room(member.name, member.size_bytes, mtime_s) for member in manifest.members)
    if size > max_bytes:
        raise SnapshotError(
            f"the snapshot would unpack to {size} bytes, over snapshots.max_bytes ({max_bytes})"
        )
    compressor = ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)
    frame = compressor.compressobj(size=size)
    first = layout.head(MANIFEST, len(text), mtime_s) + text + layout.padding(len(text))
    out.write(frame.compress(first))
    for member, chunks in spool.replay():
        out.write(frame.compress(layout.head(member.name, member.size_bytes, mtime_s)))
        out.writelines(map(frame.compress, chunks))
        out.write(frame.compress(layout.padding(member.size_bytes)))
    out.write(frame.compress(layout.END) + frame.flush())


def _room(name: str, size_bytes: int, mtime_s: int) -> int:
    return (
        len(layout.head(name, size_bytes, mtime_s)) + size_bytes + len(layout.padding(size_bytes))
    )
