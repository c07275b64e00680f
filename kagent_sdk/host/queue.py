"""Tasks that wait for a place: in the order of their arrival, passing over full capabilities."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kagent_sdk.host.task import Task


class TaskQueue:
    """First come, first served, but a capability at its own limit does not hold up the others.

    Attributes:
        size_bytes: of the inputs of those that may start.
        unconfirmed: tasks that must not start yet, by their numbers; they do not count.
    """

    def __init__(self) -> None:
        self.unconfirmed: dict[int, Task] = {}
        self._lanes: dict[str, OrderedDict[int, Task]] = {}
        self._count = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Task]:
        for lane in self._lanes.values():
            yield from lane.values()
        yield from self.unconfirmed.values()

    def count_by_name(self) -> dict[str, int]:
        """Return how many tasks of each capability wait."""
        return {name: len(lane) for name, lane in self._lanes.items()}

    def push(self, task: Task, *, front: bool = False) -> None:
        """Add a task to the end, or, for one that runs again, to the front of its capability."""
        if task.is_unconfirmed:
            self.unconfirmed[task.sequence] = task
            return
        lane = self._lanes.setdefault(task.capability.name, OrderedDict())
        lane[task.sequence] = task
        if front:
            lane.move_to_end(task.sequence, last=False)
        self._count += 1
        self.size_bytes += len(task.input)

    def remove(self, task: Task) -> bool:
        """Take a task out wherever it stands; False when it does not wait here."""
        if self.unconfirmed.pop(task.sequence, None) is not None:
            return True
        lane = self._lanes.get(task.capability.name)
        if lane is None or lane.pop(task.sequence, None) is None:
            return False
        self._forget(task, lane)
        return True

    def pop(self, has_room: Callable[[str], bool]) -> Task | None:
        """Take the oldest task whose capability has room; None when there is none."""
        best: Task | None = None
        for name, lane in self._lanes.items():
            task = next(iter(lane.values()))
            if (best is None or task.sequence < best.sequence) and has_room(name):
                best = task
        if best is not None:
            self.remove(best)
        return best

    def _forget(self, task: Task, lane: OrderedDict[int, Task]) -> None:
        if not lane:
            del self._lanes[task.capability.name]
        self._count -= 1
        self.size_bytes -= len(task.input)
