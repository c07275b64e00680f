"""Tests of `kagent_sdk.orchestrator.missing`: who is still missed."""

from __future__ import annotations

from kagent_sdk.orchestrator.missing import (
    MAX_MISSING,
    MISSED_S,
    MissingInstance,
    MissingInstances,
)


def lost(instance: str, seen_s: float, agent: str = "hello") -> MissingInstance:
    """Return an instance that was heard of last at that time."""
    return MissingInstance(agent, instance, "1.0", "0.1.0", "pull", None, seen_s)


def missed(missing: MissingInstances, came_s: list[float], now_s: float = 100.0) -> list[str]:
    """Return who is missed of the agent."""
    return [one.instance for one in missing.of("hello", came_s, now_s)]


def test_each_newcomer_replaces_one() -> None:
    """The fleet starts it again long before its lease is over, or a person does long after."""
    missing = MissingInstances()
    for one in (lost("late", 50.0), lost("early", 10.0), lost("other", 10.0, "world")):
        missing.note(one)

    assert missed(missing, []) == ["early", "late"]
    assert missed(missing, [5.0]) == ["early", "late"]
    assert missed(missing, [5.0, 11.0]) == ["late"]
    assert missed(missing, [60.0]) == ["late"]
    assert missed(missing, [60.0, 61.0]) == []
    assert missing.agents(100.0) == {"hello", "world"}


def test_one_that_is_back_or_gone_for_long_is_not_missed() -> None:
    """A cut network heals; and somebody may have taken it away."""
    missing = MissingInstances()
    missing.note(lost("back", 10.0))
    missing.note(lost("gone", 20.0))
    missing.drop("back")

    assert missed(missing, [], 20.0 + MISSED_S - 1) == ["gone"]
    assert missed(missing, [], 20.0 + MISSED_S) == []
    assert missing.agents(20.0 + MISSED_S) == set()


def test_the_memory_of_the_lost_is_bounded() -> None:
    """An agent that registers and dies without end must not fill it."""
    missing = MissingInstances()
    for number in range(MAX_MISSING + 5):
        missing.note(lost(str(number), 10.0))

    assert len(missed(missing, [])) == MAX_MISSING
