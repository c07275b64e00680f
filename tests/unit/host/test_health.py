"""What the probes answer."""

from __future__ import annotations

import math

import pytest

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host.health import (
    AwakeClock,
    Facts,
    Health,
    Pulse,
    Reason,
    StallLimits,
    Verdict,
    WorkerFacts,
    judge_agent,
    judge_worker,
    measure_silence_s,
    plan_limits,
)
from kagent_sdk.host.lifecycle import LifecycleState

LIMITS = StallLimits(warn_after_s=5, fail_after_s=60, start_timeout_s=30, leave_timeout_s=20)
READY = LifecycleState.READY


def workers_with(*verdicts: Verdict | None, silent_s: float | None = 7) -> tuple[WorkerFacts, ...]:
    """Return one worker for each verdict."""
    return tuple(WorkerFacts(index, verdict, silent_s) for index, verdict in enumerate(verdicts))


@pytest.mark.parametrize(
    ("now_s", "pulse", "verdict"),
    [
        (129, Pulse(100), Verdict.STARTING),
        (130, Pulse(100), Verdict.START_TIMED_OUT),
        (134, Pulse(100, ready_at_s=130), Verdict.ALIVE),
        (135, Pulse(100, ready_at_s=130), Verdict.STALLED),
        (204, Pulse(100, ready_at_s=130, beat_at_s=200), Verdict.ALIVE),
        (205, Pulse(100, ready_at_s=130, beat_at_s=200), Verdict.STALLED),
        (259, Pulse(100, ready_at_s=130, beat_at_s=200), Verdict.STALLED),
        (260, Pulse(100, ready_at_s=130, beat_at_s=200), Verdict.STUCK),
        (199, Pulse(100, ready_at_s=130, beat_at_s=200), Verdict.ALIVE),
        (219, Pulse(100, ready_at_s=130, leaving_at_s=200), Verdict.STOPPING),
        (220, Pulse(100, ready_at_s=130, leaving_at_s=200), Verdict.STOP_TIMED_OUT),
    ],
)
def test_a_worker_is_judged_by_its_silence(now_s: float, pulse: Pulse, verdict: Verdict) -> None:
    """Only the age of the pulse tells a busy worker from one that hangs."""
    assert judge_worker(now_s, pulse, LIMITS) is verdict


def test_a_worker_that_is_not_ready_is_not_silent() -> None:
    """A slow import is a start, not a stall."""
    assert measure_silence_s(100, Pulse(0)) is None
    assert measure_silence_s(100, Pulse(0, ready_at_s=40)) == 60
    assert measure_silence_s(100, Pulse(0, ready_at_s=40, beat_at_s=99)) == 1


def test_a_beat_from_before_ready_does_not_count_as_silence() -> None:
    """A worker whose hooks took long must not look stalled in its first moment."""
    assert measure_silence_s(100, Pulse(0, ready_at_s=99, beat_at_s=10)) == 1


def test_the_awake_clock_leaves_out_the_time_in_which_the_host_did_not_run() -> None:
    """`docker pause` for ten minutes must not get a healthy worker killed."""
    clock = AwakeClock(100, max_step_s=1)
    pulse = Pulse(90, ready_at_s=95, beat_at_s=clock.read(100.5))
    after_pause_s = clock.read(700)

    assert clock.read(700.25) - after_pause_s == 0.25
    assert judge_worker(after_pause_s, pulse, LIMITS) is Verdict.ALIVE
    assert judge_worker(700, pulse, LIMITS) is Verdict.STUCK


def test_an_agent_with_a_worker_that_is_alive_is_ready_and_live() -> None:
    """The normal case: both probes answer 200."""
    for state in (READY, LifecycleState.BUSY):
        health = judge_agent(Facts(state, workers_with(Verdict.ALIVE)))

        assert health == Health(live=True, live_detail="", ready=True, reason=None, detail="")


@pytest.mark.parametrize(
    ("state", "reason", "live"),
    [
        (LifecycleState.STARTING, Reason.STARTING, True),
        (LifecycleState.DRAINING, Reason.DRAINING, True),
        (LifecycleState.STOPPING, Reason.STOPPING, True),
        (LifecycleState.STOPPED, Reason.STOPPING, True),
        (LifecycleState.FAILED, Reason.FAILED, False),
    ],
)
def test_an_agent_that_does_not_serve_is_not_ready(
    state: LifecycleState, reason: Reason, live: bool
) -> None:
    """A load balancer must stop sending at once, and a drain must not be cut short by a probe."""
    health = judge_agent(Facts(state, workers_with(Verdict.ALIVE)))

    assert (health.ready, health.reason, health.live) == (False, reason, live)
    assert health.detail


def test_a_stalled_worker_takes_readiness_but_not_life() -> None:
    """Restarting the container would lose the tasks of a worker that may yet come back."""
    health = judge_agent(Facts(READY, workers_with(Verdict.STALLED)))

    assert (health.ready, health.reason, health.live) == (False, Reason.STALLED, True)
    assert health.detail == "worker 0 is stalled: no heartbeat for 7 s"


def test_an_agent_is_dead_only_when_all_its_workers_are_stuck() -> None:
    """One hanging worker of two must not get the other one's tasks killed."""
    one = judge_agent(Facts(READY, workers_with(Verdict.STUCK, Verdict.ALIVE)))
    both = judge_agent(Facts(READY, workers_with(Verdict.STUCK, Verdict.STUCK, silent_s=61)))

    assert one.live
    assert one.ready
    assert not both.live
    assert both.live_detail == (
        "worker 0 is stuck: no heartbeat for 61 s; worker 1 is stuck: no heartbeat for 61 s"
    )
    assert (both.ready, both.reason) == (False, Reason.STALLED)


def test_a_stuck_worker_whose_successor_starts_is_told_as_such() -> None:
    """`/healthz` must not claim a silence of 0 s while the replacement comes up."""
    health = judge_agent(Facts(READY, workers_with(Verdict.STUCK, silent_s=None)))

    assert health.live_detail == "worker 0 was stuck and is being replaced"


@pytest.mark.parametrize("verdict", [Verdict.STARTING, Verdict.START_TIMED_OUT, None])
def test_without_any_worker_the_agent_is_restarting(verdict: Verdict | None) -> None:
    """After a crash callers get 503 and the probe stays green: the host mends it."""
    health = judge_agent(Facts(READY, workers_with(verdict, Verdict.STARTING)))

    assert (health.live, health.ready, health.reason) == (True, False, Reason.RESTARTING)


def test_no_places_at_all_is_not_death() -> None:
    """During the first instant the pool is empty; a probe may already come."""
    health = judge_agent(Facts(READY, ()))

    assert (health.live, health.reason) == (True, Reason.RESTARTING)


def test_overload_takes_readiness_and_memory_is_named_first() -> None:
    """Of two reasons the one that a person can act on comes first."""
    full = Facts(READY, workers_with(Verdict.ALIVE), is_queue_full=True)
    short = Facts(
        READY, workers_with(Verdict.ALIVE), is_queue_full=True, memory_message="memory is at 95%"
    )

    assert judge_agent(full).reason is Reason.FULL
    assert judge_agent(short).reason is Reason.MEMORY
    assert judge_agent(short).detail == "memory is at 95%"
    assert judge_agent(short).live
    stuck = Facts(
        READY, workers_with(Verdict.ALIVE), is_queue_full=True, journal_message="the disk is full"
    )
    assert judge_agent(stuck).reason is Reason.JOURNAL
    assert judge_agent(stuck).detail == "the disk is full"
    cut_off = Facts(READY, workers_with(Verdict.ALIVE), link_message="no link: no connection")
    assert judge_agent(cut_off).reason is Reason.LINK_DOWN
    assert judge_agent(cut_off).detail == "no link: no connection"
    assert judge_agent(cut_off).live


@pytest.mark.parametrize(
    ("worker", "limits"),
    [
        ({}, StallLimits(5, 60, 60)),
        ({"command": ["a"]}, StallLimits(math.inf, math.inf, 60, 25)),
        ({"command": ["a"], "watchdog_s": 2}, StallLimits(2, 60, 60, 25)),
        ({"command": ["a"], "watchdog_s": 90}, StallLimits(90, 90, 60, 25)),
    ],
)
def test_a_program_is_watched_as_it_asks_for(
    worker: dict[str, object], limits: StallLimits
) -> None:
    """Without watchdog_s a program owes no pulse, and must not be killed for its silence."""
    config = AgentConfig.model_validate({"worker": worker})

    assert plan_limits(config) == limits
