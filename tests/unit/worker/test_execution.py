"""What a task may still do when it is over, and what its threads share."""

# Sync code calls `emit` and `progress` without awaiting them: that is what these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from pydantic import BaseModel, field_serializer

from kagent_sdk import TaskContext
from kagent_sdk.capability import declare
from kagent_sdk.protocol.frames import Frame, Kind
from kagent_sdk.protocol.messages import Run
from kagent_sdk.worker.connection import HIGH_WATER_BYTES
from kagent_sdk.worker.execution import Execution, ThreadExecution, execution_type
from tests.unit.worker.rig import Bench


def start(bench: Bench, function: Callable[..., Any], number: int = 1) -> None:
    """Start a task."""
    capability = declare(function)
    run = Run(0, 1, float("inf"), f"t-{number}", "", b"", b"{}")
    task = execution_type(capability)(bench.services, number, capability, run)
    bench.services.running[number] = task
    task.start()


async def ending(bench: Bench) -> list[Frame]:
    """Return all frames up to the end of every task."""
    frames: list[Frame] = []
    while bench.services.running:
        frames += await bench.frames()
    return frames + await bench.frames()


async def test_a_job_that_outlives_its_task_can_emit_and_report_no_more() -> None:
    """Its frames would be about a task that the host knows no more."""
    bench = Bench()
    kept: list[TaskContext] = []

    async def work(ctx: TaskContext) -> None:
        kept.append(ctx)

    start(bench, work)
    frames = await ending(bench)
    await kept[0].progress(0.5)

    with pytest.raises(RuntimeError, match="task t-1 has ended: it can emit no more"):
        await kept[0].emit(1)
    assert [kind for kind, _, _ in frames + await bench.frames()] == [Kind.RESULT]


async def test_large_outputs_are_written_as_the_host_takes_them() -> None:
    """A hundred of eight megabytes must neither hold the loop for seconds nor all be in memory."""
    bench = Bench()
    written: list[int] = []

    class Large(BaseModel):
        number: int

        @field_serializer("number")
        def write(self, number: int) -> str:
            written.append(number)
            return str(number) * (HIGH_WATER_BYTES + 1)

    def starter(number: int) -> Callable[[], Coroutine[Any, Any, Large]]:
        async def work() -> Large:
            return Large(number=number)

        return work

    for number in range(1, 4):
        start(bench, starter(number), number)
    await asyncio.sleep(0)
    bench.connection.pause_writing()  # as the transport does once it is given the first
    first = await bench.frames()
    assert written == [1]
    bench.connection.resume_writing()
    frames = await ending(bench)

    assert written == [1, 2, 3]
    assert [number for _, number, _ in first + frames] == [1, 2, 3]


async def test_a_task_may_be_cancelled_while_its_output_waits() -> None:
    """A host that does not read may still say that nobody wants the output any more."""
    bench = Bench()
    has_returned = asyncio.Event()

    async def work() -> str:
        has_returned.set()
        return "never written"

    bench.connection.pause_writing()
    start(bench, work)
    await has_returned.wait()
    await bench.frames()
    bench.services.running[1].cancel("caller")
    ((kind, number, _),) = await ending(bench)
    bench.connection.resume_writing()

    assert (kind, number) == (Kind.ERROR, 1)


async def test_threads_of_one_task_share_its_window_and_its_flag() -> None:
    """`asyncio.to_thread` with the context is what authors do."""
    bench = Bench(event_window=200)
    flags: set[int] = set()
    barrier = threading.Barrier(4)

    async def work(ctx: TaskContext) -> None:
        def emit() -> None:
            barrier.wait()
            flags.add(id(ctx.cancelled))
            ctx.progress(0.5)
            for _ in range(10):
                ctx.emit(1)

        await asyncio.gather(*(asyncio.to_thread(emit) for _ in range(4)))

    start(bench, work)
    frames = await ending(bench)

    assert len(flags) == 1
    assert [kind for kind, _, _ in frames].count(Kind.EVENT) == 40
    assert frames[-1][0] == Kind.RESULT


async def test_a_cancelled_task_starts_its_events_cancelled() -> None:
    """A thread that emits for the first time after the CANCEL must not wait for ever."""
    bench = Bench(event_window=1)
    begun, cancelled = asyncio.Event(), threading.Event()

    def work(ctx: TaskContext) -> None:
        bench.services.mailbox.post(begun.set)
        cancelled.wait(20)
        ctx.emit(1)
        ctx.emit(2)

    start(bench, work)
    await begun.wait()
    bench.services.running[1].acknowledge(1)
    bench.services.running[1].cancel("caller")
    cancelled.set()
    frames = await ending(bench)
    bench.services.threads.close()

    assert [kind for kind, _, _ in frames] == [Kind.EVENT, Kind.ERROR]
    assert b'"canceled"' in frames[-1][2]


async def test_an_interrupt_between_begin_and_work_is_answered() -> None:
    """The thread had taken the task, but the author's function never ran."""
    bench = Bench()

    def work() -> None: ...

    capability = declare(work)
    run = Run(0, 1, float("inf"), "t", "", b"", b"{}")
    task = ThreadExecution(bench.services, 1, capability, run)
    bench.services.running[1] = task
    task.has_begun = True
    task.cancel("timeout")
    task.finish()
    frames = await ending(bench)

    assert [kind for kind, _, _ in frames] == [Kind.ERROR]
    assert b"the task was canceled: timeout" in frames[0][2]


@pytest.mark.parametrize("mode", ["async", "sync", "stream"])
async def test_a_task_leaves_nothing_to_the_garbage_collector(mode: str) -> None:
    """Twenty thousand rings a second would keep it busy, and memory high."""
    bench = Bench()

    async def work(ctx: TaskContext) -> None:
        ctx.emit(1)
        ctx.progress(1)

    def work_sync(ctx: TaskContext) -> None:
        ctx.emit(1)
        ctx.progress(1)

    async def stream() -> AsyncIterator[int]:
        yield 1

    functions: dict[str, Callable[..., Any]] = {
        "async": work,
        "sync": work_sync,
        "stream": stream,
    }
    gc.collect()
    gc.disable()
    try:
        start(bench, functions[mode])
        await ending(bench)
        while bench.services.threads.busy:  # noqa: ASYNC110 - what a thread does
            await asyncio.sleep(0)
        left = [each for each in gc.get_objects() if issubclass(type(each), Execution)]
    finally:
        gc.enable()
        bench.services.threads.close()

    assert left == []


async def test_jobs_are_named_after_their_task() -> None:
    """A list of asyncio tasks in a debugger tells what they are for."""
    bench = Bench()
    names: list[str] = []

    async def work() -> None:
        job = asyncio.current_task()
        assert job is not None
        names.append(job.get_name())

    start(bench, work)
    await ending(bench)

    assert names == ["t-1"]
