"""Show something again and again until the user has seen enough."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from kagent_sdk.cli.output import make_console, print_json, print_screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

INTERVAL_S = 1.0


def watch_screen(render: Callable[[], RenderableType], interval_s: float = INTERVAL_S) -> None:
    """Show a screen in place, again every ``interval_s``, until Ctrl-C.

    In a pipe each screen follows the one before. Errors of ``render`` end it; the last screen stays.
    """
    with suppress(KeyboardInterrupt):
        if sys.stdout.isatty():
            _watch_live(render, interval_s)
        while True:
            print_screen(render())
            time.sleep(interval_s)


def watch_json(fetch: Callable[[], object], interval_s: float = INTERVAL_S) -> None:
    """Write a document to stdout every ``interval_s``, one to a line, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        while True:
            print_json(fetch())
            time.sleep(interval_s)


def _watch_live(render: Callable[[], RenderableType], interval_s: float) -> NoReturn:
    from rich.live import Live  # noqa: PLC0415 - only for a person who watches

    with Live(
        render(),
        console=make_console(),
        auto_refresh=False,
        vertical_overflow="crop",
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        while True:
            time.sleep(interval_s)
            live.update(render(), refresh=True)
