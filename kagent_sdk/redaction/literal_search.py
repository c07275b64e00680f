"""Find any of thousands of byte strings in a text, fast. Pure.

Measured on 2026-11-24 on a shared machine of two cores, Python 3.11, in CPU time: 4 MB of log lines of
200 bytes without a hit, in chunks of 64 KiB, MB/s. A secret has about ten forms
(`secret_forms.forms_of`), 200 of them 2,138.

=========================================== ========== ===========
way                                         20 secrets 200 secrets
=========================================== ========== ===========
`make_search` with google-re2               537        116
`make_search` without, a `WordSearch`       119        56
pyahocorasick, on text decoded as Latin-1   45         30
`needle in text` for each needle            38         3.7
one `re` of all needles                     3.9        0.2
=========================================== ========== ===========

Line by line it is a fraction (64 and 28 MB/s with 20 secrets): hand in many lines at once. google-re2
releases the GIL while it searches; a `WordSearch` holds it for about 1 ms for 64 KiB.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Literal, Protocol

WordForm = Literal["I", "Q"]

Span = tuple[int, int, bytes]
"""Where something was found, from and to, and what."""

WORD_BYTES = 8
MIN_WORD_NEEDLE_BYTES = 2 * WORD_BYTES - 1
"""Wherever one of this size stands, it covers a whole word of the text."""

HALF_WORD_BYTES = 4
MIN_HALF_NEEDLE_BYTES = 2 * HALF_WORD_BYTES - 1
MAX_SINGLES = 16
"""From here on looking for each short needle by itself costs more than a pass over half words."""

RE2_MEMORY_BYTES = 32 * 1024 * 1024
"""What the automaton may take; it is made as far as texts need it, a few megabytes mostly."""

MAX_RE2_BYTES = 32 * 1024
"""Of all needles together. An automaton of more does not fit into its memory; google-re2 then gives
it up for a search that is a thousand times slower (0.3 MB/s with 2,000 needles)."""


class LiteralSearch(Protocol):
    """Looks for a fixed set of needles, none of them empty."""

    def find(self, text: bytes) -> Iterable[Span]:
        """Yield what is there, by start; of those with one start at least the longest."""

    def finds_in(self, text: bytes) -> bool:
        """Whether any needle is there."""


def make_search(needles: Collection[bytes]) -> LiteralSearch:
    """Return the fastest search for these needles that this Python has."""
    try:
        import re2  # noqa: PLC0415 - optional, and needless without a secret
    except ImportError:
        return WordSearch(needles)
    if _size(needles) <= MAX_RE2_BYTES:
        return Re2Search(needles, re2)
    shorts = [needle for needle in needles if len(needle) < MIN_WORD_NEEDLE_BYTES]
    if not shorts or _size(shorts) > MAX_RE2_BYTES:
        return WordSearch(needles)
    longs = [needle for needle in needles if len(needle) >= MIN_WORD_NEEDLE_BYTES]
    return TwoSearches(WordSearch(longs), Re2Search(shorts, re2))


def _size(needles: Collection[bytes]) -> int:
    return sum(map(len, needles))


class Re2Search:
    """An automaton over all needles at once.

    Args:
        needles: what to look for.
        re2: the module of google-re2.
    """

    def __init__(self, needles: Collection[bytes], re2: Any) -> None:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1  # bytes, whatever they mean
        options.never_capture = True
        options.log_errors = False
        options.max_mem = RE2_MEMORY_BYTES
        # The first that fits is taken. (`longest_match` finds the same with far more memory.)
        longest_first = sorted(needles, key=len, reverse=True)
        pattern = b"|".join(re2.escape(needle) for needle in longest_first)
        self._search: Callable[..., Any] = re2.compile(pattern, options).search

    def find(self, text: bytes) -> Iterator[Span]:
        """Yield the longest needle at every place where one begins."""
        match = self._search(text)
        while match is not None:
            yield (*match.span(), match.group())
            match = self._search(text, match.start() + 1)

    def finds_in(self, text: bytes) -> bool:
        """Whether any needle is there."""
        return self._search(text) is not None


class TwoSearches:
    """Two searches for different needles as one."""

    def __init__(self, first: LiteralSearch, second: LiteralSearch) -> None:
        self._searches = first, second

    def find(self, text: bytes) -> list[Span]:
        """Return what either finds."""
        return sorted(span for search in self._searches for span in search.find(text))

    def finds_in(self, text: bytes) -> bool:
        """Whether either finds anything."""
        return any(search.finds_in(text) for search in self._searches)


class WordSearch:
    """Takes the text for an array of words, and looks up each whole word in a set.

    A needle of 15 bytes covers a whole 8-byte word of the text wherever it stands. So it is enough
    to know the words at each of its first eight places; whether one of thousands of needles may be
    there is one pass that runs in C. Shorter needles take a pass of 4-byte words, or are few and
    looked for one by one.
    """

    def __init__(self, needles: Collection[bytes]) -> None:
        shorts = [needle for needle in needles if len(needle) < MIN_WORD_NEEDLE_BYTES]
        halves = [needle for needle in shorts if len(needle) >= MIN_HALF_NEEDLE_BYTES]
        if len(halves) <= MAX_SINGLES:
            halves = []
        self._singles = sorted(set(shorts) - set(halves))
        longs = [needle for needle in needles if len(needle) >= MIN_WORD_NEEDLE_BYTES]
        self._tables = [
            *([_WordTable("Q", WORD_BYTES, longs)] if longs else []),
            *([_WordTable("I", HALF_WORD_BYTES, halves)] if halves else []),
        ]

    def find(self, text: bytes) -> list[Span]:
        """Return everything that is there."""
        return sorted(span for needle in self._candidates(text) for span in _spans(needle, text))

    def finds_in(self, text: bytes) -> bool:
        """Whether any needle is there."""
        return any(needle in text for needle in self._candidates(text))

    def _candidates(self, text: bytes) -> set[bytes]:
        found = {needle for needle in self._singles if needle in text}
        for table in self._tables:
            found |= table.candidates(text)
        return found


class _WordTable:
    """The words of needles, and whose they are."""

    def __init__(self, form: WordForm, size: int, needles: Iterable[bytes]) -> None:
        self._form = form
        self._size = size
        self._owners: dict[int, list[bytes]] = {}
        for needle in needles:
            for place in range(size):
                word = memoryview(needle[place : place + size]).cast(form)[0]
                self._owners.setdefault(word, []).append(needle)
        self._words = frozenset(self._owners)

    def candidates(self, text: bytes) -> set[bytes]:
        words = memoryview(text)[: len(text) // self._size * self._size].cast(self._form)
        hits = self._words.intersection(words)
        return {needle for word in hits for needle in self._owners[word]}


def _spans(needle: bytes, text: bytes) -> Iterator[Span]:
    start = text.find(needle)
    while start >= 0:
        yield start, start + len(needle), needle
        start = text.find(needle, start + 1)
