"""Calls to other agents through the orchestrator: over restarts, in time, and never left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from kagent_sdk.link.http import LinkSettings
from kagent_sdk.link.port import CallFailedError, Link, OutgoingCall
from tests.integration.fake_link_host import FakeLinkHost, running_link
from tests.integration.fake_orchestrator import (
    TOKEN,
    FakeOrchestrator,
    FakeTask,
    problem,
    running_orchestrator,
    until,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def orchestrator() -> AsyncIterator[FakeOrchestrator]:
    """Run an orchestrator."""
    async with running_orchestrator() as running:
        yield running


@pytest.fixture
def host() -> FakeLinkHost:
    """Give a host."""
    return FakeLinkHost()


@pytest.fixture
async def link(orchestrator: FakeOrchestrator, host: FakeLinkHost) -> AsyncIterator[Link]:
    """Run a link."""
    settings = LinkSettings(orchestrator.url, heartbeat_s=0.2, timeout_s=5)
    async with running_link(settings, host) as running:
        yield running


def make_call(**members: Any) -> OutgoingCall:
    """Return a call."""
    defaults: dict[str, Any] = {"task": "c1", "agent": None, "capability": "triage", "input": b"{}"}
    return OutgoingCall(**{**defaults, **members})


async def sent(orchestrator: FakeOrchestrator, task_id: str = "c1") -> FakeTask:
    """Wait until a call has come, and is asked for."""
    await until(lambda: task_id in orchestrator.tasks)
    return orchestrator.tasks[task_id]


async def test_a_call_carries_what_its_receiver_must_know(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """Trace, deadline, hops and the choice of the agent are the orchestrator's to pass on."""
    call = make_call(
        agent="log_triage",
        input=b'{"n": 1.50}',
        labels={"zone": "b"},
        timeout_s=30.0,
        traceparent=TRACE,
        hops=2,
    )
    job = asyncio.create_task(link.call(call))
    task = await sent(orchestrator)
    task.end("completed", output={"lines": [1, 2]})
    output = await job
    [request] = orchestrator.at("tasks")

    assert output == b'{"lines": [1, 2]}'
    assert request.json["capability"] == "log_triage/triage"
    assert request.json["id"] == "c1"
    assert request.json["labels"] == {"zone": "b"}
    assert 25 < request.json["timeout_s"] <= 30
    assert b'"input":{"n": 1.50}' in request.body
    assert request.headers["klink-hops"] == "2"
    assert request.headers["traceparent"] == TRACE
    assert request.headers["prefer"] == "respond-async"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_large_output_comes_whole(orchestrator: FakeOrchestrator, link: Link) -> None:
    """Over what may be looked at in the loop."""
    job = asyncio.create_task(link.call(make_call()))
    (await sent(orchestrator)).end("completed", output="x" * 3_000_000)

    assert await job == b'"%b"' % (b"x" * 3_000_000)


async def test_a_task_that_fails_fails_its_caller_with_the_same_words(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """Code and retryable are what the caller decides by."""
    job = asyncio.create_task(link.call(make_call()))
    error = {"code": "too_long", "message": "no", "retryable": True, "details": {"n": 3}}
    (await sent(orchestrator)).end("failed", error=error)
    with pytest.raises(CallFailedError) as caught:
        await job

    assert caught.value.failure.as_dict() == error


@pytest.mark.parametrize(
    ("answer", "code", "is_retryable"),
    [
        (problem(404, "unknown_capability"), "unknown_capability", False),
        (problem(429, "queue_full"), "queue_full", True),
        (problem(409, "id_conflict"), "id_conflict", False),
        (problem(401, "unauthenticated"), "unreachable", True),
        (
            web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
            "unreachable",
            True,
        ),
        (web.Response(status=200, text="<html>"), "unreachable", True),
    ],
)
async def test_a_call_that_is_not_taken_fails_at_once(
    orchestrator: FakeOrchestrator,
    link: Link,
    answer: web.Response,
    code: str,
    is_retryable: bool,
) -> None:
    """Its caller may have another way."""

    async def refuse(request: web.Request) -> web.StreamResponse | None:
        return answer if request.path == "/v1/tasks" else None

    orchestrator.fault = refuse
    with pytest.raises(CallFailedError) as caught:
        await link.call(make_call(timeout_s=60))

    assert caught.value.failure.code == code
    assert caught.value.failure.retryable is is_retryable
    assert TOKEN not in caught.value.failure.message


async def test_a_call_survives_restarts_of_the_orchestrator(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """Before it is sent, and while it runs: the id makes it the same task."""
    await orchestrator.came("heartbeat")
    await orchestrator.stop()
    job = asyncio.create_task(link.call(make_call(timeout_s=60)))
    await until(lambda: link.status.state == "down")
    await orchestrator.start()
    task = await sent(orchestrator)
    await orchestrator.came("tasks/c1")
    await orchestrator.stop()
    await until(lambda: link.status.state == "down")
    task.end("completed", output=7)
    await orchestrator.start()

    assert await job == b"7"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_call_that_waits_asks_again_when_the_link_is_back(
    orchestrator: FakeOrchestrator, link: Link, is_streamed: bool
) -> None:
    """After a partition the answer to what was asked before may never come."""

    async def ignore(item: bytes) -> None:
        del item

    async def fail_heartbeats(request: web.Request) -> web.StreamResponse | None:
        return problem(503, "starting") if request.path.endswith("/heartbeat") else None

    job = asyncio.create_task(link.call(make_call(is_streamed=is_streamed), ignore))
    task = await sent(orchestrator)
    path = "tasks/c1/events" if is_streamed else "tasks/c1"
    await orchestrator.came(path)
    orchestrator.fault = fail_heartbeats
    await until(lambda: link.status.state == "down")
    orchestrator.fault = None
    await orchestrator.came(path, 2)
    task.end("completed", output=7)

    assert await job == b"7"


async def test_a_closed_link_takes_no_calls(orchestrator: FakeOrchestrator, link: Link) -> None:
    """A task that outlives the shutdown must not hang in it."""
    await orchestrator.came("heartbeat")
    await link.close(5)
    with pytest.raises(CallFailedError, match="closed"):
        await link.call(make_call())

    assert orchestrator.at("tasks") == []


async def test_a_call_that_the_orchestrator_forgot_is_sent_again(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """Its database may be new."""
    job = asyncio.create_task(link.call(make_call(timeout_s=60)))
    await sent(orchestrator)
    await orchestrator.came("tasks/c1")
    await orchestrator.stop()
    orchestrator.tasks.clear()
    await orchestrator.start()
    (await sent(orchestrator)).end("completed", output=7)

    assert await job == b"7"
    assert len(orchestrator.at("tasks")) == 2


async def test_a_call_ends_with_its_time_and_its_task_with_it(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """Nobody would want the result."""
    with pytest.raises(CallFailedError) as caught:
        await link.call(make_call(timeout_s=2))  # in which it is sent, on a busy machine too

    assert caught.value.failure.code == "timeout"
    assert caught.value.failure.retryable
    assert (await sent(orchestrator)).document["state"] == "canceled"


async def test_the_end_of_a_call_s_time_says_that_nobody_answered(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """It is not the other agent that was slow."""
    await orchestrator.came("heartbeat")
    await orchestrator.stop()
    with pytest.raises(CallFailedError, match="Connection refused"):
        await link.call(make_call(timeout_s=2))


async def test_a_canceled_call_cancels_its_task(orchestrator: FakeOrchestrator, link: Link) -> None:
    """The tree of calls ends with its root."""
    job = asyncio.create_task(link.call(make_call()))
    task = await sent(orchestrator)
    await orchestrator.came("tasks/c1")
    job.cancel()
    await asyncio.wait([job])

    assert job.cancelled()
    assert task.document["state"] == "canceled"


async def test_a_cancellation_that_nobody_hears_is_bounded(
    orchestrator: FakeOrchestrator, link: Link, host: FakeLinkHost
) -> None:
    """The one who cancels must not wait for an orchestrator that hangs."""

    async def hang(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("/cancel"):
            await asyncio.sleep(60)
        return None

    orchestrator.fault = hang
    job = asyncio.create_task(link.call(make_call()))
    await orchestrator.came("tasks/c1")
    job.cancel()
    async with asyncio.timeout(20):
        await asyncio.wait([job])

    assert job.cancelled()
    assert host.events("link_call_not_canceled")


async def test_streamed_items_come_in_order_and_once_over_restarts(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """A connection that breaks is the orchestrator's business, and none of the caller's."""
    items: list[bytes] = []

    async def keep(item: bytes) -> None:
        items.append(item)

    job = asyncio.create_task(link.call(make_call(is_streamed=True, timeout_s=60), keep))
    task = await sent(orchestrator)
    task.say("state", {"state": "working", "attempt": 1})
    task.say("event", {"n": 1})
    task.say("progress", {"fraction": 0.5, "message": None})
    task.say("event", {"n": 2})
    await until(lambda: len(items) == 2)
    await orchestrator.stop()
    task.say("event", {"n": 3})
    await orchestrator.start()
    await until(lambda: len(items) == 3)
    task.end("completed", output=None)
    follows = await orchestrator.came("tasks/c1/events", 2)

    assert await job == b"null"
    assert items == [b'{"n": 1}', b'{"n": 2}', b'{"n": 3}']
    assert follows.headers["last-event-id"] == "4"


async def test_an_item_that_comes_again_is_not_passed_on_again(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """An orchestrator may replay more than it was asked for."""
    items: list[bytes] = []
    replays = [0]

    async def keep(item: bytes) -> None:
        items.append(item)

    async def replay_all(request: web.Request) -> web.StreamResponse | None:
        if not request.path.endswith("/events"):
            return None
        replays[0] += 1
        task = orchestrator.tasks["c1"]
        shown = task.events if replays[0] > 1 else task.events[:2]
        return web.Response(body=b"".join(shown), content_type="text/event-stream")

    orchestrator.fault = replay_all
    job = asyncio.create_task(link.call(make_call(is_streamed=True, timeout_s=60), keep))
    task = await sent(orchestrator)
    for number in range(3):
        task.say("event", number)
    task.end("completed", output=7)

    assert await job == b"7"
    assert items == [b"0", b"1", b"2"]


async def test_a_gap_in_a_stream_fails_the_call(orchestrator: FakeOrchestrator, link: Link) -> None:
    """A sum over items would be wrong without a sign of it."""

    async def ignore(item: bytes) -> None:
        del item

    job = asyncio.create_task(link.call(make_call(is_streamed=True), ignore))
    task = await sent(orchestrator)
    task.say("gap", {"missed": 3})
    with pytest.raises(CallFailedError, match="lost"):
        await job

    assert task.document["state"] == "canceled"


async def test_a_fault_of_whoever_reads_the_items_cancels_the_task(
    orchestrator: FakeOrchestrator, link: Link
) -> None:
    """And is raised as it is: not every TimeoutError is ours."""

    async def fail(item: bytes) -> None:
        raise TimeoutError(item.decode())

    job = asyncio.create_task(link.call(make_call(is_streamed=True, timeout_s=60), fail))
    task = await sent(orchestrator)
    task.say("event", 1)
    with pytest.raises(TimeoutError, match="1"):
        await job

    assert task.document["state"] == "canceled"
