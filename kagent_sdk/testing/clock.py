"""The time of an event loop, which a test can move on: no test waits for what it can skip."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from kagent_sdk.errors import KagentError

MAX_TURNS = 1000
"""Of the loop, in which what is due may start something else that is due at once."""

MAX_STEPS = 10_000
"""Timers that one `Clock.advance` stops at: an agent that sleeps for a millisecond a million times
would never let it end."""

Settle = Callable[[], Awaitable[object]]


class ClockError(KagentError):
    """The clock cannot do what it was asked for."""


class _ShiftedTime:
    """Stands in for ``loop.time`` while clocks have hold of that loop."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self._offset_s = 0.0
        self._still_at_s: float | None = None
        self.users = 0

    def __call__(self) -> float:
        return self._real() + self._offset_s if self._still_at_s is None else self._still_at_s

    @contextmanager
    def moved_by_hand(self) -> Iterator[None]:
        """Let it stand still but for `move_to`: what sleeps an hour twice has slept two, no less."""
        if self._still_at_s is not None:
            yield
            return
        self._still_at_s = self()
        try:
            yield
        finally:
            self._offset_s = self._still_at_s - self._real()
            self._still_at_s = None

    def move_to(self, moment_s: float) -> None:
        """Go on to a moment, if it is still to come."""
        assert self._still_at_s is not None
        self._still_at_s = max(self._still_at_s, moment_s)


class Clock:
    """Goes as time does, and jumps when it is told to.

    All timers of the event loop go by it while a harness is open: deadlines of tasks, ``every_s`` of
    loops, ``asyncio.sleep`` and ``asyncio.timeout``, those of the test too. It is also what the
    state's ``ttl_s`` is measured by. ``time.time()`` and ``time.monotonic()`` in the agent's own
    code, and so ``ctx.deadline``, are not touched.

    Args:
        starts_at: what `now` says when the harness opens; the present time if None.
    """

    def __init__(self, starts_at: datetime | None = None) -> None:
        self._starts_at = starts_at
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shift: _ShiftedTime | None = None
        self._opened_s = 0.0
        self._opened_at = 0.0
        self.settle: Settle | None = None
        """Waits for what is under way outside the event loop; the harness's business."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def time(self) -> float:
        """Return seconds since the epoch; from any thread."""
        if self._shift is None:
            return time.time() if self._starts_at is None else self._starts_at.timestamp()
        return self._opened_at + self._shift() - self._opened_s

    async def advance(self, seconds: float) -> None:
        """Move the time on; everything that falls due on the way happens in its order.

        Returns when the event loop has nothing to do but wait. A function that works in a thread is
        not waited for.

        Raises:
            ValueError: ``seconds`` is negative: time does not go back.
            ClockError: no harness is open with this clock.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        if self._loop is None or self._shift is None:
            raise ClockError("this clock goes with a harness that is open; none is")
        with self._shift.moved_by_hand():
            goal_s = self._shift() + seconds
            await self._settle()
            for _ in range(MAX_STEPS):
                due_s = _next_due_s(self._loop)
                if due_s is None or due_s > goal_s:
                    break
                self._shift.move_to(due_s)
                await self._settle()
            self._shift.move_to(goal_s)
            await self._settle()

    def open(self) -> None:
        """Take hold of the running loop; the harness's business.

        Raises:
            ClockError: it is open already, or the loop's time cannot be moved (uvloop).
        """
        if self._loop is not None:
            raise ClockError("a clock goes with one harness at a time")
        loop = asyncio.get_running_loop()
        shift = loop.time
        if not isinstance(shift, _ShiftedTime):
            shift = _ShiftedTime(loop.time)
            try:
                loop.time = shift  # type: ignore[method-assign]
            except AttributeError:
                message = f"the time of {type(loop).__name__} cannot be moved: use asyncio's own"
                raise ClockError(message) from None
        shift.users += 1
        self._loop, self._shift = loop, shift
        self._opened_s = shift()
        self._opened_at = time.time() if self._starts_at is None else self._starts_at.timestamp()

    def close(self) -> None:
        """Let go of the loop, whose time is what it was when nobody holds it any more."""
        loop, shift = self._loop, self._shift
        if loop is None or shift is None:
            return
        self._starts_at = self.now()
        self._loop = self._shift = None
        shift.users -= 1
        if not shift.users:
            del loop.time

    async def _settle(self) -> None:
        assert self._loop is not None
        await _run_ready(self._loop)
        if self.settle is None:
            return
        for _ in range(MAX_TURNS):
            await self.settle()
            # What it waited for may go on, and ask for something else.
            if await _run_ready(self._loop) == 1:
                return


# asyncio has no public way to ask what a loop has to do, or when its next timer is due; these two
# names have been the same since Python 3.4. A loop without them jumps to the end in one step.


async def _run_ready(loop: asyncio.AbstractEventLoop) -> int:
    """Let the loop do what it can do now; return how many turns it took."""
    for turn in range(1, MAX_TURNS):
        await asyncio.sleep(0)
        due_s = _next_due_s(loop)
        is_due = due_s is not None and due_s <= loop.time()
        if not getattr(loop, "_ready", None) and not is_due:
            return turn
    return MAX_TURNS


def _next_due_s(loop: asyncio.AbstractEventLoop) -> float | None:
    timers = cast("list[Any]", getattr(loop, "_scheduled", []))
    return min((timer.when() for timer in timers if not timer.cancelled()), default=None)
