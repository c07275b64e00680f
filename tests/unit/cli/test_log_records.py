"""Lines of the log: what they are, and whether they are wanted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.cli.log_records import (
    LEVELS,
    LogFilter,
    parse_record,
    parse_since,
    severity,
    show_json,
    timestamp,
)

NOW = datetime(2026, 1, 31, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    "line",
    [b"", b"plain", b'{"event": "to', b"[1]", b"[" * 100_000, b"\xff", b'{"a": ' + b"9" * 5000],
    ids=["empty", "plain", "torn", "no object", "deep", "no text", "huge number"],
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    """A crash of the machine tears lines; nothing in them may end the command."""
    assert parse_record(line) is None


def test_a_record_is_an_object() -> None:
    """One JSON object a line."""
    assert parse_record(b'{"event": "x"}') == {"event": "x"}


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("1.5h", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1d", timedelta(days=1)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_a_duration_counts_back_from_now(text: str, ago: timedelta) -> None:
    """`--since 10m` is what people type."""
    assert parse_since(text, NOW) == NOW - ago


def test_a_duration_before_all_time_means_everything() -> None:
    """There is nothing to be refused in it."""
    assert parse_since("999999999w", NOW).year == 1


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("2026-01-30T12:30", datetime(2026, 1, 30, 12, 30, tzinfo=UTC)),
        ("2026-01-30T12:30:00Z", datetime(2026, 1, 30, 12, 30, tzinfo=UTC)),
        ("2026-01-30T12:30:00+01:00", datetime(2026, 1, 30, 11, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_meant_in_utc_like_the_log(text: str, at: datetime) -> None:
    """What is copied from the screen finds the same line."""
    assert parse_since(text, NOW) == at


@pytest.mark.parametrize("text", ["", "10", "m", "10 minutes", "yesterday", "-5m", "1..5h"])
def test_anything_else_is_refused(text: str) -> None:
    """Rather than taken for something that nobody meant."""
    with pytest.raises(ValueError, match="neither"):
        parse_since(text, NOW)


@pytest.mark.parametrize(
    ("wanted", "is_wanted"),
    [
        (LogFilter(), True),
        (LogFilter(task_id="t-1"), True),
        (LogFilter(task_id="t"), False),
        (LogFilter(level="warning"), True),
        (LogFilter(level="error"), False),
        (LogFilter(since=NOW), True),
        (LogFilter(since=NOW + timedelta(microseconds=1)), False),
        (LogFilter("t-1", "debug", NOW), True),
    ],
)
def test_a_record_is_wanted_when_it_fits_all_that_was_asked(
    wanted: LogFilter, *, is_wanted: bool
) -> None:
    """Filters narrow each other."""
    record = {"task_id": "t-1", "level": "warning", "timestamp": "2026-01-31T14:00:00.000000Z"}

    assert wanted.wants(record) is is_wanted


def test_what_is_no_record_is_shown_only_where_all_is() -> None:
    """Nobody knows whose it is, how bad, or of when."""
    assert LogFilter().wants(None)
    assert not LogFilter(level="debug").wants(None)
    assert not LogFilter(since=NOW).wants({"timestamp": "no time"})


def test_a_level_that_nobody_knows_counts_as_info() -> None:
    """The author's JSON may say anything."""
    assert severity("verbose") == severity(3) == severity("info") < severity("warning")
    assert LogFilter(level="info").wants({"level": None})


def test_a_line_without_the_id_need_not_be_parsed() -> None:
    """Most of a large log is not about the task."""
    assert not LogFilter(task_id="t-1").may_want(b'{"task_id": "t-2"}')
    assert LogFilter(task_id="t-1").may_want(b'{"task_id": "t-1"}')
    assert LogFilter(task_id='t"1').may_want(b'{"task_id": "t\\"1"}')
    assert LogFilter().may_want(b"")


def test_a_line_without_the_level_or_before_the_time_need_not_be_parsed() -> None:
    """What is wanted never falls to this shortcut."""
    errors, late = LogFilter(level="error"), LogFilter(since=NOW)

    assert not errors.may_want(b'{"level": "info", "event": "x"}')
    assert errors.may_want(b'{"level": "critical"}')
    assert errors.may_want(b'{"level": "\\u0065rror"}')
    assert LogFilter(level="info").may_want(b'{"level": "verbose"}')
    assert not late.may_want(b'{"timestamp": "2026-01-31T13:59:59.999999Z", "event": "x"}')
    assert late.may_want(b'{"timestamp":"2026-01-31T14:00:00.000000Z","event": "x"}')
    assert late.may_want(b'{"timestamp": "2026-01-31T15:00:00+02:00"}')
    assert late.may_want(b'{"event": "x"}')


_RECORDS = st.fixed_dictionaries(
    {
        "timestamp": st.integers(-3, 3).map(
            lambda seconds: timestamp(NOW + timedelta(seconds=seconds)).decode()
        ),
        "level": st.sampled_from([*LEVELS, "odd", 3]),
        "task_id": st.sampled_from(["t-1", 't"1', None]) | st.text(),
    }
)


@given(
    record=_RECORDS,
    wanted=st.builds(
        LogFilter,
        st.sampled_from([None, "t-1", 't"1', "\u00e9"]),
        st.sampled_from([None, *LEVELS]),
        st.sampled_from([None, NOW]),
    ),
    ascii_only=st.booleans(),
)
def test_the_shortcut_never_leaves_out_what_is_wanted(
    record: dict[str, object], wanted: LogFilter, *, ascii_only: bool
) -> None:
    """It is there for speed alone."""
    line = json.dumps(record, ensure_ascii=ascii_only).encode(errors="backslashreplace")

    assert wanted.may_want(line) or not wanted.wants(record)


def test_a_line_for_a_program_is_the_line_of_the_file() -> None:
    """Not one byte is made anew that needs not be."""
    line = '{"event":  "h\u00e9llo \\u001b[31m"}'

    assert show_json(line.encode()) == line


@given(st.text() | st.just("\x9b31m\u202e"))
def test_no_line_reaches_a_terminal_that_would_obey_it(text: str) -> None:
    """A pipe ends in a terminal, and a worker prints what it likes."""
    raw = json.dumps({"event": text}, ensure_ascii=False).encode(errors="surrogatepass")
    shown = show_json(raw)

    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert "\x1b" not in show_json(text.encode(errors="surrogatepass"))


def test_a_record_that_a_terminal_would_obey_means_the_same_escaped() -> None:
    """What a program parses is still what the worker said."""
    shown = show_json('{"event": "a\x9b31m"}'.encode())

    assert shown == '{"event":"a\\u009b31m"}'
    assert show_json(b"torn \x1b[31m \xff") == "torn \\x1b[31m \\xff"
