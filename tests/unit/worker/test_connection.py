"""Frames in, batched frames out."""

from __future__ import annotations

import pytest

from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.frames import Kind, encode
from kagent_sdk.worker.connection import HIGH_WATER_BYTES
from tests.unit.worker.rig import Bench


class Waiter:
    """Counts how often it is told that there is room."""

    def __init__(self) -> None:
        self.pumped = 0

    def pump(self) -> None:
        """Count."""
        self.pumped += 1


async def test_frames_of_one_turn_leave_with_one_write() -> None:
    """One system call for many answers is what makes two processes cheap."""
    bench = Bench()
    for number in range(3):
        bench.connection.send(Kind.RESULT, number, b"1")
    await bench.loop.run_in_executor(None, lambda: None)

    assert len(bench.wire.writes) == 1
    assert [number for _, number, _ in bench.wire.frames()] == [0, 1, 2]


async def test_frames_are_handed_on_in_order_however_they_are_cut() -> None:
    """A stream socket keeps no boundaries."""
    bench = Bench()
    data = encode(Kind.RUN, 1, b"abc") + encode(Kind.CANCEL, 2)
    for byte in data:
        bench.connection.data_received(bytes([byte]))

    assert bench.heard == [(Kind.RUN, 1, b"abc"), (Kind.CANCEL, 2, b"")]


async def test_a_frame_that_a_host_may_not_send_ends_the_connection() -> None:
    """The two have lost each other: nothing that follows can be trusted."""
    bench = Bench()
    bench.say([(Kind.RESULT, 1, b"")])

    assert bench.wire.is_closed
    with pytest.raises(ProtocolError, match="unexpected frame kind 36"):
        bench.connection.lost.result()


async def test_an_error_after_the_end_changes_nothing() -> None:
    """Bytes that were read already arrive late."""
    bench = Bench()
    bench.connection.close()
    bench.say([(Kind.RESULT, 1, b"")])

    assert bench.connection.lost.result() is None


async def test_a_lost_connection_drops_what_is_sent() -> None:
    """Tasks end after the host is gone; their answers are nobody's."""
    bench = Bench()
    bench.connection.send(Kind.RESULT, 1, b"")
    bench.connection.connection_lost(None)
    bench.connection.send(Kind.RESULT, 2, b"")

    assert await bench.frames() == []
    assert bench.connection.lost.done()


async def test_closing_writes_the_last_frames_first() -> None:
    """The answer of the last task must not be lost in the shutdown."""
    bench = Bench()
    bench.connection.send(Kind.RESULT, 1, b"")
    bench.connection.close()
    bench.connection.close()
    bench.connection.abort()

    assert bench.wire.frames() == [(Kind.RESULT, 1, b"")]
    assert bench.wire.is_closed


async def test_a_paused_transport_makes_waiters_wait() -> None:
    """The host does not read: events wait in the author's code, not in memory."""
    bench = Bench()
    waiter = Waiter()
    bench.connection.pause_writing()
    bench.connection.wait_for_room(waiter)
    bench.connection.wait_for_room(waiter)
    bench.connection.flush()
    assert (bench.connection.is_full, waiter.pumped) == (True, 0)
    bench.connection.resume_writing()

    assert (bench.connection.is_full, waiter.pumped) == (False, 1)


async def test_much_in_one_turn_makes_waiters_wait_for_the_next() -> None:
    """The transport cannot say that it is full before it has seen the batch."""
    bench = Bench()
    waiter = Waiter()
    bench.connection.send(Kind.EVENT, 1, b"x" * (HIGH_WATER_BYTES + 1))
    assert bench.connection.is_full
    bench.connection.wait_for_room(waiter)
    await bench.frames()

    assert (bench.connection.is_full, waiter.pumped) == (False, 1)


async def test_a_waiter_that_finds_room_goes_on_at_once() -> None:
    """Between its look and its request there may have come room."""
    bench = Bench()
    waiter = Waiter()
    bench.connection.wait_for_room(waiter)

    assert waiter.pumped == 1
