"""Deadlines of thousands of tasks cost one timer and leave nothing behind."""

from __future__ import annotations

from kagent_sdk.host.deadlines import Deadlines
from kagent_sdk.host.task import Task
from tests.unit.host.tasks import FakeLoop, make_task


def test_each_task_expires_once_and_on_time() -> None:
    """A caller is told at its deadline, not a tick earlier."""
    loop, expired = FakeLoop(), list[Task]()
    deadlines = Deadlines(loop, expired.append)
    slow, quick, late = (make_task(sequence=n) for n in (1, 2, 3))
    deadlines.add(slow, 10)
    deadlines.add(quick, 5)
    loop.advance(3)
    deadlines.add(late, 5)

    loop.advance(1.9)
    assert expired == []
    loop.advance(0.1)
    assert expired == [quick]
    loop.advance(3)
    assert expired == [quick, late]
    loop.advance(2)
    assert expired == [quick, late, slow]
    assert len(deadlines) == 0
    assert loop.armed == []


def test_a_task_that_ended_leaves_nothing_behind() -> None:
    """Millions of tasks with a long timeout must not pile up until it is over."""
    loop, expired = FakeLoop(), list[Task]()
    deadlines = Deadlines(loop, expired.append)
    for sequence in range(1000):
        task = make_task(sequence=sequence)
        deadlines.add(task, 300)
        deadlines.remove(task, 300)

    assert len(deadlines) == 0
    assert len(loop.armed) == 1
    loop.advance(300)
    assert expired == []
    assert loop.armed == []


def test_a_nearer_deadline_moves_the_timer() -> None:
    """A short timeout counts although a long one came first."""
    loop, expired = FakeLoop(), list[Task]()
    deadlines = Deadlines(loop, expired.append)
    deadlines.add(make_task(sequence=1), 60)
    deadlines.add(make_task(sequence=2), 1)

    assert len(loop.armed) == 1
    loop.advance(1)
    assert [task.sequence for task in expired] == [2]
    assert [timer.at for timer in loop.armed] == [160]


def test_closing_stops_all_clocks() -> None:
    """A host that is gone must not answer."""
    loop, expired = FakeLoop(), list[Task]()
    deadlines = Deadlines(loop, expired.append)
    deadlines.close()
    deadlines.add(make_task(), 1)
    deadlines.remove(make_task(sequence=5), 7)
    deadlines.close()
    loop.advance(10)

    assert expired == []
