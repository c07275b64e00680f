"""The worker's runtime on a real socket, in this process."""

# Sync code calls `emit` and `progress` without awaiting them: that is what these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from kagent_sdk import Agent, LoopContext, TaskContext, TaskError, TaskInterrupted
from kagent_sdk.context import CURRENT_TASK
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import COUNT
from kagent_sdk.worker.runtime import Ending, Runtime
from tests.integration.worker_host import WorkerHost, run_payload, serving


class Document(BaseModel):
    """An input."""

    text: str


def make_agent() -> Agent:
    """Return an agent with one capability of each kind."""
    agent = Agent("subject", "1.2")

    @agent.capability
    async def upper(document: Document, ctx: TaskContext) -> Document:
        await asyncio.sleep(0)
        assert CURRENT_TASK.get() is ctx
        return Document(text=document.text.upper())

    @agent.capability
    def lower(document: Document, ctx: TaskContext) -> str:
        assert CURRENT_TASK.get() is ctx
        assert threading.current_thread() is not threading.main_thread()
        return document.text.lower()

    @agent.capability
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    return agent


async def test_each_kind_of_capability_answers() -> None:
    """The heart of the worker: bytes in, the author's function, bytes out."""
    async with serving(make_agent()) as host:
        assert await host.call("upper", {"text": "hé"}) == {"text": "HÉ"}
        assert await host.call("lower", {"text": "HÉ"}) == "hé"
        answer = await host.answer(await host.run("count", {"to": 3}))

    assert answer.events == [0, 1, 2]
    assert answer.output is None


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


async def test_input_that_does_not_fit_never_reaches_the_author() -> None:
    """A caller's mistake is answered with what is wrong."""
    async with serving(make_agent()) as host:
        failures = [await host.fail(name, {"text": 1}) for name in ("upper", "lower", "count")]

    assert {failure.code for failure in failures} == {"invalid_input"}
    assert {failure.status for failure in failures} == {422}


async def test_many_tasks_run_at_a_time() -> None:
    """Tasks of one worker do not wait for each other."""
    agent = Agent()
    here = asyncio.Barrier(50)

    @agent.capability
    async def meet() -> int:
        return await here.wait()

    async with serving(agent) as host:
        numbers = [await host.run("meet") for _ in range(50)]
        answers = [await host.receive() for _ in numbers]

    assert {kind for kind, _, _ in answers} == {Kind.RESULT}
    assert {number for _, number, _ in answers} == set(numbers)
    assert sorted(json.loads(payload) for _, _, payload in answers) == list(range(50))


@pytest.mark.parametrize("mode", ["async", "sync", "stream"])
async def test_exceptions_become_errors(mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A TaskError is the caller's to read; of others the log has the traceback, once."""
    agent = Agent()
    raised: dict[str, BaseException] = {
        "meant": TaskError("quota", "no more", retryable=True, details={"left": 0}, status=429),
        "bug": ValueError("oh"),
        "exit": SystemExit("bye"),
        "interrupt": KeyboardInterrupt(),
        "cancel": asyncio.CancelledError(),
    }
    if mode == "async":

        @agent.capability(name="fail")
        async def fail_async(how: str) -> None:
            raise raised[how]
    elif mode == "sync":

        @agent.capability(name="fail")
        def fail_sync(how: str) -> None:
            raise raised[how]
    else:

        @agent.capability(name="fail")
        async def fail_stream(how: str) -> AsyncIterator[int]:
            yield 1
            raise raised[how]

    async with serving(agent) as host:
        found = {how: await host.fail("fail", {"how": how}) for how in raised}

    meant = found["meant"]
    assert (meant.code, meant.message, meant.retryable) == ("quota", "no more", True)
    assert (meant.details, meant.status) == ({"left": 0}, 429)
    others = {how: failure for how, failure in found.items() if how != "meant"}
    assert {failure.code for failure in others.values()} == {"internal_error"}
    assert others["bug"].message == "ValueError: oh"
    assert others["exit"].message == "SystemExit: bye"
    assert others["cancel"].message == "CancelledError"
    errors = capfd.readouterr().err
    assert errors.count("ValueError: oh") == 1
    assert "capability 'fail' failed in task t-2:\nTraceback" in errors
    assert "raise raised[how]" in errors
    assert "kagent_sdk/worker" not in errors
    assert "quota" not in errors


async def test_an_output_over_the_limit_is_refused() -> None:
    """A frame that the host would not take must not be sent."""
    agent = Agent()

    @agent.capability
    async def big(count: int) -> str:
        return "x" * count

    @agent.capability
    def big_sync(count: int) -> str:
        return "x" * count

    @agent.capability
    async def big_event(count: int, ctx: TaskContext) -> None:
        await ctx.emit("x" * count)

    async with serving(agent, max_output_bytes=100) as host:
        assert len(await host.call("big", {"count": 98})) == 98
        failures = [
            await host.fail(each, {"count": 99}) for each in ("big", "big_sync", "big_event")
        ]

    assert {failure.code for failure in failures} == {"output_too_large"}
    assert "101 bytes, over the limit of 100" in failures[0].message


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


async def test_every_task_is_answered_exactly_once_whatever_happens_to_it() -> None:
    """Cancels and interrupts at random moments, in all kinds, with few threads and small windows."""
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

    rng = random.Random(7)  # noqa: S311 - a test's variety
    async with serving(agent, threads=3, event_window=4, heartbeat_s=0.01) as host:
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


async def test_frames_for_a_task_that_is_answered_are_dropped() -> None:
    """Host and worker speak at the same time: a late CANCEL is no error."""
    async with serving(make_agent()) as host:
        for kind, payload in (
            (Kind.CANCEL, b"caller"),
            (Kind.INTERRUPT, b""),
            (Kind.ACK, COUNT.pack(1)),
            (Kind.ANSWER, b'{"output": 1}'),
        ):
            await host.send(kind, 99, payload)

        assert await host.call("lower", {"text": "A"}) == "a"


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
            await asyncio.sleep(0.2)
            assert 0 < len(sent) < 20
            answer = await host.answer(number)
            assert len(answer.events) == 40


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_progress_is_coalesced_and_the_last_one_always_comes(mode: str) -> None:
    """An author may report in every turn of a loop of a million."""
    agent = Agent()
    if mode == "async":

        @agent.capability(name="work")
        async def work_async(ctx: TaskContext) -> str:
            for number in range(10_000):
                await ctx.progress(number / 10_000, "at work")
            await ctx.progress(1, "done")
            return "done"
    else:

        @agent.capability(name="work")
        def work_sync(ctx: TaskContext) -> str:
            for number in range(10_000):
                ctx.progress(number / 10_000, "at work")
            ctx.progress(1, "done")
            return "done"

    async with serving(agent) as host:
        answer = await host.answer(await host.run("work"))

    assert answer.progress[0]["fraction"] < 0.5
    assert answer.progress[-1] == {"fraction": 1.0, "message": "done"}
    assert 2 <= len(answer.progress) < 40


async def test_the_context_tells_what_the_caller_sent() -> None:
    """Id, attempt, deadline, metadata and trace come from the RUN frame."""
    agent = Agent()

    @agent.capability
    async def show(ctx: TaskContext) -> dict[str, Any]:
        assert ctx.deadline is not None
        return {
            "task_id": ctx.task_id,
            "attempt": ctx.attempt,
            "metadata": ctx.metadata,
            "traceparent": ctx.traceparent,
            "remaining_s": ctx.remaining_s,
            "secret": ctx.secrets["key"].get_secret_value(),
            "capability": ctx.capability,
        }

    async with serving(agent, secrets={"key": "s3"}) as host:
        output = await host.call(
            "show", attempt=2, timeout_s=30.0, metadata=b'{"who":"me"}', traceparent="00-a-b-01"
        )

    assert 25 < output.pop("remaining_s") <= 30
    assert output == {
        "task_id": "t-1",
        "attempt": 2,
        "metadata": {"who": "me"},
        "traceparent": "00-a-b-01",
        "secret": "s3",
        "capability": "show",
    }


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_calls_to_other_capabilities_are_answered(mode: str) -> None:
    """`ctx.call` is a CALL frame, and its ANSWER."""
    agent = Agent()
    if mode == "async":

        @agent.capability(name="ask")
        async def ask_async(ctx: TaskContext) -> Any:
            return await ctx.call("other", "digest", Document(text="hi"), timeout_s=5)
    else:

        @agent.capability(name="ask")
        def ask_sync(ctx: TaskContext) -> Any:
            return ctx.call("other", "digest", {"text": "hi"}, timeout_s=5).result(20)

    async with serving(agent) as host:
        number = await host.run("ask", traceparent="00-a-b-01")
        kind, call_number, payload = await host.receive()
        await host.send(Kind.ANSWER, call_number, b'{"output": {"words": 1}}')
        answer = await host.answer(number)
        failing = await host.run("ask")
        _, call_number, _ = await host.receive()
        error = {"code": "unreachable", "message": "no link", "retryable": True, "details": None}
        await host.send(Kind.ANSWER, call_number, json.dumps({"error": error}).encode())
        failed = await host.answer(failing)

    assert kind == Kind.CALL
    assert json.loads(payload) == {
        "agent": "other",
        "capability": "digest",
        "input": {"text": "hi"},
        "timeout_s": 5,
        "traceparent": "00-a-b-01",
    }
    assert answer.output == {"words": 1}
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.retryable) == ("unreachable", True)


async def test_a_cancelled_thread_that_waits_for_a_call_is_let_go() -> None:
    """The answer may never come."""
    agent = Agent()

    @agent.capability
    def ask(ctx: TaskContext) -> Any:
        return ctx.call("other", "digest", {}).result()

    async with serving(agent) as host:
        number = await host.run("ask")
        await host.receive()
        await host.send(Kind.CANCEL, number, b"caller")
        answer = await host.answer(number)

    assert answer.failure is not None
    assert answer.failure.code == "canceled"


async def test_the_heartbeat_shows_tasks_threads_and_lag() -> None:
    """Silence means a blocked loop; lag means one that was."""
    agent = Agent()

    @agent.capability
    async def block() -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - what the test is about

    @agent.capability
    def hold(ctx: TaskContext) -> None:
        ctx.cancelled.wait(20)

    async with serving(agent, heartbeat_s=0.05, threads=3) as host:
        held = await host.run("hold")
        await host.call("block")
        beats = [await host.beat() for _ in range(3)]
        await host.send(Kind.CANCEL, held, b"caller")
        await host.answer(held)

    assert max(beat.lag_ms for beat in [*host.heartbeats, *beats]) > 100
    assert (beats[-1].running, beats[-1].threads_busy, beats[-1].threads) == (1, 1, 3)


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
    assert time.monotonic() - began_s < 3
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
    assert "the host broke the frame protocol" in capfd.readouterr().err
    host.vanish()


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
    """`agent.serve()` is cancelled like any other job."""
    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    worker = asyncio.create_task(Runtime(make_agent().parts).serve(theirs))
    await host.start()
    worker.cancel()
    await host.drain()

    with pytest.raises(asyncio.CancelledError):
        await worker
    host.vanish()
