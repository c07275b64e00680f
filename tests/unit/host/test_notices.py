"""What notifications mean for a program's pulse."""

from __future__ import annotations

import pytest

from kagent_sdk.host.health import Pulse, StallLimits, Verdict, judge_worker
from kagent_sdk.host.notices import apply_notification
from kagent_sdk.protocol.notify import Notification

LIMITS = StallLimits(5, 60, start_timeout_s=30, leave_timeout_s=20)


@pytest.mark.parametrize(
    ("before", "said", "after"),
    [
        (Pulse(0), Notification(), Pulse(0)),
        (Pulse(0), Notification(is_ready=True), Pulse(0, ready_at_s=10)),
        (Pulse(0, 4), Notification(is_ready=True), Pulse(0, 4)),
        (Pulse(0), Notification(has_pulse=True), Pulse(0, beat_at_s=10)),
        (Pulse(0, 4), Notification(is_stopping=True), Pulse(0, 4, leaving_at_s=10)),
        (
            Pulse(0, 4, leaving_at_s=6),
            Notification(is_stopping=True),
            Pulse(0, 4, leaving_at_s=6),
        ),
    ],
)
def test_a_notification_changes_the_pulse(before: Pulse, said: Notification, after: Pulse) -> None:
    """The first READY and the first STOPPING count; every beat does."""
    assert apply_notification(before, said, 10, LIMITS) == after


def test_a_start_that_asks_for_more_time_gets_it() -> None:
    """A database that recovers is slow, not broken."""
    pulse = apply_notification(Pulse(0), Notification(extend_s=100), 10, LIMITS)

    assert judge_worker(109, pulse, LIMITS) is Verdict.STARTING
    assert judge_worker(110, pulse, LIMITS) is Verdict.START_TIMED_OUT


def test_an_extension_never_shortens() -> None:
    """Asking for a second must not cost the rest of the time that it has anyway."""
    pulse = apply_notification(Pulse(0), Notification(extend_s=1), 10, LIMITS)

    assert pulse == Pulse(0)


def test_a_stop_that_asks_for_more_time_gets_it() -> None:
    """Writing everything down takes as long as it takes."""
    leaving = Pulse(0, 4, leaving_at_s=10)
    pulse = apply_notification(leaving, Notification(extend_s=50), 10, LIMITS)

    assert judge_worker(59, pulse, LIMITS) is Verdict.STOPPING
    assert judge_worker(60, pulse, LIMITS) is Verdict.STOP_TIMED_OUT


def test_a_program_that_runs_cannot_put_off_its_watchdog() -> None:
    """Only a beat proves that it lives."""
    assert apply_notification(Pulse(0, 4), Notification(extend_s=50), 10, LIMITS) == Pulse(0, 4)
