"""When a crashed worker is started again, and when the host gives up."""

from __future__ import annotations

import pytest

from kagent_sdk.host.backoff import CrashHistory, is_stable, restart_delay_s


@pytest.mark.parametrize(
    ("crashes", "bound_s"),
    [(-1, 0.1), (0, 0.1), (1, 0.1), (2, 0.2), (3, 0.4), (7, 6.4), (8, 10.0), (10**9, 10.0)],
)
def test_the_wait_doubles_up_to_its_cap(crashes: int, bound_s: float) -> None:
    """A broken agent must not burn a core by restarting, nor stay away for hours."""
    delay_s = restart_delay_s(crashes, initial_s=0.1, max_s=10, random=lambda: 1.0)

    assert delay_s == pytest.approx(bound_s)


def test_the_wait_has_full_jitter() -> None:
    """A thousand agents that lost the same database must not come back in the same instant."""
    numbers = iter([0.0, 0.5, 1.0])
    delays = [
        restart_delay_s(5, initial_s=0.1, max_s=10, random=lambda: next(numbers)) for _ in range(3)
    ]

    assert delays == pytest.approx([0, 0.8, 1.6])


@pytest.mark.parametrize(
    ("ready_for_s", "finished_a_task", "expected"),
    [
        (None, False, False),
        (None, True, False),
        (0.1, False, False),
        (0.1, True, True),
        (2.0, False, True),
    ],
)
def test_a_worker_is_stable_after_a_task_or_some_time(
    ready_for_s: float | None, finished_a_task: bool, expected: bool
) -> None:
    """A worker that did its work once may crash later without counting as broken."""
    assert is_stable(ready_for_s, finished_a_task=finished_a_task, stable_s=2) is expected


def test_crashes_without_a_stable_worker_are_a_loop() -> None:
    """An orchestrator should see exit code 75, not an agent that restarts for ever."""
    history = CrashHistory()
    for _ in range(4):
        history = history.after_crash(was_stable=False)
        assert not history.is_loop(5)
    history = history.after_crash(was_stable=False)

    assert history.is_loop(5)
    assert history == CrashHistory(unstable=5, total=5)


def test_the_crash_of_a_stable_worker_begins_a_new_row() -> None:
    """One bad task an hour must never add up to a crash loop."""
    history = CrashHistory(unstable=4, total=4).after_crash(was_stable=True)

    assert history == CrashHistory(unstable=0, total=5)
    assert not history.is_loop(1)
