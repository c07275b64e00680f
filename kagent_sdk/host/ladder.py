"""The steps of a cancellation: ask, interrupt, kill.

A capability that honours its cancellation ends on the first step. Sync code that does not look is
interrupted by an exception in its thread. What ignores that too takes the worker with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kagent_sdk.host.task import Worker
from kagent_sdk.protocol.frames import Kind


class Ladders:
    """Climbs one ladder per attempt that is being cancelled.

    Args:
        grace_s: between two steps.
        kill: ends the worker with a reason for the log.
    """

    def __init__(self, grace_s: float, kill: Callable[[Worker, str], None]) -> None:
        self._grace_s = grace_s
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._timers: dict[tuple[Worker, int], asyncio.TimerHandle] = {}

    def configure(self, grace_s: float) -> None:
        """Change the time between the steps that are still to come."""
        self._grace_s = grace_s

    def __len__(self) -> int:
        return len(self._timers)

    def start(self, worker: Worker, number: int, reason: str) -> None:
        """Ask the worker to cancel an attempt; go on by timer until `stop`."""
        if (worker, number) in self._timers:
            return
        worker.send(Kind.CANCEL, number, reason.encode())
        self._arm(worker, number, self._interrupt)

    def stop(self, worker: Worker, number: int) -> None:
        """The attempt has ended, one way or another."""
        if self._timers:
            timer = self._timers.pop((worker, number), None)
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Stop all ladders."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _arm(
        self,
        worker: Worker,
        number: int,
        step: Callable[[Worker, int], None],
    ) -> None:
        self._timers[worker, number] = self._loop.call_later(self._grace_s, step, worker, number)

    def _interrupt(self, worker: Worker, number: int) -> None:
        worker.send(Kind.INTERRUPT, number)
        self._arm(worker, number, self._give_up)

    def _give_up(self, worker: Worker, number: int) -> None:
        del self._timers[worker, number]
        self._kill(worker, "cancellation_ignored")
