"""Whether the agent is near its memory limit."""

from __future__ import annotations

import pytest

from kagent_sdk.host.memory import (
    MEBIBYTE,
    MemoryUse,
    MemoryVerdict,
    find_lack_of_room,
    find_resume_ratio,
    judge_memory,
)


def use_of(used_mib: int | None, limit_mib: int | None = 100) -> MemoryUse:
    """Return a use in MiB of a cgroup's limit."""
    return MemoryUse(
        "cgroup",
        None if used_mib is None else used_mib * MEBIBYTE,
        None if limit_mib is None else limit_mib * MEBIBYTE,
    )


@pytest.mark.parametrize("use", [use_of(None), use_of(50, None), use_of(50, 0)])
def test_without_numbers_there_is_no_verdict(use: MemoryUse) -> None:
    """Outside a container nothing limits the agent: it must not stop taking tasks."""
    assert judge_memory([use], soft_ratio=0.9, was_near_limit=True) == MemoryVerdict()
    assert judge_memory([], soft_ratio=0.9, was_near_limit=False).ratio is None


def test_from_the_soft_ratio_on_no_task_is_taken() -> None:
    """Turning tasks away beats being killed with all of those that run."""
    below = judge_memory([use_of(89)], soft_ratio=0.9, was_near_limit=False)
    above = judge_memory([use_of(90)], soft_ratio=0.9, was_near_limit=False)

    assert not below.is_near_limit
    assert (below.ratio, below.message) == (0.89, "")
    assert above.is_near_limit
    assert above.message == (
        "memory is at 90% of the cgroup's limit (90 of 100 MiB); "
        "no task is taken until it is below 85%"
    )


def test_tasks_are_taken_again_only_clearly_below_the_limit() -> None:
    """An agent at its edge must not flip its readiness every second."""
    held = judge_memory([use_of(86)], soft_ratio=0.9, was_near_limit=True)
    released = judge_memory([use_of(84)], soft_ratio=0.9, was_near_limit=True)

    assert held.is_near_limit
    assert not released.is_near_limit


def test_the_tightest_limit_decides_and_is_named() -> None:
    """With a cgroup's and a configured limit, a person must know which one to raise."""
    configured = MemoryUse("config", 95 * MEBIBYTE, 100 * MEBIBYTE)
    verdict = judge_memory(
        [use_of(None), use_of(50), configured, use_of(60)], soft_ratio=0.9, was_near_limit=False
    )

    assert verdict.use is configured
    assert verdict.message.startswith("memory is at 95% of limits.memory_bytes (95 of 100 MiB)")


@pytest.mark.parametrize(("soft", "resume"), [(1.0, 0.95), (0.9, 0.85), (0.05, 0.025)])
def test_tasks_can_always_be_taken_again(soft: float, resume: float) -> None:
    """Even an odd soft ratio must leave a usage at which the agent recovers."""
    assert find_resume_ratio(soft) == pytest.approx(resume)


def test_a_second_generation_must_fit_below_the_soft_ratio() -> None:
    """A reload holds two generations for a while; it must not be what gets the agent killed."""
    fits = find_lack_of_room([use_of(60)], more_bytes=30 * MEBIBYTE, soft_ratio=0.9)
    lack = find_lack_of_room([use_of(61)], more_bytes=30 * MEBIBYTE, soft_ratio=0.9)

    assert fits == ""
    assert lack == (
        "there is no room for a second generation of workers of some 30 MiB: "
        "61 of 100 MiB of the cgroup's limit are in use"
    )


def test_each_limit_counts_and_what_is_not_known_does_not() -> None:
    """The tightest limit is the one that kills."""
    uses = [use_of(None), use_of(50, None), MemoryUse("config", 90 * MEBIBYTE, 100 * MEBIBYTE)]
    lack = find_lack_of_room(uses, more_bytes=MEBIBYTE, soft_ratio=0.9)

    assert "of limits.memory_bytes are in use" in lack
    assert find_lack_of_room(uses[:2], more_bytes=MEBIBYTE, soft_ratio=0.9) == ""
