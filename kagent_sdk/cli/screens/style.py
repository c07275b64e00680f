"""One look for all screens: few colours, each with one meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kagent_sdk.cli.text import UNKNOWN, clean, clean_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

GOOD = "green"
WARN = "yellow"
BAD = "red"
QUIET = "bright_black"
NAME = "bold"
TITLE = "bold cyan"
TYPE = "cyan"

BAR_WIDTH = 20

STATE_STYLES = {
    "submitted": QUIET,
    "working": "cyan",
    "input_required": WARN,
    "completed": GOOD,
    "failed": BAD,
    "canceled": WARN,
    "rejected": BAD,
}
"""Colours of task states."""


def styled(text: str, style: str = "") -> Text:
    """Return text in a style that ends with it: what is appended is not in it."""
    return Text().append(text, style)


def word(value: object, style: str = "") -> Text:
    """Return anything as one line of text; what is not known is a quiet dash."""
    if value is None or value == UNKNOWN:
        return styled(UNKNOWN, QUIET)
    return styled(clean_line(value), style)


def words(value: object, style: str = "") -> Text:
    """Return anything as text that may have several lines."""
    return styled(clean(value), style)


def state(name: object) -> Text:
    """Return a task's state in its colour."""
    return word(name, STATE_STYLES.get(str(name), ""))


def plain_table(
    *columns: str, right: Sequence[str] = (), fold: Sequence[str] = (), gap: int = 2
) -> Table:
    """Return a table without lines: column heads, and air between the columns.

    Args:
        columns: their heads; an empty one is allowed.
        right: heads of the columns to align to the right.
        fold: heads of the columns that may take several lines; the others are never broken.
        gap: blanks between columns.
    """
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style=QUIET)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column not in fold,
            overflow="fold" if column in fold else "ellipsis",
        )
    return table


def pairs(rows: Sequence[tuple[str, RenderableType]], *, width: int = 0) -> Table:
    """Return labels and their values; the labels take at least ``width`` columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style=QUIET, no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(label, value)
    return table


def indented(content: RenderableType) -> Padding:
    """Return content two columns to the right."""
    return Padding(content, (0, 0, 0, 2))


def title(text: str) -> Text:
    """Return the head of a part of a screen."""
    return styled(text, TITLE)


def joined(parts: Sequence[Text]) -> Text:
    """Return parts on one line, with quiet dots between them."""
    return styled(" · ", QUIET).join(parts)


def bar(ratio: float, style: str) -> Text:
    """Return a share as a bar of `BAR_WIDTH` columns; anything over zero shows."""
    share = min(max(ratio, 0.0), 1.0)
    filled = max(round(share * BAR_WIDTH), 1 if share else 0)
    return styled("━" * filled, style).append("━" * (BAR_WIDTH - filled), QUIET)
