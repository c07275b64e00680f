"""What the worker logs, as one JSON object a line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.worker.log_records import (
    MAX_EXCEPTION_CHARS,
    encode_record,
    level_name,
    shorten,
    timestamp,
)


def record(level: str = "info", exception: str | None = None, **values: object) -> dict[str, Any]:
    """Return what a reader gets of a record."""
    line = encode_record(0, level, "done", {"task_id": "t", "attempt": 1}, values, exception)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    read: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return read


class Broken:
    """An object of an author's that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_record_has_time_level_event_task_and_the_authors_keys_in_this_order() -> None:
    """A person who reads the raw file finds what matters first."""
    assert list(record(answer=42, exception="Traceback\n").items()) == [
        ("timestamp", "1970-01-01T00:00:00.000000Z"),
        ("level", "info"),
        ("event", "done"),
        ("task_id", "t"),
        ("attempt", 1),
        ("answer", 42),
        ("exception", "Traceback"),
    ]


def test_the_authors_keys_do_not_forge_ours() -> None:
    """Whose line it is decides the context; the author's value is kept beside it."""
    values = {"task_id": "other", "attempt": 1, "level": "high", "level_": "higher"}
    got = json.loads(encode_record(0, "info", "done", {"task_id": "t", "attempt": 1}, values))

    assert (got["task_id"], got["task_id_"], got["attempt"]) == ("t", "other", 1)
    assert (got["level"], got["level_"], got["level__"]) == ("info", "high", "higher")
    assert "attempt_" not in got


def test_what_json_cannot_hold_is_shown_in_words() -> None:
    """One odd value must not cost the line, nor make it one that readers refuse."""
    circle: list[object] = []
    circle.append(circle)
    at = datetime(2026, 1, 2, tzinfo=UTC)
    got = record(a=float("nan"), b=circle, c=Broken(), d=at, e={"x": {1}}, f="\udc80", g=[1])

    assert (got["a"], got["b"], got["d"], got["e"]) == (
        "nan",
        "[[...]]",
        "2026-01-02T00:00:00+00:00",
        {"x": "{1}"},
    )
    assert "Broken" in got["c"]
    assert "RuntimeError" in got["c"]
    assert got["g"] == [1]


def test_an_object_that_cannot_be_shown_costs_nothing_else() -> None:
    """Its `repr` raises within the encoder."""
    assert record(c=Broken(), d=1)["d"] == 1


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (5, "debug"),
        (10, "debug"),
        (20, "info"),
        (25, "info"),
        (30, "warning"),
        (45, "error"),
        (50, "critical"),
        (99, "critical"),
    ],
)
def test_levels_between_the_known_ones_count_as_the_lower(number: int, name: str) -> None:
    """Authors invent levels; the log knows five."""
    assert level_name(number) == name


def test_methods_that_are_no_levels_mean_one() -> None:
    """As structlog has `warn` and `exception`."""
    assert [record(name)["level"] for name in ("warn", "exception", "fatal", "debug")] == [
        "warning",
        "error",
        "critical",
        "debug",
    ]


def test_a_long_traceback_keeps_both_ends() -> None:
    """The first frame says who called, the last lines what went wrong."""
    text = "first\n" + "x" * 100_000 + "\nlast"
    short = shorten(text)

    assert len(short) == MAX_EXCEPTION_CHARS
    assert short.startswith("first\n")
    assert short.endswith("\nlast")
    assert shorten("a\n\n") == "a"


def test_a_time_has_microseconds_and_a_zone() -> None:
    """As the host writes its own."""
    assert timestamp(1_700_000_000.5) == "2023-11-14T22:13:20.500000Z"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(st.text(), st.dictionaries(st.text(), _VALUES), st.none() | st.text())
def test_whatever_is_logged_is_one_line_of_json(
    event: str, values: dict[str, object], exception: str | None
) -> None:
    """The host reads lines."""
    line = encode_record(0, "info", event, {}, values, exception)

    assert line.count(b"\n") == 1
    assert json.loads(line, parse_constant=pytest.fail)["level"] == "info"
