"""Searching for many needles: every way finds the same, with google-re2 and without."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.redaction.literal_search import (
    MAX_RE2_BYTES,
    MAX_SINGLES,
    LiteralSearch,
    Re2Search,
    Span,
    TwoSearches,
    WordSearch,
    make_search,
)

Maker = Callable[[Collection[bytes]], LiteralSearch]


def make_re2(needles: Collection[bytes]) -> LiteralSearch:
    """Make the search that google-re2 does."""
    import re2  # noqa: PLC0415 - as the module itself does

    return Re2Search(needles, re2)


MAKERS: list[Maker] = [make_re2, WordSearch, make_search]

# Few letters, so that needles overlap and contain each other.
needles = st.binary(min_size=1, max_size=40).map(
    lambda raw: bytes(b"ab\xff\n.*"[byte % 6] for byte in raw)
)


def spans_of(needles: Collection[bytes], text: bytes) -> set[Span]:
    """Find every needle at every place, the slow way."""
    return {
        (start, start + len(needle), needle)
        for needle in needles
        for start in range(len(text))
        if text.startswith(needle, start)
    }


def covered(spans: Collection[Span]) -> set[int]:
    """Return the places of a text that any span covers."""
    return {place for start, end, _ in spans for place in range(start, end)}


@given(
    chosen=st.sets(needles, min_size=1, max_size=MAX_SINGLES * 2),
    parts=st.lists(needles, max_size=8),
    maker=st.sampled_from(MAKERS),
)
def test_all_that_needles_cover_is_found(
    chosen: set[bytes], parts: list[bytes], maker: Maker
) -> None:
    """A redactor that leaves the end of an overlapping secret leaves a secret."""
    pool = sorted(chosen)
    text = b"".join(part + pool[len(part) % len(pool)] for part in parts)
    search = maker(chosen)

    found = list(search.find(text))

    assert set(found) <= spans_of(chosen, text)
    assert covered(found) == covered(spans_of(chosen, text))
    assert search.finds_in(text) == bool(found)
    assert found == sorted(found)


@pytest.mark.parametrize("maker", [WordSearch, make_search])
@pytest.mark.parametrize("size", [1, 6, 7, 8, 14, 15, 16, 100])
def test_a_needle_of_any_size_is_found_at_any_place(maker: Maker, size: int) -> None:
    """The search by words must not miss one that begins in the middle of a word."""
    many = {bytes([65 + number % 26, 48 + number // 26]) * size for number in range(60)}
    wanted = bytes(range(128, 128 + size))
    search = maker({wanted, *(needle[:size] for needle in many)})

    for place in range(20):
        text = b"." * place + wanted + b"." * (20 - place)
        assert list(search.find(text)) == [(place, place + size, wanted)]
        assert not search.finds_in(text.replace(wanted[-1:], b"."))


def test_the_search_fits_the_needles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its memory google-re2 becomes a thousand times slower, so it gets no more than fits."""
    few = {b"needle-%d" % number for number in range(10)}
    long = {b"needle-%040d" % number for number in range(MAX_RE2_BYTES // 40)}
    short = {b"needle%08d" % number for number in range(MAX_RE2_BYTES // 10)}

    kinds = [type(make_search(chosen)) for chosen in (few, long | few, long, short)]
    assert kinds == [Re2Search, TwoSearches, WordSearch, WordSearch]

    monkeypatch.setitem(sys.modules, "re2", None)
    assert isinstance(make_search(few), WordSearch)


def test_two_searches_are_one() -> None:
    """Short and long needles are looked for apart, and may overlap."""
    search = TwoSearches(WordSearch({b"abcdef"}), make_re2({b"defghi"}))

    assert search.find(b"..abcdefghi") == [(2, 8, b"abcdef"), (5, 11, b"defghi")]
    assert search.finds_in(b"defghi")
    assert not search.finds_in(b"abcde")
