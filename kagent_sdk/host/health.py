"""What the probes answer: a verdict on each worker, and one on the agent. Pure.

Every time is in seconds on one monotonic clock of the host; see `AwakeClock` for which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kagent_sdk.host.lifecycle import LifecycleState

if TYPE_CHECKING:
    from kagent_sdk.config.models import AgentConfig


class Verdict(StrEnum):
    """What the host thinks of a worker.

    STARTING: not ready yet. START_TIMED_OUT: not ready in time, to be replaced. ALIVE: shows its
    pulse. STALLED: silent for ``stall_warn_s``. STUCK: silent for ``stall_fail_s``, to be replaced.
    STOPPING: said that it is about to end. STOP_TIMED_OUT: and did not in time, to be replaced.
    """

    STARTING = "starting"
    START_TIMED_OUT = "start_timed_out"
    ALIVE = "alive"
    STALLED = "stalled"
    STUCK = "stuck"
    STOPPING = "stopping"
    STOP_TIMED_OUT = "stop_timed_out"


SILENT = frozenset({Verdict.STALLED, Verdict.STUCK})


class Reason(StrEnum):
    """Why the agent is not ready, as it stands in ``/readyz`` and ``/status``."""

    STARTING = "starting"
    RESTARTING = "restarting"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"
    STALLED = "stalled"
    FULL = "full"
    MEMORY = "memory"
    JOURNAL = "journal"
    LINK_DOWN = "link_down"


@dataclass(frozen=True, slots=True)
class StallLimits:
    """Bounds on a worker's silence: ``health.stall_*_s`` and ``worker.start_timeout_s``.

    ``leave_timeout_s`` bounds the end of a program that says that it is stopping.
    """

    warn_after_s: float
    fail_after_s: float
    start_timeout_s: float
    leave_timeout_s: float = math.inf


def plan_limits(config: AgentConfig) -> StallLimits:
    """Return the bounds for the workers of an agent.

    A program of ``worker.command`` is silent when its ``WATCHDOG=1`` is overdue: after
    ``worker.watchdog_s`` in place of ``health.stall_warn_s``. Without it no pulse is expected.
    """
    health, worker = config.health, config.worker
    if worker.command is None:
        return StallLimits(health.stall_warn_s, health.stall_fail_s, worker.start_timeout_s)
    warn_after_s = math.inf if worker.watchdog_s is None else worker.watchdog_s
    return StallLimits(
        warn_after_s,
        max(warn_after_s, health.stall_fail_s),
        worker.start_timeout_s,
        leave_timeout_s=config.shutdown.grace_s,
    )


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the host saw of a worker.

    Attributes:
        started_at_s: when its process was started.
        ready_at_s: when its READY came; None before that.
        beat_at_s: when its last HEARTBEAT came; None before the first.
        leaving_at_s: when it said that it is about to end; None if it did not.
    """

    started_at_s: float
    ready_at_s: float | None = None
    beat_at_s: float | None = None
    leaving_at_s: float | None = None


def measure_silence_s(now_s: float, pulse: Pulse) -> float | None:
    """Return for how long a worker has been silent; None while it is not ready yet."""
    if pulse.ready_at_s is None:
        return None
    last_s = pulse.ready_at_s if pulse.beat_at_s is None else max(pulse.ready_at_s, pulse.beat_at_s)
    return max(0.0, now_s - last_s)


def judge_worker(now_s: float, pulse: Pulse, limits: StallLimits) -> Verdict:
    """Judge a worker by its silence, or by how long its start or its end takes."""
    if pulse.leaving_at_s is not None:
        timed_out = now_s - pulse.leaving_at_s >= limits.leave_timeout_s
        return Verdict.STOP_TIMED_OUT if timed_out else Verdict.STOPPING
    silent_s = measure_silence_s(now_s, pulse)
    if silent_s is None:
        timed_out = now_s - pulse.started_at_s >= limits.start_timeout_s
        return Verdict.START_TIMED_OUT if timed_out else Verdict.STARTING
    if silent_s >= limits.fail_after_s:
        return Verdict.STUCK
    return Verdict.STALLED if silent_s >= limits.warn_after_s else Verdict.ALIVE


class AwakeClock:
    """A monotonic clock that stands still while the host itself does not run.

    After a pause of the whole container, or of a starved machine, the workers' heartbeats look old
    although nobody could have sent or read one. Measured on this clock they are not, and no healthy
    worker is killed for it. Use it for every stamp and every verdict.

    Args:
        now_s: the present time on the underlying clock.
        max_step_s: the host reads this clock at least so often (its watchdog's interval and some
            tolerance); a longer step counts as this much.
    """

    __slots__ = ("_awake_s", "_last_s", "_max_step_s")

    def __init__(self, now_s: float, max_step_s: float) -> None:
        self._awake_s = now_s
        self._last_s = now_s
        self._max_step_s = max_step_s

    def read(self, now_s: float) -> float:
        """Return the awake time that belongs to ``now_s`` of the underlying clock."""
        step_s = now_s - self._last_s
        self._last_s = now_s
        self._awake_s += min(step_s, self._max_step_s)
        return self._awake_s


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One place of the pool.

    Attributes:
        index: which one.
        verdict: of the worker that holds it; None while none does (backing off, stopped).
        silent_s: `measure_silence_s` of it; None if its successor is starting already.
    """

    index: int
    verdict: Verdict | None
    silent_s: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the agent's health depends on.

    Attributes:
        lifecycle: the agent's state.
        workers: every place of the pool.
        is_queue_full: whether a new task would get 429.
        memory_message: why memory allows no new task; empty if it does.
        journal_message: why the journal takes no new task; empty if it does.
        link_message: why the agent cannot do without the link that is not there; empty if it can.
    """

    lifecycle: LifecycleState
    workers: tuple[WorkerFacts, ...]
    is_queue_full: bool = False
    memory_message: str = ""
    journal_message: str = ""
    link_message: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes answer.

    Attributes:
        live: `/healthz` answers 200.
        live_detail: why not, for people; empty when live.
        ready: `/readyz` answers 200.
        reason: why not ready, in one word; None when ready.
        detail: the same for people; empty when ready.
    """

    live: bool
    live_detail: str
    ready: bool
    reason: Reason | None
    detail: str


_NOT_SERVING = {
    LifecycleState.STARTING: (Reason.STARTING, "no worker is ready yet"),
    LifecycleState.DRAINING: (
        Reason.DRAINING,
        "the agent finishes its tasks and takes no new ones",
    ),
    LifecycleState.STOPPING: (Reason.STOPPING, "the agent is stopping"),
    LifecycleState.STOPPED: (Reason.STOPPING, "the agent has stopped"),
    LifecycleState.FAILED: (Reason.FAILED, "the agent failed"),
}


def judge_agent(facts: Facts) -> Health:
    """Decide what ``/healthz`` and ``/readyz`` answer.

    The agent is live unless it failed or all its workers are stuck; it is ready while it serves, at
    least one worker is alive, neither queue nor memory is at its limit, and a link that it cannot do
    without is there.
    """
    live_detail = _find_death(facts)
    unready = (
        _NOT_SERVING.get(facts.lifecycle) or _find_lack_of_workers(facts) or _find_overload(facts)
    )
    reason, detail = unready or (None, "")
    return Health(not live_detail, live_detail, unready is None, reason, detail)


def _find_death(facts: Facts) -> str:
    if facts.lifecycle is LifecycleState.FAILED:
        return "the agent failed"
    if facts.workers and all(worker.verdict is Verdict.STUCK for worker in facts.workers):
        return _describe_silence(facts.workers, "stuck")
    return ""


def _find_lack_of_workers(facts: Facts) -> tuple[Reason, str] | None:
    if any(worker.verdict is Verdict.ALIVE for worker in facts.workers):
        return None
    silent = tuple(worker for worker in facts.workers if worker.verdict in SILENT)
    if silent:
        return Reason.STALLED, _describe_silence(silent, "stalled")
    return Reason.RESTARTING, "no worker is ready; they are being restarted"


def _find_overload(facts: Facts) -> tuple[Reason, str] | None:
    if facts.memory_message:
        return Reason.MEMORY, facts.memory_message
    if facts.journal_message:
        return Reason.JOURNAL, facts.journal_message
    if facts.is_queue_full:
        return Reason.FULL, "the queue is full"
    if facts.link_message:
        return Reason.LINK_DOWN, facts.link_message
    return None


def _describe_silence(workers: tuple[WorkerFacts, ...], word: str) -> str:
    return "; ".join(_describe_worker(worker, word) for worker in workers)


def _describe_worker(worker: WorkerFacts, word: str) -> str:
    if worker.silent_s is None:
        return f"worker {worker.index} was {word} and is being replaced"
    return f"worker {worker.index} is {word}: no heartbeat for {worker.silent_s:.0f} s"
