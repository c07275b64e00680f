"""Which agent gets a task: pure decisions over the registry."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.orchestrator.registry import REMEMBERED_S, Instance, Registry
from kagent_sdk.orchestrator.routing import Loss, choose, fits, judge_drop, judge_loss
from kagent_sdk.orchestrator.task import Target
from kagent_sdk.protocol.link import ShortStatus
from tests.unit.orchestrator.meshes import READY, registration


def register(registry: Registry, name: str, working: int = 0, **options: Any) -> Instance:
    """Register an agent with so much to do."""
    status = READY.model_copy(update={"working": working})
    made, _ = registry.register(registration(name, status=status, **options), 0.0)
    return made


@pytest.mark.parametrize(
    ("target", "is_fit"),
    [
        (Target(None, "echo"), True),
        (Target("worker", "echo"), True),
        (Target("other", "echo"), False),
        (Target(None, "ecko"), False),
        (Target(None, "echo", (("zone", "a"),)), True),
        (Target(None, "echo", (("zone", "b"),)), False),
        (Target(None, "echo", (("zone", "a"), ("gpu", "1"))), False),
    ],
)
def test_an_agent_fits_by_name_capability_and_all_labels(target: Target, *, is_fit: bool) -> None:
    """What the caller asked for, and nothing less."""
    assert fits(register(Registry(), "a", labels={"zone": "a"}), target) is is_fit


def test_the_least_loaded_is_chosen_by_its_share() -> None:
    """Three of ten is less than two of two."""
    registry = Registry()
    small = register(registry, "small", working=1, max_concurrency=2)
    large = register(registry, "large", working=3, max_concurrency=10)

    assert choose([small, large], 0.0) is large


def test_what_was_offered_since_counts_at_once() -> None:
    """Heartbeats are seconds apart: without that one agent would get them all."""
    registry = Registry()
    one, two = register(registry, "one"), register(registry, "two")
    one.leases["lease"] = "task"

    assert choose([one, two], 0.0) is two


def test_nobody_is_chosen_over_its_bounds_or_against_its_word() -> None:
    """Full, draining, not ready, or asked to be left alone."""
    registry = Registry()
    full, draining = register(registry, "full", working=2), register(registry, "draining")
    unready, resting = register(registry, "unready"), register(registry, "resting")
    registry.drain(draining)
    registry.hear(unready, ShortStatus(lifecycle="starting", ready=False), 0.0)
    resting.not_before_s = 5.0
    everybody = [full, draining, unready, resting]

    assert choose(everybody, 0.0) is None
    assert choose(everybody, 5.0) is resting


def test_an_avoided_agent_is_the_last_choice_and_not_none() -> None:
    """With one replica there is no other."""
    registry = Registry()
    idle, busy = register(registry, "idle"), register(registry, "busy", working=1)

    assert choose([idle, busy], 0.0, avoid=idle.id) is busy
    assert choose([idle], 0.0, avoid=idle.id) is idle


def test_replicas_share_a_name_and_an_address_is_one_process() -> None:
    """A new replica is one more; a new process at the old address is another one."""
    registry = Registry()
    register(registry, "one")
    _, beside = registry.register(registration("two"), 1.0)
    _, instead = registry.register(registration("three", url="http://one.example"), 2.0)

    assert beside is None
    assert instead is not None
    assert instead.id.startswith("one")
    assert not instead.is_ready
    assert len(registry.instances_of("worker")) == 3


def test_a_registration_again_keeps_leases() -> None:
    """After a reload its capabilities are others, and its tasks the same."""
    registry = Registry()
    first = register(registry, "one")
    first.leases["lease"] = "task"
    again, _ = registry.register(registration("one", names=("other",)), 1.0)

    assert again.leases == {"lease": "task"}
    assert not registry.offering("echo")
    assert list(registry.offering("other")) == [again]


def test_what_a_lost_agent_offered_stays_known_for_a_while() -> None:
    """While it restarts its callers are not told that they misspelt it."""
    registry = Registry()
    registry.remove(register(registry, "one"), 0.0)

    assert ("worker", "echo") in registry.names(REMEMBERED_S - 1)
    assert not registry.names(REMEMBERED_S + 1)
    assert registry.agents() == []


@pytest.mark.parametrize(
    ("may_be_taken", "is_idempotent", "attempt", "loss"),
    [
        (False, False, 3, Loss.RETURN),
        (False, True, 3, Loss.RETURN),
        (True, False, 1, Loss.AWAIT),
        (True, True, 1, Loss.RETRY),
        (True, True, 3, Loss.FAIL),
    ],
)
def test_what_becomes_of_a_lost_lease(
    *, may_be_taken: bool, is_idempotent: bool, attempt: int, loss: Loss
) -> None:
    """Nothing runs twice that must not, and nothing for ever."""
    verdicts = [
        judge_loss(
            is_canceling=is_canceling,
            may_be_taken=may_be_taken,
            is_idempotent=is_idempotent,
            attempt=attempt,
            max_attempts=3,
        )
        for is_canceling in (False, True)
    ]

    assert verdicts == [loss, Loss.CANCEL]


@pytest.mark.parametrize(
    ("is_held", "is_idempotent", "attempt", "loss"),
    [
        (False, False, 3, Loss.RETRY),
        (True, False, 1, Loss.FAIL),
        (True, True, 1, Loss.RETRY),
        (True, True, 3, Loss.FAIL),
    ],
)
def test_what_becomes_of_a_task_that_its_agent_does_not_know(
    *, is_held: bool, is_idempotent: bool, attempt: int, loss: Loss
) -> None:
    """An agent that never named it never began it."""
    verdict = judge_drop(
        is_canceling=False,
        is_held=is_held,
        is_idempotent=is_idempotent,
        attempt=attempt,
        max_attempts=3,
    )

    assert verdict is loss
