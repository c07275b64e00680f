"""The log as a person reads it."""

from __future__ import annotations

import json
from typing import Any

import click
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.cli.screens.logs import LogScreen, format_record, format_value

READY = {
    "timestamp": "2026-01-31T14:00:00.123456Z",
    "level": "info",
    "event": "worker_ready",
    "stream": "host",
    "agent": "a",
    "pid": 7,
    "worker": 0,
}


def plain(record: dict[str, Any]) -> str:
    """Return a record as it is shown, without the colours."""
    return click.unstyle(format_record(record))


def test_a_record_is_one_line_with_its_keys() -> None:
    """What is the same on every line is left out."""
    assert plain(READY) == "14:00:00.123 info     worker_ready worker=0"


def test_whose_line_it_is_stands_at_its_end() -> None:
    """The event and the author's values come first."""
    record = {"event": "hello", "capability": "digest", "task_id": "t-1", "size": 3, "attempt": 2}

    assert plain(record) == (
        "             info     hello size=3 capability=digest task_id=t-1 attempt=2"
    )


def test_tracebacks_and_texts_stand_below() -> None:
    """They are read line by line."""
    record = {
        "level": "error",
        "event": "failed\nbadly",
        "exception": "Traceback\n  File\nValueError: no\n",
        "prompt": "a\nb",
        "stack": ["odd"],
    }

    assert plain(record).split("\n") == [
        "             error    failed",
        "    badly",
        "    prompt:",
        "    a",
        "    b",
        "    Traceback",
        "      File",
        "    ValueError: no",
        '    ["odd"]',
    ]


def test_values_that_would_not_be_seen_to_be_one_are_quoted() -> None:
    """``a=b c`` could be two things."""
    shown = [format_value(value) for value in ("x", "", "a b", "a=b", 1.5, None, {"a": [1]})]

    assert shown == ["x", '""', '"a b"', '"a=b"', "1.5", "null", '{"a":[1]}']


def test_the_day_is_told_when_it_changes() -> None:
    """The time of day alone would not do for a log of a week."""
    screen = LogScreen()
    days = ["2026-01-30T23:59:59Z", "2026-01-30T23:59:59Z", None, "2026-01-31T00:00:00Z"]
    shown = [
        click.unstyle(screen.show({"event": "e", "timestamp": day}, b"")).split("\n")[0]
        for day in days
    ]

    assert shown[0] == "2026-01-30 UTC"
    assert shown[3] == "2026-01-31 UTC"
    assert "UTC" not in shown[1] + shown[2]


def test_a_torn_line_is_shown_as_it_is() -> None:
    """It may hold the last words."""
    assert LogScreen().show(None, b'{"event": "t\x1b\xff') == '{"event": "t\\x1b\\xff'


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text() | st.sampled_from([*READY, "exception", "task_id"]), _JSON))
def test_no_record_can_steer_the_terminal(record: dict[str, Any]) -> None:
    """Only the colours are escape sequences, and no line begins where a record does not."""
    screen = LogScreen()
    screen.show(READY, b"")
    shown = click.unstyle(screen.show(json.loads(json.dumps(record)), b""))

    assert not set(shown) & set(map(chr, [*range(10), *range(11, 32), 127, *range(128, 160)]))
    first, *below = shown.split("\n")
    if first.endswith(" UTC") and below:
        below = below[1:]
    assert all(line.startswith("    ") for line in below)
