"""Tasks in the worker: each kind of capability, what it is given, what becomes of its errors."""

# Sync code calls `emit` and `progress` without awaiting them: that is what these tests are about.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kagent_sdk import Agent, TaskContext, TaskError
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import COUNT, CallHead, decode_call
from tests.integration.worker_host import Document, make_agent, serving


async def test_each_kind_of_capability_answers() -> None:
    """The heart of the worker: bytes in, the author's function, bytes out."""
    async with serving(make_agent()) as host:
        assert await host.call("upper", {"text": "hé"}) == {"text": "HÉ"}
        assert await host.call("lower", {"text": "HÉ"}) == "hé"
        answer = await host.answer(await host.run("count", {"to": 3}))

    assert answer.events == [0, 1, 2]
    assert answer.output is None


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
    head, input = decode_call(payload)
    assert head == CallHead("other", "digest", 5, "00-a-b-01", task=number)
    assert json.loads(input) == {"text": "hi"}
    assert answer.output == {"words": 1}
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.retryable) == ("unreachable", True)


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
