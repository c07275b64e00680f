"""Lines of one pipe become records, in any chunks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.host.logs.json_lines import Source
from kagent_sdk.host.logs.records import (
    MAX_KNOWN_TAGS,
    MAX_OPEN_BURSTS,
    SLICE_BYTES,
    Recorder,
    Records,
)
from kagent_sdk.protocol.log_tags import encode_tag

STAMP = b"2026-01-01T00:00:00.000000Z"
SOURCE = Source("stderr", 'a"gent', 7)
REQUIRED = {"timestamp", "level", "event", "stream", "agent", "pid"}
TAG = encode_tag({"task_id": "t1", "attempt": 1})
OTHER = encode_tag({"task_id": "t2"})

LINES = st.sampled_from(
    [
        b"plain",
        b"",
        b'with "quotes" \\ and \t\x1b[1m',
        b"\xff\xfe",
        "ä€".encode(),
        b"  indented",
        b"\ttab",
        b'{"event":"json"}',
        b"{",
        b"}",
        b"Traceback (most recent call last):",
        b'  File "a.py", line 1, in f',
        b"ValueError: boom",
        b"During handling of the above exception, another exception occurred:",
        b"Fatal Python error: Aborted",
        b"Thread 0x1 (most recent call first):",
        b"\x1ebad tag\x1fx",
        TAG + b"tagged",
        TAG + b"  indented",
        TAG + b"{}",
        OTHER + b"Traceback (most recent call last):",
        OTHER + b"KeyError: 1",
    ]
)


def parse(records: Iterable[Records]) -> list[dict[str, Any]]:
    """Return records as objects; each must be whole and complete."""
    found: list[dict[str, Any]] = []
    for data, number in records:
        lines = data.split(b"\n")
        assert lines.pop() == b""
        assert len(lines) == number
        found += [json.loads(line) for line in lines]
    assert all(record.keys() >= REQUIRED for record in found)
    return found


def record(*blocks: bytes) -> list[dict[str, Any]]:
    """Return the records of some blocks of whole lines."""
    recorder = Recorder(SOURCE)
    found = [item for block in blocks for item in recorder.feed(block, STAMP)]
    return parse([*found, *recorder.flush()])


def text_of(found: dict[str, Any]) -> str:
    """Return the lines that a record was made of."""
    return str(found.get("exception", found["event"]))


@given(st.lists(LINES, max_size=30), st.data())
def test_where_blocks_end_makes_no_difference(lines: list[bytes], data: st.DataObject) -> None:
    """What the kernel gives at once depends on how busy the machine is."""
    whole = b"".join(line + b"\n" for line in lines)
    blocks: list[bytes] = []
    rest = lines
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        blocks.append(b"".join(line + b"\n" for line in rest[:size]))
        rest = rest[size:]

    assert record(*blocks) == record(whole)


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=20))
def test_no_line_is_lost_and_none_is_told_twice(lines: list[bytes]) -> None:
    """Whatever bytes a program prints, they are found again, in their order."""
    expected = [line.decode(errors="backslashreplace") for line in lines if line[:1] != b"{"]

    found = record(b"".join(line + b"\n" for line in lines if line[:1] != b"{"))

    assert "\n".join(text_of(item) for item in found) == "\n".join(expected)


def test_a_plain_line_is_an_event() -> None:
    """The simplest case, whole."""
    assert record(b'say "hi"\n') == [
        {
            "timestamp": STAMP.decode(),
            "level": "info",
            "event": 'say "hi"',
            "stream": "stderr",
            "agent": 'a"gent',
            "pid": 7,
        }
    ]


def test_a_traceback_is_one_record_of_level_error() -> None:
    """Alerts are set on levels, and its last line is what a person looks for."""
    text = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: boom'
    before, found, after = record(f"before\n{text}\nafter\n".encode())

    assert (before["event"], after["event"]) == ("before", "after")
    assert (found["level"], found["event"], found["exception"]) == (
        "error",
        "ValueError: boom",
        text,
    )


def test_a_crash_of_the_interpreter_is_critical() -> None:
    """Nothing worse can happen to a worker."""
    (found,) = record(b"Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent)\n")

    assert (found["level"], found["event"]) == ("critical", "Fatal Python error: Aborted")


def test_indented_lines_belong_to_the_line_above() -> None:
    """One event, with newlines in it; across blocks too."""
    found = record(b"first\nhead\n", b"  more\n", b"  more\nlast\n")

    assert [item["event"] for item in found] == ["first", "head\n  more\n  more", "last"]


def test_two_tasks_that_print_at_a_time_are_told_apart() -> None:
    """Their lines come mixed through one pipe, tracebacks too."""
    lines = [
        TAG + b"Traceback (most recent call last):",
        OTHER + b"head",
        b"untagged",
        TAG + b'  File "a.py", line 1, in f',
        OTHER + b"  more",
        b"  more",
        TAG + b"ValueError: boom",
        OTHER + b"next",
    ]
    found = record(b"".join(line + b"\n" for line in lines))
    first = [item for item in found if item.get("task_id") == "t1"]
    second = [item["event"] for item in found if item.get("task_id") == "t2"]
    third = [item["event"] for item in found if "task_id" not in item]

    assert [(item["event"], item["attempt"]) for item in first] == [("ValueError: boom", 1)]
    assert second == ["head\n  more", "next"]
    assert third == ["untagged\n  more"]


def test_a_wrong_tag_is_a_part_of_the_line() -> None:
    """A worker cannot put what it likes into a record."""
    line = b'\x1e{"stream":"host"}\x1fhello'

    assert [item["event"] for item in record(line + b"\n")] == [line.decode()]


def test_a_cut_line_says_so() -> None:
    """And stands by itself, with its task."""
    recorder = Recorder(SOURCE)
    before = list(recorder.feed(TAG + b"head\n", STAMP))
    found = parse([*before, *recorder.feed_cut(TAG + b"{long", 99, STAMP)])

    assert [(item["event"], item.get("cut_bytes")) for item in found] == [
        ("head", None),
        ("{long", 99),
    ]
    assert found[1]["task_id"] == "t1"


def test_what_waited_long_enough_is_given_out() -> None:
    """A person sees a line soon, though the next one could belong to it."""
    recorder = Recorder(SOURCE)
    given_out = [
        [item["event"] for item in parse(records)]
        for records in (
            recorder.feed(b"head\n" + TAG + b"other\n", STAMP),
            recorder.flush_quiet(),
            recorder.feed(b"  more\n", STAMP),
            recorder.flush_quiet(),
            recorder.flush_quiet(),
        )
    ]

    assert given_out == [[], [], [], ["other"], ["head\n  more"]]
    assert not recorder.is_holding


def test_a_block_is_worked_on_in_slices() -> None:
    """Empty lines become a hundred times as long, and memory is bounded."""
    lines = [b""] * (3 * SLICE_BYTES) + [b"x" * (SLICE_BYTES + 7), b"end"]
    block = b"".join(line + b"\n" for line in lines)
    recorder = Recorder(SOURCE)
    pieces = [*recorder.feed(block, STAMP), *recorder.flush()]

    assert len(parse(pieces)) == len(lines)
    assert max(number for _, number in pieces) <= SLICE_BYTES


def test_open_bursts_and_known_tags_are_bounded() -> None:
    """A worker that makes up a tag for every line."""
    recorder = Recorder(SOURCE)
    count = MAX_KNOWN_TAGS + 10
    lines = b"".join(encode_tag({"task_id": str(n)}) + b"x\n" for n in range(count))
    given_out = parse(recorder.feed(lines, STAMP))

    assert len(given_out) == count - MAX_OPEN_BURSTS
    assert len(parse(recorder.flush())) == MAX_OPEN_BURSTS
