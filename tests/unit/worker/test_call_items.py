"""Streams of other tasks: read by jobs and threads, and paced by them."""

from __future__ import annotations

import asyncio
import gc
import json
import threading

import pytest

from kagent_sdk.context import CallRequest
from kagent_sdk.errors import CallError, TaskInterrupted
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import CALL_WINDOW, CALL_WINDOW_BYTES, decode_count
from kagent_sdk.worker.call_items import ACK_SHARE, CallItems, Inflow
from kagent_sdk.worker.calls import Caller
from tests.unit.worker.rig import Bench

ANSWER = b'{"output":null}'


def stream(bench: Bench, owner: object = None) -> CallItems:
    """Send a call that streams; its number is 1."""
    return bench.services.calls.stream(Caller(owner), CallRequest("other", "c"))


def give(bench: Bench, *items: bytes) -> None:
    """Let items come."""
    for item in items:
        bench.services.calls.item(1, item)


async def kinds(bench: Bench) -> list[Kind]:
    """Return the kinds of the frames that were sent."""
    return [Kind(kind) for kind, _, _ in await bench.frames()]


async def test_items_are_read_in_order_to_the_end() -> None:
    """Those that are there, and those that come."""
    bench = Bench()
    items = stream(bench)
    give(bench, b"1", b'"two"')
    read = [await anext(items), await anext(items)]
    bench.loop.call_soon(give, bench, b"[3]")
    bench.loop.call_soon(bench.services.calls.answer, 1, ANSWER)
    read += [item async for item in items]

    assert read == [1, "two", [3]]
    assert await kinds(bench) == [Kind.CALL]


async def test_a_thread_reads_them_too() -> None:
    """With a plain `for`."""
    bench = Bench()
    items = stream(bench)
    reading = asyncio.ensure_future(asyncio.to_thread(list, items))
    await asyncio.sleep(0)
    give(bench, b"1", b"2")
    bench.services.calls.answer(1, ANSWER)

    assert await reading == [1, 2]
    with pytest.raises(RuntimeError, match="async for"):
        next(items)


async def test_the_others_failure_comes_behind_the_items() -> None:
    """What was good is not lost; after that it is the end."""
    bench = Bench()
    items = stream(bench)
    give(bench, b"1")
    error = {"code": "busy", "message": "later", "retryable": True, "status": 429}
    bench.services.calls.answer(1, json.dumps({"error": error}).encode())

    assert await anext(items) == 1
    with pytest.raises(CallError, match="busy: later"):
        await anext(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_what_was_read_is_acknowledged_in_shares() -> None:
    """By number, or by size: one large item may be all of the window."""
    bench = Bench()
    items = stream(bench)
    share = CALL_WINDOW // ACK_SHARE
    give(bench, *[b"1"] * (share + 1), b'"%b"' % (b"x" * (CALL_WINDOW_BYTES // ACK_SHARE)))
    for _ in range(share + 2):
        await anext(items)
    frames = await bench.frames()

    assert [(kind, number) for kind, number, _ in frames] == [
        (Kind.CALL, 1),
        (Kind.CALL_ACK, 1),
        (Kind.CALL_ACK, 1),
    ]
    assert [decode_count(payload) for _, _, payload in frames[1:]] == [share, 2]


@pytest.mark.parametrize("way", ["aclose", "close", "async with", "with", "let go"])
async def test_leaving_it_cancels_the_call_once(way: str) -> None:
    """Nobody works for a reader that has left."""
    bench = Bench()
    items = stream(bench)
    give(bench, b"1")
    match way:
        case "aclose":
            await items.aclose()
            await items.aclose()
        case "close":
            items.close()
        case "async with":
            async with items:
                await anext(items)
        case "with":
            with items:
                pass
        case _:
            pass
    if way != "let go":
        with pytest.raises(StopAsyncIteration):
            await anext(items)
    del items
    gc.collect()
    give(bench, b"2")
    bench.services.calls.answer(1, ANSWER)

    assert await kinds(bench) == [Kind.CALL, Kind.CALL_CANCEL]


async def test_one_that_has_ended_is_not_cancelled() -> None:
    """There is nothing to cancel, and the number may mean another call."""
    bench = Bench()
    items = stream(bench)
    bench.services.calls.answer(1, ANSWER)
    items.close()
    del items

    assert await kinds(bench) == [Kind.CALL]


async def test_a_reader_may_give_up_one_wait_and_go_on() -> None:
    """`asyncio.wait_for(anext(items), …)`."""
    bench = Bench()
    items = stream(bench)
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    give(bench, b"1")

    assert await anext(items) == 1
    assert await kinds(bench) == [Kind.CALL]


async def test_two_readers_are_refused() -> None:
    """Each would miss what the other has read."""
    bench = Bench()
    items = stream(bench)
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="somebody waits"):
        await anext(items)
    give(bench, b"1")

    assert await waiting == 1


async def test_an_item_that_does_not_fit_ends_the_stream() -> None:
    """The rest would be read by nobody."""

    def refuse(raw: bytes) -> object:
        raise CallError("invalid_output", raw.decode())

    bench = Bench()
    request = CallRequest("other", "c", load=refuse)
    items = bench.services.calls.stream(Caller(None), request)
    give(bench, b"1", b"2")
    with pytest.raises(CallError, match="invalid_output: 1"):
        await anext(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)

    assert await kinds(bench) == [Kind.CALL, Kind.CALL_CANCEL]


async def test_an_interrupt_wakes_the_thread_that_reads() -> None:
    """A cancelled sync task must not wait for what may never come."""
    bench = Bench()
    items = stream(bench, owner="me")
    begun = threading.Event()

    def read() -> object:
        begun.set()
        return next(items)

    reading = asyncio.ensure_future(asyncio.to_thread(read))
    await asyncio.to_thread(begun.wait, 20)
    bench.services.calls.interrupt("me")
    await asyncio.wait([reading])

    assert isinstance(reading.exception(), TaskInterrupted)
    assert await kinds(bench) == [Kind.CALL, Kind.CALL_CANCEL]


def test_a_collection_in_the_middle_of_an_item_does_no_harm() -> None:
    """The garbage collector may close a stream in the very thread that holds its lock."""
    cancelled: list[bool] = []
    inflow = Inflow(lambda _: None, lambda: cancelled.append(True))
    with inflow._lock:
        inflow.close()
    inflow.add(b"1")

    assert inflow.take() is None
    assert cancelled == [True]
