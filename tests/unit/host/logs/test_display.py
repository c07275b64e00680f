"""What a person sees on a terminal."""

from __future__ import annotations

import json

import pytest

from kagent_sdk.host.logs.display import Display


def show(record: object, *, has_colour: bool = False) -> str:
    """Return a record as it is shown."""
    return Display(has_colour=has_colour).render(json.dumps(record).encode() + b"\n").decode()


def test_what_was_printed_is_shown_as_it_was_printed() -> None:
    """An author who prints looks for just that."""
    record = {"timestamp": "t", "level": "info", "event": "hi", "stream": "stdout", "pid": 1}

    assert show(record) == "hi\n"


def test_events_of_the_host_show_level_and_values() -> None:
    """One line each, without what is the same in all of them."""
    record = {"level": "info", "event": "worker_ready", "stream": "host", "agent": "a", "worker": 0}

    assert show(record) == "info     worker_ready worker=0\n"
    assert show(record, has_colour=True) == "info     worker_ready\x1b[2m worker=0\x1b[0m\n"


def test_a_traceback_stands_below_its_line() -> None:
    """In colour its level is red."""
    record = {
        "level": "error",
        "event": "E: x",
        "stream": "stderr",
        "exception": "Trace\n  f\nE: x",
    }

    assert show(record) == "error    E: x\nTrace\n  f\nE: x\n"
    assert show(record, has_colour=True).startswith("\x1b[31merror   \x1b[0m E: x\n")


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\x1b[2J", "a\rb", "\x9b1A"])
def test_a_worker_cannot_steer_the_terminal(text: str) -> None:
    """Titles, cleared screens and overwritten lines are a way to deceive."""
    for has_colour in (False, True):
        shown = show({"event": text, "stream": "stdout"}, has_colour=has_colour)
        assert "\\x" in shown
        assert shown.strip("\n").isprintable()


def test_colours_of_the_worker_stay_on_a_terminal_that_has_them() -> None:
    """Many programs colour their own output; a colour ends with its line."""
    record = {"event": "\x1b[1mbold\x1b[0m \x1b[31mred", "stream": "stdout"}

    assert show(record) == "bold red\n"
    assert show(record, has_colour=True) == "\x1b[1mbold\x1b[0m \x1b[31mred\x1b[0m\n"


def test_tabs_and_newlines_are_no_steering() -> None:
    """Tables that were printed stay tables."""
    assert show({"event": "a\tb\n  c", "stream": "stdout"}) == "a\tb\n  c\n"


@pytest.mark.parametrize("line", [b"not json", b"[1, 2]", b'"text"'])
def test_what_cannot_be_read_is_shown_as_it_is(line: bytes) -> None:
    """Showing must never fail."""
    assert Display(has_colour=False).render(line + b"\n") == line + b"\n"
