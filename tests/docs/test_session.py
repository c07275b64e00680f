"""The picture of a session in the README shows what the commands really do."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from scripts.build_docs import find_fetches
from scripts.record_session import (
    COMMANDS,
    OUTPUT,
    Step,
    draw,
    record,
    screen_lines,
)

_ROW = re.compile(r'<text class="session-\w+" x="[\d.]+" y="([\d.]+)"[^>]*>([^<]*)</text>')


def rows_of(picture: str) -> list[str]:
    """Return the lines of text of a picture."""
    rows: dict[str, str] = {}
    for y, text in _ROW.findall(picture):
        rows[y] = rows.get(y, "") + html.unescape(text).replace("\xa0", " ")
    return [text.rstrip() for text in rows.values()]


def shape_of(rows: list[str]) -> list[str]:
    """Return each line's first word, but for lines that tell of the machine."""
    shown = [row for row in rows if not re.match(r" *(memory|cpu|pids|pressure|sandbox) ", row)]
    return [" ".join(re.findall(r"[A-Za-z_]{3,}", row)[:1]) for row in shown]


def test_the_picture_shows_what_the_commands_do_today(tmp_path: Path) -> None:
    """A picture that shows what is no more sells something that is not there."""
    folder = tmp_path / "session"
    folder.mkdir()
    steps = record(folder)
    shown, now = rows_of(OUTPUT.read_text()), rows_of(draw(steps))

    assert [row[2:] for row in shown if row.startswith("$ ")] == list(COMMANDS)
    assert '"Hello, Ada!"' in shown
    assert shape_of(shown) == shape_of(now)


def test_the_picture_fetches_nothing(tmp_path: Path) -> None:
    """Whoever looks at it, on whatever page, is nobody else's business."""
    (tmp_path / OUTPUT.name).write_bytes(OUTPUT.read_bytes())

    assert list(find_fetches(tmp_path)) == []
    assert "@font-face" not in OUTPUT.read_text()


def test_text_is_not_markup() -> None:
    """Commands and outputs hold what means something in a picture."""
    assert rows_of(draw([Step("echo '<a & b>'", ("<a & b>",))])) == ["$ echo '<a & b>'", "<a & b>"]


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        ("one\r\ntwo\r\n", ("one", "two")),
        ("\x1b[32mgreen\x1b[0m\r\n", ("\x1b[32mgreen\x1b[0m",)),
        ("10 %\r50 %\r\ndone\r\n", ("50 %", "done")),
        ("bar\r\n\x1b[1A\x1b[2Kdone\r\n", ("done",)),
        ("\x1b[?25lbar\r\x1b[2K\x1b[?25h", ()),
        ("", ()),
    ],
)
def test_a_line_that_is_written_anew_is_seen_once(output: str, lines: tuple[str, ...]) -> None:
    """A progress bar is many writes, and one line on the screen."""
    assert screen_lines(output) == lines
