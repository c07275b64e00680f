"""Time, as the orchestrator's decisions get it: passed in, so that tests can let it pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """Something that is due."""

    def cancel(self) -> None:
        """Let it not happen."""
        ...


class Clock(Protocol):
    """What time it is, and what happens later."""

    def now_s(self) -> float:
        """Return the time on a clock that never jumps."""
        ...

    def wall_s(self) -> float:
        """Return seconds since the epoch."""
        ...

    def later(self, delay_s: float, function: Callable[..., None], *args: Any) -> Timer:
        """Call a function in so long."""
        ...


class LoopClock:
    """The clock of the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now_s(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def wall_s(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def later(self, delay_s: float, function: Callable[..., None], *args: Any) -> Timer:
        """Call a function in the loop in so long."""
        return self._loop.call_later(delay_s, function, *args)
