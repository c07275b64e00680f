"""How much a probe may do."""

from __future__ import annotations

from kagent_sdk.debug.probes.budget import REST_S, STEP, Budget


class Clock:
    """A clock that goes on when somebody rests."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rests: list[float] = []

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.rests.append(seconds)
        self.now_s += seconds


def test_it_ends_after_so_many_objects() -> None:
    """Each object that was seen costs memory in a process that may have little left."""
    budget = Budget(1, 3)

    assert list(budget.walk(range(10))) == [0, 1, 2]
    assert budget.cut == "3 objects looked at"
    assert not budget.take()
    assert budget.used == 4


def test_others_get_the_interpreter_in_between() -> None:
    """The agent answers while it is looked at."""
    clock = Clock()
    budget = Budget(1, 10 * STEP, clock=clock, rest=clock.rest)

    assert len(list(budget.walk(range(3 * STEP)))) == 3 * STEP
    assert clock.rests == [REST_S] * 3
    assert budget.cut is None


def test_it_ends_in_time() -> None:
    """Half a heap in ten seconds is better than all of it when the client has gone."""
    clock = Clock()
    budget = Budget(2 * REST_S, 100 * STEP, clock=clock, rest=lambda s: clock.rest(2 * s))

    assert len(list(budget.walk(range(100 * STEP)))) == 3 * STEP - 1
    assert budget.cut == "0.002 s are over"


def test_it_ends_with_its_client() -> None:
    """Nobody is there to read the answer."""
    budget = Budget(100, 100 * STEP, lambda: True)

    assert len(list(budget.walk(range(100 * STEP)))) == STEP - 1
    assert budget.cut == "ended by the client"
