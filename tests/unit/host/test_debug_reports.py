"""What a worker says of a debug session is bounded, and cannot break the log."""

from __future__ import annotations

import json

from kagent_sdk.host.debug_reports import (
    MAX_COMMAND_CHARS,
    MAX_LINE_BYTES,
    MAX_LINES,
    ReportReader,
    clean_command,
)


def _line(command: object) -> bytes:
    return json.dumps({"command": command}).encode() + b"\n"


def test_commands_are_found_however_the_bytes_are_cut() -> None:
    """A pipe keeps no boundaries."""
    reader = ReportReader()
    data = _line("memory --json") + _line("where 3")

    found = [command for byte in data for command in reader.feed(bytes([byte]))]

    assert found == ["memory --json", "where 3"]
    assert reader.dropped == 0


def test_what_is_no_report_is_dropped_and_counted() -> None:
    """The author's code may write to any descriptor that it can find."""
    reader = ReportReader()
    lines = [b"\xff\n", b"[" * 3000 + b"\n", b"{}\n", b"[]\n", _line(5)]

    assert reader.feed(b"".join(lines)) == []
    assert reader.dropped == len(lines)


def test_a_flood_costs_a_few_lines_of_the_log() -> None:
    """A worker that reports without end fills no disk."""
    reader = ReportReader()

    found = reader.feed(_line("x") * 100)

    assert len(found) == MAX_LINES
    assert reader.dropped == 100 - MAX_LINES


def test_a_line_without_an_end_is_not_kept() -> None:
    """Memory is bounded, and what comes behind it is read again."""
    reader = ReportReader()
    assert reader.feed(b"x" * (MAX_LINE_BYTES + 1)) == []
    assert reader.dropped == 1

    assert reader.feed(b"\n" + _line("gc")) == ["gc"]


def test_a_command_is_one_line_of_the_log() -> None:
    """No escape sequence, and no second record."""
    assert clean_command("a\x1b[2J\nb") == "a?[2J?b"
    assert len(clean_command("x" * 5000)) == MAX_COMMAND_CHARS
