"""How long tasks have been waiting for agents that are away, over all starts of the orchestrator.

What counts is the time in which agents could have come back: that in which an orchestrator was there.
Its own clock would begin anew with each start, and an orchestrator that is killed again and again would
wait for ever; the wall clock would count the hours in which it was down, and give up agents that never
had a chance. So there is a clock of its own, which stands still in between: its time is written down
twice a second while somebody is waited for. A kill loses half a second of it at the most.
"""

from __future__ import annotations

from collections.abc import Iterable

from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.clock import Clock
from kagent_sdk.orchestrator.task import OpenTask

TICK_S = 0.5
"""Between two notes of the time. Starts that all last for less than this count for nothing."""


class Absences:
    """Knows since when each task waits for its agent.

    Args:
        book: writes it down.
        clock: of this start.
    """

    def __init__(self, book: Book, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._began_s = clock.now_s()
        self._tasks: dict[str, OpenTask] = {}
        self._is_ticking = False

    def _served_s(self) -> float:
        return self._book.served_s + self._clock.now_s() - self._began_s

    def waited_s(self, task: OpenTask) -> float:
        """Return how long a task has been waiting; 0 for one that does not."""
        away_at = task.record.away_at
        return 0.0 if away_at is None else max(0.0, self._served_s() - away_at)

    def take_up(self, tasks: Iterable[OpenTask]) -> None:
        """Begin with all tasks that the orchestrator before had given to agents; one write."""
        served_s = self._served_s()
        for task in tasks:
            self._tasks[task.id] = task
            if task.record.away_at is None:
                task.record.away_at = served_s
        if self._tasks:
            self._book.note_all_away(served_s)
            self._tick_later()

    def begin(self, task: OpenTask) -> None:
        """Note that a task waits from now on; one that does already goes on waiting."""
        self._tasks[task.id] = task
        if task.record.away_at is None:
            task.record.away_at = self._served_s()
            self._book.note_away(task, task.record.away_at)
        self._tick_later()

    def end(self, task: OpenTask) -> None:
        """Note that its agent is there."""
        if task.record.away_at is not None:
            task.record.away_at = None
            self._book.note_away(task, self._served_s())
        self.forget(task)

    def forget(self, task: OpenTask) -> None:
        """Let go of a task that does not wait any more; its end, or its next offer, is written anyway."""
        self._tasks.pop(task.id, None)

    def _tick_later(self) -> None:
        if not self._is_ticking:
            self._is_ticking = True
            self._clock.later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._is_ticking = False
        if self._tasks:
            self._book.note_served(self._served_s())
            self._tick_later()
