"""Which instance gets a task, and what becomes of one whose agent is lost. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from kagent_sdk.orchestrator.registry import Instance, Registry
from kagent_sdk.orchestrator.task import Target


def fits(instance: Instance, target: Target) -> bool:
    """Whether an instance offers what a task needs, ready or not."""
    if target.agent is not None and instance.agent != target.agent:
        return False
    labels = instance.registration.labels
    return target.capability in instance.capabilities and all(
        labels.get(key) == value for key, value in target.labels
    )


def fitting(registry: Registry, target: Target) -> Iterable[Instance]:
    """Return the instances that offer what a task needs, ready or not."""
    return (one for one in registry.offering(target.capability) if fits(one, target))


def may_come(registry: Registry, target: Target, now_s: float, expects: frozenset[str]) -> bool:
    """Whether an agent for a task may be about to come: it was there, or it is expected."""
    if registry.knows(target.agent, target.capability, now_s):
        return True
    missing = expects.difference(registry.agents())
    return bool(missing) if target.agent is None else target.agent in missing


def choose(
    candidates: Iterable[Instance], now_s: float, *, avoid: str | None = None
) -> Instance | None:
    """Return the ready instance with the least to do that has room; None when there is none.

    Args:
        candidates: those that fit.
        now_s: on the registry's clock.
        avoid: the id of one that is taken only when there is no other.
    """
    open_ones = [
        one for one in candidates if one.is_ready and one.not_before_s <= now_s and one.room > 0
    ]
    if not open_ones:
        return None
    return min(open_ones, key=lambda one: (one.id == avoid, _share(one), one.load))


def _share(instance: Instance) -> float:
    return instance.load / instance.registration.limits.max_concurrency


class Loss(Enum):
    """What becomes of a task whose lease is lost.

    ``RETURN``: offered again, and the lost offer does not count. ``RETRY``: offered again, as another attempt.
    ``AWAIT``: waits for the agent to come back. ``FAIL``: ends with ``agent_lost``. ``CANCEL``: ends canceled.
    """

    RETURN = auto()
    RETRY = auto()
    AWAIT = auto()
    FAIL = auto()
    CANCEL = auto()


def judge_loss(
    *,
    is_canceling: bool,
    may_be_taken: bool,
    is_idempotent: bool,
    attempt: int,
    max_attempts: int,
    may_return: bool = True,
) -> Loss:
    """Decide what becomes of a task whose agent is no more to be heard of.

    Args:
        is_canceling: its caller wants no more of it.
        may_be_taken: the agent has it, or may have it.
        is_idempotent: it may run twice.
        attempt: the one that is lost, from 1 on.
        max_attempts: how many there may be.
        may_return: the agent may come back with the task.
    """
    if is_canceling:
        return Loss.CANCEL
    if not may_be_taken:
        return Loss.RETURN
    if not is_idempotent:
        return Loss.AWAIT if may_return else Loss.FAIL
    return Loss.RETRY if attempt < max_attempts else Loss.FAIL


def judge_drop(
    *, is_canceling: bool, is_held: bool, is_idempotent: bool, attempt: int, max_attempts: int
) -> Loss:
    """Decide what becomes of a task that a living agent does not name: it does not have it.

    An agent writes a task down before it says that it has it: one that it has never named was never
    begun, and may be offered again in any case.
    """
    if is_canceling:
        return Loss.CANCEL
    if is_held and not is_idempotent:
        return Loss.FAIL
    return Loss.RETRY if attempt < max_attempts or not is_held else Loss.FAIL
