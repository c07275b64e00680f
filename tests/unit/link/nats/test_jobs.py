"""Jobs end when they are told to, also those that miss it once."""

from __future__ import annotations

import asyncio

import pytest

from kagent_sdk.link.nats import jobs


async def deaf(times: int) -> str:
    """Miss that many cancellations."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not times:
                raise
            times -= 1


async def test_a_job_that_misses_a_cancellation_is_cancelled_again() -> None:
    """`asyncio.wait_for` forgets one that comes with the answer: the agent would never stop."""
    job = asyncio.create_task(deaf(1))
    await asyncio.sleep(0)
    await jobs.end([job])

    assert job.cancelled()


async def test_a_time_is_kept_by_work_that_misses_its_cancellation() -> None:
    """A call must not last longer than its caller has time."""
    with pytest.raises(jobs.OverdueError):
        await jobs.finish(deaf(1), 0.01)


async def test_work_returns_and_fails_as_it_does() -> None:
    """Whatever is around it."""

    async def answer() -> int:
        return 42

    async def fail() -> None:
        raise ValueError("so")

    assert await jobs.finish(answer()) == 42
    with pytest.raises(ValueError, match="so"):
        await jobs.finish(fail())
