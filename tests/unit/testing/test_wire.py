"""Tests of `kagent_sdk.testing.wire`: what the two ends of a socket promise holds here."""

from __future__ import annotations

import asyncio

from kagent_sdk.testing.wire import MemoryTransport, join_protocols


class Peer(asyncio.BufferedProtocol):
    """Keeps what comes; reads ten bytes at a time."""

    def __init__(self) -> None:
        self.came = b""
        self.said: list[str] = []
        self.lost = asyncio.Event()
        self._buffer = bytearray(10)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        assert isinstance(transport, MemoryTransport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        """Lend ten bytes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take them; a full stop ends the reading."""
        self.came += self._buffer[:nbytes]
        if self.came.endswith(b"."):
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        """Note it."""
        self.said.append("pause")

    def resume_writing(self) -> None:
        """Note it."""
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        assert exc is None
        self.lost.set()


def joined() -> tuple[Peer, Peer]:
    """Return both ends."""
    one, other = Peer(), Peer()
    join_protocols(one, other)
    return one, other


async def turns() -> None:
    """Let the loop do what there is."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_bytes_arrive_in_a_later_turn_whole_and_in_order() -> None:
    """Whatever the reader's buffer is."""
    one, other = joined()
    one.transport.write(b"one and ")
    one.transport.write(b"a long, long other")
    assert other.came == b""
    await turns()

    assert other.came == b"one and a long, long other"


async def test_a_reader_that_pauses_pauses_the_writer() -> None:
    """And what came meanwhile is there when it reads again."""
    one, other = joined()
    one.transport.set_write_buffer_limits(high=20)
    one.transport.write(b"123456789.")
    await turns()
    one.transport.write(b"x" * 50)
    await turns()
    assert (one.said, other.came) == (["pause"], b"123456789.")
    assert not other.transport.is_reading()

    other.transport.resume_reading()
    await turns()
    assert other.came == b"123456789." + b"x" * 50
    assert one.said == ["pause", "resume"]


async def test_closing_lets_the_other_end_read_to_the_end() -> None:
    """Then it is lost as well, and nobody can write."""
    one, other = joined()
    one.transport.write(b"last words")
    one.transport.close()
    one.transport.write(b"too late")
    await other.lost.wait()

    assert one.lost.is_set()
    assert other.came == b"last words"
    assert one.transport.is_closing()
    assert other.transport.is_closing()


async def test_aborting_drops_what_is_under_way() -> None:
    """As a process that was killed."""
    one, other = joined()
    one.transport.write(b"never read")
    one.transport.abort()
    one.transport.abort()
    await other.lost.wait()

    assert one.lost.is_set()
    assert other.came == b""
