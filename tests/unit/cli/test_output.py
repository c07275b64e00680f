"""Tests of `kagent_sdk.cli.output` and `kagent_sdk.cli.watching`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from rich.text import Text

from kagent_sdk.cli.output import (
    PIPED_WIDTH,
    make_console,
    print_document,
    print_json,
    print_screen,
)
from kagent_sdk.cli.watching import watch_json, watch_screen


def interrupted_after(times: int, value: object) -> Callable[[], object]:
    """Return a function that gives a value some times, and is then interrupted."""
    left = [None] * times

    def give() -> object:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return value

    return give


def test_a_program_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a person would see a screen."""
    print_document({"a": ["é", 1]}, as_json=True)
    print_document({"a": ["é", 1]}, as_json=False)

    assert capsys.readouterr().out == '{"a":["é",1]}\n' * 2


def test_an_encoding_without_umlauts_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of a job that runs with LC_ALL=C must parse too."""
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))

    print_json("é👋")

    assert json.loads(raw.getvalue()) == "é👋"
    assert raw.getvalue().isascii()


def test_a_screen_in_a_file_has_a_fixed_width_and_no_blanks_at_the_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file must not depend on the window that it was made in."""
    monkeypatch.delenv("COLUMNS", raising=False)
    print_screen(Text("a   \nb"))
    print_screen(Text("on stderr"), stderr=True)

    assert capsys.readouterr() == ("a\nb\n", "on stderr\n")
    assert make_console().width == PIPED_WIDTH


def test_columns_decides_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every other program (POSIX, 8.3)."""
    monkeypatch.setenv("COLUMNS", "72")

    assert make_console().width == 72


def test_markup_in_a_text_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A capability may be named [bold]."""
    print_screen("[bold]a[/bold] :smile:")

    assert capsys.readouterr().out == "[bold]a[/bold] :smile:\n"


def test_watching_goes_on_until_it_is_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is how to leave it, and no error."""
    watch_json(interrupted_after(2, {"a": 1}), interval_s=0)
    watch_screen(lambda: str(interrupted_after(0, None)()), interval_s=0)

    assert capsys.readouterr().out == '{"a":1}\n{"a":1}\n'


def test_an_error_ends_the_watching() -> None:
    """An agent that is gone does not come back by asking."""

    def fail() -> str:
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        watch_screen(fail, interval_s=0)
