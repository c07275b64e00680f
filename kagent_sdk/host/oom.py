"""Which end of a process goes back to the kernel killing for memory. Pure: the clock is handed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_S = 5.0
"""The kernel counts a kill before the process is gone, freeing its memory takes a while, and then its
last words are waited for: what was counted in this time before may have been the cause of an end."""

KEPT_READINGS = 32
"""One a second, and one more after each end of a worker."""

KEPT_CGROUPS = 64


@dataclass(frozen=True, slots=True)
class OomCount:
    """What a memory cgroup counts.

    Attributes:
        cgroup: tells it from every other one of this machine since it booted.
        kills: processes of it that the kernel killed for memory.
    """

    cgroup: str
    kills: int


class OomLedger:
    """Readings of the counters, and which of the kills belong to an end that is known."""

    def __init__(self) -> None:
        self._readings: dict[str, deque[tuple[float, int]]] = {}
        self._claimed: dict[str, int] = {}

    def note(self, now_s: float, count: OomCount) -> None:
        """Take a reading."""
        readings = self._readings.pop(count.cgroup, None) or deque(maxlen=KEPT_READINGS)
        readings.append((now_s, count.kills))
        self._readings[count.cgroup] = readings  # now the youngest
        while len(self._readings) > KEPT_CGROUPS:
            oldest = next(iter(self._readings))
            del self._readings[oldest]
            self._claimed.pop(oldest, None)

    def claim(self, now_s: float, count: OomCount | None) -> bool | None:
        """Say whether the kernel killed for memory just now; each kill is given out once.

        Args:
            now_s: when the end of a process was seen.
            count: read after that; None if it cannot be read.

        Returns:
            None when it is not known: without a counter, or without an earlier reading of it.
        """
        if count is None:
            return None
        readings = self._readings.get(count.cgroup)
        if not readings:
            return None if count.kills else False
        before = [kills for at_s, kills in readings if at_s <= now_s - WINDOW_S]
        baseline = before[-1] if before else readings[0][1]
        level = max(baseline, self._claimed.get(count.cgroup, 0))
        if count.kills <= level:
            return False
        self._claimed[count.cgroup] = level + 1
        return True
