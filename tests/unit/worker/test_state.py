"""The state in the worker: requests on the wire, and what a task commits before its result."""

# A plain call changes a task's state: that is what some of these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kagent_sdk import Agent, LoopContext, StateConflictError, StateError, TaskContext
from kagent_sdk.capability import declare
from kagent_sdk.context import CURRENT_TASK, Flag
from kagent_sdk.context.state import State
from kagent_sdk.context.state_access import DirectAccess
from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.frames import Frame, Kind
from kagent_sdk.protocol.messages import Run
from kagent_sdk.protocol.state import (
    Get,
    Transaction,
    Write,
    decode_request,
    decode_transaction,
    encode_committed,
)
from kagent_sdk.worker.execution import Execution, execution_type
from kagent_sdk.worker.loops import LoopRunner
from kagent_sdk.worker.parts import LoopPart
from kagent_sdk.worker.state import MAX_OPEN, StateLine
from tests.unit.context.fake_host import FakeHost
from tests.unit.worker.rig import Bench


class StateBench(Bench):
    """A bench whose host answers STATE frames.

    Attributes:
        host: what it answers from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.host = FakeHost()
        self.state = State(DirectAccess(StateLine(self.services.state, None)))

    async def turn(self) -> list[Frame]:
        """Let the loop turn, and answer what was asked; return the other frames."""
        others: list[Frame] = []
        for kind, number, payload in await self.frames():
            if kind == Kind.STATE:
                self.services.state.answer(number, self.host.serve(payload))
            else:
                others.append((kind, number, payload))
        return others

    def start(self, function: Callable[..., Any], number: int = 1) -> Execution:
        """Start a task."""
        capability = declare(function)
        run = Run(0, 1, float("inf"), f"t-{number}", "", b"", b"{}")
        task = execution_type(capability)(self.services, number, capability, run)
        self.services.running[number] = task
        task.start()
        return task

    async def ending(self) -> list[Frame]:
        """Return all frames up to the end of every task."""
        frames: list[Frame] = []
        while self.services.running:
            frames += await self.turn()
        return frames + await self.turn()


async def until(bench: StateBench, job: asyncio.Future[Any]) -> Any:
    """Answer until a job is done, and return its result."""
    while not job.done():
        await bench.turn()
    return job.result()


def increment(number: int) -> int:
    """Return the next number."""
    return number + 1


async def test_requests_go_out_and_answers_come_back() -> None:
    """From the event loop, and from a thread."""
    bench = StateBench()
    state = bench.state

    async def work() -> int:
        await state.set("n", 1)
        return int(await state.update("n", increment))

    assert await until(bench, asyncio.ensure_future(work())) == 2
    in_thread = asyncio.to_thread(lambda: state.update("n", increment).result())
    assert await until(bench, asyncio.ensure_future(in_thread)) == 3
    in_loop_of_a_thread = asyncio.to_thread(asyncio.run, work())
    assert await until(bench, asyncio.ensure_future(in_loop_of_a_thread)) == 2


async def test_answers_find_their_request() -> None:
    """They may overtake each other."""
    bench = StateBench()
    pending = [bench.state.get(key) for key in ("a", "b")]
    bench.host.put("a", b"1")
    bench.host.put("b", b"2")
    for _, number, payload in reversed(await bench.frames()):
        bench.services.state.answer(number, bench.host.serve(payload))

    assert [await each for each in pending] == [1, 2]


async def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    """The task may have been cancelled meanwhile."""
    bench = StateBench()

    async def wait() -> None:
        await bench.state.get("a")

    job = asyncio.ensure_future(wait())
    ((_, number, payload),) = await bench.frames()
    job.cancel()
    await asyncio.wait([job])
    bench.services.state.answer(number, bench.host.serve(payload))
    bench.services.state.answer(number, b"anything")

    bench.state.get("a")
    with pytest.raises(ProtocolError):
        bench.services.state.answer(number + 1, b"anything")


async def test_requests_that_wait_have_a_limit() -> None:
    """Each holds memory, here and in the host."""
    bench = StateBench()
    waiting = [bench.state.get("a") for _ in range(MAX_OPEN)]

    with pytest.raises(StateError, match="1000 requests about the state wait"):
        bench.state.get("a")
    await bench.turn()
    assert [await each for each in waiting] == [None] * MAX_OPEN
    bench.state.get("a")


async def test_when_the_host_is_gone_so_is_the_state() -> None:
    """Nobody must wait for ever."""
    bench = StateBench()
    waiting = bench.state.get("a")
    bench.services.state.close()
    bench.services.state.close()

    with pytest.raises(StateError, match="the host is gone"):
        await waiting
    with pytest.raises(StateError, match="the host is gone"):
        bench.state.get("a")


async def test_a_process_that_was_forked_has_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a copy of the worker's memory, and nobody would ever answer it."""
    bench = StateBench()
    monkeypatch.setattr(os, "getpid", lambda: 1)

    with pytest.raises(StateError, match="the state belongs to the worker"):
        bench.state.get("a")


async def test_a_request_that_races_with_the_end_fails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread asks in the moment in which the loop learns that the host is gone."""
    bench = StateBench()
    requests = bench.services.state

    class Late(dict[int, Any]):
        """The request is put down when the end has passed."""

        def __setitem__(self, number: int, value: Any) -> None:
            requests.close()
            super().__setitem__(number, value)

    monkeypatch.setattr(requests, "_open", Late())

    with pytest.raises(StateError, match="the host is gone"):
        await bench.state.get("a")
    assert await bench.frames() == []


@pytest.mark.parametrize("mode", ["async", "sync", "stream"])
async def test_a_task_commits_right_before_its_result(mode: str) -> None:
    """With nothing between the two, and on the task's number."""
    bench = StateBench()
    bench.host.put("n", b"1")

    async def work(ctx: TaskContext) -> None:
        await ctx.progress(1)
        await ctx.state.update("n", increment)

    def work_sync(ctx: TaskContext) -> None:
        ctx.progress(1)
        ctx.state.set("n", ctx.state.get("n").result() + 1)

    async def stream(ctx: TaskContext) -> AsyncIterator[int]:
        yield await ctx.state.update("n", increment)

    functions: dict[str, Callable[..., Any]] = {
        "async": work,
        "sync": work_sync,
        "stream": stream,
    }
    bench.start(functions[mode], 7)
    frames = await bench.ending()
    bench.services.threads.close()

    assert [(kind, number) for kind, number, _ in frames[-2:]] == [
        (Kind.COMMIT, 7),
        (Kind.RESULT, 7),
    ]
    expected = Transaction({"n": 1}, (), (Write("n", b"2"),))
    assert decode_transaction(frames[-2][2]) == expected
    assert bench.host.commits == []


async def test_a_task_that_fails_or_only_reads_commits_nothing() -> None:
    """All or none."""
    bench = StateBench()

    async def fail(ctx: TaskContext) -> None:
        ctx.state.set("a", 1)
        raise ValueError

    def fail_sync(ctx: TaskContext) -> None:
        ctx.state.set("a", 1)
        raise ValueError

    async def overflow(ctx: TaskContext) -> str:
        ctx.state.set("a", 1)
        return "x" * 9_000_000

    async def read(ctx: TaskContext) -> None:
        await ctx.state.get("a")

    def read_sync(ctx: TaskContext) -> None:
        ctx.state.get("a").result()

    for number, function in enumerate((fail, fail_sync, overflow, read, read_sync)):
        bench.start(function, number)
    frames = await bench.ending()
    bench.services.threads.close()

    kinds = dict(sorted((number, kind) for kind, number, _ in frames))
    assert list(kinds.values()) == [*[Kind.ERROR] * 3, *[Kind.RESULT] * 2]
    assert len(frames) == 5


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_task_that_forgets_an_update_fails(is_async: bool) -> None:
    """It would be completed, and its change lost."""
    bench = StateBench()

    async def work(ctx: TaskContext) -> None:
        ctx.state.update("a", increment, default=0)

    def work_sync(ctx: TaskContext) -> None:
        ctx.state.update("a", increment, default=0)

    bench.start(work if is_async else work_sync)
    frames = await bench.ending()
    bench.services.threads.close()

    assert [kind for kind, _, _ in frames] == [Kind.ERROR]
    assert b"update('a') was never awaited in task t-1" in frames[0][2]


async def test_a_job_that_outlives_its_task_changes_nothing() -> None:
    """Whether the task has used its state before or not."""
    bench = StateBench()
    kept: list[TaskContext] = []

    async def used(ctx: TaskContext) -> None:
        kept.append(ctx)
        ctx.state.set("a", 1)

    async def unused(ctx: TaskContext) -> None:
        kept.append(ctx)

    bench.start(used, 1)
    bench.start(unused, 2)
    await bench.ending()

    for context in kept:
        with pytest.raises(StateError, match=f"task {context.task_id} has ended"):
            context.state.set("a", 2)


async def test_threads_of_one_task_share_its_transaction() -> None:
    """All that they change is committed."""
    bench = StateBench()
    barrier = threading.Barrier(4)

    async def work(ctx: TaskContext) -> None:
        def change(number: int) -> None:
            barrier.wait()
            ctx.state.set(f"{number}", number)

        await asyncio.gather(*(asyncio.to_thread(change, number) for number in range(4)))

    bench.start(work)
    frames = await bench.ending()

    assert len(decode_transaction(frames[-2][2]).writes) == 4


async def test_a_sync_task_that_waits_for_the_state_hears_its_cancellation() -> None:
    """Its thread would wait for an answer that may never come."""
    bench = StateBench()

    def work(ctx: TaskContext) -> None:
        ctx.state.get("a").result()

    task = bench.start(work)
    frames: list[Frame] = []
    while not frames:
        frames = await bench.frames()
    other = bench.state.get("b")
    task.cancel("caller")
    while bench.services.running:
        frames += await bench.frames()
    frames += await bench.frames()
    bench.services.threads.close()

    assert decode_request(frames[0][2]) == Get("a")
    (error,) = [payload for kind, _, payload in frames if kind == Kind.ERROR]
    assert b"the task was canceled: caller" in error
    ((number, payload),) = [(each[1], each[2]) for each in frames[1:] if each[0] == Kind.STATE]
    bench.services.state.answer(number, bench.host.serve(payload))
    assert await other is None


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_task_with_state_leaves_nothing_to_the_garbage_collector(is_async: bool) -> None:
    """As one without."""
    bench = StateBench()

    async def work(ctx: TaskContext) -> None:
        await ctx.state.update("a", increment, default=0)

    def work_sync(ctx: TaskContext) -> None:
        ctx.state.update("a", increment, default=0).result()

    gc.collect()
    gc.disable()
    try:
        bench.start(work if is_async else work_sync)
        await bench.ending()
        while bench.services.threads.busy:  # noqa: ASYNC110 - what a thread does
            await asyncio.sleep(0)
        left = [each for each in gc.get_objects() if issubclass(type(each), Execution | State)]
    finally:
        gc.enable()
        bench.services.threads.close()

    assert left == [bench.state]


async def test_a_loop_commits_each_call_and_each_block() -> None:
    """It has no result to commit with."""
    bench = StateBench()
    done = asyncio.Event()

    async def sweep(ctx: LoopContext) -> None:
        assert CURRENT_TASK.get() is None
        await ctx.state.set("a", 1)
        async with ctx.state.transaction() as state:
            await state.set("b", await state.get("a"))
        with pytest.raises(StateConflictError):
            await conflict(ctx.state)
        done.set()

    async def conflict(state: State) -> None:
        async with state.transaction() as inner:
            await inner.update("a", increment)
            bench.host.put("a", b"9")

    runner = LoopRunner(
        LoopPart("sweep", sweep, None, is_async=True, takes_context=True), bench.services, Flag()
    )
    runner.start()
    await until(bench, asyncio.ensure_future(done.wait()))
    await runner.aclose(1)

    assert bench.host.values == {"a": b"9", "b": b"1"}


async def test_the_agents_state_is_there_while_it_runs() -> None:
    """At import there is nobody to ask."""
    bench = StateBench()
    agent = Agent()
    with pytest.raises(StateError, match="the agent does not run yet: use agent"):
        agent.state.get("a")
    agent.parts.state.requests = bench.services.state
    job = asyncio.ensure_future(_set(agent.state))
    await until(bench, job)

    assert bench.host.values == {"a": b"1"}
    assert agent.state is agent.state


async def _set(state: State) -> None:
    await state.set("a", 1)


async def test_the_agents_state_is_no_part_of_a_task() -> None:
    """It is committed at once, whatever becomes of the task."""
    bench = StateBench()
    agent = Agent()
    agent.parts.state.requests = bench.services.state

    async def work(ctx: TaskContext) -> None:
        ctx.state.set("mine", 1)
        await agent.state.update("tries", increment, default=0)
        raise ValueError

    bench.start(work)
    await bench.ending()

    assert bench.host.values == {"tries": b"1"}


async def test_a_task_that_has_no_use_for_the_state_pays_nothing() -> None:
    """The hot path: nothing is made."""
    bench = StateBench()

    async def work(ctx: TaskContext) -> None: ...

    task = bench.start(work)
    await bench.ending()

    assert task._state is None


async def test_a_commit_is_answered_by_a_version() -> None:
    """What the host says beside it is not the author's business."""
    bench = StateBench()
    pending = bench.state.set("a", 1)
    ((_, number, _),) = await bench.frames()
    bench.services.state.answer(number, encode_committed(7, 8))

    assert await pending is None  # type: ignore[func-returns-value]
