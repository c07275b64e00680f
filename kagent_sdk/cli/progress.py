"""A task's progress as a bar on stderr: for people, and only where there is progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from kagent_sdk.cli.output import make_console
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Progress, TaskID

MAX_MESSAGE_CHARS = 60
BAR_STYLES = {
    "bar.back": "bright_black",
    "bar.complete": "cyan",
    "bar.finished": "green",
    "bar.pulse": "cyan",
    "progress.elapsed": "bright_black",
    "progress.percentage": "bright_black",
}


class ProgressBar:
    """Appears with the first progress and leaves nothing behind; nothing without a terminal."""

    def __init__(self) -> None:
        self._enabled = sys.stderr.isatty()
        # Then a line of stdout must go above the bar, not through it.
        self._shares_screen = self._enabled and sys.stdout.isatty()
        self._progress: Progress | None = None
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, progress: object) -> None:
        """Show ``{fraction, message}``; anything else is passed over."""
        if not self._enabled or not isinstance(progress, dict):
            return
        fraction, message = progress.get("fraction"), progress.get("message")
        share = float(fraction) if isinstance(fraction, int | float) else None
        if self._progress is None:
            self._progress = make_progress(make_console(stderr=True))
            self._bar = self._progress.add_task("")
            self._progress.start()
        assert self._bar is not None
        self._progress.update(
            self._bar,
            total=None if share is None else 1.0,
            completed=min(max(share or 0.0, 0.0), 1.0),
            description=clean_line(message or "", limit_chars=MAX_MESSAGE_CHARS),
            refresh=True,
        )

    def write_line(self, line: str) -> None:
        """Write a line to stdout, above the bar where both are on one screen."""
        if self._progress is not None and self._shares_screen:
            self._progress.console.out(line, highlight=False)
            return
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def make_progress(console: Console) -> Progress:
    """Return a progress display of one bar: what is done, for how long, and the last message."""
    from rich.progress import (  # noqa: PLC0415 - only where there is progress
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.theme import Theme  # noqa: PLC0415

    console.push_theme(Theme(BAR_STYLES))
    return Progress(
        BarColumn(bar_width=30),
        TaskProgressColumn("{task.percentage:>3.0f} %", style="progress.percentage", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
