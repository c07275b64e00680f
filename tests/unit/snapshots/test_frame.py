"""The outer shape of a snapshot; what is no such shape stands in test_hostile.py."""

from __future__ import annotations

import io
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.frame import Frame, read_frame


def packed(content: bytes, level: int = 3) -> bytes:
    """Return a frame as ours are."""
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(content)


@given(st.integers(-5, 12), st.sampled_from([0, 1, 255, 256, 65_791, 65_792, 400_000]))
def test_what_zstd_writes_is_walked_over_whole(level: int, size: int) -> None:
    """Blocks of every kind, and sizes of every width."""
    content = os.urandom(size // 2) + bytes(size - size // 2)
    raw = packed(content, level)

    assert read_frame(io.BytesIO(raw), len(raw), size) == Frame(size, len(raw))


def test_a_frame_that_was_written_piece_by_piece_is_walked_over_whole() -> None:
    """Snapshots are written so; the window is smaller than the content then."""
    out = io.BytesIO()
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    with compressor.stream_writer(out, size=5_000_000, closefd=False) as writer:
        for _ in range(50):
            writer.write(os.urandom(50_000) + bytes(50_000))
    raw = out.getvalue()

    assert read_frame(io.BytesIO(raw), len(raw), 5_000_000).content_bytes == 5_000_000


def test_a_block_of_a_reserved_kind_is_damage() -> None:
    """RFC 8878, 3.1.1.2.2: such a block is not to be read."""
    raw = bytearray(packed(b"x" * 100))
    raw[6] |= 0b110

    with pytest.raises(SnapshotError, match="damaged at byte 6"):
        read_frame(io.BytesIO(raw), len(raw), 1000)


def test_more_than_may_be_is_refused_before_it_is_unpacked() -> None:
    """The limit is the configuration's; a larger state needs a larger one."""
    raw = packed(bytes(1001))

    with pytest.raises(SnapshotError, match=r"1001 bytes, over snapshots\.max_bytes \(1000\)"):
        read_frame(io.BytesIO(raw), len(raw), 1000)
