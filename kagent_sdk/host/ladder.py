"""The steps of a cancellation: ask, interrupt, kill.

A capability that honours its cancellation ends on the first step. Sync code that does not look is
interrupted by an exception in its thread. What ignores that too takes the worker with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.protocol.frames import Kind


class Ladders:
    """Climbs one ladder per attempt that is being cancelled.

    Args:
        grace_s: between two steps.
        kill: ends the worker behind a connection, with a reason for the log.
    """

    def __init__(self, grace_s: float, kill: Callable[[WorkerConnection, str], None]) -> None:
        self._grace_s = grace_s
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._timers: dict[tuple[WorkerConnection, int], asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def start(self, connection: WorkerConnection, number: int, reason: str) -> None:
        """Ask the worker to cancel an attempt; go on by timer until `stop`."""
        if (connection, number) in self._timers:
            return
        connection.send(Kind.CANCEL, number, reason.encode())
        self._arm(connection, number, self._interrupt)

    def stop(self, connection: WorkerConnection, number: int) -> None:
        """The attempt has ended, one way or another."""
        if self._timers:
            timer = self._timers.pop((connection, number), None)
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Stop all ladders."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _arm(
        self,
        connection: WorkerConnection,
        number: int,
        step: Callable[[WorkerConnection, int], None],
    ) -> None:
        self._timers[connection, number] = self._loop.call_later(
            self._grace_s, step, connection, number
        )

    def _interrupt(self, connection: WorkerConnection, number: int) -> None:
        connection.send(Kind.INTERRUPT, number)
        self._arm(connection, number, self._give_up)

    def _give_up(self, connection: WorkerConnection, number: int) -> None:
        del self._timers[connection, number]
        self._kill(connection, "cancellation_ignored")
