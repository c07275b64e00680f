"""Events and progress of a worker, and readers that do not keep up."""

# Sync code calls `emit` and `progress` without awaiting them: that is what these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator

import pytest

from kagent_sdk import Agent, TaskContext
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import COUNT
from kagent_sdk.worker.progress import INTERVAL_S
from tests.integration.worker_host import serving


@pytest.mark.parametrize("mode", ["stream", "async", "sync"])
async def test_no_more_than_the_window_is_under_way(mode: str) -> None:
    """A reader that does not keep up slows the author's code down; memory does not grow."""
    agent = Agent()
    if mode == "stream":

        @agent.capability(name="count")
        async def stream() -> AsyncIterator[int]:
            for number in range(2000):
                yield number
    elif mode == "async":

        @agent.capability(name="count")
        async def emit(ctx: TaskContext) -> None:
            for number in range(2000):
                await ctx.emit(number)
    else:

        @agent.capability(name="count")
        def emit_sync(ctx: TaskContext) -> None:
            for number in range(2000):
                ctx.emit(number)

    async with serving(agent, event_window=16) as host:
        number = await host.run("count")
        held = [(await host.receive()) for _ in range(16)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await host.receive()
        await host.send(Kind.ACK, number, COUNT.pack(16))
        answer = await host.answer(number)

    assert [json.loads(payload) for _, _, payload in held] + answer.events == list(range(2000))


async def test_events_that_nobody_awaited_still_come_before_the_result() -> None:
    """Fire and forget is allowed within reason; the order holds."""
    agent = Agent()

    @agent.capability
    async def forget(ctx: TaskContext) -> str:
        for number in range(100):
            ctx.emit(number)
        return "done"

    async with serving(agent, event_window=4) as host:
        answer = await host.answer(await host.run("forget"))

    assert answer.events == list(range(100))
    assert answer.output == "done"


async def test_a_host_that_does_not_read_holds_events_back() -> None:
    """Large events within the window must not pile up in the worker either."""
    agent = Agent()
    sent: list[int] = []

    @agent.capability
    async def flood(ctx: TaskContext) -> None:
        for number in range(40):
            await ctx.emit("x" * 200_000)
            sent.append(number)

    @agent.capability
    def flood_sync(ctx: TaskContext) -> None:
        for number in range(40):
            ctx.emit("x" * 200_000)
            sent.append(number)

    async with serving(agent) as host:
        for name in ("flood", "flood_sync"):
            sent.clear()
            number = await host.run(name)
            while not sent:  # noqa: ASYNC110 - a thread of its own sends, too
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # the time in which all forty would be on their way
            assert len(sent) < 20
            answer = await host.answer(number)
            assert len(answer.events) == 40


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_progress_is_coalesced_and_the_last_one_always_comes(mode: str) -> None:
    """An author may report in every turn of a loop of a million."""
    agent = Agent()
    is_shown = threading.Event()
    if mode == "async":

        @agent.capability(name="work")
        async def work_async(ctx: TaskContext) -> str:
            await ctx.progress(0, "begins")
            await asyncio.to_thread(is_shown.wait)
            for number in range(10_000):
                await ctx.progress(number / 10_000, "at work")
            await ctx.progress(1, "done")
            return "done"
    else:

        @agent.capability(name="work")
        def work_sync(ctx: TaskContext) -> str:
            ctx.progress(0, "begins")
            is_shown.wait()
            for number in range(10_000):
                ctx.progress(number / 10_000, "at work")
            ctx.progress(1, "done")
            return "done"

    async with serving(agent) as host:
        number = await host.run("work")
        kind, _, first = await host.receive()
        is_shown.set()
        began_s = time.monotonic()
        answer = await host.answer(number)
        took_s = time.monotonic() - began_s

    assert (kind, json.loads(first)) == (Kind.PROGRESS, {"fraction": 0.0, "message": "begins"})
    assert answer.progress[-1] == {"fraction": 1.0, "message": "done"}
    assert 1 <= len(answer.progress) <= took_s / INTERVAL_S + 2
