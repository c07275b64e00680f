"""Where coroutines and threads are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator

from kagent_sdk.debug.probes.stacks import (
    author_place,
    find_loop_thread,
    stack_of_frame,
    stack_of_job,
    thread_views,
)


class Awaitable:
    """An author's own: answers to no name."""

    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    def __await__(self) -> Generator[object, None, None]:
        yield from self._gate.wait().__await__()

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


async def in_stream(gate: asyncio.Event) -> AsyncIterator[int]:
    """Wait in an async generator."""
    await Awaitable(gate)
    yield 1


async def outer(gate: asyncio.Event) -> None:
    """Wait for another job, which waits in a stream."""

    async def inner() -> None:
        async for _ in in_stream(gate):
            pass

    await asyncio.create_task(inner())


async def test_the_chain_of_what_is_awaited_is_followed() -> None:
    """Through jobs, async generators and an author's own awaitables."""
    gate = asyncio.Event()
    job = asyncio.create_task(outer(gate))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    places = stack_of_job(job, threading.get_ident())
    gate.set()
    await job

    functions = [place.function.rpartition(".")[2] for place in places]
    assert functions == ["outer", "inner", "in_stream", "__await__", "wait"]
    where = author_place(places)
    assert where is not None
    assert where.function.endswith("__await__")


async def test_a_job_that_runs_has_the_stack_of_its_thread() -> None:
    """It awaits nothing: it is at work, perhaps in a function that never ends."""
    job, loop_thread = asyncio.current_task(), find_loop_thread(asyncio.get_running_loop())
    assert job is not None
    found: list[str] = []

    def look() -> None:
        found.extend(place.function for place in stack_of_job(job, loop_thread))

    def work() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    work()

    assert [name.rpartition(".")[2] for name in found][:2] == [
        "test_a_job_that_runs_has_the_stack_of_its_thread",
        "work",
    ]


async def test_what_has_ended_is_nowhere() -> None:
    """No place is no error."""

    async def nothing() -> None:
        pass

    job = asyncio.create_task(nothing())
    await job

    assert stack_of_job(job, None) == []
    assert author_place([]) is None
    assert stack_of_frame(None) == []


def test_the_thread_that_asks_is_not_shown() -> None:
    """It is the debugger's own."""
    assert threading.get_ident() not in [view.ident for view in thread_views()]
