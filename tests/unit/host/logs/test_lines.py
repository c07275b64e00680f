"""Bytes that come in any pieces become whole lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.host.logs.lines import Block, LineCutter, trim

LIMIT = 8


def cut(chunks: list[bytes], margin: int = 0) -> list[tuple[bytes, int]]:
    """Return the lines of some chunks, each with what was cut of it."""
    cutter = LineCutter(LIMIT)
    blocks = [block for chunk in chunks for block in cutter.feed(chunk, margin)] + cutter.finish()
    lines: list[tuple[bytes, int]] = []
    for data, cut_bytes in blocks:
        if cut_bytes:
            lines.append((data, cut_bytes))
        else:
            assert data.endswith(b"\n")
            lines += [(line, 0) for line in data[:-1].split(b"\n")]
    return lines


@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"ab\n", b"x" * 20])), st.data())
def test_where_chunks_end_makes_no_difference(chunks: list[bytes], data: st.DataObject) -> None:
    """A pipe gives what it has, not what a program wrote at once."""
    margin = data.draw(st.integers(0, 5))
    text = b"".join(chunks)
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    expected = [(line[: LIMIT + margin], len(line) - LIMIT) for line in lines if len(line) > LIMIT]

    found = cut(chunks, margin)

    assert found == cut([text], margin)
    assert [line for line in found if line[1]] == expected
    assert [line for line, cut_bytes in found if not cut_bytes] == [
        line for line in lines if len(line) <= LIMIT
    ]


def test_a_last_line_without_a_newline_is_kept() -> None:
    """Last words are often just that."""
    assert cut([b"one\ntw", b"o"]) == [(b"one", 0), (b"two", 0)]


def test_a_long_line_is_cut_and_says_by_how_much() -> None:
    """A megabyte on one line must not take a megabyte of memory for each worker."""
    assert cut([b"12345678", b"9" * 1000, b"9\nnext\n"]) == [(b"12345678", 1001), (b"next", 0)]
    assert cut([b"a\n123456789\nb\n"]) == [(b"a", 0), (b"12345678", 1), (b"b", 0)]


def test_an_unfinished_long_line_is_cut_at_the_end_too() -> None:
    """A worker that is killed in the middle of a long line."""
    assert cut([b"123456789", b"0"]) == [(b"12345678", 2)]


@pytest.mark.parametrize(
    ("text", "block", "margin", "shown"),
    [
        (b"12345678abc", Block(b"12345678abc", 3), 3, b"12345678"),
        (b"12345678se", Block(b"12345678se", 90), 2, b"12345678"),
        # Secrets before it made it shorter: the beginning of the next one stands before the cut.
        (b"***K***se", Block(b"123456secret_secret_se", 90), 5, b"***K"),
        (b"1", Block(b"12345678se", 90), 5, b""),
        ("1234567ä".encode(), Block("1234567ä".encode(), 1), 0, b"1234567"),
        ("123456ä".encode(), Block("123456ä".encode(), 1), 0, "123456ä".encode()),
    ],
)
def test_what_is_shown_of_a_cut_line_holds_no_part_of_a_secret(
    text: bytes, block: Block, margin: int, shown: bytes
) -> None:
    """A secret across the cut cannot be recognised, so it must not be there."""
    assert trim(text, block, LIMIT, margin) == shown
