"""Tables for a person: aligned columns on a terminal, the same in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; the first column is text, the others are aligned to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def plain(self) -> str:
        """Return the table for a terminal."""
        widths = _widths(self.columns, self.rows)
        lines = [self.title, _aligned(self.columns, widths, "  ")]
        lines.append("  ".join("-" * width for width in widths))
        lines.extend(_aligned(row, widths, "  ") for row in self.rows)
        return "\n".join(line.rstrip() for line in lines)

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown, aligned in its source too."""
        widths = [max(3, width) for width in _widths(self.columns, self.rows)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines = [f"**{self.title}**", ""]
        rows = (self.columns, tuple(rule), *self.rows)
        lines.extend(f"| {_aligned(row, widths, ' | ')} |" for row in rows)
        return "\n".join(lines)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[at]) for row in (columns, *rows)) for at in range(len(columns))]


def _aligned(row: Sequence[str], widths: Sequence[int], between: str) -> str:
    first, *rest = row
    cells = [first.ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
    return between.join(cells)
