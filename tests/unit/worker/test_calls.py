"""Calls to other capabilities."""

# A call may be sent for its effect alone.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import json

import pytest

from kagent_sdk.context import CallRequest
from kagent_sdk.errors import CallError, ProtocolError
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import CallHead, decode_call
from kagent_sdk.worker.calls import MAX_PENDING, Call, Caller, Calls
from tests.unit.worker.rig import Bench


def send(calls: Calls, input: object = None, owner: object = None) -> Call:
    """Send a call."""
    return calls.send(Caller(owner), CallRequest("other", "c", input))


async def test_an_answer_resolves_the_call_of_its_number() -> None:
    """Calls overtake each other."""
    bench = Bench()
    calls = bench.services.calls
    first, second = send(calls), send(calls)
    numbers = [number for kind, number, _ in await bench.frames() if kind == Kind.CALL]
    calls.answer(numbers[1], b'{"output": "two"}')
    calls.answer(numbers[0], b'{"output": "one"}')

    assert (await first, await second) == ("one", "two")


async def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    """The task may have been cancelled meanwhile."""
    bench = Bench()
    calls = bench.services.calls
    waiting = asyncio.ensure_future(_await(send(calls)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    calls.answer(1, b'{"output": 1}')
    calls.answer(1, b'{"output": 1}')
    calls.answer(77, b"anything")


async def _await(call: Call) -> object:
    return await call


async def test_the_others_error_is_raised_with_all_it_says() -> None:
    """`except CallError` can decide by code and by whether a retry helps."""
    bench = Bench()
    call = send(bench.services.calls)
    error = {"code": "busy", "message": "later", "retryable": True, "details": [1], "status": 429}
    bench.services.calls.answer(1, json.dumps({"error": error}).encode())
    with pytest.raises(CallError, match="busy: later") as caught:
        await call

    assert (caught.value.retryable, caught.value.details, caught.value.status) == (True, [1], 429)


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"error": 1}', b'{"error": {"code": 1}}'])
async def test_a_malformed_answer_breaks_the_protocol(payload: bytes) -> None:
    """The host wrote it: something is wrong with it."""
    bench = Bench()
    send(bench.services.calls)
    with pytest.raises(ProtocolError):
        bench.services.calls.answer(1, payload)


@pytest.mark.parametrize(
    ("input", "message"),
    [(object(), "cannot be written as JSON"), ("x" * 200, "bytes, over the limit of 200")],
)
async def test_an_input_that_cannot_be_sent_is_refused(input: object, message: str) -> None:
    """Here, where the author's traceback points at the call."""
    bench = Bench(max_output_bytes=200)
    with pytest.raises(CallError, match=message) as caught:
        send(bench.services.calls, input)

    assert caught.value.code == "invalid_input"


async def test_calls_under_way_are_bounded() -> None:
    """Each holds memory in two processes."""
    calls = Bench().services.calls
    for _ in range(MAX_PENDING):
        send(calls)
    with pytest.raises(CallError, match="too_many_calls") as caught:
        send(calls)

    assert caught.value.retryable


async def test_a_result_in_the_event_loop_is_refused() -> None:
    """It would wait for itself."""
    call = send(Bench().services.calls)
    with pytest.raises(RuntimeError, match=r"write `await ctx\.call"):
        call.result()


async def test_a_thread_may_stop_waiting() -> None:
    """The call goes on; its answer can be taken later."""
    bench = Bench()
    call = await asyncio.to_thread(send, bench.services.calls)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(call.result, 0.001)
    bench.services.calls.answer(1, b"{}")

    assert await asyncio.to_thread(call.result, 20) is None
    assert [kind for kind, _, _ in await bench.frames()] == [Kind.CALL]


async def test_an_interrupt_wakes_the_calls_of_one_owner() -> None:
    """The threads of a cancelled task, not those of others."""
    bench = Bench()
    mine, yours = send(bench.services.calls, owner="me"), send(bench.services.calls, owner="you")
    bench.services.calls.interrupt("me")
    bench.services.calls.interrupt("me")

    assert mine._future.exception() is not None
    assert not yours._future.done()


async def test_giving_up_the_wait_cancels_the_call() -> None:
    """Once, and not when it was answered before."""
    bench = Bench()
    given_up = asyncio.ensure_future(_await(send(bench.services.calls)))
    answered = send(bench.services.calls)
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    bench.services.calls.answer(2, b'{"output": 1}')
    answered.cancel()

    assert [(kind, number) for kind, number, _ in await bench.frames()] == [
        (Kind.CALL, 1),
        (Kind.CALL, 2),
        (Kind.CALL_CANCEL, 1),
    ]


async def test_a_cancellation_comes_behind_its_call() -> None:
    """A call of a thread waits for the event loop: the host must not hear of its end first."""
    bench = Bench()
    call = await asyncio.to_thread(send, bench.services.calls)
    other = bench.loop.run_in_executor(None, send, bench.services.calls)
    while not bench.services.calls._open.get(2):  # noqa: ASYNC110 - a thread has no event for it
        await asyncio.sleep(0)
    bench.services.calls.cancel(2)
    call.cancel()
    await other
    frames = [(kind, number) for kind, number, _ in await bench.frames()]

    assert frames.index((Kind.CALL, 2)) < frames.index((Kind.CALL_CANCEL, 2))
    assert frames.index((Kind.CALL, 1)) < frames.index((Kind.CALL_CANCEL, 1))


@pytest.mark.parametrize(("has_failed", "cancelled"), [(False, [2]), (True, [1, 2])])
async def test_the_end_of_a_task_ends_its_streams(has_failed: bool, cancelled: list[int]) -> None:
    """And its calls when it has failed; a call for its effect alone outlives a task that worked."""
    bench = Bench()
    calls = bench.services.calls
    call = send(calls, owner="me")
    items = calls.stream(Caller("me"), CallRequest("other", "c"))
    send(calls, owner="you")
    calls.leave("me", has_failed=has_failed)
    sent = [number for kind, number, _ in await bench.frames() if kind == Kind.CALL_CANCEL]

    assert sent == cancelled
    with pytest.raises(CallError, match="has ended"):
        await anext(items)
    if has_failed:
        with pytest.raises(CallError, match="has ended"):
            await call


async def test_a_head_says_all_that_was_asked_for() -> None:
    """The host decides by it alone."""
    bench = Bench()
    request = CallRequest(None, "c", {"a": 1}, 5.0, {"zone": "a"}, "t-1")
    bench.services.calls.send(Caller(None, 7, "00-a-b-01"), request)
    ((_, _, payload),) = await bench.frames()

    head = CallHead(None, "c", 5.0, "00-a-b-01", 7, {"zone": "a"}, stream=False, id="t-1")
    assert decode_call(payload) == (head, b'{"a":1}')


async def test_items_of_a_call_that_asked_for_none_are_dropped() -> None:
    """They would wait for a reader that there is not."""
    bench = Bench()
    call = send(bench.services.calls)
    bench.services.calls.item(1, b"1")
    bench.services.calls.answer(1, b'{"output":2}')

    assert await call == 2
