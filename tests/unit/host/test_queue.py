"""The queue decides who waits for whom."""

from __future__ import annotations

from kagent_sdk.host.queue import TaskQueue
from tests.unit.host.tasks import make_task


def always(_name: str) -> bool:
    """Every capability has room."""
    return True


def test_tasks_leave_in_the_order_of_their_arrival() -> None:
    """Nobody is overtaken for no reason, whatever the capability."""
    queue = TaskQueue()
    for sequence, name in ((1, "a"), (2, "b"), (3, "a")):
        queue.push(make_task(name, sequence=sequence))

    order = [task.sequence for _ in range(3) if (task := queue.pop(always))]

    assert order == [1, 2, 3]
    assert queue.pop(always) is None
    assert len(queue) == 0


def test_a_full_capability_does_not_hold_up_the_others() -> None:
    """One slow capability at its limit must not stop the agent."""
    queue = TaskQueue()
    queue.push(make_task("slow", sequence=1))
    queue.push(make_task("quick", sequence=2))

    task = queue.pop(lambda name: name != "slow")

    assert task is not None
    assert task.capability.name == "quick"
    assert queue.pop(lambda name: name != "slow") is None
    assert len(queue) == 1


def test_a_task_that_runs_again_goes_to_the_front() -> None:
    """A crash must not cost a task its place."""
    queue = TaskQueue()
    queue.push(make_task(sequence=2))
    queue.push(make_task(sequence=1), front=True)

    first = queue.pop(always)

    assert first is not None
    assert first.sequence == 1


def test_bytes_and_counts_follow_every_step() -> None:
    """Admission bounds memory by these numbers."""
    queue = TaskQueue()
    first, second = make_task(sequence=1, input=b"12"), make_task(sequence=2, input=b"345")
    queue.push(first)
    queue.push(second)

    assert queue.size_bytes == 5
    assert queue.count_by_name() == {"digest": 2}
    assert set(queue) == {first, second}
    assert queue.remove(first)
    assert not queue.remove(first)
    assert not queue.remove(make_task("other", sequence=9))
    assert queue.size_bytes == 3
    assert queue.remove(second)
    assert queue.count_by_name() == {}
