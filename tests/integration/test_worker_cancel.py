"""Cancellation in the worker: CANCEL, INTERRUPT, and whatever crosses them."""

# Sync code calls `emit` and `progress` without awaiting them: that is what these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from kagent_sdk import Agent, TaskContext, TaskInterrupted
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import COUNT
from tests.integration.worker_host import WorkerHost, run_payload, serving


async def test_a_cancelled_async_task_cleans_up_and_is_answered() -> None:
    """CANCEL is asyncio's own cancellation, at the place where the code waits."""
    agent = Agent()
    cleaned: list[str] = []

    @agent.capability
    async def wait(ctx: TaskContext) -> None:
        try:
            await ctx.emit("at work")
            await asyncio.Event().wait()
        finally:
            cleaned.append(f"cancelled: {bool(ctx.cancelled)}")

    async with serving(agent) as host:
        number = await host.run("wait")
        assert (await host.receive())[0] == Kind.EVENT
        await host.send(Kind.CANCEL, number, b"caller")
        answer = await host.answer(number)

    assert answer.failure is not None
    assert (answer.failure.code, answer.failure.message) == (
        "canceled",
        "the task was canceled: caller",
    )
    assert cleaned == ["cancelled: True"]


async def test_a_task_cancelled_before_its_first_step_is_answered() -> None:
    """RUN and CANCEL in one read: the job has not begun, and would never answer by itself."""
    agent = Agent()
    begun: list[int] = []

    @agent.capability
    async def work() -> None:
        begun.append(1)

    async with serving(agent) as host:
        frames = [(Kind.RUN, run_payload(0, b"{}")), (Kind.CANCEL, b"timeout")]
        await asyncio.gather(*(host.send(kind, 7, payload) for kind, payload in frames))
        answer = await host.answer(7)

    assert answer.failure is not None
    assert answer.failure.code == "canceled"
    assert begun == []


async def test_a_cancelled_task_that_finishes_still_answers_its_result() -> None:
    """What was done is not thrown away because somebody asked too late."""
    agent = Agent()

    @agent.capability
    async def deaf(ctx: TaskContext) -> str:
        await ctx.emit(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done all the same"

    async with serving(agent) as host:
        number = await host.run("deaf")
        await host.receive()
        await host.send(Kind.CANCEL, number, b"caller")

        assert (await host.answer(number)).output == "done all the same"


async def test_a_cancelled_stream_closes_its_generator() -> None:
    """The author's `finally` runs before the task is answered."""
    agent = Agent()
    closed: list[str] = []

    @agent.capability
    async def ticks() -> AsyncIterator[int]:
        try:
            for number in range(10_000):
                yield number
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async with serving(agent, event_window=3) as host:
        number = await host.run("ticks")
        for _ in range(3):
            assert (await host.receive())[0] == Kind.EVENT
        await host.send(Kind.CANCEL, number, b"disconnect")
        answer = await host.answer(number)

    assert answer.failure is not None
    assert answer.failure.code == "canceled"
    assert closed == ["closed"]


async def test_a_sync_task_sees_its_cancellation() -> None:
    """A thread cannot be cancelled, so it looks, or waits, at the flag."""
    agent = Agent()

    @agent.capability
    def poll(ctx: TaskContext) -> str:
        ctx.emit("at work")
        return "saw it" if ctx.cancelled.wait(20) else "did not"

    async with serving(agent) as host:
        number = await host.run("poll")
        await host.receive()
        await host.send(Kind.CANCEL, number, b"caller")

        assert (await host.answer(number)).output == "saw it"


async def test_a_sync_task_that_does_not_look_is_interrupted() -> None:
    """INTERRUPT raises in the thread; the thread serves the next task as if nothing had been."""
    agent = Agent()
    threads: list[int] = []

    @agent.capability
    def spin(ctx: TaskContext) -> None:
        threads.append(threading.get_ident())
        ctx.emit("at work")
        while True:
            with suppress(Exception):  # what must not swallow the interrupt
                time.sleep(0.001)

    @agent.capability
    def thread() -> int:
        return threading.get_ident()

    async with serving(agent, threads=1) as host:
        number = await host.run("spin")
        await host.receive()
        await host.send(Kind.CANCEL, number, b"timeout")
        await host.send(Kind.INTERRUPT, number)
        await host.send(Kind.INTERRUPT, number)
        answer = await host.answer(number)
        after = [await host.call("thread") for _ in range(5)]

    assert answer.failure is not None
    assert answer.failure.code == "canceled"
    assert set(after) == set(threads)


async def test_an_interrupt_never_hits_the_next_task() -> None:
    """The race that matters: an interrupt that comes as the task ends."""
    agent = Agent()
    hits: list[BaseException] = []

    @agent.capability
    def brief() -> int:
        try:
            return sum(range(300))
        except TaskInterrupted as exc:
            hits.append(exc)
            raise

    async with serving(agent, threads=2) as host:
        first = len(host.hello.capabilities) + 1
        wrong = []
        for number in range(first, first + 2000):
            await host.send(Kind.RUN, number, run_payload(0, b"{}"))
            is_victim = number % 2 == 0
            if is_victim:
                await host.send(Kind.CANCEL, number, b"caller")
                await host.send(Kind.INTERRUPT, number)
            answer = await host.answer(number)
            if not is_victim and answer.output != sum(range(300)):
                wrong.append(answer)

    assert wrong == []


def make_busy_agent() -> Agent:
    """Return an agent whose tasks take some steps, one capability of each kind."""
    agent = Agent()

    @agent.capability
    async def job(naps: int, ctx: TaskContext) -> int:
        for _ in range(naps):
            await asyncio.sleep(0)
            await ctx.progress(0.5)
        return naps

    @agent.capability
    def thread(naps: int, ctx: TaskContext) -> int:
        for _ in range(naps):
            time.sleep(0.0001)
            ctx.emit("at work")
        return naps

    @agent.capability
    async def stream(naps: int) -> AsyncIterator[int]:
        for number in range(naps):
            yield number

    return agent


async def test_every_task_is_answered_exactly_once_whatever_happens_to_it() -> None:
    """Cancels and interrupts at random moments, in all kinds, with few threads and small windows."""
    rng = random.Random(7)  # noqa: S311 - a test's variety
    async with serving(make_busy_agent(), threads=3, event_window=4, heartbeat_s=0.01) as host:
        open_numbers: set[int] = set()
        answered: Counter[int] = Counter()
        for _ in range(3000):
            name = rng.choice(["job", "thread", "stream"])
            open_numbers.add(await host.run(name, {"naps": rng.randrange(12)}))
            while len(open_numbers) > 20:
                if rng.random() < 0.3:
                    await _end(host, rng.choice(sorted(open_numbers)))
                await _take(host, open_numbers, answered)
        while open_numbers:
            await _take(host, open_numbers, answered)

    assert set(answered.values()) == {1}
    assert len(answered) == 3000


async def _end(host: WorkerHost, number: int) -> None:
    await host.send(Kind.CANCEL, number, b"caller")
    await host.send(Kind.INTERRUPT, number)


async def _take(host: WorkerHost, open_numbers: set[int], answered: Counter[int]) -> None:
    kind, number, _ = await host.receive()
    assert number in open_numbers
    if kind == Kind.EVENT:
        await host.send(Kind.ACK, number, COUNT.pack(1))
    elif kind in (Kind.RESULT, Kind.ERROR):
        open_numbers.remove(number)
        answered[number] += 1


async def test_a_sync_task_that_waits_for_a_thread_is_cancelled_at_once() -> None:
    """It has not begun: nothing of it needs to be awaited."""
    agent = Agent()
    release = threading.Event()
    begun: list[int] = []

    @agent.capability
    def hold() -> None:
        begun.append(1)
        release.wait(20)

    async with serving(agent, threads=1) as host:
        first = await host.run("hold")
        second = await host.run("hold")
        await host.send(Kind.CANCEL, second, b"caller")
        answer = await host.answer(second)
        release.set()
        assert (await host.answer(first)).failure is None

    assert answer.failure is not None
    assert answer.failure.code == "canceled"
    assert begun == [1]


async def test_a_cancelled_thread_that_waits_for_the_reader_is_let_go() -> None:
    """It could not look at the flag while it waits."""
    agent = Agent()

    @agent.capability
    def flood(ctx: TaskContext) -> None:
        for number in range(100):
            ctx.emit(number)

    async with serving(agent, event_window=2) as host:
        number = await host.run("flood")
        await host.receive()
        await host.receive()
        await host.send(Kind.CANCEL, number, b"caller")
        answer = await host.answer(number)

    assert answer.failure is not None
    assert answer.failure.code == "canceled"


async def test_a_cancelled_thread_that_waits_for_a_call_is_let_go() -> None:
    """The answer may never come."""
    agent = Agent()

    @agent.capability
    def ask(ctx: TaskContext) -> Any:
        return ctx.call("other", "digest", {}).result()

    async with serving(agent) as host:
        number = await host.run("ask")
        _, call, _ = await host.receive()
        await host.send(Kind.CANCEL, number, b"caller")
        cancelled = await host.receive()
        answer = await host.answer(number)

    assert cancelled == (Kind.CALL_CANCEL, call, b"")
    assert answer.failure is not None
    assert answer.failure.code == "canceled"
