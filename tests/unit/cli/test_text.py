"""Tests of `kagent_sdk.cli.text`."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.cli.text import (
    clean,
    clean_line,
    format_age,
    format_bytes,
    format_duration,
    nearest,
    parse_time,
    safe_json,
    took_s,
)

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
ANY_TEXT = st.text(st.characters())
"""Lone surrogates too: JSON can carry them."""


def obeyed(text: str) -> list[str]:
    """Return what a terminal would obey instead of showing it."""
    categories = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    harmless = {"\n", "\t", "\xad"}
    return [
        char
        for char in text
        if unicodedata.category(char) in categories and char not in harmless and is_risky(char)
    ]


def is_risky(char: str) -> bool:
    """Tell controls, direction marks and separators from format characters that show nothing."""
    return unicodedata.category(char) != "Cf" or unicodedata.bidirectional(char) in {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    }


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb", r"a\x0db"),
        ("\x7f\b", r"\x7f\x08"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\ue0041"),
    ],
)
def test_what_a_terminal_obeys_is_shown_instead(hostile: str, shown: str) -> None:
    """An agent's answer must not rewrite the screen, the clipboard or the title of its caller."""
    assert clean(hostile) == shown


def test_text_of_any_language_stays_as_it_is() -> None:
    """Most people do not write English; lines and tabs are theirs too."""
    text = "Grüße, Ωmega, 漢字, مرحبا, 👋\n\tzweite Zeile"

    assert clean(text) == text


@given(ANY_TEXT)
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    """Whatever a hostile agent sends."""
    assert not obeyed(clean(text))
    assert not obeyed(clean_line(text))
    assert not obeyed(safe_json(text))


def test_a_long_text_is_cut() -> None:
    """A message of a megabyte would push everything else off the screen."""
    assert clean("x" * 100, limit_chars=5) == "xxxx…"


def test_a_line_has_no_line_breaks() -> None:
    """A table row or an error that breaks could look like another one."""
    assert clean_line(" a\n\n\tb\n") == "a b"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(JSON_VALUES, st.sampled_from([None, 2]), st.booleans())
def test_safe_json_parses_to_the_same_value(
    value: object, indent: int | None, ascii_only: bool
) -> None:
    """Making it safe to look at must not change what a program reads."""
    text = safe_json(value, indent=indent, ascii_only=ascii_only)

    assert json.loads(text) == value
    assert text.isascii() or not ascii_only


def test_compact_json_is_one_line() -> None:
    """One value per line is what line-based tools need."""
    assert safe_json({"a": [1, "x\ny"]}) == r'{"a":[1,"x\ny"]}'


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (39 * 1024**2, "39.0 MiB"),
        (512 * 1024**2, "512 MiB"),
        (1.5 * 1024**3, "1.5 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes_are_in_binary_units(count: float | None, shown: str) -> None:
    """Limits are set in MiB, so usage is shown in MiB; not known is not zero."""
    assert format_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (-1, "0 µs"),
        (0.00002, "20 µs"),
        (0.0012, "1.2 ms"),
        (0.25, "250 ms"),
        (5, "5 s"),
        (59.94, "59.9 s"),
        (61, "1 min 01 s"),
        (3 * 3600 + 240, "3 h 04 min"),
        (86_400 + 7200, "1 d 02 h"),
    ],
)
def test_durations_are_in_the_unit_that_fits(seconds: float | None, shown: str) -> None:
    """Nobody reads 11040 s as three hours."""
    assert format_duration(seconds) == shown


def test_ages_are_told_as_people_do() -> None:
    """And an answer with a broken time, or none, is still shown."""
    assert format_age((NOW - timedelta(seconds=3)).isoformat(), NOW) == "3 s ago"
    assert format_age((NOW - timedelta(minutes=2)).isoformat(), NOW) == "2 min 00 s ago"
    assert format_age((NOW + timedelta(seconds=3)).isoformat(), NOW) == "just now"
    assert format_age("2026-11-23T17:59:00", NOW) == "1 min 00 s ago"
    assert format_age("yesterday", NOW) == "-"
    assert format_age(None, NOW) == "-"
    assert parse_time("2026-11-23T18:00:00Z") == NOW


def test_a_task_that_runs_has_taken_the_time_until_now() -> None:
    """The table shows how long it runs already."""
    started = (NOW - timedelta(seconds=4)).isoformat()

    assert took_s(started, None, NOW) == 4
    assert took_s(started, (NOW - timedelta(seconds=1)).isoformat(), NOW) == 3
    assert took_s(None, None, NOW) is None


def test_the_nearest_word_is_found_without_regard_to_case() -> None:
    """A slip of a key should cost one look, not a search."""
    assert nearest("Stauts", ["status", "tasks"]) == "status"
    assert nearest("qqq", ["status"]) is None
