"""Where a command writes: JSON for programs, rich for people. rich is imported on first use."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import color_choice
from kagent_sdk.cli.text import safe_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MAX_COLOURED_CHARS = 200_000
"""Beyond it nobody reads the colours, and they take seconds."""
PIPED_WIDTH = 120
"""Columns of a screen that goes into a file or another program."""


def print_json(value: object) -> None:
    """Write one line of compact JSON to stdout, at once."""
    sys.stdout.write(safe_json(value, ascii_only=not _is_unicode(sys.stdout.encoding)) + "\n")
    sys.stdout.flush()


def print_document(value: object, *, as_json: bool) -> None:
    """Write a JSON value to stdout: indented and in colour for a person, else on one line."""
    if as_json or not sys.stdout.isatty():
        print_json(value)
        return
    from rich.highlighter import JSONHighlighter  # noqa: PLC0415 - only a person pays for rich
    from rich.text import Text  # noqa: PLC0415

    text = Text(safe_json(value, indent=2, ascii_only=not _is_unicode(sys.stdout.encoding)))
    if len(text) <= MAX_COLOURED_CHARS:
        JSONHighlighter().highlight(text)
    # The terminal wraps, so that what is copied from it is still JSON.
    make_console().print(text, soft_wrap=True)


def print_screen(content: RenderableType, *, stderr: bool = False) -> None:
    """Show something to people; in a file or a pipe without blanks at the ends of lines."""
    console = make_console(stderr=stderr)
    if console.is_terminal:
        console.print(content)
        return
    with console.capture() as capture:
        console.print(content)
    lines = (line.rstrip() for line in capture.get().splitlines())
    stream = sys.stderr if stderr else sys.stdout
    stream.write("\n".join(lines) + "\n")
    stream.flush()


def say(message: str) -> None:
    """Tell a person something beside the output: on stderr, quietly."""
    click.secho(message, err=True, fg="bright_black", color=color_choice())


def make_console(*, stderr: bool = False) -> Console:
    """Return a rich console: no colours with NO_COLOR or when piped, no guessing at markup."""
    from rich.console import Console  # noqa: PLC0415

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(
        stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False
    )


def _is_unicode(encoding: str) -> bool:
    return encoding.lower().replace("-", "").startswith("utf")
