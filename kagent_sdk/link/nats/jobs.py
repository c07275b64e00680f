"""Jobs that end when they are cancelled, whatever they wait for.

Before Python 3.12 `asyncio.wait_for`, which the client of NATS uses for every request, forgets a
cancellation that comes together with the answer (gh-86296). A job that talks to NATS is therefore
cancelled again until it has ended, and times are kept from outside of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

AGAIN_S = 0.1


class OverdueError(TimeoutError):
    """The time that `finish` was given is over; not one that the work itself has missed."""


async def end(jobs: Collection[asyncio.Task[Any]]) -> None:
    """Cancel jobs and return when they have ended; what they fail with is dropped."""
    running = {job for job in jobs if not job.done()}
    while running:
        for job in running:
            job.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_S)
    for job in jobs:
        if not job.cancelled():
            job.exception()


async def finish(work: Coroutine[Any, Any, T], within_s: float | None = None) -> T:
    """Return what a coroutine returns; it has ended when this does, in whatever way.

    Raises:
        OverdueError: the time is over.
    """
    job = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({job}, timeout=within_s)
        if not done:
            raise OverdueError
        return job.result()
    finally:
        await end({job})
