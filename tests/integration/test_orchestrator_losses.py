"""Agents that fall silent, come back, or report too late; and orchestrators that are killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.orchestrators import (
    FakeAgent,
    Mesh,
    Offered,
    quick_settings,
    running,
    separate,
    until_state,
)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Run an orchestrator with short leases."""
    async with running(quick_settings(tmp_path)) as running_mesh:
        yield running_mesh


async def offered(agent: FakeAgent, task_id: str) -> Offered:
    """Let an agent register, and have a task."""
    await agent.register()
    await agent.mesh.submit(task_id)
    offer = await agent.fetch()
    assert offer is not None
    agent.held[offer.task] = offer.lease
    await agent.beat()
    await until_state(agent.mesh, task_id, "working")
    return offer


async def until_lost(agent: FakeAgent, count: int = 1) -> None:
    """Return when the orchestrator has lost so many agents."""
    while (await agent.mesh.status())["lost_agents"] < count:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def test_a_task_of_a_lost_agent_is_offered_elsewhere_and_late_results_refused(
    mesh: Mesh,
) -> None:
    """One end for the caller: that of the agent that holds the lease."""
    silent, spare = FakeAgent(mesh), FakeAgent(mesh)
    first = await offered(silent, "t")
    await until_lost(silent)
    missed = (await mesh.status())["agents"][0]["replicas"]
    await spare.register()
    replaced = (await mesh.status())["agents"][0]["replicas"]
    second = await spare.fetch()
    assert second is not None
    await silent.register()
    late = await silent.tell(first, "result", {"state": "completed", "output": "late"})
    event = await silent.tell(first, "event", {"id": 9, "event": "event", "data": 1})
    beat = (await silent.beat()).json
    assert (await spare.finish(second, "right"))["outcome"] == "taken"
    again = await spare.finish(second, "again")
    done = await mesh.task("t", 10)

    assert [(one["instance"], one["state"]) for one in missed] == [(silent.instance, "lost")]
    assert [(one["instance"], one["state"]) for one in replaced] == [(spare.instance, "up")]
    assert second.lease != first.lease
    assert second.attempt == 2
    assert (late["outcome"], late["reason"]) == ("refused", "lease_lost")
    assert event["reason"] == "lease_lost"
    assert beat["lost"] == [{"task": "t", "lease": first.lease}]
    assert (again["outcome"], again["reason"]) == ("refused", "ended")
    assert (done["output"], done["attempt"]) == ("right", 2)


async def test_attempts_are_bounded(mesh: Mesh) -> None:
    """A task that takes down every agent that runs it must not take them all down."""
    agent = FakeAgent(mesh, max_attempts=1)
    await offered(agent, "t")
    done = await mesh.task("t", 20)

    assert done["error"]["code"] == "agent_lost"
    assert done["error"]["retryable"] is True


async def test_a_task_that_must_not_run_twice_waits_for_its_agent(mesh: Mesh) -> None:
    """Its journal has the task: a new process of the same agent names it, and goes on."""
    agent = FakeAgent(mesh, idempotent=False)
    offer = await offered(agent, "t")
    await until_lost(agent)
    other = FakeAgent(mesh, idempotent=False)
    await other.register()
    assert await other.fetch(0.2) is None
    back = FakeAgent(mesh, idempotent=False, held=agent.held)
    await back.register()
    assert (await back.finish(offer))["outcome"] == "taken"
    done = await mesh.task("t", 10)

    assert (done["state"], done["attempt"]) == ("completed", 1)


async def test_a_task_whose_agent_never_comes_back_fails(mesh: Mesh) -> None:
    """The caller is told within a bounded time, and nothing is done twice."""
    await offered(FakeAgent(mesh, idempotent=False), "t")

    assert (await mesh.task("t", 20))["error"]["code"] == "agent_lost"


async def test_a_living_agent_that_does_not_name_a_task_does_not_have_it(mesh: Mesh) -> None:
    """An answer to a fetch that was lost on the way costs two heartbeats."""
    agent = FakeAgent(mesh)
    await agent.register()
    await mesh.submit("t")
    assert await agent.fetch() is not None
    agent.held.clear()
    await agent.beat()
    await agent.beat()
    again = await agent.fetch()

    assert again is not None
    assert again.attempt == 2


async def test_a_canceled_task_of_a_lost_agent_is_canceled(mesh: Mesh) -> None:
    """Nobody runs what nobody wants."""
    await offered(FakeAgent(mesh), "t")
    await mesh.ask("POST", "/v1/tasks/t/cancel")

    assert (await mesh.task("t", 20))["state"] == "canceled"


async def test_an_agent_that_was_restarted_at_its_address_is_lost_after_two_heartbeats(
    mesh: Mesh,
) -> None:
    """Two processes cannot listen at one address: nobody waits for the lease of the old one."""
    async with FakeAgent(mesh).listening() as agent:
        await agent.register()
        await mesh.submit("t")
        await agent.until_offered()
        await until_state(mesh, "t", "working")
        agent.instance = "another-instance-0"
        agent.held.clear()
        await agent.register()
        offer = await agent.until_offered(2)

    assert offer.attempt == 2


async def test_a_deadline_holds_while_nobody_takes_the_task(mesh: Mesh) -> None:
    """The caller's time is the caller's."""
    await mesh.submit("waiting", timeout_s=0.2)
    waiting = await mesh.task("waiting", 20)

    assert waiting["error"]["code"] == "timeout"


async def test_a_task_that_nobody_offers_fails(mesh: Mesh) -> None:
    """After a while in which the agent may have been starting."""
    await mesh.submit("t", "nobody/nothing")

    assert (await mesh.task("t", 20))["error"]["code"] == "no_agent"


async def test_a_killed_orchestrator_loses_nothing(tmp_path: Path) -> None:
    """What waits, what runs and what has ended is there again, and each task ends once.

    One agent dies in the same moment: its task goes elsewhere.
    """
    async with separate(tmp_path) as first:
        await offered(FakeAgent(first.mesh), "lost")
        agent = FakeAgent(first.mesh, idempotent=False)
        before = (await first.mesh.status())["orchestrator"]
        running_offer = await offered(agent, "running")
        await first.mesh.submit("ended")
        ended_offer = await agent.fetch()
        assert ended_offer is not None
        await agent.tell(ended_offer, "event", {"id": 1, "event": "event", "data": "kept"})
        await agent.finish(ended_offer, "before")
        await first.mesh.submit("waiting")
        port = urlsplit(first.mesh.url).port
        await first.kill()
    assert port is not None

    async with separate(tmp_path, port) as second:
        agent.mesh = second.mesh
        assert (await agent.beat()).status == 404
        assert (await agent.register()).json["orchestrator"] != before
        await _finish_after_restart(agent, running_offer, ended_offer)
        while (offer := await agent.fetch(0.2)) is None:
            await agent.beat()

        assert (offer.task, offer.attempt) == ("lost", 2)


async def _finish_after_restart(
    agent: FakeAgent, running_offer: Offered, ended_offer: Offered
) -> None:
    mesh = agent.mesh
    taken = await agent.finish(running_offer, "after")
    twice = await agent.finish(ended_offer, "twice")
    waiting = await agent.fetch()
    assert waiting is not None
    await agent.finish(waiting, "last")
    outputs = {name: await mesh.task(name, 10) for name in ("running", "ended", "waiting")}

    assert taken["outcome"] == "taken"
    assert twice["reason"] == "ended"
    assert {name: task["output"] for name, task in outputs.items()} == {
        "running": "after",
        "ended": "before",
        "waiting": "last",
    }
    assert all(task["attempt"] == 1 for task in outputs.values())
    assert ("1", "event", "kept") in await mesh.events("ended")
