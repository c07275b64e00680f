"""The tables of the status screen."""

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
    joined,
    pairs,
    plain_table,
    styled,
    word,
)
from kagent_sdk.cli.text import clean_line, format_age, format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.table import Table

    from kagent_sdk.protocol.status import CapabilityInfo, LoopInfo, ProcessInfo, TasksInfo

STATE_STYLES = {
    "ready": GOOD,
    "busy": GOOD,
    "running": GOOD,
    "waiting": "",
    "starting": WARN,
    "draining": WARN,
    "stopping": WARN,
    "stalled": WARN,
    "backing_off": BAD,
    "stuck": BAD,
    "failed": BAD,
    "stopped": QUIET,
}
LABEL_WIDTH = 9
MS_PER_S = 1000.0
LATE_MS = 100.0
"""An event loop that runs later than this answers noticeably late."""


def process_table(processes: Sequence[ProcessInfo], *, is_narrow: bool) -> Table:
    """Return host and workers; restarts only where there were any."""
    numbers = ["PID", "MEMORY", "CPU", "THREADS", "FDS", "LAG", "TASKS"]
    with_restarts = any(process.restarts for process in processes)
    if with_restarts:
        numbers.append("RESTARTS")
    table = plain_table(
        "", "STATE", *numbers, right=numbers, gap=1 if is_narrow and with_restarts else 2
    )
    for process in processes:
        cells = _process_cells(process)
        if with_restarts:
            cells.append(_count(process.restarts, WARN) if process.role == "worker" else Text())
        table.add_row(*cells)
    return table


def _process_cells(process: ProcessInfo) -> list[Text]:
    is_host = process.role == "host"
    return [
        styled("host" if is_host else f"worker {process.index}", NAME),
        _state(process.state),
        word(process.pid),
        word(format_bytes(_memory_of(process))),
        word(_percent(process.cpu_percent)),
        word(process.threads),
        word(process.fds),
        _lag(process.lag_ms),
        Text() if is_host else word(process.running),
    ]


def task_lines(tasks: TasksInfo) -> Table:
    """Return the tasks now, and what became of those before."""
    now = [
        Text(f"{tasks.working}{_of(tasks.working_limit)} working"),
        Text(f"{tasks.queued}{_of(tasks.queued_limit)} queued"),
    ]
    before = [
        styled(f"{tasks.completed} completed", GOOD if tasks.completed else QUIET),
        styled(f"{tasks.failed} failed", BAD if tasks.failed else QUIET),
        styled(f"{tasks.canceled} canceled", WARN if tasks.canceled else QUIET),
        styled(f"{tasks.rejected} rejected", WARN if tasks.rejected else QUIET),
    ]
    return pairs([("now", joined(now)), ("so far", joined(before))], width=LABEL_WIDTH)


def capability_table(capabilities: Sequence[CapabilityInfo]) -> Table:
    """Return what became of each capability's tasks."""
    numbers = ("RUNNING", "QUEUED", "COMPLETED", "FAILED", "CANCELED")
    table = plain_table("CAPABILITY", *numbers, right=numbers)
    for capability in capabilities:
        table.add_row(
            word(capability.name, NAME),
            word(f"{capability.running}{_of(capability.limit)}"),
            word(capability.queued),
            word(capability.completed),
            _count(capability.failed, BAD),
            _count(capability.canceled, WARN),
        )
    return table


def loop_table(loops: Sequence[LoopInfo], now: datetime) -> Group:
    """Return the author's loops, and below them the last error of each."""
    right = ("EVERY", "RUNS", "CRASHES", "TOOK")
    table = plain_table("LOOP", "STATE", *right, "STARTED", right=right)
    errors = []
    for loop in loops:
        table.add_row(
            word(loop.name, NAME),
            _state(loop.state),
            word(format_duration(loop.every_s)),
            word(loop.runs),
            _count(loop.crashes, BAD),
            word(format_duration(loop.last_took_s)),
            word(format_age(loop.last_started_at, now), QUIET),
        )
        if loop.last_error:
            errors.append(word(loop.name).append(": ").append(clean_line(loop.last_error), BAD))
    return Group(table, *errors)


def _memory_of(process: ProcessInfo) -> int | None:
    """Shared pages are counted once over all processes, where the kernel says so (PSS)."""
    return process.pss_bytes if process.pss_bytes is not None else process.rss_bytes


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} %"


def _state(name: str) -> Text:
    return word(name.replace("_", " "), STATE_STYLES.get(name, ""))


def _lag(lag_ms: float | None) -> Text:
    if lag_ms is None:
        return word(None)
    style = WARN if lag_ms > LATE_MS else ""
    if lag_ms >= MS_PER_S:
        return styled(f"{lag_ms / MS_PER_S:.0f} s", style)
    return styled(f"{lag_ms:.1f} ms", style)


def _count(count: int, style: str) -> Text:
    return styled(str(count), style if count else QUIET)


def _of(limit: int | None) -> str:
    return "" if limit is None else f" of {limit}"
