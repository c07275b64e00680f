"""What happens in a task, told to those who follow it."""

from __future__ import annotations

import weakref
from functools import partial

from kagent_sdk.config.models import TasksConfig
from kagent_sdk.host.follower import Followers
from kagent_sdk.host.task import Task
from kagent_sdk.journal.events import Event, EventLog
from kagent_sdk.journal.port import Journal
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import COUNT

EVENT_WINDOW = 256
"""Events that a worker may send ahead of the slowest reader."""


class EventFlow:
    """Opens, fills and paces the event logs of tasks.

    Args:
        config: bounds of a log.
        journal: keeps the events of durable tasks.
    """

    def __init__(self, config: TasksConfig, journal: Journal) -> None:
        self._config = config
        self._journal = journal

    def configure(self, config: TasksConfig) -> None:
        """Change the bounds of the logs that are opened from now on."""
        self._config = config

    def open(self, task: Task) -> Followers:
        """Return the task's readers; its event log begins here if it had none."""
        if task.followers is not None:
            return task.followers
        is_new = task.events is None
        log = task.events
        if log is None:
            log = task.events = EventLog(
                max_events=self._config.max_events, max_bytes=self._config.max_event_bytes
            )
        # Weakly: a task that could be reached from its own readers would keep megabytes of events
        # until a garbage collection, which comes by number of objects and not by their size.
        itself = weakref.ref(task)
        task.followers = Followers(log, EVENT_WINDOW, lambda count: _acknowledge(itself(), count))
        if is_new:
            self.announce_state(task)
        if task.is_finished and not log.is_closed:
            self.announce(task, "task", task.document())
        return task.followers

    def announce(self, task: Task, kind: str, data: bytes) -> None:
        """Add to a task's events and tell its readers; nothing when nobody opened them.

        The readers of a durable task are told when it is on disk. The ``task`` event is not written:
        it is made again from the task, which is on disk by then.
        """
        log, followers = task.events, task.followers
        if log is None or followers is None:
            return
        event = log.append(kind, data)
        kept = self._journal.event(task, event) if task.kept else None
        if kept is None:
            followers.publish(event)
        else:
            kept.tell(partial(_publish, followers, event))

    def announce_state(self, task: Task) -> None:
        """Tell the readers which state the task is in, and in which attempt."""
        if task.events is not None:
            state = b'{"state":"%b","attempt":%d}' % (task.state.encode(), task.attempt)
            self.announce(task, "state", state)


def _publish(followers: Followers, event: Event, error: BaseException | None) -> None:
    if error is None:
        followers.publish(event)


def _acknowledge(task: Task | None, count: int) -> None:
    if task is not None and task.worker is not None:
        task.worker.send(Kind.ACK, task.number, COUNT.pack(count))
