"""Retention decides what is too much."""

from __future__ import annotations

from kagent_sdk.journal.retention import Retention


def test_a_little_over_the_bounds_waits_for_the_next_turn() -> None:
    """Removing one task with the end of every other would cost twice as much."""
    retention = Retention(100, 100, 1000)
    retention.finished, retention.finished_bytes = 105, 1050
    assert not retention.is_over

    retention = Retention(100, 100, 1000, finished=106)
    assert retention.is_over

    retention = Retention(100, 100, 1000, finished_bytes=1051)
    assert retention.is_over
    assert retention.excess == (0, 51)


def test_the_bounds_can_change() -> None:
    """A reload may shorten what stays."""
    retention = Retention(100, 100, 1000, finished=10)
    retention.configure(5, 4, 1)
    assert (retention.age_s, retention.excess) == (5, (6, 0))
    assert retention.is_over
