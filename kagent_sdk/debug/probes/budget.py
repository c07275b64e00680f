"""How much a probe may do in a process that serves others at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

STEP = 2000
"""Objects between two looks at the clock: about a millisecond of work."""

REST_S = 0.001
"""How long the interpreter is left to the others after each step: a thread that wants it waits at
most a step, and the probe takes half of one core at most."""


class Budget:
    """Seconds and objects that a probe may use up.

    Args:
        seconds: how long it may take.
        objects: how many objects it may look at.
        is_over: whether the answer is still wanted.
        clock: seconds, monotonic.
        rest: waits so many seconds; other threads run meanwhile.

    Attributes:
        used: objects that were looked at.
        cut: why the probe stopped early; None when it did not.
    """

    def __init__(
        self,
        seconds: float,
        objects: int,
        is_over: Callable[[], bool] = lambda: False,
        *,
        clock: Callable[[], float] = time.monotonic,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._objects = objects
        self._is_over = is_over
        self._clock = clock
        self._rest = rest
        self._ends_at_s = clock() + seconds
        self.used = 0
        self.cut: str | None = None

    def take(self) -> bool:
        """Count one object; return whether it may still be looked at."""
        if self.cut is not None:
            return False
        self.used += 1
        if self.used > self._objects:
            self.cut = f"{self._objects} objects looked at"
        elif self.used % STEP == 0:
            self._look_up()
        return self.cut is None

    def walk(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items as long as the budget lasts."""
        for item in items:
            if not self.take():
                return
            yield item

    def _look_up(self) -> None:
        if self._is_over():
            self.cut = "ended by the client"
        elif self._clock() > self._ends_at_s:
            self.cut = f"{self._seconds:g} s are over"
        else:
            self._rest(REST_S)
