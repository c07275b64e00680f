"""What happened in one task, in order, so that a reader can join late and replay it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Event(NamedTuple):
    """One entry: its number within the task (from 1), its kind, and its JSON.

    Kinds are ``state``, ``progress``, ``event`` and ``task``.
    """

    id: int
    kind: str
    data: bytes


class EventLog:
    """A bounded window over a task's events: the oldest fall out first.

    An event is shown to readers once it is released: those of a durable task when they are on disk,
    so that no reader has seen what a restart would not know of.

    Args:
        max_events: how many to hold.
        max_bytes: how many bytes of JSON to hold; the newest one is always held.
        last_id: of the last event before this log begins.

    Attributes:
        released_id: the number of the newest event that readers may see.
        items_dropped: how many items of the present attempt have fallen out.
    """

    __slots__ = (
        "_attempt_after_id",
        "_events",
        "_is_cut",
        "_last_id",
        "_max_bytes",
        "_max_events",
        "items_dropped",
        "released_id",
        "size_bytes",
    )

    def __init__(self, *, max_events: int, max_bytes: int, last_id: int = 0) -> None:
        self._events: deque[Event] = deque()
        self._last_id = last_id
        self._attempt_after_id = 0
        self._is_cut = False
        self.released_id = last_id
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self.items_dropped = 0

    @property
    def last_id(self) -> int:
        """The number of the newest event; 0 when there was none."""
        return self._last_id

    @property
    def first_id(self) -> int:
        """The number of the oldest event that is still held; ``last_id + 1`` when none is."""
        return self._events[0].id if self._events else self._last_id + 1

    def append(self, kind: str, data: bytes) -> Event:
        """Add an event and return it, dropping the oldest ones that no longer fit."""
        self._last_id += 1
        event = Event(self._last_id, kind, data)
        self._events.append(event)
        self.size_bytes += len(data)
        while len(self._events) > 1 and (
            len(self._events) > self._max_events or self.size_bytes > self._max_bytes
        ):
            dropped = self._events.popleft()
            self.size_bytes -= len(dropped.data)
            self.items_dropped += dropped.kind == "event" and dropped.id > self._attempt_after_id
        return event

    def release(self, event_id: int) -> None:
        """Let readers see the events up to this one."""
        self.released_id = max(self.released_id, event_id)

    def cut(self) -> None:
        """Let nothing come any more: the task goes on when the agent has been restarted."""
        self._is_cut = True

    @property
    def is_closed(self) -> bool:
        """Whether nothing will come any more: the last event is the ``task`` itself."""
        return self._is_cut or (bool(self._events) and self._events[-1].kind == "task")

    def restart(self) -> None:
        """Begin another attempt: items of those before can be replayed, but are no output."""
        self._attempt_after_id = self._last_id
        self.items_dropped = 0

    def after(self, event_id: int, limit: int = 256) -> list[Event]:
        """Return up to ``limit`` released events with a number above ``event_id``, in order."""
        first = self.first_id
        start = max(event_id + 1, first) - first
        stop = min(start + limit, self.released_id + 1 - first)
        return [self._events[index] for index in range(start, stop)]

    def items(self) -> list[bytes]:
        """Return the JSON of every held item that the present attempt of a stream yielded."""
        begin = self._attempt_after_id
        return [event.data for event in self._events if event.kind == "event" and event.id > begin]
