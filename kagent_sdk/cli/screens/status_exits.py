"""How the host before this one and the last worker ended, where that was not as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from kagent_sdk.cli.screens.style import BAD, QUIET
from kagent_sdk.cli.text import clean_line, format_age

if TYPE_CHECKING:
    from datetime import datetime

    from kagent_sdk.protocol.last_exit import Exit
    from kagent_sdk.protocol.status import Status

CLEAN = "clean"
MAX_SHOWN_TASKS = 3
MAX_LINE_CHARS = 300


def exit_lines(status: Status, now: datetime) -> list[Text]:
    """Return a line for the host and one for the worker; none for what ended cleanly.

    A worker that this host has lost is shown with its traceback elsewhere.
    """
    host, worker = status.last_exit.host, status.last_exit.worker
    lines = []
    if host is not None and host.cause != CLEAN:
        lines.append(_line("the host before", host, now))
    if worker is not None and worker.cause != CLEAN and worker != status.workers.last_crash:
        lines.append(_line(f"worker {worker.worker}", worker, now))
    return lines


def _line(who: str, end: Exit, now: datetime) -> Text:
    said = end.cause.replace("_", " ")
    line = Text(f"{who}: ").append(clean_line(said), BAD)
    if end.how.lower() != said:
        line.append(f" ({clean_line(end.how, limit_chars=MAX_LINE_CHARS)})", BAD)
    line.append(f"  {format_age(end.at.isoformat(), now)}", QUIET)
    if end.tasks_running:
        plural = "task" if end.tasks_running == 1 else "tasks"
        names = [clean_line(task.id) for task in end.tasks[:MAX_SHOWN_TASKS]]
        more = ["…"] if end.tasks_running > len(names) else []
        line.append(f", amid {end.tasks_running} {plural}: {', '.join(names + more)}")
    return line
