"""An offer that its agent may get too late: it runs at one agent, or at the other, and never at both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kagent_sdk.orchestrator.courier import Outcome, Verdict
from kagent_sdk.orchestrator.task import OpenTask, Phase
from kagent_sdk.protocol.link import Heartbeat, Held, Offer
from tests.unit.orchestrator.meshes import READY, FakeMesh, fake_mesh, registration

A, B = "a".ljust(16, "-"), "b".ljust(16, "-")


@pytest.fixture
async def mesh() -> AsyncIterator[FakeMesh]:
    """Give a broker."""
    async with fake_mesh() as made:
        yield made


def beat(mesh: FakeMesh, instance: str, number: int, *tasks: Held) -> tuple[Held, ...]:
    """Let an agent say what it has, in a beat of this number."""
    return mesh.agents.heartbeat(instance, Heartbeat(status=READY, tasks=tasks, beat=number)).lost


async def fetched(mesh: FakeMesh, instance: str) -> Offer:
    """Let an agent ask for a task, and get one."""
    fetching = asyncio.create_task(mesh.agents.fetch(instance, 5))
    await asyncio.sleep(0)
    await mesh.settle()
    offer = await fetching
    assert offer is not None
    return offer


def held(task: OpenTask) -> Held:
    """Return what an agent that has a task names."""
    return Held(task=task.id, lease=task.record.lease or "")


async def test_an_offer_says_after_which_beat_it_was_made(mesh: FakeMesh) -> None:
    """Else an agent that gets it late cannot know that it was given up meanwhile."""
    mesh.agents.register(registration("a", delivery="pull", url=None, beat=1, idempotent=False))
    beat(mesh, A, 7)
    await mesh.submit("t")
    offer = await fetched(mesh, A)

    assert offer.beat == 7


async def test_a_fetched_task_is_given_up_after_two_later_beats_and_no_sooner(
    mesh: FakeMesh,
) -> None:
    """The agent takes it no more from the second beat on: one that must not run twice goes elsewhere."""
    mesh.agents.register(registration("a", delivery="pull", url=None, beat=1, idempotent=False))
    task = await mesh.submit("t")
    beat(mesh, A, 5)
    offer = await fetched(mesh, A)
    beat(mesh, A, 6)
    phase = task.phase
    mesh.agents.register(registration("b", delivery="pull", url=None, beat=1, idempotent=False))
    beat(mesh, A, 7)
    again = await fetched(mesh, B)

    assert (offer.beat, phase) == (5, Phase.OFFERED)
    assert again.lease != offer.lease
    assert beat(mesh, A, 8, Held(task="t", lease=offer.lease)) != ()


async def test_beats_that_were_overtaken_do_not_count(mesh: FakeMesh) -> None:
    """They were sent before the offer was made, and lay in the network meanwhile."""
    mesh.agents.register(registration("a", delivery="pull", url=None, beat=1, idempotent=False))
    task = await mesh.submit("t")
    beat(mesh, A, 9)
    offer = await fetched(mesh, A)
    for number in (6, 7, 8, 9):
        beat(mesh, A, number)
    await mesh.settle()

    assert (task.phase, task.record.lease) == (Phase.OFFERED, offer.lease)
    assert beat(mesh, A, 10, held(task)) == ()
    assert task.phase is Phase.HELD


async def test_every_try_of_a_push_says_how_old_it_is(mesh: FakeMesh) -> None:
    """One of them may lie in the network until the task has been given to somebody else."""
    mesh.courier.outcomes = [Outcome(Verdict.UNCLEAR), Outcome(Verdict.UNREACHABLE)]
    mesh.agents.register(registration("a", beat=3, idempotent=False))
    task = await mesh.submit("t")
    (_, first), *_ = mesh.courier.offers
    phase = task.phase
    beat(mesh, A, 4)
    beat(mesh, A, 5)
    await mesh.settle(11)

    assert first.beat == 3
    assert phase is Phase.AWAY
    assert [offer.beat for _, offer in mesh.courier.offers][-1] == 5
    assert (task.phase, task.record.attempt) == (Phase.HELD, 2)


async def test_a_task_that_another_process_names_counts_its_own_beats(mesh: FakeMesh) -> None:
    """The next process of an agent counts from one again."""
    mesh.agents.register(registration("a", beat=40))
    task = await mesh.submit("t")
    mesh.agents.register(registration("b", beat=1, tasks=(held(task),), url="http://a.example"))
    beat(mesh, B, 2)
    beat(mesh, B, 3)
    await mesh.settle()

    assert task.record.attempt == 2
