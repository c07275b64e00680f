"""Tables of facts in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_CODE_WITH_BAR = re.compile(r"(?<!`)`([^`|]*\|[^`]*)`(?!`)")


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar inside a cell is escaped, and a line's end becomes a blank."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([_escape(cell) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in escaped)


def _escape(cell: str) -> str:
    # GitHub takes the backslash away inside code too, Python-Markdown does not: HTML suits both.
    line = _CODE_WITH_BAR.sub(_as_html, " ".join(cell.split()))
    return line.replace("|", "\\|")


def _as_html(match: re.Match[str]) -> str:
    return f"<code>{html.escape(match[1]).replace('|', '&#124;')}</code>"


def code(text: str) -> str:
    """Return a text as code in a line, whatever ticks are in it; nothing for an empty one."""
    if not text:
        return ""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
