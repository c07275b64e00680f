"""Watches the workers' pulse and the agent's memory, and acts on what the pure judges say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from kagent_sdk.host.admission import Refusal
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.health import (
    AwakeClock,
    Facts,
    Health,
    Pulse,
    Verdict,
    WorkerFacts,
    judge_agent,
    judge_worker,
    measure_silence_s,
    plan_limits,
)
from kagent_sdk.host.lifecycle import Lifecycle, LifecycleState
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.place import Place
from kagent_sdk.host.pool import Pool
from kagent_sdk.host.succession import Succession

TICK_S = 0.25
PROGRESS_BYTES = 256 * 1024
"""So much of a frame that is not whole yet is a sign of life: on a busy machine many large outputs take
seconds. It is more than the socket holds when a loop stops, and a frame that never ends has few
such parts."""

STACKS_S = 2.0
"""How long a worker that is to be replaced may take to show where it hangs: milliseconds, unless the
machine is too busy to give it a turn."""

CALM = frozenset({Verdict.ALIVE, Verdict.STARTING, Verdict.STOPPING})


class Watchdog:
    """Judges every worker each `TICK_S`, and keeps the engine's gate in step with the verdicts.

    Attributes:
        memory_message: why memory allows no new task; empty if it does.
        journal_message: why the journal takes no new task; empty if it does.
        lag_ms: how late the host's own loop ran the last tick.
        find_link_fault: says why the agent cannot do without a link that is not there; empty if it can.
        on_refresh: called after every look.
    """

    def __init__(
        self,
        succession: Succession,
        *,
        lifecycle: Lifecycle,
        engine: Engine,
        pump: LogPump,
        clock: AwakeClock,
    ) -> None:
        self._succession = succession
        self._lifecycle = lifecycle
        self._engine = engine
        self._pump = pump
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.memory_message = ""
        self.journal_message = ""
        self.lag_ms: float | None = None
        self.find_link_fault: Callable[[], str] = str
        self.on_refresh: Callable[[], None] | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self.refresh()
            due_s = self._loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.lag_ms = (self._loop.time() - due_s) * 1000

    def note_memory(self, message: str) -> None:
        """Take what the monitor says of memory: why no task is taken, or nothing."""
        self.memory_message = message
        self.refresh()

    def note_journal(self, message: str) -> None:
        """Take what the journal says of itself: why it takes no task, or nothing."""
        self.journal_message = message
        self.refresh()

    def verdict(self, place: Place) -> Verdict | None:
        """Return what the worker of a place is thought of now; None when there is none."""
        return self._facts_of(place, self._clock.read(self._loop.time())).verdict

    def silent_s(self, place: Place) -> float | None:
        """Return for how long the worker of a place has shown no pulse."""
        return self._facts_of(place, self._clock.read(self._loop.time())).silent_s

    def health(self) -> Health:
        """Return what the probes answer now."""
        return self._judge(self.find_link_fault())

    def own_health(self) -> Health:
        """Return the same but for the link: what the orchestrator is told by way of it."""
        return self._judge("")

    def _judge(self, link_message: str) -> Health:
        now_s = self._clock.read(self._loop.time())
        pool = self._succession.pool
        max_queue = pool.config.tasks.max_queue
        facts = Facts(
            self._lifecycle.state,
            tuple(self._facts_of(place, now_s) for place in pool.places),
            is_queue_full=len(self._engine.dispatcher.queue) >= max(1, max_queue),
            memory_message=self.memory_message,
            journal_message=self.journal_message,
            link_message=link_message,
        )
        return judge_agent(facts)

    def refresh(self) -> None:
        """Judge the workers, act on silent ones, and set the lifecycle and the engine's gate."""
        now_s = self._clock.read(self._loop.time())
        for pool in self._succession.pools:
            limits = plan_limits(pool.config)
            for place in pool.places:
                if place.pulse is not None:
                    place.pulse = _listen(place, place.pulse, now_s)
                    self._act(pool, place, judge_worker(now_s, place.pulse, limits), now_s)
        is_starting = self._lifecycle.state is LifecycleState.STARTING
        if is_starting and self._engine.is_recovered and self._is_any_ready():
            self._lifecycle.enter(LifecycleState.READY, time.time())
        self._lifecycle.mark_busy(time.time(), busy=self._engine.dispatcher.running > 0)
        self._engine.gate = self._gate()
        if self.on_refresh is not None:
            self.on_refresh()

    def _is_any_ready(self) -> bool:
        if self._has_command:
            return any(place.is_ready for place in self._succession.pool.places)
        return bool(self._engine.dispatcher.connections)

    @property
    def _has_command(self) -> bool:
        return self._succession.pool.config.worker.command is not None

    def _act(self, pool: Pool, place: Place, verdict: Verdict, now_s: float) -> None:
        process, connection = place.process, place.connection
        if process is None:
            return
        if verdict in CALM:
            place.stacks_until_s = None
            if verdict is Verdict.ALIVE and connection is not None and connection.is_stalled:
                pool.reception.recover(place)
            return
        if place.stacks_until_s is None:
            place.stacks_until_s = now_s + (STACKS_S if process.ask_for_stacks() else 0)
            if connection is not None:
                connection.is_stalled = True
            self._pump.log(
                "warning", f"worker_{verdict}", worker=place.index, worker_pid=process.pid
            )
        elif verdict is Verdict.STALLED or place.kill_reason is not None:
            return
        elif place.stack is not None or now_s >= place.stacks_until_s:
            place.was_stuck = verdict is Verdict.STUCK
            pool.kill_worker(place, str(verdict))

    def _facts_of(self, place: Place, now_s: float) -> WorkerFacts:
        if place.pulse is None:
            return WorkerFacts(place.index, Verdict.STUCK if place.was_stuck else None)
        verdict = judge_worker(now_s, place.pulse, plan_limits(self._succession.pool.config))
        if place.was_stuck and verdict is Verdict.STARTING:
            verdict = Verdict.STUCK
        return WorkerFacts(place.index, verdict, measure_silence_s(now_s, place.pulse))

    def _gate(self) -> Refusal | None:
        if self._lifecycle.state is LifecycleState.STARTING:
            return Refusal.STARTING
        if not self._lifecycle.is_serving:
            return Refusal.DRAINING
        if self.memory_message:
            return Refusal.MEMORY
        # A program has no capability, and that is what a caller is told.
        return None if self._has_command else self._find_lack_of_connections()

    def _find_lack_of_connections(self) -> Refusal | None:
        if not self._engine.dispatcher.connections:
            return Refusal.WORKER_DOWN
        if all(connection.is_stalled for connection in self._engine.dispatcher.connections):
            return Refusal.STALLED
        return None


def _listen(place: Place, pulse: Pulse, now_s: float) -> Pulse:
    """Take anything that came for a sign of life: heartbeats wait behind large outputs.

    While the host itself does not read, the worker's silence says nothing.
    """
    connection = place.connection
    if connection is None:
        return pulse
    is_heard = (
        connection.is_checking
        or connection.frames_read != place.frames_heard
        or connection.bytes_read - place.bytes_heard >= PROGRESS_BYTES
    )
    if not is_heard:
        return pulse
    place.frames_heard = connection.frames_read
    place.bytes_heard = connection.bytes_read
    return replace(pulse, beat_at_s=now_s)
