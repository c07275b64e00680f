"""Code that another thread interrupts: it lands inside, or not at all."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import pytest

from kagent_sdk.debug.interruption import ConsoleInterrupt, Interruptible


def spin() -> None:
    """Run until something is raised here."""
    while True:
        pass


def work(number: int) -> int:
    """Take a few steps, between which other threads run."""
    total = 0
    for _ in range(4):
        time.sleep(0)
        total += number
    return total


def test_an_interrupt_lands_inside_the_call_or_not_at_all() -> None:
    """One that is late would hit the author's code, in the same thread."""
    code = Interruptible()
    stop = threading.Event()
    landed = 0

    def interrupt() -> None:
        while not stop.is_set():
            code.interrupt()

    thread = threading.Thread(target=interrupt)
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that interrupts come anywhere
    thread.start()
    try:
        while landed < 500:
            try:
                assert code.run(work, 7) == 28
            except ConsoleInterrupt:
                landed += 1
        with pytest.raises(ConsoleInterrupt):
            code.run(spin)
    finally:
        sys.setswitchinterval(usual_s)
        stop.set()
        thread.join()


async def test_a_coroutine_is_awaited_as_if_nothing_were_between() -> None:
    """Results, errors and cancellation pass through."""
    code = Interruptible()

    async def wait(future: asyncio.Future[int]) -> int:
        try:
            return await future + 1
        except asyncio.CancelledError:
            return 0

    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, 2)
    assert await code.steps(wait(future)) == 3

    failing = asyncio.get_running_loop().create_future()
    failing.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await code.steps(wait(failing))

    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    assert await code.steps(wait(waiting)) == 0


async def test_what_waits_is_not_interrupted() -> None:
    """That is for a cancellation: the loop runs other code meanwhile."""
    code = Interruptible()
    gate = asyncio.Event()

    async def wait() -> str:
        await gate.wait()
        return "done"

    async def run() -> str:
        return await code.steps(wait())

    job = asyncio.create_task(run())
    await asyncio.sleep(0)
    code.interrupt()
    gate.set()

    assert await job == "done"
