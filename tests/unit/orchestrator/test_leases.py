"""The life of tasks between agents, on a clock that tests let pass."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import ValidationError

from kagent_sdk.orchestrator.agents import DOUBTED_HEARTBEATS, TooManyAgentsError
from kagent_sdk.orchestrator.courier import Outcome, Verdict
from kagent_sdk.orchestrator.registry import MAX_REGISTRY_BYTES, REMEMBERED_S
from kagent_sdk.orchestrator.settings import BrokerLimits
from kagent_sdk.orchestrator.task import OpenTask, Phase
from kagent_sdk.protocol.link import Heartbeat, Held, ShortStatus
from tests.unit.orchestrator.meshes import READY, FakeMesh, fake_mesh, registration

LEASE_S = 15.0


@pytest.fixture
async def mesh() -> AsyncIterator[FakeMesh]:
    """Give a broker."""
    async with fake_mesh() as made:
        yield made


def held(task: OpenTask) -> tuple[Held, ...]:
    """Return what an agent that has a task names."""
    assert task.record.lease is not None
    return (Held(task=task.id, lease=task.record.lease),)


def beat(mesh: FakeMesh, instance: str, tasks: tuple[Held, ...] = ()) -> tuple[Held, ...]:
    """Let an agent say what it has; return what is lost."""
    answer = mesh.agents.heartbeat(instance.ljust(16, "-"), Heartbeat(status=READY, tasks=tasks))
    return answer.lost


async def ended(mesh: FakeMesh, task: OpenTask) -> tuple[str, str | None]:
    """Wait for the end of a task; return its state and its failure's code."""
    await mesh.settle()
    await task.ended.wait()
    failure = task.record.failure
    return task.record.state.value, None if failure is None else failure.code


async def test_an_agent_that_falls_silent_is_lost_after_its_lease(mesh: FakeMesh) -> None:
    """Not before: a heartbeat may be late."""
    mesh.agents.register(registration())
    mesh.clock.go(LEASE_S - 1)
    beat(mesh, "a")
    mesh.clock.go(LEASE_S - 1)
    is_there = mesh.registry.find("a".ljust(16, "-")) is not None
    mesh.clock.go(2)

    assert is_there
    assert len(mesh.registry) == 0
    assert mesh.counters.agents_lost == 1


async def test_an_orchestrator_that_stood_still_loses_nobody_for_that(mesh: FakeMesh) -> None:
    """A machine that was suspended must not run every task again: its agents had no say meanwhile."""
    mesh.agents.register(registration())
    task = await mesh.submit("t")
    mesh.clock.at_s += 3600
    mesh.clock.go()
    beat(mesh, "a", held(task))
    await mesh.settle(LEASE_S - 1)
    phase = task.phase
    mesh.clock.at_s += 3600
    mesh.clock.go()
    mesh.clock.go(LEASE_S)

    assert (phase, task.record.attempt) == (Phase.HELD, 1)
    assert mesh.counters.agents_lost == 1  # who says nothing after that is lost as ever


async def test_heartbeats_keep_a_lease_and_silence_loses_it(mesh: FakeMesh) -> None:
    """The task goes on at another replica, as another attempt with another lease."""
    mesh.agents.register(registration("a"))
    task = await mesh.submit("t")
    lease = task.record.lease
    for _ in range(5):
        mesh.clock.go(10)
        assert beat(mesh, "a", held(task)) == ()
    mesh.agents.register(registration("b"))
    await mesh.settle(LEASE_S - 1)
    beat(mesh, "b")
    await mesh.settle(2)

    assert [instance for instance, _ in mesh.courier.offers] == ["a", "b"]
    assert task.record.lease != lease
    assert (task.record.attempt, task.phase) == (2, Phase.HELD)
    assert beat(mesh, "b", (Held(task="t", lease=lease or ""),)) != ()


@pytest.mark.parametrize("count", [1, 2])
async def test_two_heartbeats_that_do_not_name_a_task_lose_it(mesh: FakeMesh, count: int) -> None:
    """One may have been on its way when the offer came."""
    mesh.agents.register(registration())
    task = await mesh.submit("t")
    for _ in range(count):
        beat(mesh, "a")
    await mesh.settle()

    assert task.record.attempt == count
    assert len(mesh.courier.offers) == count


async def test_an_unreachable_agent_costs_no_attempt(mesh: FakeMesh) -> None:
    """It never had the task; it is left alone for a while, and tried again."""
    mesh.courier.outcomes = [Outcome(Verdict.UNREACHABLE), Outcome(Verdict.UNREACHABLE)]
    mesh.agents.register(registration())
    task = await mesh.submit("t")
    first = len(mesh.courier.offers)
    await mesh.settle(0.3)
    await mesh.settle(0.6)

    assert first == 1
    assert len(mesh.courier.offers) == 3
    assert (task.record.attempt, task.phase) == (1, Phase.HELD)


async def test_an_offer_that_may_have_come_counts(mesh: FakeMesh) -> None:
    """Unclear first and gone then: it may have run, and so this was an attempt."""
    mesh.courier.outcomes = [Outcome(Verdict.UNCLEAR), Outcome(Verdict.UNREACHABLE)]
    mesh.agents.register(registration("a"))
    mesh.agents.register(registration("b", status=READY.model_copy(update={"working": 1})))
    task = await mesh.submit("t")

    assert [instance for instance, _ in mesh.courier.offers] == ["a", "a", "b"]
    assert task.record.attempt == 2


async def test_what_must_not_run_twice_waits_for_who_may_have_it(mesh: FakeMesh) -> None:
    """Until a bounded time is over."""
    mesh.courier.outcomes = [Outcome(Verdict.UNCLEAR), Outcome(Verdict.UNREACHABLE)]
    mesh.agents.register(registration("a", idempotent=False))
    mesh.agents.register(registration("b", idempotent=False, max_concurrency=1))
    task = await mesh.submit("t")
    phase = task.phase
    mesh.clock.go(10)
    beat(mesh, "b")
    mesh.clock.go(121)

    assert phase is Phase.AWAY
    assert len(mesh.courier.offers) == 2
    assert await ended(mesh, task) == ("failed", "agent_lost")


async def test_an_agent_that_comes_back_keeps_its_task(mesh: FakeMesh) -> None:
    """Another process of it, with the same journal."""
    mesh.agents.register(registration("a", idempotent=False))
    task = await mesh.submit("t")
    mesh.clock.go(LEASE_S + 1)
    phase = task.phase
    mesh.agents.register(registration("a2", idempotent=False, tasks=held(task)))
    mesh.clock.go(10)

    assert phase is Phase.AWAY
    assert task.phase is Phase.HELD
    assert task.record.instance == "a2".ljust(16, "-")


async def test_cancel_waits_for_the_agents_word_and_not_for_a_lost_agent(mesh: FakeMesh) -> None:
    """The heartbeat says it, a push at once; a lost agent is not asked."""
    mesh.agents.register(registration("a", idempotent=False))
    task = await mesh.submit("t")
    await mesh.broker.cancel(task)
    await mesh.settle()
    answer = mesh.agents.heartbeat("a".ljust(16, "-"), Heartbeat(status=READY, tasks=held(task)))
    mesh.clock.go(LEASE_S + 1)

    assert mesh.courier.canceled == ["t"]
    assert answer.cancel == held(task)
    assert await ended(mesh, task) == ("canceled", "canceled")


async def test_a_deadline_gives_the_agent_the_first_word(mesh: FakeMesh) -> None:
    """It keeps the same deadline; when it says nothing the caller is told all the same."""
    mesh.agents.register(registration())
    task = await mesh.submit("t", timeout_s=5)
    offered_s = mesh.courier.offers[0][1].timeout_s
    mesh.clock.go(5.5)
    phase = task.phase
    mesh.clock.go(2)

    assert offered_s == 5
    assert phase is Phase.HELD
    assert await ended(mesh, task) == ("failed", "timeout")
    assert mesh.courier.canceled == ["t"]


async def test_a_task_without_an_agent_fails_and_one_with_a_busy_agent_waits(
    mesh: FakeMesh,
) -> None:
    """An agent that exists will have time some day."""
    nobody = await mesh.submit("nobody", "nothing")
    mesh.agents.register(registration(status=READY.model_copy(update={"ready": False})))
    waiting = await mesh.submit("waiting")
    for _ in range(4):
        mesh.clock.go(10)
        mesh.agents.heartbeat(
            "a".ljust(16, "-"), Heartbeat(status=READY.model_copy(update={"ready": False}))
        )

    assert await ended(mesh, nobody) == ("failed", "no_agent")
    assert waiting.phase is Phase.QUEUED


async def test_a_task_waits_for_an_agent_that_was_there_a_moment_ago(mesh: FakeMesh) -> None:
    """It restarts, or its machine does: that takes longer than a slip of the pen should."""
    mesh.agents.register(registration())
    mesh.agents.goodbye("a".ljust(16, "-"), is_gone=True)
    task = await mesh.submit("t", agent="worker")
    mesh.clock.go(REMEMBERED_S - 10)
    phase = task.phase
    mesh.clock.go(60)

    assert phase is Phase.QUEUED
    assert await ended(mesh, task) == ("failed", "no_agent")


async def test_targets_take_turns_and_each_is_first_in_first_out(mesh: FakeMesh) -> None:
    """One caller with a thousand tasks does not shut out the others."""
    for number in range(3):
        await mesh.submit(f"a{number}", "one")
    await mesh.submit("b0", "two")
    mesh.agents.register(registration(names=("one", "two"), max_concurrency=3))
    await mesh.settle()

    assert [offer.task for _, offer in mesh.courier.offers] == ["a0", "b0", "a1"]


async def test_a_refused_offer_goes_to_the_front_of_the_queue(mesh: FakeMesh) -> None:
    """It has waited longest."""
    mesh.courier.outcomes = [Outcome(Verdict.BUSY, retry_after_s=1.0)]
    mesh.agents.register(registration(max_concurrency=1))
    await mesh.submit("first")
    await mesh.submit("second")
    await mesh.settle(1.1)

    assert [offer.task for _, offer in mesh.courier.offers] == ["first", "first"]


async def test_a_goodbye_loses_leases_at_once(mesh: FakeMesh) -> None:
    """Nobody waits for the lease of somebody who said that it is gone."""
    mesh.agents.register(registration("a"))
    task = await mesh.submit("t")
    mesh.agents.register(registration("b"))
    mesh.agents.goodbye("a".ljust(16, "-"), is_gone=True)
    await mesh.settle()

    assert task.record.instance == "b".ljust(16, "-")


async def test_a_claim_of_an_address_takes_nothing_from_an_agent_that_lives(mesh: FakeMesh) -> None:
    """All agents show one token: a hostile one would fail the tasks of any other by its address."""
    mesh.agents.register(registration(max_attempts=1))
    task = await mesh.submit("t")
    mesh.agents.register(registration("b", url="http://a.example"))
    beat(mesh, "a", held(task))
    await mesh.settle(BrokerLimits().heartbeat_s * DOUBTED_HEARTBEATS + 1)

    assert task.phase is Phase.HELD
    assert mesh.counters.agents_lost == 0


async def test_an_agent_whose_address_another_has_and_that_is_silent_is_lost_early(
    mesh: FakeMesh,
) -> None:
    """Its host was killed and started again: its tasks need not wait for the whole lease."""
    mesh.agents.register(registration())
    task = await mesh.submit("t")
    mesh.agents.register(registration("b", url="http://a.example"))
    await mesh.settle(BrokerLimits().heartbeat_s * DOUBTED_HEARTBEATS + 1)

    assert BrokerLimits().heartbeat_s * DOUBTED_HEARTBEATS + 1 < LEASE_S
    assert (task.record.instance or "").startswith("b")


async def test_registrations_are_bounded_in_bytes(mesh: FakeMesh) -> None:
    """Each may be as large as a request: a few thousand would be all the memory there is."""
    half = MAX_REGISTRY_BYTES // 2
    mesh.agents.register(registration("a"), half)
    mesh.agents.register(registration("a"), half)
    mesh.agents.register(registration("b"), half)

    with pytest.raises(TooManyAgentsError):
        mesh.agents.register(registration("c"), 1)
    mesh.agents.goodbye("b".ljust(16, "-"), is_gone=True)
    mesh.agents.register(registration("c"), half)


@pytest.mark.parametrize("key", ["working", "queued", "restarts", "memory_used_bytes"])
def test_counts_that_no_float_holds_are_refused(key: str) -> None:
    """One heartbeat with one of them stopped every offer to every agent: shares are divisions."""
    with pytest.raises(ValidationError):
        ShortStatus.model_validate({"lifecycle": "ready", "ready": True, key: 10**400})


@pytest.mark.parametrize("answer", [Verdict.TAKEN, Verdict.UNCLEAR])
async def test_an_agent_that_is_back_without_a_task_does_not_have_it(
    mesh: FakeMesh, answer: Verdict
) -> None:
    """A restart of the orchestrator must not cost the caller two leases of waiting."""
    mesh.courier.outcomes = [Outcome(answer)]
    mesh.agents.register(registration("a"))
    before = await mesh.submit("t")
    kept = await mesh.submit("kept")
    after = FakeMesh(mesh.storage, BrokerLimits())
    await after.broker.load()
    after.agents.register(registration("a", tasks=held(kept)))
    beat(after, "a", held(kept))
    await after.settle(1.0)

    assert [offer.task for _, offer in after.courier.offers] == ["t"]
    assert before.record.lease != after.book.open["t"].record.lease
    assert kept.record.lease == after.book.open["kept"].record.lease


async def test_an_agent_that_is_away_when_the_orchestrator_is_back_has_two_leases(
    mesh: FakeMesh,
) -> None:
    """It may be cut off with a task in its hands."""
    mesh.agents.register(registration("a"))
    await mesh.submit("t")
    after = FakeMesh(mesh.storage, BrokerLimits())
    await after.broker.load()
    after.agents.register(registration("b"))
    for _ in range(3):
        await after.settle((2 * LEASE_S - 1) / 3)
        beat(after, "b")
    waiting = list(after.courier.offers)
    await after.settle(2.0)

    assert waiting == []
    assert [(instance, offer.attempt) for instance, offer in after.courier.offers] == [("b", 2)]
