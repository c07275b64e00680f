"""Tests of `kagent_sdk.orchestrator.mesh_report`: what ``/status`` tells of a mesh."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from kagent_sdk.orchestrator import mesh_report
from kagent_sdk.orchestrator.registry import Registry
from kagent_sdk.orchestrator.task import OpenTask, Phase, Target, TaskRecord
from kagent_sdk.protocol.link import Registration


def registration(agent: str, instance: str, *, ready: bool = True) -> Registration:
    """Return an agent with one capability."""
    return Registration.model_validate(
        {
            "agent": agent,
            "instance": instance * 16,
            "version": "1.0",
            "sdk_version": "0.1.0",
            "delivery": "pull",
            "capabilities": [{"name": "greet", "input_schema": {}, "output_schema": {}}],
            "limits": {"max_concurrency": 4, "max_queue": 10},
            "status": {"lifecycle": "ready", "ready": ready, "working": 2},
        }
    )


def task(number: int, capability: str, phase: Phase) -> OpenTask:
    """Return an open task."""
    target = Target(None, capability)
    record = TaskRecord(number, f"t{number}", target, b"{}", b"{}", 100.0 + number, 1000.0)
    return OpenTask(record, phase)


def test_replicas_stand_below_their_agent() -> None:
    """Each with what it said last, and how long ago."""
    registry = Registry()
    for one in (registration("hello", "a"), registration("hello", "b", ready=False)):
        registry.register(one, 10.0)
    (agent,) = mesh_report._agents(registry, 12.5)

    assert (agent.name, agent.capabilities) == ("hello", ("greet",))
    assert [one.ready for one in agent.replicas] == [True, False]
    assert {(one.working, one.heard_s, one.state) for one in agent.replicas} == {(2, 2.5, "up")}


def test_an_agent_that_is_gone_is_still_told_of() -> None:
    """Else nobody would miss it on the screen."""
    registry = Registry()
    instance, _ = registry.register(registration("hello", "a"), 0.0)
    registry.remove(instance, 1.0)
    (agent,) = mesh_report._agents(registry, 2.0)

    assert (agent.name, agent.capabilities, agent.replicas) == ("hello", ("greet",), ())


def test_a_lost_replica_is_told_of_until_another_one_has_come() -> None:
    """A person wants to see that one is down, and not for ever that one was."""
    registry = Registry()
    lost, _ = registry.register(registration("hello", "a"), 0.0)
    registry.register(registration("hello", "b"), 0.0)
    registry.hear(lost, lost.status, 5.0)
    registry.lose(lost, 20.0)
    (agent,) = mesh_report._agents(registry, 21.0)
    registry.register(registration("hello", "c"), 22.0)
    (after,) = mesh_report._agents(registry, 23.0)

    assert [(one.state, one.ready, one.heard_s) for one in agent.replicas] == [
        ("up", True, 21.0),
        ("lost", False, 16.0),
    ]
    assert [one.state for one in after.replicas] == ["up", "up"]


def test_capabilities_that_nobody_offers_any_more_show_who_waits() -> None:
    """Tasks that wait for them are the reason to look."""
    registry = Registry()
    registry.register(registration("hello", "a"), 0.0)
    registry.register(registration("world", "b", ready=False), 0.0)
    tasks = [task(1, "greet", Phase.HELD), task(2, "digest", Phase.QUEUED)]
    digest, greet = mesh_report._capabilities(registry, tasks)

    assert (digest.name, digest.agents, digest.ready, digest.queued) == ("digest", (), 0, 1)
    assert (greet.agents, greet.ready, greet.working) == (("hello", "world"), 1, 1)


def test_tasks_are_counted_with_the_age_of_the_oldest() -> None:
    """How long somebody waits says more than how many do."""
    figures: Any = SimpleNamespace(
        waiting=1,
        phases=Counter({"queued": 1, "held": 2, "away": 1, "ending": 1}),
        submitted=9,
        ended=Counter({"completed": 4}),
        kept=4,
        retries=1,
        losses=Counter({"requeue": 1, "fail": 1}),
        reports=Counter({"taken": 7, "lease_lost": 2}),
    )
    found = mesh_report._tasks(figures, [task(1, "greet", Phase.QUEUED)], 111.0)

    assert (found.queued, found.working, found.leases, found.oldest_queued_s) == (1, 4, 3, 10.0)
    assert (found.lost_leases, found.refused_reports, found.completed) == (2, 2, 4)
