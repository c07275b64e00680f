"""When a crashed worker is started again, and when to give up. Pure: randomness is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# 2**60 times any sensible wait is far over every cap, and still no overflow of a float.
_MAX_DOUBLINGS = 60


def restart_delay_s(
    crashes: int, *, initial_s: float, max_s: float, random: Callable[[], float]
) -> float:
    """Return how long to wait before the next start: exponential, capped, with full jitter.

    Full jitter spreads the restarts of many agents that crashed together
    (Brooker, "Exponential Backoff And Jitter", AWS 2015).

    Args:
        crashes: crashes in a row, this one included; 1 or less gives at most ``initial_s``.
        initial_s: bound of the first wait.
        max_s: bound of every wait.
        random: returns a number from 0 to 1, such as `random.random`.
    """
    doublings = min(max(crashes - 1, 0), _MAX_DOUBLINGS)
    ceiling_s: float = min(max_s, initial_s * 2**doublings)
    return ceiling_s * random()


def is_stable(ready_for_s: float | None, *, finished_a_task: bool, stable_s: float) -> bool:
    """Say whether a worker proved that it can do its work before it crashed.

    Args:
        ready_for_s: how long it was ready; None if it never was.
        finished_a_task: whether it answered a task, whatever the answer.
        stable_s: ``worker.stable_s``.
    """
    if ready_for_s is None:
        return False
    return finished_a_task or ready_for_s >= stable_s


@dataclass(frozen=True, slots=True)
class CrashHistory:
    """The crashes of one worker's place in the pool, over all the processes that held it.

    Attributes:
        unstable: crashes in a row of which none was of a stable worker.
        total: all crashes since the host started.
    """

    unstable: int = 0
    total: int = 0

    def after_crash(self, *, was_stable: bool) -> CrashHistory:
        """Return the history with one more crash; that of a stable worker begins a new row."""
        unstable = 0 if was_stable else self.unstable + 1
        return CrashHistory(unstable, self.total + 1)

    def is_loop(self, crash_limit: int) -> bool:
        """Say whether to give up: ``crash_limit`` crashes in a row, none of a stable worker."""
        return self.unstable >= crash_limit
