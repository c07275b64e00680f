"""When the state's file is written."""

from __future__ import annotations

import math

import pytest

from kagent_sdk.host.state_schedule import (
    QUIET_S,
    REST_RATIO,
    RETRY_MAX_S,
    ExportSchedule,
)

EXPORT_S = 30.0


def test_without_a_change_it_is_not_written() -> None:
    """An agent that rests must not wear out a disk."""
    schedule = ExportSchedule(EXPORT_S)

    assert schedule.due_at_s(1000.0, is_idle=True) == math.inf
    assert schedule.change(5.0).succeed(6.0, 7.0).due_at_s(1000.0, is_idle=True) == math.inf


def test_it_is_written_when_the_agent_is_quiet() -> None:
    """A person who looks after a task sees what the task has done."""
    schedule = ExportSchedule(EXPORT_S).change(100.0).change(100.5)

    assert schedule.due_at_s(100.5, is_idle=True) == 100.5 + QUIET_S


def test_an_agent_that_is_never_quiet_is_written_in_time() -> None:
    """A change waits for `state.export_s` at most, whatever goes on."""
    schedule = ExportSchedule(EXPORT_S).change(100.0)
    for now_s in range(101, 130):
        schedule = schedule.change(float(now_s))

    assert schedule.due_at_s(129.5, is_idle=True) == 130.0
    assert schedule.due_at_s(129.5, is_idle=False) == 130.0


def test_a_busy_agent_is_looked_at_again() -> None:
    """It may be quiet before the time is over."""
    schedule = ExportSchedule(EXPORT_S).change(100.0)

    assert schedule.due_at_s(105.0, is_idle=False) == 105.0 + QUIET_S
    assert schedule.due_at_s(105.0, is_idle=True) <= 105.0


def test_a_state_that_takes_long_to_write_is_written_less_often() -> None:
    """A task each two seconds must not mean a hundred megabytes each two seconds."""
    schedule = ExportSchedule(EXPORT_S).change(100.0).succeed(101.0, 102.0).change(103.0)

    assert schedule.due_at_s(103.0, is_idle=True) == 102.0 + REST_RATIO
    assert schedule.succeed(103.0, 108.0).change(109.0).due_at_s(109.0, is_idle=True) == 139.0


def test_what_changes_during_an_export_is_for_the_next() -> None:
    """It may be in the file already or not; nothing may be missed."""
    schedule = ExportSchedule(EXPORT_S).change(100.0).change(101.5).succeed(101.0, 102.0)

    assert schedule.dirty_since_s == 101.5


def test_a_file_that_cannot_be_written_is_tried_ever_more_rarely() -> None:
    """A full disk is full for hours; and the first success makes up for all."""
    schedule = ExportSchedule(EXPORT_S).fail(100.0)
    assert schedule.due_at_s(100.0, is_idle=True) == 101.0
    for _ in range(2000):
        schedule = schedule.change(100.0).fail(100.0)

    assert schedule.due_at_s(100.0, is_idle=False) == 100.0 + RETRY_MAX_S
    assert schedule.succeed(160.0, 161.0).due_at_s(161.0, is_idle=True) == math.inf


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_deadline_that_is_past_is_now(is_idle: bool) -> None:
    """A machine that was suspended makes up for it."""
    schedule = ExportSchedule(EXPORT_S).change(100.0)

    assert schedule.due_at_s(9999.0, is_idle=is_idle) <= 9999.0
