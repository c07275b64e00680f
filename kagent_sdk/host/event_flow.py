"""What happens in a task, told to those who follow it."""

from __future__ import annotations

import weakref

from kagent_sdk.config.models import TasksConfig
from kagent_sdk.host.follower import Followers
from kagent_sdk.host.task import Task
from kagent_sdk.journal.events import EventLog
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import COUNT

EVENT_WINDOW = 256
"""Events that a worker may send ahead of the slowest reader."""


class EventFlow:
    """Opens, fills and paces the event logs of tasks.

    Args:
        config: bounds of a log.
    """

    def __init__(self, config: TasksConfig) -> None:
        self._config = config

    def configure(self, config: TasksConfig) -> None:
        """Change the bounds of the logs that are opened from now on."""
        self._config = config

    def open(self, task: Task) -> Followers:
        """Return the task's readers; its event log begins here if it had none."""
        if task.followers is not None:
            return task.followers
        task.events = EventLog(
            max_events=self._config.max_events, max_bytes=self._config.max_event_bytes
        )
        # Weakly: a task that could be reached from its own readers would keep megabytes of events
        # until a garbage collection, which comes by number of objects and not by their size.
        itself = weakref.ref(task)
        task.followers = Followers(
            task.events, EVENT_WINDOW, lambda count: _acknowledge(itself(), count)
        )
        self.announce_state(task)
        if task.is_finished:
            self.announce(task, "task", task.document())
        return task.followers

    def announce(self, task: Task, kind: str, data: bytes) -> None:
        """Add to a task's events and tell its readers; nothing when nobody opened them."""
        if task.events is not None and task.followers is not None:
            task.followers.publish(task.events.append(kind, data))

    def announce_state(self, task: Task) -> None:
        """Tell the readers which state the task is in, and in which attempt."""
        if task.events is not None:
            state = b'{"state":"%b","attempt":%d}' % (task.state.encode(), task.attempt)
            self.announce(task, "state", state)


def _acknowledge(task: Task | None, count: int) -> None:
    if task is not None and task.worker is not None:
        task.worker.send(Kind.ACK, task.number, COUNT.pack(count))
