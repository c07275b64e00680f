"""Events and their window; how threads wait is in the integration tests too."""

# Sync code calls `emit` and `progress` without awaiting them: that is what these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio

import pytest

from kagent_sdk.errors import TaskInterrupted
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import EVENT_WINDOW_BYTES
from kagent_sdk.worker import events as events_module
from kagent_sdk.worker.events import EventStream
from tests.unit.worker.rig import Bench


def make_stream(bench: Bench, window: int = 2) -> EventStream:
    """Return the events of task 1."""
    return EventStream(1, window, bench.connection, bench.services.mailbox)


async def payloads(bench: Bench) -> list[bytes]:
    """Return the events that were written."""
    return [payload for kind, _, payload in await bench.frames() if kind == Kind.EVENT]


async def test_events_beyond_the_window_wait_for_an_ack() -> None:
    """The reader sets the pace."""
    bench = Bench()
    stream = make_stream(bench)
    awaitables = [asyncio.ensure_future(_await(stream.emit(b"%d" % n))) for n in range(4)]
    assert await payloads(bench) == [b"0", b"1"]
    assert [each.done() for each in awaitables] == [True, True, False, False]
    stream.acknowledge(1)
    assert await payloads(bench) == [b"2"]
    stream.acknowledge(5)

    assert await payloads(bench) == [b"3"]
    await asyncio.gather(*awaitables)


async def test_large_events_fill_the_window_too() -> None:
    """What no reader has taken must not fall out of the host's log for its size."""
    bench = Bench()
    stream = make_stream(bench, window=100)
    half = b"x" * (EVENT_WINDOW_BYTES // 2)
    waiting = [
        asyncio.ensure_future(_await(stream.emit(each))) for each in (b"1", half, half, b"2")
    ]
    bench.connection.flush()
    first = [len(each) for each in await payloads(bench)]
    stream.acknowledge(1)
    second = [len(each) for each in await payloads(bench)]
    stream.acknowledge(1)

    assert first + second == [1, len(half), len(half)]
    assert await payloads(bench) == [b"2"]
    await asyncio.gather(*waiting)


async def _await(awaitable: object) -> None:
    await awaitable  # type: ignore[misc]


async def test_an_event_whose_emitter_was_cancelled_is_not_sent() -> None:
    """It would come after the clean-up that its author has done."""
    bench = Bench()
    stream = make_stream(bench, window=1)
    await stream.emit(b"0")
    waiting = asyncio.ensure_future(_await(stream.emit(b"1")))
    last = asyncio.ensure_future(_await(stream.emit(b"2")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    stream.acknowledge(1)

    assert await payloads(bench) == [b"0", b"2"]
    await last


async def test_events_wait_for_a_connection_that_is_full() -> None:
    """A host that does not read must not grow the worker."""
    bench = Bench()
    stream = make_stream(bench, window=10)
    bench.connection.pause_writing()
    waiting = asyncio.ensure_future(_await(stream.emit(b"0")))
    assert await payloads(bench) == []
    stream.acknowledge(1)
    bench.connection.resume_writing()

    assert await payloads(bench) == [b"0"]
    await waiting


async def test_drained_returns_when_nothing_waits() -> None:
    """The result comes after the last event."""
    bench = Bench()
    stream = make_stream(bench, window=1)
    await stream.drained()
    await stream.emit(b"0")
    stream.emit(b"1")
    drained = asyncio.ensure_future(stream.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    stream.acknowledge(1)
    stream.acknowledge(1)
    await drained

    assert await payloads(bench) == [b"0", b"1"]


async def test_code_that_never_awaits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its events would pile up without end."""
    monkeypatch.setattr(events_module, "MAX_WAITING", 3)
    stream = make_stream(Bench(), window=1)
    for _ in range(4):
        stream.emit(b"0")

    with pytest.raises(RuntimeError, match=r"write `await ctx.emit\(...\)`"):
        stream.emit(b"0")


async def test_a_thread_waits_for_the_window() -> None:
    """A plain call in sync code blocks where async code awaits."""
    bench = Bench()
    stream = make_stream(bench)

    def emit() -> None:
        for number in range(4):
            stream.emit_from_thread(b"%d" % number)

    thread = asyncio.create_task(asyncio.to_thread(emit))
    seen: list[bytes] = []
    while len(seen) < 2:
        seen += await payloads(bench)
    assert not thread.done()
    stream.acknowledge(2)
    await thread
    seen += await payloads(bench)

    assert seen == [b"0", b"1", b"2", b"3"]


async def test_a_thread_waits_for_a_connection_that_is_full() -> None:
    """Also if there was room again before the loop heard of its wish."""
    bench = Bench()
    stream = make_stream(bench, window=10)
    bench.connection.pause_writing()
    thread = asyncio.create_task(asyncio.to_thread(stream.emit_from_thread, b"0"))
    while not bench.connection._room_waiters:  # noqa: ASYNC110 - what a thread does
        await asyncio.sleep(0)
    bench.connection.resume_writing()
    await thread

    assert await payloads(bench) == [b"0"]


async def test_a_thread_waits_when_the_loop_has_not_sent_its_last_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A window of large events would otherwise be held twice."""
    monkeypatch.setattr(events_module, "MAX_POSTED_BYTES", 3)
    bench = Bench()
    stream = make_stream(bench, window=100)

    def emit() -> None:
        for _ in range(50):
            stream.emit_from_thread(b"1234")

    await asyncio.to_thread(emit)

    assert await payloads(bench) == [b"1234"] * 50


async def test_cancelling_ends_the_waiting_of_threads_now_and_later() -> None:
    """A thread that waits could not look at `ctx.cancelled`."""
    bench = Bench()
    stream = make_stream(bench, window=1)
    await stream.emit(b"0")
    thread = asyncio.create_task(asyncio.to_thread(stream.emit_from_thread, b"1"))
    await asyncio.sleep(0)
    stream.cancel()
    for emitting in (thread, asyncio.to_thread(stream.emit_from_thread, b"2")):
        with pytest.raises(TaskInterrupted):
            await emitting


async def test_nothing_is_sent_after_the_end() -> None:
    """The host knows the task no more."""
    bench = Bench()
    stream = make_stream(bench, window=1)
    await asyncio.to_thread(stream.emit_from_thread, b"0")
    stream2 = make_stream(bench, window=1)
    await stream2.emit(b"1")
    stream2.emit(b"2")
    stream2.close()
    stream2.acknowledge(1)
    late = asyncio.create_task(asyncio.to_thread(stream2.emit_from_thread, b"3"))
    await late

    assert await payloads(bench) == [b"0", b"1"]
