"""A task's way from a caller to an agent and back, pushed and fetched, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.orchestrators import (
    FakeAgent,
    Mesh,
    Offered,
    parse_events,
    quick_settings,
    running,
    until,
    until_state,
)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Run an orchestrator."""
    async with running(quick_settings(tmp_path, limits={"lease_s": 30})) as running_mesh:
        yield running_mesh


async def test_a_fetched_task_comes_back_to_its_caller(mesh: Mesh) -> None:
    """An agent that nobody can reach works all the same, and the output is the bytes it sent."""
    agent = FakeAgent(mesh)
    assert (await agent.register()).status == 200
    calling = asyncio.create_task(
        mesh.ask(
            "POST",
            "/v1/tasks",
            {"capability": "worker/echo", "input": {"x": 1.50}, "metadata": {"a": 1}},
            headers={"Klink-Hops": "3", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
        )
    )
    offer = await agent.fetch()
    assert offer is not None
    assert await agent.finish(offer, 1.5) == {"id": "r1", "outcome": "taken", "reason": None}
    answer = await calling

    assert offer.envelope == {
        "id": offer.task,
        "capability": "echo",
        "timeout_s": None,
        "metadata": {"a": 1},
        "input": {"x": 1.5},
    }
    assert offer.attempt == 1
    assert offer.headers["Klink-Hops"] == "3"
    assert offer.headers["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-01"
    assert answer.status == 200
    assert (answer.json["state"], answer.json["output"]) == ("completed", 1.5)
    assert (answer.json["agent"], answer.json["attempt"]) == ("worker", 1)


async def test_a_pushed_task_is_working_as_soon_as_the_agent_has_it(mesh: Mesh) -> None:
    """202 of the agent is the promise; the result comes over the link later."""
    async with FakeAgent(mesh).listening() as agent:
        await agent.register()
        assert (await mesh.submit("t", timeout_s=60)).status == 202
        offer = await agent.until_offered()
        working = await until_state(mesh, "t", "working")
        await agent.finish(offer, {"big": 2**70})
        done = await mesh.task("t", 10)

    assert 0 < offer.envelope["timeout_s"] <= 60
    assert working["started_at"] is not None
    assert done["output"] == {"big": 2**70}


async def test_events_go_on_over_attempts_and_are_replayed(mesh: Mesh) -> None:
    """Whoever was cut off asks for the rest, and sees each event once."""
    agent = FakeAgent(mesh)
    await agent.register()
    await mesh.submit("t")
    offer = await agent.fetch()
    assert offer is not None
    for number, event, data in (
        (1, "state", {"state": "working", "attempt": 1}),
        (2, "progress", {"fraction": 0.5, "message": "half"}),
        (3, "event", {"item": 1}),
        (3, "event", {"item": 1}),
        (4, "event", {"item": 2}),
    ):
        told = await agent.tell(offer, "event", {"id": number, "event": event, "data": data})
        assert told["outcome"] == "taken"
    following = asyncio.create_task(mesh.events("t"))
    await until_state(mesh, "t", "working")
    await agent.finish(offer)
    followed = await following
    replayed = await mesh.events("t", 2)

    assert [event[:2] for event in followed if event[1] != "state"] == [
        ("1", "progress"),
        ("2", "event"),
        ("3", "event"),
        ("4", "task"),
    ]
    assert [event[:2] for event in replayed] == [("3", "event"), ("4", "task")]
    assert replayed[-1][2]["progress"] == {"fraction": 0.5, "message": "half"}


async def test_a_busy_agent_is_left_alone_and_another_replica_gets_the_task(mesh: Mesh) -> None:
    """Where nobody took the task, no attempt was made."""

    def busy(_offer: Offered) -> tuple[int, dict[str, str], bytes]:
        return 503, {"Retry-After": "30"}, b"{}"

    async with (
        FakeAgent(mesh, answer=busy).listening() as full,
        FakeAgent(mesh).listening() as free,
    ):
        await full.register()
        await mesh.submit("t")
        await full.until_offered()
        await free.register()
        offer = await free.until_offered()
        await free.finish(offer)
        done = await mesh.task("t", 10)

    assert len(full.offers) == 1
    assert (offer.attempt, done["attempt"]) == (1, 1)


async def test_a_refusal_for_good_fails_the_task_with_its_code(mesh: Mesh) -> None:
    """An input that does not validate here does not validate at the next replica either."""
    problem = b'{"code":"invalid_input","detail":"no","error":{"details":[{"loc":["x"]}]}}'
    agent = FakeAgent(mesh, answer=lambda _offer: (422, {}, problem))
    async with agent.listening():
        await agent.register()
        await mesh.submit("t")
        done = await mesh.task("t", 10)

    assert done["state"] == "failed"
    assert done["error"]["code"] == "invalid_input"
    assert done["error"]["details"] == [{"loc": ["x"]}]


async def test_an_unclear_offer_is_made_again_with_the_same_lease(mesh: Mesh) -> None:
    """The agent may have the task: a second lease would let it run twice."""
    agent = FakeAgent(
        mesh, answer=lambda _offer: None if len(agent.offers) == 1 else (202, {}, b"")
    )
    async with agent.listening():
        await agent.register()
        await mesh.submit("t")
        offer = await agent.until_offered(2)
        await agent.finish(offer)
        done = await mesh.task("t", 10)

    assert {one.lease for one in agent.offers} == {offer.lease}
    assert done["attempt"] == 1


async def test_garbage_where_an_agent_was_does_not_fail_its_tasks(mesh: Mesh) -> None:
    """Something else listens at the agent's port by now: the task waits for a real agent."""
    agent = FakeAgent(mesh, answer=lambda _offer: (404, {}, b"[" * 1_000_000))
    async with agent.listening():
        await agent.register()
        await mesh.submit("t")
        await agent.until_offered()
        agent.answer = lambda _offer: (202, {}, b"")
        offer = await agent.until_offered(2)
        await agent.finish(offer)

        assert (await mesh.task("t", 10))["state"] == "completed"


async def test_cancel_reaches_the_agent_at_once_and_with_the_heartbeat(mesh: Mesh) -> None:
    """The caller wants no more of it, and the agent's word is the end."""
    async with FakeAgent(mesh).listening() as agent:
        await agent.register()
        await mesh.submit("t")
        offer = await agent.until_offered()
        await until_state(mesh, "t", "working")
        assert (await mesh.ask("POST", "/v1/tasks/t/cancel")).status == 202
        await until(lambda: agent.canceled == ["t"])
        beat = (await agent.beat()).json
        error = {"code": "canceled", "message": "m", "retryable": False, "details": None}
        await agent.tell(offer, "result", {"id": "t", "state": "canceled", "error": error})
        again = await mesh.ask("POST", "/v1/tasks/t/cancel")

    assert beat["cancel"] == [{"task": "t", "lease": offer.lease}]
    assert (again.status, again.json["state"]) == (200, "canceled")


async def test_a_waiting_task_is_canceled_at_once(mesh: Mesh) -> None:
    """Nobody has it, so nobody is asked."""
    await mesh.submit("t")
    answer = await mesh.ask("POST", "/v1/tasks/t/cancel")

    assert (await mesh.task("t", 5))["state"] == "canceled"
    assert answer.status in {200, 202}


async def test_labels_choose_the_agent(mesh: Mesh) -> None:
    """A task that needs a GPU does not go where there is none."""
    plain, special = FakeAgent(mesh), FakeAgent(mesh, labels={"gpu": "yes", "zone": "a"})
    await plain.register()
    await special.register()
    asking = asyncio.create_task(plain.fetch(1))
    await mesh.submit("t", labels={"gpu": "yes"})
    offer = await special.fetch()

    assert offer is not None
    assert await asking is None


async def test_a_draining_agent_gets_no_more_and_one_that_is_gone_is_forgotten(mesh: Mesh) -> None:
    """Goodbye is quicker than a lost lease."""
    agent = FakeAgent(mesh)
    await agent.register()
    await mesh.submit("a")
    first = await agent.fetch()
    assert first is not None
    assert (await agent.goodbye("draining")).status == 204
    await mesh.submit("b")
    assert await agent.fetch(0.2) is None
    await agent.finish(first)
    await agent.goodbye("stopped")

    assert (await mesh.task("a"))["state"] == "completed"
    assert (await agent.beat()).status == 404
    assert (await mesh.ask("GET", "/v1/agents")).json == {"agents": []}


async def test_tasks_go_to_the_agent_with_the_least_to_do(mesh: Mesh) -> None:
    """What others sent to an agent counts too, and nobody gets more than it takes."""
    async with FakeAgent(mesh).listening() as busy, FakeAgent(mesh).listening() as idle:
        await busy.register(status={"lifecycle": "ready", "ready": True, "working": 3})
        await idle.register()
        for number in range(12):
            await mesh.submit(f"t{number}")
        await until(lambda: len(busy.offers) + len(idle.offers) == 9)

        assert len(idle.offers) == 6  # max_concurrency and two ahead
        assert len(busy.offers) == 3
        assert (await mesh.status())["tasks"]["queued"] == 3


async def test_a_caller_may_follow_its_task_from_the_first_moment(mesh: Mesh) -> None:
    """One request: the task, its events and its end."""
    agent = FakeAgent(mesh)
    await agent.register()
    calling = asyncio.create_task(
        mesh.ask(
            "POST", "/v1/tasks", {"capability": "echo"}, headers={"Accept": "text/event-stream"}
        )
    )
    offer = await agent.fetch()
    assert offer is not None
    await agent.tell(offer, "event", {"id": 1, "event": "event", "data": {"line": "a\nb"}})
    await agent.finish(offer)
    events = parse_events((await calling).body)

    assert [kind for _, kind, _ in events if kind != "state"] == ["event", "task"]
    assert events[-1][2]["state"] == "completed"


async def test_a_fetch_that_was_given_up_takes_no_task_with_it(mesh: Mesh) -> None:
    """The agent was restarted while it asked."""
    agent = FakeAgent(mesh)
    await agent.register()
    asking = asyncio.create_task(agent.fetch())
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.wait([asking])
    await asyncio.sleep(0.1)
    await mesh.submit("t")
    offer = await agent.fetch()

    assert offer is not None
    assert offer.attempt == 1
