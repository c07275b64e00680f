"""The worker's life on a real socket: hello, hooks, loops, stop, and hosts that fail."""

# Sync code calls `emit` and `progress` without awaiting them: that is what these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from kagent_sdk import Agent, LoopContext, TaskContext
from kagent_sdk.context import Secrets
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.worker.runtime import Ending, Runtime
from tests.integration.worker_host import WorkerHost, make_agent, run_payload, serving


async def test_the_hello_tells_who_it_is_and_what_it_can() -> None:
    """The host knows the agent from this frame alone."""
    agent = make_agent()
    agent.loop(every_s=3600)(_do_nothing)
    async with serving(agent) as host:
        hello = host.hello

    assert (hello.agent_name, hello.agent_version) == ("subject", "1.2")
    assert [each.name for each in hello.capabilities] == ["upper", "lower", "count"]
    assert hello.capabilities[2].streams
    assert hello.loops == ("_do_nothing",)


async def _do_nothing() -> None:
    pass


async def test_hooks_and_loops_live_from_start_to_stop() -> None:
    """Start-up in order, then loops; at the stop loops first, then shutdown in reverse."""
    agent = Agent()
    story: list[str] = []
    looped = asyncio.Event()

    @agent.on_startup
    async def open_first() -> None:
        story.append("open first")

    @agent.on_startup
    def open_second() -> None:
        story.append("open second")

    @agent.on_shutdown
    def close_first() -> None:
        story.append("close first")

    @agent.on_shutdown
    async def close_second() -> None:
        story.append("close second")

    @agent.loop
    async def live(ctx: LoopContext) -> None:
        story.append("loop")
        looped.set()
        try:
            await asyncio.Event().wait()
        finally:
            story.append(f"loop ends, stopping: {bool(ctx.stopping)}")

    async with serving(agent):
        await looped.wait()

    assert story == [
        "open first",
        "open second",
        "loop",
        "loop ends, stopping: True",
        "close second",
        "close first",
    ]


async def test_a_failing_shutdown_hook_does_not_keep_the_others_from_running(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each closes something; one that is broken must not leak the rest."""
    agent = Agent()
    closed: list[int] = []

    @agent.on_shutdown
    def close() -> None:
        closed.append(1)

    @agent.on_shutdown
    def broken() -> None:
        raise ValueError("oh")

    async with serving(agent):
        pass

    assert closed == [1]
    assert "on_shutdown function" in capfd.readouterr().err


async def test_shutdown_ends_in_its_time_whatever_the_hooks_do(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The host has a budget; the worker keeps its part of it."""
    agent = Agent()

    @agent.on_shutdown
    async def never() -> None:
        await asyncio.Event().wait()

    @agent.loop
    async def deaf() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if time.monotonic() > until_s:
                    raise

    until_s = time.monotonic() + 0.5
    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(agent.parts).serve(theirs))
    await host.start()
    began_s = time.monotonic()
    await host.stop(0.4)

    assert await worker is Ending.STOPPED
    assert time.monotonic() - began_s < 20
    assert "on_shutdown did not end within its 0.4 s" in capfd.readouterr().err
    host.vanish()


async def test_start_up_that_raises_ends_the_worker(capfd: pytest.CaptureFixture[str]) -> None:
    """An agent without its database must not take tasks."""
    for error in (ValueError("no database"), SystemExit("no database"), asyncio.CancelledError()):
        agent = Agent()

        @agent.on_startup
        def connect(error: BaseException = error) -> None:
            raise error

        ours, theirs = socket.socketpair()
        host = WorkerHost(ours)
        worker = asyncio.create_task(Runtime(agent.parts).serve(theirs))
        await host.greet()
        await host.drain()

        assert await worker is Ending.STARTUP_FAILED
        assert "an on_startup function failed:\nTraceback" in capfd.readouterr().err
        host.vanish()


async def test_a_stop_during_start_up_ends_it() -> None:
    """A host that gives up must not wait for a start that takes minutes."""
    agent = Agent()
    ended: list[str] = []

    @agent.on_startup
    async def connect() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("start-up")

    @agent.on_shutdown
    def close() -> None:
        ended.append("must not run: nothing was opened")

    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(agent.parts).serve(theirs))
    await host.greet()
    await host.stop()

    assert await worker is Ending.STOPPED
    assert ended == ["start-up"]
    host.vanish()


async def test_a_vanished_host_ends_tasks_and_loops() -> None:
    """Nobody is left to answer."""
    agent = Agent()
    ended: list[str] = []

    @agent.capability
    async def wait(ctx: TaskContext) -> None:
        try:
            await ctx.emit(1)
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    @agent.loop
    async def live() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("loop")

    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(agent.parts).serve(theirs))
    await host.start()
    await host.run("wait")
    await host.receive()
    host.vanish()

    assert await worker is Ending.HOST_GONE
    assert sorted(ended) == ["loop", "task"]


@pytest.mark.parametrize(
    "frames",
    [
        [(Kind.RUN, b"")],
        [(Kind.RUN, run_payload(7, b"{}"))],
        [(Kind.WELCOME, b"{}")],
        [(Kind.STOP, b"")],
        [(Kind.STOP, b"\x7f\xf8\0\0\0\0\0\0")],
        [(Kind.RUN, run_payload(0, b"{}")), (Kind.ACK, b"")],
        [(Kind.HELLO, b"")],
        [(Kind.SECRETS, b'{"key": "hunter2"')],
        [(Kind.SECRETS, b'["hunter2"]')],
    ],
)
async def test_a_host_that_breaks_the_protocol_is_left(
    frames: list[tuple[Kind, bytes]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Better no worker than one that has misunderstood."""
    agent = Agent()

    @agent.capability
    async def wait() -> None:
        await asyncio.Event().wait()

    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(agent.parts).serve(theirs))
    await host.start()
    for kind, payload in frames:
        await host.send(kind, 1, payload)
    await host.drain()

    assert await worker is Ending.PROTOCOL_BROKEN
    said = capfd.readouterr().err
    assert "the host broke the frame protocol" in said
    assert "hunter2" not in said
    host.vanish()


async def test_secrets_that_change_during_the_start_are_told_after_it() -> None:
    """An `on_startup` function makes what the other one renews: it must have ended."""
    agent = Agent()
    seen: list[str] = []
    begun, told = asyncio.Event(), asyncio.Event()
    go_on = asyncio.Event()

    @agent.on_startup
    async def start() -> None:
        begun.set()
        await go_on.wait()
        seen.append("started")

    @agent.on_secrets_changed
    def changed(secrets: Secrets) -> None:
        seen.append(secrets["key"].get_secret_value())
        told.set()

    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(agent.parts).serve(theirs))
    await host.greet(secrets={"key": "old"})
    await begun.wait()
    await host.send(Kind.SECRETS, 0, b'{"key": "new"}')
    for _ in range(20):  # the worker reads it in one of these turns, and may tell in the others
        await asyncio.sleep(0)
    assert not told.is_set()
    go_on.set()
    await told.wait()
    host.vanish()

    assert await worker is Ending.HOST_GONE
    assert seen == ["started", "new"]


async def test_a_malformed_welcome_does_not_show_its_secrets(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The frame holds the vault's values; an error message must not."""
    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(Agent().parts).serve(theirs))
    assert (await host.receive())[0] == Kind.HELLO
    await host.send(Kind.WELCOME, 0, b'{"secrets": {"key": "hunter2"}, "worker_index": "x"}')
    await host.drain()

    assert await worker is Ending.PROTOCOL_BROKEN
    assert "hunter2" not in capfd.readouterr().err
    host.vanish()


async def test_a_task_before_the_welcome_is_a_protocol_error() -> None:
    """There are no threads, secrets or limits yet."""
    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(make_agent().parts).serve(theirs))
    await host.send(Kind.RUN, 1, run_payload(0, b"{}"))
    await host.drain()

    assert await worker is Ending.PROTOCOL_BROKEN
    host.vanish()


async def test_cancelling_the_runtime_cuts_the_connection() -> None:
    """A runtime that is embedded is cancelled like any other job."""
    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(make_agent().parts).serve(theirs))
    await host.start()
    worker.cancel()
    await host.drain()

    with pytest.raises(asyncio.CancelledError):
        await worker
    host.vanish()
