"""What the fleet decides."""

from __future__ import annotations

import pytest

from kagent_sdk.orchestrator.fleet.decisions import (
    CRASH_LIMIT,
    HealthLimits,
    State,
    assume_alive,
    describe_end,
    longest_wait_s,
    must_replace,
    pick_release,
    pick_replicas,
    resting_state,
)

LIMITS = HealthLimits(start_s=60, unhealthy_s=30)


@pytest.mark.parametrize(
    ("now_s", "alive_s", "expected"),
    [
        (59.0, None, False),
        (60.0, None, True),
        (100.0, 71.0, False),
        (100.0, 70.0, True),
    ],
)
def test_a_replica_is_replaced_when_it_has_been_unwell_for_too_long(
    now_s: float, alive_s: float | None, *, expected: bool
) -> None:
    """A slow start is no illness, and neither is one probe that failed."""
    assert must_replace(now_s, started_s=0.0, alive_s=alive_s, limits=LIMITS) is expected


def test_an_adopted_replica_that_stands_still_gets_no_time_for_a_start_again() -> None:
    """An orchestrator that dies again and again must still get to replace it."""
    alive_s = assume_alive(100.0, is_adopted=True)

    assert not must_replace(129.0, started_s=100.0, alive_s=alive_s, limits=LIMITS)
    assert must_replace(130.0, started_s=100.0, alive_s=alive_s, limits=LIMITS)
    assert assume_alive(100.0, is_adopted=False) is None


def test_a_crash_loop_is_shown_and_tried_less_and_less() -> None:
    """A broken agent must neither be given up nor use up the machine."""
    assert resting_state(CRASH_LIMIT - 1) is State.WAITING
    assert resting_state(CRASH_LIMIT) is State.FAILED
    assert longest_wait_s(CRASH_LIMIT) > longest_wait_s(1)


def test_scaling_by_hand_holds_until_the_file_says_something_else() -> None:
    """The death of the orchestrator must not undo what an operator did."""
    assert pick_replicas(2, None) == 2
    assert pick_replicas(2, (2, 5)) == 5
    assert pick_replicas(3, (2, 5)) == 3


def test_what_runs_keeps_its_release_when_the_orchestrator_is_started_again() -> None:
    """A crash must not roll out what somebody is just editing."""
    assert pick_release("new", "old", any_running=True) == "old"
    assert pick_release("new", "old", any_running=False) == "new"
    assert pick_release("new", None, any_running=True) == "new"


def test_an_end_is_told_in_one_line() -> None:
    """It stands in a table."""
    assert describe_end(3, "no such port") == "ended with exit code 3: no such port"
    assert describe_end(-9, "") == "was killed by signal 9"
    assert describe_end(None, "") == "ended"
