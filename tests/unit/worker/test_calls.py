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
