"""The worker's pulse: a heartbeat from the event loop, so that silence means a blocked loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import Heartbeat
from kagent_sdk.worker.loops import LoopRunner
from kagent_sdk.worker.services import Services


class Pulse:
    """Send a HEARTBEAT every ``every_s``, the first one at once.

    A heartbeat that the host does not read is left out: the next one says the same and more.
    """

    def __init__(self, services: Services, loops: Sequence[LoopRunner], every_s: float) -> None:
        self._services = services
        self._loops = loops
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._beat(self._services.loop.time())

    def close(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, due_s: float) -> None:
        services = self._services
        now_s = services.loop.time()
        if not services.connection.is_full:
            beat = self._measure(max(0.0, now_s - due_s))
            services.connection.send(Kind.HEARTBEAT, 0, beat.model_dump_json().encode())
        next_s = now_s + self._every_s
        self._timer = services.loop.call_at(next_s, self._beat, next_s)

    def _measure(self, lag_s: float) -> Heartbeat:
        services = self._services
        return Heartbeat(
            lag_ms=lag_s * 1000,
            running=len(services.running),
            threads_busy=services.threads.busy,
            threads=services.threads.size,
            loops=tuple(loop.status for loop in self._loops),
        )
