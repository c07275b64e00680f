"""A task's events can be replayed, within bounds."""

from __future__ import annotations

from kagent_sdk.journal.events import Event, EventLog


def test_events_are_numbered_from_one_without_gaps() -> None:
    """Last-Event-ID relies on it."""
    log = EventLog(max_events=10, max_bytes=100)

    assert (log.first_id, log.last_id) == (1, 0)
    assert log.append("state", b"{}") == Event(1, "state", b"{}")
    log.append("event", b"1")
    log.append("event", b"2")
    assert [event.id for event in log.after(0)] == [1, 2, 3]
    assert [event.id for event in log.after(1, limit=1)] == [2]
    assert log.after(3) == []
    assert log.items() == [b"1", b"2"]
    assert (log.first_id, log.last_id) == (1, 3)


def test_the_oldest_fall_out_by_number_and_by_bytes() -> None:
    """A stream of any length costs bounded memory."""
    by_number = EventLog(max_events=2, max_bytes=100)
    by_bytes = EventLog(max_events=100, max_bytes=4)
    for log in (by_number, by_bytes):
        log.append("progress", b"12")
        for _ in range(3):
            log.append("event", b"12")

        assert [event.id for event in log.after(0)] == [3, 4]
        assert log.items_dropped == 1
        assert log.size_bytes == 4


def test_items_of_an_attempt_that_crashed_are_no_part_of_the_output() -> None:
    """An idempotent stream that ran again answers with each item once."""
    log = EventLog(max_events=3, max_bytes=100)
    for number in (b"1", b"2"):
        log.append("event", number)
    log.restart()
    log.append("state", b"{}")
    log.append("event", b"1")

    assert log.items() == [b"1"]
    assert [event.data for event in log.after(0)] == [b"2", b"{}", b"1"]
    log.append("event", b"2")
    assert log.items_dropped == 0
    log.append("event", b"3")
    log.append("event", b"4")
    assert log.items_dropped == 1


def test_one_event_over_the_bound_is_still_held() -> None:
    """The newest event is always there for a reader that keeps up."""
    log = EventLog(max_events=10, max_bytes=1)
    log.append("event", b"large")

    assert log.items() == [b"large"]
