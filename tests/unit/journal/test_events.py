"""A task's events can be replayed, within bounds."""

from __future__ import annotations

from kagent_sdk.journal.events import Event, EventLog


def shown(log: EventLog, after: int = 0) -> list[Event]:
    """Return what a reader gets once everything is on disk."""
    log.release(log.last_id)
    return log.after(after)


def test_events_are_numbered_from_one_without_gaps() -> None:
    """Last-Event-ID relies on it."""
    log = EventLog(max_events=10, max_bytes=100)

    assert (log.first_id, log.last_id) == (1, 0)
    assert log.append("state", b"{}") == Event(1, "state", b"{}")
    log.append("event", b"1")
    log.append("event", b"2")
    assert [event.id for event in shown(log)] == [1, 2, 3]
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

        assert [event.id for event in shown(log)] == [3, 4]
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
    assert [event.data for event in shown(log)] == [b"2", b"{}", b"1"]
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


def test_events_are_shown_when_they_are_released() -> None:
    """A reader that goes on after a restart must not know of events that the disk does not."""
    log = EventLog(max_events=10, max_bytes=100, last_id=4)
    log.append("event", b"1")
    log.append("event", b"2")

    assert log.after(4) == []
    assert log.items() == [b"1", b"2"]
    log.release(5)
    assert [event.id for event in log.after(4)] == [5]
    log.release(4)
    assert log.released_id == 5


def test_a_log_that_is_cut_has_no_more_to_come() -> None:
    """Readers of a task that the next host goes on with are not kept waiting."""
    log = EventLog(max_events=10, max_bytes=100)
    assert not log.is_closed
    log.cut()
    assert log.is_closed
