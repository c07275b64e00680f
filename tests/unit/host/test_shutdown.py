"""The schedule of a shutdown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.host.shutdown import ShutdownSchedule, plan_shutdown

SECONDS = st.floats(0.001, 100_000, allow_nan=False)


def deadlines(schedule: ShutdownSchedule) -> list[float]:
    """Return the ends of all phases in their order, the interruption among them."""
    return [
        schedule.finish_until_s,
        schedule.interrupt_at_s,
        schedule.cancel_until_s,
        schedule.stop_until_s,
        schedule.flush_until_s,
    ]


def test_the_default_budget_leaves_most_of_it_to_running_tasks() -> None:
    """A shutdown should drop no task that would have ended in time."""
    schedule = plan_shutdown(100, grace_s=25, cancel_grace_s=5)

    assert deadlines(schedule) == pytest.approx([115.5, 118, 120.5, 123, 125])


def test_a_long_budget_does_not_make_the_last_phases_long() -> None:
    """An agent with an hour to drain still gives its hooks and its files seconds."""
    schedule = plan_shutdown(0, grace_s=3600, cancel_grace_s=5)

    assert schedule.finish_until_s == pytest.approx(3600 - 5 - 5 - 2)


@given(st.floats(-1e6, 1e6), SECONDS, SECONDS)
def test_every_budget_has_all_phases_and_ends_inside_it(
    started_at_s: float, grace_s: float, cancel_grace_s: float
) -> None:
    """Kubernetes kills what outlives the budget: a tiny one must not break the order."""
    schedule = plan_shutdown(started_at_s, grace_s=grace_s, cancel_grace_s=cancel_grace_s)
    ends = deadlines(schedule)

    assert ends == sorted(ends)
    assert ends[0] >= started_at_s
    assert schedule.flush_until_s <= started_at_s + grace_s
    assert schedule.finish_until_s - started_at_s >= 0.5 * grace_s


@given(SECONDS, SECONDS, st.lists(st.floats(0, 2), max_size=4))
def test_more_signals_only_make_it_shorter(
    grace_s: float, cancel_grace_s: float, signals: list[float]
) -> None:
    """Whoever presses Ctrl-C again wants it to end sooner, never later."""
    schedule = plan_shutdown(0, grace_s=grace_s, cancel_grace_s=cancel_grace_s)
    for share in sorted(signals):
        now_s = share * grace_s
        hurried = schedule.hurry(now_s)

        assert hurried.flush_until_s <= schedule.flush_until_s
        assert deadlines(hurried) == sorted(deadlines(hurried))
        later = zip(deadlines(hurried), deadlines(schedule), strict=True)
        assert all(hurried_s <= before_s for hurried_s, before_s in later)
        schedule = hurried


def test_a_second_signal_goes_straight_to_the_cancel() -> None:
    """The remaining steps keep their time: hooks and flush still run."""
    schedule = plan_shutdown(100, grace_s=25, cancel_grace_s=5).hurry(102)

    assert deadlines(schedule) == pytest.approx([102, 104.5, 107, 109.5, 111.5])


def test_a_signal_during_the_cancel_changes_nothing() -> None:
    """A third Ctrl-C must not cut the cleanup of the second short."""
    schedule = plan_shutdown(100, grace_s=25, cancel_grace_s=5)

    assert schedule.hurry(115.5) is schedule
    assert schedule.hurry(124) is schedule
