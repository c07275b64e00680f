"""An agent that was restarted says so with its journal: nobody waits for what it does not have."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kagent_sdk.orchestrator.courier import Outcome, Verdict
from kagent_sdk.orchestrator.task import OpenTask, Phase
from kagent_sdk.protocol.link import Heartbeat, Held
from tests.unit.orchestrator.meshes import READY, FakeMesh, fake_mesh, registration

A, B = "a".ljust(16, "-"), "b".ljust(16, "-")
LEASE_S, DOUBT_S = 15.0, 10.0


@pytest.fixture
async def mesh() -> AsyncIterator[FakeMesh]:
    """Give a broker."""
    async with fake_mesh() as made:
        yield made


def held(task: OpenTask) -> tuple[Held, ...]:
    """Return what an agent that has a task names."""
    return (Held(task=task.id, lease=task.record.lease or ""),)


def failure_of(task: OpenTask) -> str | None:
    """Return the code of a task's failure; None while there is none."""
    return None if task.record.failure is None else task.record.failure.code


async def test_a_task_that_the_next_process_does_not_have_ends_at_once(mesh: FakeMesh) -> None:
    """It must not run twice, and waited two minutes for somebody who is known to be gone."""
    mesh.agents.register(registration("a", idempotent=False))
    kept, lost = await mesh.submit("kept"), await mesh.submit("lost")
    await mesh.settle(LEASE_S + 1)
    phases = {kept.phase, lost.phase}
    mesh.agents.register(registration("b", idempotent=False, before=(A,), tasks=held(kept)))
    await mesh.settle()

    assert phases == {Phase.AWAY}
    assert failure_of(lost) == "agent_lost"
    assert (kept.phase, kept.record.instance) == (Phase.HELD, B)


async def test_a_push_of_unclear_outcome_does_not_wait_for_who_was_restarted_elsewhere(
    mesh: FakeMesh,
) -> None:
    """It had no task by then, or had it without a journal: in both cases nobody will tell of it."""
    mesh.courier.outcomes = [Outcome(Verdict.UNCLEAR), Outcome(Verdict.UNREACHABLE)]
    mesh.agents.register(registration("a", idempotent=False))
    task = await mesh.submit("t")
    phase = task.phase
    mesh.agents.register(registration("b", idempotent=False, before=(A,)))
    await mesh.settle(DOUBT_S + 1)

    assert phase is Phase.AWAY
    assert failure_of(task) == "agent_lost"


async def test_what_may_run_twice_goes_to_the_next_process(mesh: FakeMesh) -> None:
    """After a restart of the orchestrator too, which gives everybody else two leases."""
    mesh.agents.register(registration("a"))
    await mesh.submit("t")
    after = FakeMesh(mesh.storage, mesh.limits)
    await after.broker.load()
    after.agents.register(registration("b", before=(A,)))
    await after.settle()

    assert [(instance, offer.attempt) for instance, offer in after.courier.offers] == [("b", 2)]


async def test_a_process_that_lives_loses_nothing_by_what_another_one_says(mesh: FakeMesh) -> None:
    """A copy of its folder was started, or somebody lies: all agents show one token."""
    mesh.agents.register(registration("a", idempotent=False))
    task = await mesh.submit("t")
    mesh.agents.register(registration("b", idempotent=False, before=(A,)))
    mesh.agents.register(registration("c", idempotent=False, before=(A,), agent="other"))
    mesh.agents.heartbeat(A, Heartbeat(status=READY, tasks=held(task)))
    await mesh.settle(DOUBT_S + 1)
    phase = task.phase
    await mesh.settle(LEASE_S)
    mesh.agents.register(registration("d", idempotent=False, before=(A,), agent="other"))

    assert phase is Phase.HELD
    assert task.phase is Phase.AWAY
    assert mesh.counters.agents_lost > 0
