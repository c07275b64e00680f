"""Deadlines of many tasks with one timer.

Tasks with the same timeout expire in the order in which they came, so each distinct timeout is a
first-in-first-out lane: adding and removing are dictionary operations, and nothing is left behind
by a task that ends early (a heap would keep it until its deadline).
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kagent_sdk.host.task import Task


class TimerLoop(Protocol):
    """The part of an event loop that deadlines need: its clock and its timers."""

    def time(self) -> float:
        """Return the monotonic time in seconds."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at that time."""
        ...


class Deadlines:
    """Calls ``on_expired`` for every task that is still here when its time is up.

    Args:
        loop: whose clock and timer are used.
        on_expired: called in the loop, once per task, after the task has been removed.
    """

    def __init__(self, loop: TimerLoop, on_expired: Callable[[Task], None]) -> None:
        self._loop = loop
        self._on_expired = on_expired
        self._lanes: dict[float, OrderedDict[Task, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def add(self, task: Task, timeout_s: float) -> float:
        """Start the clock of a task and return its deadline on the loop's clock."""
        at = self._loop.time() + timeout_s
        lane = self._lanes.get(timeout_s)
        if lane is None:
            lane = self._lanes[timeout_s] = OrderedDict()
        lane[task] = at
        if at < self._timer_at:
            self._arm(at)
        return at

    def remove(self, task: Task, timeout_s: float) -> None:
        """Stop the clock of a task; nothing happens when it has none."""
        lane = self._lanes.get(timeout_s)
        if lane is not None:
            lane.pop(task, None)
            if not lane:
                del self._lanes[timeout_s]

    def close(self) -> None:
        """Stop all clocks."""
        self._lanes.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = math.inf

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        now = self._loop.time()
        expired: list[Task] = []
        for timeout_s, lane in list(self._lanes.items()):
            while lane:
                task, at = next(iter(lane.items()))
                if at > now:
                    break
                del lane[task]
                expired.append(task)
            if not lane:
                del self._lanes[timeout_s]
        for task in expired:
            self._on_expired(task)
        nearest = min(
            (next(iter(lane.values())) for lane in self._lanes.values()), default=math.inf
        )
        if nearest < self._timer_at and nearest != math.inf:
            self._arm(nearest)
