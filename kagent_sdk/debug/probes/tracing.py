"""Where memory was allocated: `tracemalloc`, by the author's lines."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.names import is_author_file

Line = tuple[str, int]
Totals = dict[Line, tuple[int, int]]
"""Bytes and blocks by line."""

MAX_TRACER_BYTES = 256 << 20
"""A snapshot costs about as much again as the tracer holds: over this it could end the process."""

Trace = tuple[int, int, tuple[Line, ...], int]
"""Domain, bytes, frames (the innermost first), depth: as the interpreter keeps it."""


@dataclass(frozen=True, slots=True)
class LineGrowth:
    """What has been allocated on a line, and is still held, since the last look.

    Attributes:
        line: the innermost of the author's lines among the frames that were kept; of none, the
            innermost.
        bytes, blocks: the growth; negative where more was freed than allocated.
        total_bytes: what is held in all.
    """

    line: Line
    is_author: bool
    bytes: int
    blocks: int
    total_bytes: int


def take_totals(budget: Budget) -> Totals:
    """Return what is held, by line.

    Raises:
        MemoryError: so much is traced that a snapshot would be dangerous.
    """
    if tracemalloc.get_tracemalloc_memory() > MAX_TRACER_BYTES:
        raise MemoryError("too many blocks are traced")
    totals: dict[Line, list[int]] = {}
    lines: dict[tuple[Line, ...], Line] = {}
    for _, size, frames, _ in budget.walk(_iter_traces()):
        line = lines.get(frames)
        if line is None:
            line = lines[frames] = _line_of(frames)
        total = totals.get(line)
        if total is None:
            totals[line] = [size, 1]
        else:
            total[0] += size
            total[1] += 1
    return {line: (size, blocks) for line, (size, blocks) in totals.items()}


def compare(before: Totals, after: Totals) -> list[LineGrowth]:
    """Return what has changed, the author's lines first, the largest growth first."""
    changes = []
    for line in before.keys() | after.keys():
        old, new = before.get(line, (0, 0)), after.get(line, (0, 0))
        if old != new:
            changes.append(
                LineGrowth(line, is_author_file(line[0]), new[0] - old[0], new[1] - old[1], new[0])
            )
    return sorted(changes, key=lambda change: (not change.is_author, -change.bytes, change.line))


def _iter_traces() -> Iterator[Trace]:
    snapshot = tracemalloc.take_snapshot()
    # The public sequence makes an object of each trace: five times as slow, in a living process.
    traces: Iterable[Any] = snapshot.traces._traces  # type: ignore[attr-defined]  # noqa: SLF001
    yield from traces


def _line_of(frames: tuple[Line, ...]) -> Line:
    return next((line for line in frames if is_author_file(line[0])), frames[0])
