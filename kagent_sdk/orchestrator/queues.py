"""Tasks that wait for an agent: first in, first out for each target, in turns between targets. Pure."""

from __future__ import annotations

from collections import deque

from kagent_sdk.orchestrator.task import OpenTask, Target


class Queues:
    """The waiting tasks.

    Attributes:
        count: how many wait.
        size_bytes: of their inputs.
    """

    def __init__(self) -> None:
        self._queues: dict[Target, deque[OpenTask]] = {}
        self.count = 0
        self.size_bytes = 0

    def add(self, task: OpenTask, *, is_first: bool = False) -> None:
        """Let a task wait; one that was offered in vain goes first."""
        queue = self._queues.setdefault(task.record.target, deque())
        if is_first:
            queue.appendleft(task)
        else:
            queue.append(task)
        self.count += 1
        self.size_bytes += len(task.record.input)

    def remove(self, task: OpenTask) -> None:
        """Let a task wait no longer; nothing when it does not."""
        queue = self._queues.get(task.record.target)
        if queue is None or task not in queue:
            return
        queue.remove(task)
        self._note_gone(task)

    def turn(self) -> list[Target]:
        """Return the targets of waiting tasks, the one that was served last at the end."""
        return list(self._queues)

    def head(self, target: Target) -> OpenTask | None:
        """Return the task of a target whose turn it is."""
        queue = self._queues.get(target)
        return queue[0] if queue else None

    def take(self, target: Target) -> OpenTask:
        """Take the task of a target whose turn it is; the target goes behind all others."""
        queue = self._queues.pop(target)
        task = queue.popleft()
        self._queues[target] = queue
        self._note_gone(task)
        return task

    def _note_gone(self, task: OpenTask) -> None:
        self.count -= 1
        self.size_bytes -= len(task.record.input)
        if not self._queues[task.record.target]:
            del self._queues[task.record.target]
