"""Count things over time in bounded memory, and draw the counts in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

WIDTHS_S = (1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400)
"""Widths of a bucket; each is a multiple of those before, so that buckets can be merged."""

MAX_BUCKETS = 256
_BARS = "▁▂▃▄▅▆▇█"


class Timeline:
    """A histogram over time that doubles its bucket's width when it holds too many buckets.

    Attributes:
        width_s: the width of a bucket, one of `WIDTHS_S`.
        counts: bucket number (seconds since the epoch // width) to count.
    """

    __slots__ = ("counts", "width_s")

    def __init__(self) -> None:
        self.width_s: int = WIDTHS_S[0]
        self.counts: dict[int, int] = {}

    def add(self, at: float, count: int = 1) -> None:
        """Count something at a time in seconds since the epoch."""
        bucket = int(at // self.width_s)
        self.counts[bucket] = self.counts.get(bucket, 0) + count
        if len(self.counts) > MAX_BUCKETS:
            self._coarsen()

    def _coarsen(self) -> None:
        wider = [width for width in WIDTHS_S if width > self.width_s]
        if wider:
            self.counts = self.at_width(wider[0])
            self.width_s = wider[0]

    def at_width(self, width_s: int) -> dict[int, int]:
        """Return the counts at a width that is not smaller than its own."""
        merged: dict[int, int] = {}
        for bucket, count in self.counts.items():
            wide = bucket * self.width_s // width_s
            merged[wide] = merged.get(wide, 0) + count
        return merged

    def columns(self, start_s: float, end_s: float, columns: int) -> list[int]:
        """Return the counts in so many equal parts of a span, for a sparkline."""
        sums = [0] * columns
        span_s = max(end_s - start_s, 1e-9)
        for bucket, count in self.counts.items():
            at = (bucket + 0.5) * self.width_s
            index = int((at - start_s) / span_s * columns)
            sums[min(max(index, 0), columns - 1)] += count
        return sums


def sparkline(values: Sequence[int]) -> str:
    """Draw counts as one line of bars; nothing is a space, the smallest count still shows."""
    top = max(values, default=0)
    if top == 0:
        return " " * len(values)
    steps = len(_BARS) - 1
    return "".join(_BARS[round(value / top * steps)] if value else " " for value in values)
