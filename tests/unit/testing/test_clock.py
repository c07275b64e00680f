"""Tests of `kagent_sdk.testing.clock`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kagent_sdk.testing import Clock
from kagent_sdk.testing.clock import MAX_STEPS


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    """Return one that has hold of the test's loop."""
    opened = Clock()
    opened.open()
    yield opened
    opened.close()


async def test_timers_fire_in_their_order_each_at_its_time(clock: Clock) -> None:
    """What one of them starts is due in its turn as well."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    seen: list[tuple[str, int]] = []

    def note(name: str) -> None:
        seen.append((name, round(loop.time() - began_s)))

    async def often() -> None:
        while True:
            note("often")
            await asyncio.sleep(20)

    loop.call_later(50, note, "late")
    loop.call_later(30, lambda: loop.call_later(5, note, "nested"))
    loop.call_later(10, note, "never").cancel()
    job = asyncio.create_task(often())
    await clock.advance(55)
    job.cancel()

    assert seen == [("often", 0), ("often", 20), ("nested", 35), ("often", 40), ("late", 50)]
    assert round(loop.time() - began_s) == 55


async def test_what_sleeps_an_hour_twice_wakes_after_two(clock: Clock) -> None:
    """The time that the computer needs does not count while the time is moved on."""
    naps = 0

    async def nap() -> None:
        nonlocal naps
        while True:
            await asyncio.sleep(3600)
            naps += 1

    job = asyncio.create_task(nap())
    await asyncio.sleep(0)
    await clock.advance(100 * 3600)
    job.cancel()

    assert naps == 100


async def test_a_job_that_never_rests_does_not_hold_it_up(clock: Clock) -> None:
    """It is given up at a number of steps, and the time is what was asked for."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    turns = 0

    def fidget() -> None:
        nonlocal turns
        turns += 1
        if loop.time() - began_s < 3600:
            loop.call_later(0.0001, fidget)

    fidget()
    await clock.advance(3600)

    assert loop.time() - began_s >= 3600
    assert turns >= MAX_STEPS


async def test_a_timeout_of_the_test_goes_by_it_too(clock: Clock) -> None:
    """There is one time for a loop."""

    async def be_late() -> None:
        async with asyncio.timeout(30):
            await clock.advance(31)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await be_late()
