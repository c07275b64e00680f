"""The life of an agent as a state machine."""

from __future__ import annotations

from itertools import product

import pytest

from kagent_sdk.errors import InvalidTransitionError, KagentError
from kagent_sdk.host.lifecycle import TRANSITIONS, Lifecycle, LifecycleState

S = LifecycleState
WAY = [S.STARTING, S.READY, S.BUSY, S.DRAINING, S.STOPPING, S.STOPPED]


def lifecycle_in(state: LifecycleState) -> Lifecycle:
    """Return a lifecycle that went the usual way to ``state``."""
    lifecycle = Lifecycle(0)
    if state is S.FAILED:
        lifecycle.enter(S.FAILED, 1)
        return lifecycle
    for number, step in enumerate(WAY[1 : WAY.index(state) + 1], start=1):
        lifecycle.enter(step, number)
    return lifecycle


def test_an_agent_starts_and_is_not_serving_yet() -> None:
    """A request that comes during the start must be told to wait."""
    lifecycle = Lifecycle(5.0)

    assert lifecycle.state is S.STARTING
    assert lifecycle.since_s == 5.0
    assert not lifecycle.is_serving
    assert not lifecycle.is_ending


def test_every_state_remembers_when_it_was_last_entered() -> None:
    """`/status` says since when an agent has been draining."""
    lifecycle = Lifecycle(1)
    lifecycle.enter(S.READY, 2)
    lifecycle.enter(S.BUSY, 3)
    lifecycle.enter(S.READY, 4)

    assert lifecycle.since_s == 4
    assert lifecycle.entered_s(S.STARTING) == 1
    assert lifecycle.entered_s(S.BUSY) == 3
    assert lifecycle.entered_s(S.DRAINING) is None


@pytest.mark.parametrize(("before", "after"), list(product(LifecycleState, LifecycleState)))
def test_only_the_drawn_transitions_are_possible(
    before: LifecycleState, after: LifecycleState
) -> None:
    """An agent that drains must never come to take tasks again."""
    lifecycle = lifecycle_in(before)

    if after is before:
        assert not lifecycle.enter(after, 99)
        assert lifecycle.since_s != 99
    elif after in TRANSITIONS[before]:
        assert lifecycle.enter(after, 99)
        assert (lifecycle.state, lifecycle.since_s) == (after, 99)
    else:
        with pytest.raises(InvalidTransitionError, match=f"from {before} to {after}") as caught:
            lifecycle.enter(after, 99)
        assert (caught.value.before, caught.value.after) == (before, after)
        assert isinstance(caught.value, KagentError)
        assert lifecycle.state is before


def test_the_last_states_are_final_and_failure_is_reachable_from_all_others() -> None:
    """Whatever breaks, the host can say that it failed, and what has ended stays ended."""
    for state, followers in TRANSITIONS.items():
        is_final = state in (S.STOPPED, S.FAILED)
        assert bool(followers) is not is_final
        assert (S.FAILED in followers) is not is_final


@pytest.mark.parametrize("state", LifecycleState)
def test_serving_and_ending_are_told_apart(state: LifecycleState) -> None:
    """Admission asks the one, the probes the other; no state may be both."""
    lifecycle = lifecycle_in(state)

    assert lifecycle.is_serving is (state in (S.READY, S.BUSY))
    assert lifecycle.is_ending is (state in (S.DRAINING, S.STOPPING, S.STOPPED))


def test_tasks_make_an_agent_busy_only_while_it_serves() -> None:
    """The last task that ends during a drain must not make the agent ready again."""
    lifecycle = lifecycle_in(S.READY)
    seen = []
    for now_s, busy in ((10, True), (11, True), (12, False)):
        lifecycle.mark_busy(now_s, busy=busy)
        seen.append((lifecycle.state, lifecycle.since_s))
    lifecycle.enter(S.DRAINING, 13)
    lifecycle.mark_busy(14, busy=False)

    assert seen == [(S.BUSY, 10), (S.BUSY, 10), (S.READY, 12)]
    assert lifecycle.state is S.DRAINING
