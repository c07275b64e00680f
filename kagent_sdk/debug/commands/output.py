"""How the commands print: plain text in columns for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from typing_extensions import override

from kagent_sdk.debug.port import Session

F = TypeVar("F", bound=Callable[..., Any])

KIBIBYTE = 1024.0
MINUTE_S = 60.0
MIN_COLUMNS = 80


class HelpInSession(click.Command):
    """A command whose help is printed to its session, not to the process's stdout."""

    @override
    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _print_help
        return option


class Command(HelpInSession):
    """A command of a session."""


class Group(HelpInSession, click.Group):
    """A command that may stand by itself and has commands below it."""

    command_class = Command


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

seconds_option = click.option(
    "--seconds",
    type=click.FloatRange(0.1, 60),
    default=10,
    show_default=True,
    help="Look for at most so long, half of the time resting.",
)


def _print_help(ctx: click.Context, _param: click.Parameter, value: object) -> None:
    if value and not ctx.resilient_parsing:
        say(ctx.obj, ctx.get_help())
        ctx.exit()


def say(session: Session, text: str = "") -> None:
    """Print a line."""
    session.out.write(text + "\n")


def say_json(session: Session, document: object) -> None:
    """Print one document, on several lines, with nothing in it that a terminal obeys."""
    say(session, json.dumps(document, indent=2, ensure_ascii=True))


def say_table(
    session: Session, heads: Sequence[str], rows: Sequence[Sequence[str]], right: str = ""
) -> None:
    """Print rows in columns; the last one takes what is left of the width.

    Args:
        session: where.
        heads: titles of the columns.
        rows: as many words each as there are titles.
        right: titles of the columns that stand to the right.
    """
    numbers = right.split()
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        words = [
            word.rjust(width) if head in numbers else word.ljust(width)
            for word, width, head in zip(row, widths, heads, strict=True)
        ]
        say(session, cut("  ".join(words).rstrip(), session.width))


def cut(line: str, width: int) -> str:
    """Return a line that fits the terminal, or 80 columns: what is to the right matters least."""
    width = max(width, MIN_COLUMNS)
    return line if len(line) <= width else line[: width - 1] + "…"


def size(count: float | None) -> str:
    """Return bytes in binary units, such as ``36.5 MiB``; ``-`` when it is not known."""
    if count is None:
        return "-"
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(count) < KIBIBYTE:
            break
        count, unit = count / KIBIBYTE, larger
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def change(count: float | None) -> str:
    """Return a change of bytes with its sign; empty when there is none or it is not known."""
    if not count:
        return ""
    return ("+" if count > 0 else "") + size(count)


def age(seconds: float) -> str:
    """Return a duration such as ``12.3 s`` or ``4 min 02 s``."""
    if seconds < MINUTE_S:
        return f"{max(seconds, 0.0):.1f} s"
    minutes, rest_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest_s:02d} s"
