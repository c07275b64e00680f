"""The tar file, to the byte, and what common programs make of it."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.snapshots import layout

NAMES = st.lists(
    st.text(st.characters(min_codepoint=33, exclude_characters="/\\", codec="utf-8"), min_size=1),
    min_size=1,
    max_size=12,
).map("/".join)


@given(NAMES, st.integers(0, 2000), st.integers(0, 2**33 - 1))
def test_tar_reads_what_we_write(name: str, size: int, mtime_s: int) -> None:
    """A person can look into a snapshot with the tools that are everywhere."""
    content = bytes(size)
    raw = layout.head(name, size, mtime_s) + content + layout.padding(size) + layout.END
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        (info,) = tar.getmembers()

    assert (info.name, info.size, info.mtime) == (name.rstrip("/"), size, mtime_s)
    assert info.isreg()
    assert (info.mode, info.uid, info.uname) == (0o600, 0, "")


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("x" * 100, 1),
        (f"{'d' * 155}/{'x' * 100}", 1),
        (f"{'d' * 156}/{'x' * 99}", 3),
        ("x" * 101, 3),
        ("é", 3),
        (f"{'d' * 90}/{'é' * 600}", 5),
    ],
)
def test_long_names_have_longer_heads(name: str, blocks: int) -> None:
    """One block where the oldest format will do, more where it will not."""
    assert len(layout.head(name, 0, 0)) == blocks * layout.BLOCK_BYTES


@pytest.mark.parametrize("size", range(85, 105))
def test_the_length_of_a_record_counts_itself(size: int) -> None:
    """At 99 bytes the number that says so takes the record over 100."""
    name = "é" + "x" * size
    raw = layout.head(name, 0, 0) + layout.END
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert tar.getnames() == [name]


def test_the_numbers_of_a_head_are_read_strictly() -> None:
    """Other programs know several ways to write a number; here there is one."""
    block = layout.head("manifest.json", 1234, 5678)

    assert layout.read_numbers(block) == (1234, 5678)
    assert layout.read_numbers(bytes(512)) is None
    assert layout.read_numbers(block[:124] + b"\x80" + block[125:]) is None
    assert layout.read_numbers(block[:135] + b" " + block[136:]) is None


def test_a_strange_head_is_described_without_its_tricks() -> None:
    """The name in it may be made for a terminal."""
    info = tarfile.TarInfo("\x1b[2Jevil")
    info.type = tarfile.SYMTYPE

    assert layout.describe(info.tobuf()) == "a symbolic link with the name '?[2Jevil'"
    assert layout.describe(bytes(512)) == "the end of the archive"
    assert layout.describe(b"\xff" * 512).startswith("something with the name '\\xff")
