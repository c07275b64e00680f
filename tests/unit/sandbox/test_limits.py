"""Tests of what `kagent_sdk.sandbox.limits` decides."""

from __future__ import annotations

from kagent_sdk.sandbox.limits import choose_cores


def test_agents_do_not_all_take_the_first_core() -> None:
    """Ten agents with one core each use ten cores, not one."""
    chosen = {core for seed in range(10) for core in choose_cores({3, 4, 9}, 1, seed)}

    assert chosen == {3, 4, 9}


def test_more_cores_than_there_are_is_all_of_them() -> None:
    """The policy was written for a larger machine."""
    assert sorted(choose_cores({0, 1}, 8, 5)) == [0, 1]
