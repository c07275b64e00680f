"""The end of every task: decided, kept, and only then shown."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial

from kagent_sdk.errors import StateConflictError, StateQuotaError
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.deadlines import Deadlines
from kagent_sdk.host.dispatcher import Dispatcher
from kagent_sdk.host.event_flow import EventFlow
from kagent_sdk.host.task import LEFT, Task
from kagent_sdk.host.task_failures import journal_failure, quota_failure
from kagent_sdk.journal.port import Journal
from kagent_sdk.journal.record import Ending
from kagent_sdk.protocol.tasks import TaskFailure, TaskState


class Endings:
    """Brings tasks to their ends.

    An end is decided once (`Task.is_ended`). With it the journal keeps what the task changed in the
    state, in one step; what others changed meanwhile undoes the decision. What is kept is shown.

    Args:
        dispatcher, events, counters: told of it.
        journal: keeps it.
        deadlines: to stop the task's clock.

    Attributes:
        on_conflict: called with a task whose end did not count.
        on_quota: called with a task that would have made the state too large, and its error.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        events: EventFlow,
        journal: Journal,
        counters: Counters,
        deadlines: Deadlines,
    ) -> None:
        self._dispatcher = dispatcher
        self._events = events
        self._journal = journal
        self._counters = counters
        self._deadlines = deadlines
        self._checks: set[asyncio.Task[None]] = set()
        self._unwritten = 0
        self._waiter: asyncio.Future[None] | None = None
        self.on_conflict: Callable[[Task], None] | None = None
        self.on_quota: Callable[[Task, TaskFailure], None] | None = None

    def finish(self, task: Task, ending: Ending) -> None:
        """End a task; nothing happens when that is decided already."""
        if task.is_ended:
            return
        task.ending = ending
        task.worker = None
        transaction = task.transaction if ending.state is TaskState.COMPLETED else None
        pending = None
        if task.kept or transaction is not None:
            pending = self._journal.end(task, ending, transaction)
        if pending is None:
            self.show(task, ending)
        else:
            self._unwritten += 1
            self._dispatcher.ending += 1
            pending.tell(partial(self._note, task, ending))

    def _note(self, task: Task, ending: Ending, error: BaseException | None) -> None:
        self._unwritten -= 1
        self._dispatcher.ending -= 1
        if not self._unwritten and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if error is None:
            self.show(task, ending)
            return
        self._undo(task, error)
        self._dispatcher.settle()

    def _undo(self, task: Task, error: BaseException) -> None:
        if isinstance(error, StateConflictError) and self.on_conflict is not None:
            _reopen(task)
            self.on_conflict(task)
        elif isinstance(error, StateQuotaError) and self.on_quota is not None:
            _reopen(task)
            self.on_quota(task, quota_failure(error))
        else:
            self._give_up(task)

    def _give_up(self, task: Task) -> None:
        """The journal was closed before: the next host finds the task as it was, if it knows of it."""
        _reopen(task)
        if task.is_durable:
            self.leave(task)
        else:
            self.show(task, Ending(TaskState.FAILED, time.time(), failure=journal_failure()))

    def show(self, task: Task, ending: Ending) -> None:
        """Show how a task ended, to everyone: it is as safe as it will be."""
        task.close(ending)
        if task.clock_s != math.inf:
            self._deadlines.remove(task, task.clock_s)
        if ending.state is not TaskState.REJECTED:
            self._count(task, ending)
            if task.kept:
                self._journal.ended(task)
        if task.events is not None:
            self._events.announce(task, "task", task.document())
        task.wake()
        self._dispatcher.settle()

    def _count(self, task: Task, ending: Ending) -> None:
        name = task.capability.name
        took_s = None if task.started_at is None else ending.at - task.started_at
        if ending.state is TaskState.COMPLETED:
            self._counters.completed(name, took_s or 0.0)
        elif ending.state is TaskState.CANCELED:
            self._counters.canceled(name, took_s)
        else:
            self._counters.failed(name, took_s)

    def leave(self, task: Task) -> None:
        """Let go of a task that stays in the journal, for the next host to go on with."""
        if task.is_ended:
            return
        task.ending = LEFT
        if task.state is TaskState.WORKING:
            task.state = TaskState.SUBMITTED
            self._journal.requeued(task)
        if task.clock_s != math.inf:
            self._deadlines.remove(task, task.clock_s)
        if task.events is not None and task.followers is not None:
            task.events.cut()
            task.followers.wake()
        task.wake()

    def expect(self, check: asyncio.Task[None]) -> None:
        """Count a job that brings a task to its end: the agent is not idle before."""
        self._checks.add(check)
        self._dispatcher.ending += 1
        check.add_done_callback(self._discard)

    def _discard(self, check: asyncio.Task[None]) -> None:
        self._checks.discard(check)
        self._dispatcher.ending -= 1
        self._dispatcher.settle()

    async def wait(self, within_s: float) -> None:
        """Wait for the ends that are being decided, and for the disk to take them so long at most."""
        while self._checks:
            await asyncio.wait(self._checks)
        if self._unwritten:
            self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._waiter], timeout=within_s)


def _reopen(task: Task) -> None:
    task.ending = task.transaction = None
