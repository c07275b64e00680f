"""Readers of a stream pace the worker, and none of them can hold the host's memory."""

from __future__ import annotations

import asyncio

from kagent_sdk.host.follower import ACK_SHARE, Followers
from kagent_sdk.journal.events import EventLog
from kagent_sdk.protocol.messages import EVENT_WINDOW_BYTES


def build(window: int = 8, max_events: int = 100) -> tuple[EventLog, Followers, list[int]]:
    """Return a log, its readers, and what was acknowledged."""
    acknowledged: list[int] = []
    log = EventLog(max_events=max_events, max_bytes=10_000)
    return log, Followers(log, window, acknowledged.append), acknowledged


def publish(log: EventLog, followers: Followers, count: int) -> None:
    """Add events."""
    for number in range(count):
        followers.publish(log.append("event", b"%d" % number))


def test_without_readers_events_count_as_taken() -> None:
    """A stream that nobody reads runs at full speed."""
    log, followers, acknowledged = build(window=8)
    publish(log, followers, 7)

    assert sum(acknowledged) == 6
    assert all(count >= 2 for count in acknowledged)


async def test_the_slowest_reader_paces_the_worker() -> None:
    """What a client has not taken is not acknowledged."""
    log, followers, acknowledged = build(window=8)
    quick, slow = followers.follow(), followers.follow()
    publish(log, followers, 8)
    await quick.next_batch()
    quick_settles = asyncio.create_task(quick.next_batch())
    await asyncio.sleep(0)

    assert acknowledged == []
    await slow.next_batch()
    followers.settle()
    assert acknowledged == [8]
    quick_settles.cancel()


async def test_large_events_are_acknowledged_by_their_size() -> None:
    """The worker's window may be full of a few: waiting for more of them would take for ever."""
    acknowledged: list[int] = []
    log = EventLog(max_events=100, max_bytes=4 * EVENT_WINDOW_BYTES)
    followers = Followers(log, 100, acknowledged.append)
    reader = followers.follow()
    followers.publish(log.append("event", b"x"))
    followers.publish(log.append("event", b"x" * (EVENT_WINDOW_BYTES // ACK_SHARE)))
    await reader.next_batch()

    assert acknowledged == []
    followers.settle()
    assert acknowledged == [2]


async def test_a_reader_that_leaves_does_not_hold_the_worker() -> None:
    """A client that vanished must not stall the stream for the others."""
    log, followers, acknowledged = build(window=8)
    reader = followers.follow()
    publish(log, followers, 8)

    assert acknowledged == []
    reader.close()
    assert acknowledged == [8]
    assert len(followers) == 0


async def test_a_reader_that_lags_is_told_how_much_it_missed() -> None:
    """A worker that ignores the window costs old events, never memory, and never silently."""
    log, followers, _ = build(max_events=5)
    reader = followers.follow()
    publish(log, followers, 20)

    batch = await reader.next_batch()

    assert reader.missed == 15
    assert [event.id for event in batch] == [16, 17, 18, 19, 20]


async def test_what_is_noted_of_unread_events_is_bounded_by_the_log() -> None:
    """A worker that ignores the window for hours leaves no list of a million numbers behind."""
    log, followers, acknowledged = build(window=8, max_events=20)
    followers.follow()
    publish(log, followers, 1000)

    assert 1000 - sum(acknowledged) <= 20 + 2


async def test_a_late_reader_replays_from_where_it_was() -> None:
    """A client that reconnects with Last-Event-ID sees each event once."""
    log, followers, _ = build()
    publish(log, followers, 5)
    reader = followers.follow(after_id=3)

    assert [event.id for event in await reader.next_batch()] == [4, 5]
    waiting = asyncio.create_task(reader.next_batch())
    await asyncio.sleep(0)
    assert not waiting.done()
    publish(log, followers, 1)
    assert [event.id for event in await waiting] == [6]


async def test_a_new_attempt_starts_with_a_fresh_window() -> None:
    """What a dead worker sent must not be acknowledged to its successor."""
    log, followers, acknowledged = build(window=8)
    reader = followers.follow()
    publish(log, followers, 8)
    followers.restart()
    reader.close()

    assert acknowledged == []


async def test_an_event_id_from_the_future_waits_for_new_events() -> None:
    """A client that sends nonsense as Last-Event-ID gets the stream from now on."""
    log, followers, _ = build()
    publish(log, followers, 2)
    reader = followers.follow(after_id=99)
    publish(log, followers, 1)

    assert [event.id for event in await reader.next_batch()] == [3]


async def test_readers_of_a_log_that_is_cut_are_let_go() -> None:
    """The next host goes on with the task: whoever waits for this one would wait for ever."""
    log, followers, _ = build()
    reader = followers.follow()
    waiting = asyncio.create_task(reader.next_batch())
    await asyncio.sleep(0)
    log.cut()
    followers.wake()

    assert await waiting == []
    assert reader.is_at_end
