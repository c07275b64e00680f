"""What a manifest loosens, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from kagent_sdk.cli.screens.style import (
    BAD,
    GOOD,
    NAME,
    QUIET,
    WARN,
    indented,
    joined,
    pairs,
    plain_table,
    styled,
    word,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from kagent_sdk.deploy.lockdown.loosening import Loosening

WIDE = 160
"""From here on a finding has room on one line of a table."""

STYLES = {"critical": BAD, "warning": WARN}


def loosening_screen(
    target: str, file: str, loosenings: Sequence[Loosening], *, width: int
) -> Group:
    """Return what was found, for a terminal of that many columns.

    Args:
        target: which kind of manifest it is.
        file: where it was read.
        loosenings: what was found; what is critical first.
        width: of the terminal.
    """
    head = joined(
        [
            word("stdin" if file == "-" else file, NAME),
            styled(f"compared with the policy, as {target}", QUIET),
        ]
    )
    if not loosenings:
        return Group(head, styled("● it loosens nothing", GOOD))
    parts: list[RenderableType] = [head, _verdict(loosenings), Text()]
    if width >= WIDE:
        parts.append(indented(_table(loosenings)))
    else:
        parts += [indented(_block(loosening)) for loosening in loosenings]
    return Group(*parts)


def _verdict(loosenings: Sequence[Loosening]) -> Text:
    count = sum(loosening.severity == "critical" for loosening in loosenings)
    others = len(loosenings) - count
    counts = [f"{count} critical"] * bool(count)
    counts += [f"{others} warning{'s' * (others > 1)}"] * bool(others)
    return styled(f"● it loosens the policy: {', '.join(counts)}", BAD if count else WARN)


def _table(loosenings: Sequence[Loosening]) -> RenderableType:
    folded = ("WANTED", "FOUND", "WHERE", "FIX")
    table = plain_table("CONTROL", "SEVERITY", *folded, fold=folded)
    for one in loosenings:
        style = STYLES[one.severity]
        table.add_row(
            word(one.control, NAME),
            styled(one.severity, style),
            word(one.wanted),
            word(one.found, style),
            word(one.where, QUIET),
            word(one.fix),
        )
    return table


def _block(one: Loosening) -> RenderableType:
    style = STYLES[one.severity]
    head = word(one.control, NAME).append("  ").append_text(styled(f"✗ {one.severity}", style))
    rows: list[tuple[str, RenderableType]] = [
        ("where", words(one.where, QUIET)),
        ("wanted", words(one.wanted)),
        ("found", words(one.found, style)),
        ("fix", words(one.fix)),
    ]
    return Group(head, indented(pairs(rows)))
