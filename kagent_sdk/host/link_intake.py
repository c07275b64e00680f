"""Tasks that the orchestrator sends, by whichever way they come: taken once, each under its lease."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from kagent_sdk.host.admission import Refusal
from kagent_sdk.host.engine import Engine, RefusedError
from kagent_sdk.host.task import CancelReason, Submission, Task
from kagent_sdk.host.task_failures import is_lease_lost
from kagent_sdk.journal.durable import DurableJournal
from kagent_sdk.journal.record import TaskRecord
from kagent_sdk.protocol.headers import MISSED_BEATS

CANCEL_WAIT_S = 5.0
"""A task whose lease was lost is being cancelled when it is offered anew: so long at the most is its
end waited for before the offer is refused, for a while."""


CONFIRM_WAIT_S = 10.0
"""Two heartbeats by default: so long a task that a host before has left, and that may run twice, waits
for its lease to be confirmed. It may have been given to another agent; but an agent goes on with its work
when its orchestrator is away."""


class LinkIntake:
    """Takes offers, and knows the tasks of the link that have not ended.

    Args:
        engine: runs them.
        journal: keeps them.

    Attributes:
        is_full: too much waits to be told: no more is to come.
        beats: how often the orchestrator was told, or was to be told, which tasks there are.
    """

    def __init__(self, engine: Engine, journal: DurableJournal) -> None:
        self._engine = engine
        self._journal = journal
        self._open: dict[str, TaskRecord] = {}
        self.is_full = False
        self.beats = 0

    def next_beat(self) -> int:
        """Return the number of a message that is about to name the tasks of the link."""
        self.beats += 1
        return self.beats

    def recover(self) -> None:
        """Take up the tasks that the host before has left; the engine has recovered.

        Those that wait for a word of the orchestrator, and may run twice, start without it after
        `CONFIRM_WAIT_S`: they get it with the first heartbeat, if there is an orchestrator at all.
        """
        for record in self._journal.open_tasks:
            if record.lease is not None:
                self._open[record.id] = record
        if self._engine.dispatcher.queue.unconfirmed:
            asyncio.get_running_loop().call_later(CONFIRM_WAIT_S, self.start_unconfirmed)

    def start_unconfirmed(self) -> None:
        """Start what may run twice, and still waits for a word of the orchestrator."""
        if self._engine.gate is Refusal.DRAINING:
            return  # the next host goes on with it
        for task in list(self._engine.dispatcher.queue.unconfirmed.values()):
            if task.capability.idempotent:
                self._let_start(task)

    def open_tasks(self) -> Iterator[TaskRecord]:
        """Iterate over the tasks that have not ended."""
        for record in list(self._open.values()):
            if record.is_finished or record.lease is None:
                del self._open[record.id]
            else:
                yield record

    async def admit(self, submission: Submission) -> Task:
        """Take a task with a lease; it is on disk when this returns.

        One that the agent has, with the same input, gets the new lease; when it has ended, it is
        reported again under that one.

        Raises:
            UnknownCapabilityError, IdConflictError: it will never be taken.
            RefusedError: not now.
            StorageError: the journal does not take it now.
        """
        await self._forget_lost(await self._engine.recall(submission.task_id))
        if self.is_full and self._journal.find(submission.task_id) is None:
            raise RefusedError(Refusal.OUTBOX)
        if self._is_late(submission):
            raise RefusedError(Refusal.LATE)
        # From here on to `_open` nothing is waited for: no beat goes out that does not name the task.
        task = self._engine.submit(submission)
        task.is_promised = True  # whoever offered it may hang up
        if task.lease is None and task.is_ended:
            # Its end goes to the disk together with others, behind what is asked for now: the result
            # would not be found there.
            await task.wait()
        leased = None
        if task.lease != submission.lease:
            leased = self._journal.lease(task, submission.lease)
        # Before anything is waited for: it runs, also on a slow disk and when whoever offered it hangs
        # up now, and the orchestrator gives a task that is never named to another agent.
        self._open[task.id] = task
        if leased is not None:
            await leased
        if task.safe is not None:
            await task.safe
        self._let_start(task)
        return task

    def _is_late(self, submission: Submission) -> bool:
        """Whether the orchestrator may have given up an offer: the task may run elsewhere by now."""
        lease, beat = submission.lease, submission.beat
        if not beat or self.beats - beat < MISSED_BEATS:
            return False
        # What is named already is the same offer once more.
        return lease is None or self.find(submission.task_id, lease) is None

    async def _forget_lost(self, task: Task | None) -> None:
        """Make room for a task whose end counts for nothing: it was cancelled for its lost lease."""
        if task is None:
            return
        if task.cancel_reason is CancelReason.LEASE and not task.is_finished:
            try:
                async with asyncio.timeout(CANCEL_WAIT_S):
                    await task.wait()
            except TimeoutError:
                raise RefusedError(Refusal.CANCELING) from None
        if task.is_finished and is_lease_lost(task.failure):
            await self._journal.forget(task)

    def find(self, task_id: str, lease: str) -> Task | None:
        """Return an open task that has this lease."""
        task = self._open.get(task_id)
        if task is None or task.lease != lease or task.is_finished:
            return None
        assert isinstance(task, Task)
        return task

    def confirm(self, leases: Collection[tuple[str, str]], *, in_force: bool) -> None:
        """Note of tasks and their leases whether these are in force.

        Those that waited for that word start, or are cancelled as with `lose`; others are left alone.
        """
        queue = self._engine.dispatcher.queue
        if not queue.unconfirmed:
            return
        for task in list(queue.unconfirmed.values()):
            if task.lease is None or (task.id, task.lease) not in leases:
                continue
            if in_force:
                self._let_start(task)
            else:
                self.lose(task.id, task.lease)

    def _let_start(self, task: Task) -> None:
        if task.is_unconfirmed:
            task.is_unconfirmed = False
            dispatcher = self._engine.dispatcher
            if dispatcher.queue.remove(task):
                dispatcher.enqueue(task)
                dispatcher.settle()

    def cancel(self, task_id: str, lease: str) -> None:
        """Cancel a task; its end is reported."""
        task = self.find(task_id, lease)
        if task is not None:
            self._engine.cancel(task, CancelReason.CALLER)

    def lose(self, task_id: str, lease: str) -> None:
        """Cancel a task, and report nothing more of it."""
        task = self.find(task_id, lease)
        if task is None or task.is_left:
            return
        self._open.pop(task_id, None)
        _ = self._journal.lease(task, None)  # it is written in its turn; nobody waits for it
        self._engine.cancel(task, CancelReason.LEASE)
