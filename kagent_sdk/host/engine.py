"""The task engine: takes tasks and brings each to one definite end."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial

from kagent_sdk.config.models import AgentConfig, TasksConfig
from kagent_sdk.host.admission import QueueLimits, Refusal, admit
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.deadlines import Deadlines
from kagent_sdk.host.dispatcher import Dispatcher
from kagent_sdk.host.endings import Endings
from kagent_sdk.host.event_flow import EventFlow
from kagent_sdk.host.ladder import Ladders
from kagent_sdk.host.task import CancelReason, Submission, Task, Worker
from kagent_sdk.host.task_failures import (
    canceled_failure,
    conflict_failure,
    crash_failure,
    gone_failure,
    interrupted_failure,
    journal_failure,
    timeout_failure,
)
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.journal.port import Journal
from kagent_sdk.journal.record import Ending
from kagent_sdk.protocol.envelope import is_same_input
from kagent_sdk.protocol.headers import TaskIds
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

MAX_CONFLICTS = 100
"""In a row. One of the tasks that conflict always gets through, so this takes a hundred others."""

RECOVERY_S = 5.0
"""What the disk gets for the ends of tasks that a restart ends, before the agent goes on without."""


class RefusedError(Exception):
    """A task is not taken now; carries why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class UnknownCapabilityError(Exception):
    """There is no capability of that name."""


class IdConflictError(Exception):
    """The id belongs to a task with another capability or input."""


class Engine:
    """Owns every open task. Lives in the host's loop; none of its methods blocks.

    Args:
        config: the agent's configuration.
        journal: keeps the tasks of ``POST /v1/tasks``.
        counters: told of every end.
        kill: ends the worker behind a connection, with a reason for the log.

    Attributes:
        gate: why no task is taken at present; None when tasks are taken.
        ids: gives ids to tasks that came without.
        dispatcher: who runs what.
        events: what happened, for those who follow.
        finished_per_s: how fast tasks end at present, measured by the monitor.
        is_recovered: it knows what the host before has left; it takes no tasks before.
    """

    def __init__(
        self,
        config: AgentConfig,
        journal: Journal,
        counters: Counters,
        kill: Callable[[Worker, str], None],
    ) -> None:
        self._config = config.tasks
        self._limits = QueueLimits(config.tasks.max_queue, config.tasks.max_queue_bytes)
        self._loop = asyncio.get_running_loop()
        self._sequence = 0
        self._deadlines = Deadlines(self._loop, self._expired)
        self._ladders = Ladders(config.tasks.cancel_grace_s, kill)
        self._jobs: set[asyncio.Task[None]] = set()
        self.ids = TaskIds(time.time(), os.urandom(8))
        self.journal = journal
        self.counters = counters
        self.events = EventFlow(config.tasks, journal)
        self.dispatcher = Dispatcher(counters, self.events, self._note_start)
        self._ends = Endings(self.dispatcher, self.events, journal, counters, self._deadlines)
        self._ends.on_conflict, self._ends.on_quota = self._do_over, self.fail
        self.gate: Refusal | None = Refusal.STARTING
        self.finished_per_s = 0.0
        self.is_recovered = False

    # Taking tasks

    def submit(self, submission: Submission) -> Task:
        """Take a task, or say why not. Acknowledge a kept one only after `Task.safe`.

        A task whose id the journal finds is answered from there when capability and input are the
        same: with an id of the caller's, await `recall` right before. Everything else is new: it
        runs at once or waits in the queue.

        Raises:
            UnknownCapabilityError, IdConflictError, RefusedError.
        """
        dispatcher = self.dispatcher
        manifest = dispatcher.capabilities.get(submission.capability)
        if manifest is None:
            if self.gate is not None and not dispatcher.capabilities:
                raise RefusedError(self.gate)
            raise UnknownCapabilityError(submission.capability)
        if submission.kept:
            known = self._known(submission)
            if known is not None:
                return known
        connection = dispatcher.free_connection(manifest.name)
        waiting = len(dispatcher.queue)
        may_pass = submission.is_own and self.gate is Refusal.DRAINING
        refusal = admit(
            None if may_pass else self.gate,
            can_start=connection is not None,
            queued=waiting,
            queued_bytes=dispatcher.queue.size_bytes,
            input_bytes=len(submission.input),
            limits=self._limits,
        )
        if refusal is not None:
            self.counters.rejected(manifest.name)
            raise RefusedError(refusal)
        task = self._accept(submission, manifest)
        if connection is not None and not waiting:
            dispatcher.start(task, connection)
        else:
            dispatcher.enqueue(task)
            self._keep(task)
            dispatcher.settle()
        return task

    async def recall(self, task_id: str) -> Task | None:
        """Return a kept task, from the disk if need be; `submit` finds it from then on.

        Raises:
            RefusedError: it is not known yet what the host before has left.
            StorageError: the journal cannot be read.
        """
        if not self.is_recovered:
            raise RefusedError(Refusal.STARTING)
        task = await self.journal.recall(task_id)
        assert task is None or isinstance(task, Task)
        return task

    def _known(self, submission: Submission) -> Task | None:
        known = self.journal.find(submission.task_id)
        if known is None:
            return None
        is_same = known.capability.name == submission.capability
        if not is_same or not is_same_input(known.input, submission.input):
            raise IdConflictError(submission.task_id)
        assert isinstance(known, Task)
        return known

    def _accept(self, submission: Submission, manifest: CapabilityManifest) -> Task:
        self._sequence += 1
        self.counters.submitted(manifest.name)
        task = Task(submission, manifest, created_at=time.time(), sequence=self._sequence)
        timeout_s = self._timeout_s(submission.timeout_s, manifest.timeout_s)
        if timeout_s is not None:
            self._set_clock(task, timeout_s)
            task.timeout_s = timeout_s
            task.expires_at = task.created_at + timeout_s
        if submission.kept:
            task.is_durable = manifest.durable and self._config.durability != "none"
        if manifest.streams:
            self.events.open(task)
        return task

    def _set_clock(self, task: Task, seconds: float) -> None:
        task.clock_s = seconds
        task.deadline_at = self._deadlines.add(task, seconds)

    def _timeout_s(self, asked: float | None, declared: float | None) -> float | None:
        if asked is not None:
            asked = min(asked, self._config.max_timeout_s)
            return asked if declared is None else min(asked, declared)
        return declared if declared is not None else self._config.default_timeout_s

    # Keeping tasks

    def _keep(self, task: Task) -> None:
        """Give a new task to the journal, as it is now."""
        task.is_accepted = True
        if task.kept:
            task.safe = self.journal.accepted(task)
            if task.safe is not None:
                task.safe.tell(partial(self._note_kept, task))

    def _note_kept(self, task: Task, error: BaseException | None) -> None:
        if error is None:
            return
        # It was never acknowledged, so this is no end to keep.
        self.dispatcher.queue.remove(task)
        self.counters.rejected(task.capability.name)
        self._ends.show(task, Ending(TaskState.REJECTED, time.time(), failure=journal_failure()))

    def _note_start(self, task: Task, connection: WorkerConnection) -> bool:
        """Let the journal know before the worker does; tell whether the worker may know now."""
        if task.is_accepted:
            noted = self.journal.started(task)
        else:
            self._keep(task)
            noted = task.safe
        if noted is None:
            return True
        task.is_sent = False
        noted.tell(partial(self._begin, task, connection, task.number))
        return False

    def _begin(
        self,
        task: Task,
        connection: WorkerConnection,
        number: int,
        error: BaseException | None,
    ) -> None:
        """Tell the worker of an attempt that is on disk now, if that is still wanted."""
        if connection.calls.get(number) is not task:
            return  # lost with its worker
        if error is None and not task.is_ended and task.cancel_reason is None:
            task.is_sent = True
            self.dispatcher.send_run(task, connection)
            return
        self.release(connection, number)
        if not task.is_ended:  # else its end tells of this attempt already
            self._take_back(task)
        if task.cancel_reason is not None:
            self.fail(task, canceled_failure(task.cancel_reason))
        else:
            self._ends.leave(task)
        self.dispatcher.settle()

    async def recover(self, tasks: Sequence[Task], last_sequence: int) -> None:
        """Go on with the tasks that the host before has left, the oldest first.

        Returns when those that end here and now have ended on disk: until then nobody is told of any.
        """
        self._sequence = max(self._sequence, last_sequence)
        running: list[Task] = []
        for task in tasks:
            self._take_up(task)
            if task.expires_at is not None and task.clock_s == math.inf:
                self.fail(task, timeout_failure(task.timeout_s))
            elif task.state is not TaskState.WORKING:
                self.dispatcher.enqueue(task)
            elif self._may_repeat(task):
                running.append(task)
            else:
                self.fail(task, interrupted_failure())
        # To the front one by one, and so the first of them last.
        for task in reversed(running):
            self._run_again(task)
        if self.dispatcher.capabilities:
            self._refit_queue()
        self.dispatcher.settle()
        await self._ends.wait(RECOVERY_S)
        self.is_recovered = True

    def _take_up(self, task: Task) -> None:
        self.counters.submitted(task.capability.name)
        if task.events is not None:
            task.events.restart()
        if task.capability.streams or task.events is not None:
            self.events.open(task)
        left_s = 0.0 if task.expires_at is None else task.expires_at - time.time()
        if left_s > 0:
            self._set_clock(task, left_s)

    # Ends

    def release(self, connection: WorkerConnection, number: int) -> Task | None:
        """Take an attempt off a worker that has ended it; None when it holds no such attempt."""
        self._ladders.stop(connection, number)
        return self.dispatcher.release(connection, number)

    def complete(self, task: Task, output: bytes) -> None:
        """End a task with its output."""
        self._ends.finish(task, Ending(TaskState.COMPLETED, time.time(), output))

    def fail(self, task: Task, failure: TaskFailure) -> None:
        """End a task with an error; a cancelled one ends as canceled, a late one as timed out."""
        reason = task.cancel_reason
        if reason is CancelReason.SHUTDOWN and task.is_durable and self._may_repeat(task):
            self._ends.leave(task)
            return
        if reason is CancelReason.TIMEOUT:
            failure = timeout_failure(task.timeout_s)
        elif reason is not None:
            failure = canceled_failure(reason)
            self._ends.finish(task, Ending(TaskState.CANCELED, time.time(), failure=failure))
            return
        self._ends.finish(task, Ending(TaskState.FAILED, time.time(), failure=failure))

    def _do_over(self, task: Task) -> None:
        """Run a task again whose end did not count, because others changed what it had read."""
        task.conflicts += 1
        if task.cancel_reason is not None:
            self.fail(task, canceled_failure(task.cancel_reason))
        elif task.conflicts > MAX_CONFLICTS:
            self.fail(task, conflict_failure(task.conflicts))
        else:
            self._run_again(task)
            self.journal.requeued(task)

    # Cancelling

    def cancel(self, task: Task, reason: CancelReason) -> None:
        """Cancel a task: at once if it waits, by the ladder if it runs; idempotent."""
        if task.is_finished or task.is_left or task.cancel_reason is not None:
            return
        task.cancel_reason = reason
        if task.is_ended:
            return  # its end is being written: it counts if it can, and is no reason to wait
        if self.dispatcher.queue.remove(task):
            self.fail(task, canceled_failure(reason))
        elif task.worker is not None:
            self._ladders.start(task.worker, task.number, reason)

    def cancel_all(self, reason: CancelReason) -> None:
        """Cancel every open task; at a shutdown those that wait and are durable are left."""
        if reason is CancelReason.SHUTDOWN:
            self._leave_queue()
        for task in [*self.dispatcher.queue, *self.dispatcher.open_attempts()]:
            self.cancel(task, reason)

    def _leave_queue(self) -> None:
        for task in list(self.dispatcher.queue):
            if task.is_durable:
                self.dispatcher.queue.remove(task)
                self._ends.leave(task)
        self.dispatcher.settle()

    def _expired(self, task: Task) -> None:
        task.cancel_reason = task.cancel_reason or CancelReason.TIMEOUT
        self.give_up(task, timeout_failure(task.timeout_s))

    def give_up(self, task: Task, failure: TaskFailure) -> None:
        """End a task now, whatever the worker still does: its attempt is cancelled behind it."""
        worker, number = task.worker, task.number
        if not self.dispatcher.queue.remove(task) and worker is not None:
            self._ladders.start(worker, number, task.cancel_reason or CancelReason.CALLER)
        self.fail(task, failure)

    # Workers that are lost

    def lose(self, connection: WorkerConnection, how: str, *, may_run_again: bool = True) -> None:
        """Bring every task of a dead worker to an end, or back into the queue."""
        dispatcher = self.dispatcher
        dispatcher.forget(connection)
        for number in sorted(connection.calls, reverse=True):
            task = self.release(connection, number)
            assert task is not None
            if task.is_ended:
                continue
            task.worker = None
            if not task.is_sent:
                self._take_back(task)
            if task.cancel_reason is None and may_run_again and self.can_run_again(task):
                self._run_again(task)
            elif not may_run_again and task.is_durable and self._may_repeat(task):
                self._ends.leave(task)
            else:
                self.fail(task, crash_failure(how))
        dispatcher.settle()

    def _take_back(self, task: Task) -> None:
        """Undo a start that the worker never heard of: it is no attempt."""
        task.is_sent = True
        task.attempt -= 1

    def _run_again(self, task: Task) -> None:
        task.state = TaskState.SUBMITTED
        task.progress = None
        self._fit(task)
        if task.events is not None:
            task.events.restart()
        if task.followers is not None:
            task.followers.restart()
        self.dispatcher.enqueue(task, front=True)
        self.events.announce_state(task)

    def abandon_queue(self, failure: TaskFailure) -> None:
        """End everything that still waits, but for durable tasks: the next host goes on with them."""
        self._leave_queue()
        for task in list(self.dispatcher.queue):
            self.dispatcher.queue.remove(task)
            self.fail(task, failure)

    def can_run_again(self, task: Task) -> bool:
        """Whether another worker may have it, should this one be lost."""
        return self._may_repeat(task) and task.capability.name in self.dispatcher.capabilities

    def _may_repeat(self, task: Task) -> bool:
        """Whether one more attempt does no harm, and is one that the author allows."""
        attempts = task.attempt - task.conflicts
        return not attempts or (
            task.capability.idempotent and attempts < task.capability.max_attempts
        )

    # Workers that succeed others

    def succeed(
        self, connections: list[WorkerConnection], manifests: dict[str, CapabilityManifest]
    ) -> None:
        """Give new tasks, and those that wait, to these workers with these capabilities.

        The present workers keep what they hold; `cancel` and `lose` bring that to an end.
        """
        self.dispatcher.replace_workers(connections)
        self.declare(manifests)
        self.dispatcher.settle()

    def declare(self, manifests: dict[str, CapabilityManifest]) -> None:
        """Take over the capabilities of the present workers; what waits for others has failed."""
        self.journal.declare(manifests.values())
        if manifests and manifests == self.dispatcher.capabilities:
            return
        self.dispatcher.capabilities = manifests
        self.counters.declare(manifests)
        self._refit_queue()

    def _refit_queue(self) -> None:
        for task in list(self.dispatcher.queue):
            if task.capability.name in self.dispatcher.capabilities:
                self._fit(task)
            else:
                self.dispatcher.queue.remove(task)
                self.fail(task, gone_failure(task.capability.name))

    def _fit(self, task: Task) -> None:
        """Let a task that is to run be what its capability says now: it may stream, or not."""
        task.capability = self.dispatcher.capabilities.get(task.capability.name, task.capability)
        if task.capability.streams:
            self.events.open(task)

    # Life

    def configure(self, config: TasksConfig) -> None:
        """Take over new bounds; tasks that were taken keep those that they were taken with."""
        self._config = config
        self._limits = QueueLimits(config.max_queue, config.max_queue_bytes)
        self._ladders.configure(config.cancel_grace_s)
        self.events.configure(config)
        self.journal.configure(
            retention_s=config.retention_s,
            retention_count=config.retention_count,
            retention_bytes=config.retention_bytes,
        )

    def expire(self) -> None:
        """Let the journal go of finished tasks past their retention."""
        self.journal.expire(time.time())

    def own(self, work: Coroutine[None, None, None], *, is_end: bool = False) -> None:
        """Run a job of the engine's and keep it until it is done.

        Args:
            work: the job.
            is_end: it brings a task to its end; the agent is not idle before.
        """
        job = self._loop.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        if is_end:
            self._ends.expect(job)

    async def aclose(self, within_s: float) -> None:
        """Stop every timer, see the ends of tasks through, and cancel every other job.

        Args:
            within_s: what the disk has not taken by then is for the journal's own end.
        """
        self._deadlines.close()
        self._ladders.close()
        await self._ends.wait(within_s)
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
