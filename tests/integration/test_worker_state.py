"""The state over a real socket, in every part of an agent's life; the host's side is played."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kagent_sdk import Agent, LoopContext, StateError, StateQuotaError, TaskContext
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.state import Transaction, Write, decode_transaction
from kagent_sdk.worker.runtime import Ending, Runtime
from tests.integration.worker_host import PATIENCE_S, WorkerHost, serving
from tests.unit.context.fake_host import FakeHost


def increment(number: int) -> int:
    """Return the next number."""
    return number + 1


async def test_hooks_loops_and_tasks_share_the_state() -> None:
    """From the first hook to the last."""
    host = FakeHost()
    agent = Agent()
    swept = asyncio.Event()

    @agent.on_startup
    async def start() -> None:
        await agent.state.update("starts", increment, default=0)

    @agent.loop
    async def sweep(ctx: LoopContext) -> None:
        await ctx.state.set("swept", await ctx.state.get("starts"))
        swept.set()

    @agent.loop
    def sweep_in_thread(ctx: LoopContext) -> None:
        with ctx.state.transaction() as state:
            state.set("swept/in/thread", state.get("starts").result()).result()

    @agent.capability
    async def count(ctx: TaskContext) -> int:
        return int(await ctx.state.update("count", increment, default=0))

    @agent.capability
    def count_in_thread(ctx: TaskContext) -> int:
        return int(ctx.state.update("count", increment, default=0).result())

    @agent.on_shutdown
    async def stop() -> None:
        await agent.state.set("stopped", value=True)

    async with serving(agent, host.serve) as worker:
        for expected, name in ((1, "count"), (2, "count_in_thread")):
            answer = await worker.answer(await worker.run(name))
            assert answer.output == expected
            assert answer.commit is not None
            transaction = decode_transaction(answer.commit)
            assert transaction.writes == (Write("count", str(expected).encode()),)
            host.commit(transaction)
        waiting = asyncio.ensure_future(swept.wait())
        while "swept/in/thread" not in host.values or not waiting.done():
            number = await worker.run("count")
            await worker.answer(number)

    assert host.values == {
        "count": b"2",
        "starts": b"1",
        "stopped": b"true",
        "swept": b"1",
        "swept/in/thread": b"1",
    }
    with pytest.raises(StateError, match="the host is gone"):
        await agent.state.get("count")


async def test_a_quota_is_an_error_that_code_can_catch() -> None:
    """The agent may drop what it can do without."""
    host = FakeHost(quota_bytes=10)
    agent = Agent()

    @agent.capability
    async def fill() -> str:
        try:
            await agent.state.set("a", "x" * 20)
        except StateQuotaError as error:
            return f"{error.used_bytes} of {error.quota_bytes}"
        return "done"

    async with serving(agent, host.serve) as worker:
        assert await worker.call("fill") == "23 of 10"


async def test_a_task_runs_again_on_what_is_there_then() -> None:
    """After a conflict the host sends it once more: nothing of the first attempt is left."""
    host = FakeHost()
    agent = Agent()

    @agent.capability
    async def count(ctx: TaskContext) -> int:
        return int(await ctx.state.update("count", increment, default=0))

    async with serving(agent, host.serve) as worker:
        first = await worker.answer(await worker.run("count"))
        host.put("count", b"41")
        second = await worker.answer(await worker.run("count", attempt=2))

    assert first.commit is not None
    assert second.commit is not None
    assert decode_transaction(second.commit) == Transaction(
        {"count": 1}, (), (Write("count", b"42"),)
    )


async def test_when_the_host_is_gone_nobody_waits_for_the_state() -> None:
    """Neither a job nor a thread: the worker is to end."""
    ours, theirs = socket.socketpair()
    agent = Agent()
    errors: list[str] = []

    @agent.capability
    async def ask() -> None:
        try:
            await agent.state.get("a")
        except asyncio.CancelledError:
            errors.append("cancelled")

    @agent.capability
    def ask_in_thread() -> None:
        try:
            agent.state.get("a").result()
        except StateError as error:
            errors.append(str(error))

    serving_job = asyncio.create_task(Runtime(agent.parts).serve(theirs))
    worker = WorkerHost(ours)
    await worker.start()
    await worker.run("ask")
    await worker.run("ask_in_thread")
    asked = [(await worker.receive())[0] for _ in range(2)]
    worker.vanish()
    async with asyncio.timeout(PATIENCE_S):
        assert await serving_job is Ending.HOST_GONE
        while len(errors) < 2:  # noqa: ASYNC110 - what a thread does
            await asyncio.sleep(0)

    assert asked == [Kind.STATE, Kind.STATE]
    assert set(errors) == {"cancelled", "the host is gone: the state cannot be asked any more"}


async def test_an_answer_that_is_none_ends_the_worker() -> None:
    """A host of another release: better no agent than one that guesses."""
    ours, theirs = socket.socketpair()
    agent = Agent()

    @agent.capability
    async def ask() -> None:
        await agent.state.get("a")

    serving_job = asyncio.create_task(Runtime(agent.parts).serve(theirs))
    worker = WorkerHost(ours)
    await worker.start()
    await worker.run("ask")
    kind, number, _ = await worker.receive()
    assert kind == Kind.STATE
    await worker.send(Kind.STATE_ANSWER, number, b"no answer")

    async with asyncio.timeout(PATIENCE_S):
        assert await serving_job is Ending.PROTOCOL_BROKEN
    worker.vanish()
