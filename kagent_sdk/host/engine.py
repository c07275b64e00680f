"""The task engine: takes tasks and brings each to one definite end."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Coroutine

from kagent_sdk.config.models import AgentConfig, TasksConfig
from kagent_sdk.host.admission import QueueLimits, Refusal, admit
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.deadlines import Deadlines
from kagent_sdk.host.dispatcher import Dispatcher
from kagent_sdk.host.event_flow import EventFlow
from kagent_sdk.host.ladder import Ladders
from kagent_sdk.host.task import CancelReason, Submission, Task, Worker
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.journal.port import Journal
from kagent_sdk.journal.record import TaskRecord
from kagent_sdk.protocol.envelope import input_digest
from kagent_sdk.protocol.headers import TaskIds
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure, TaskState


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
        self._ends: set[asyncio.Task[None]] = set()
        self.ids = TaskIds(time.time(), os.urandom(8))
        self.journal = journal
        self.counters = counters
        self.events = EventFlow(config.tasks)
        self.dispatcher = Dispatcher(counters, self.events)
        self.gate: Refusal | None = Refusal.STARTING
        self.finished_per_s = 0.0

    # Taking tasks

    def submit(self, submission: Submission) -> Task:
        """Take a task, or say why not. Acknowledge a kept one only after `Task.safe`.

        A task whose id the journal knows is answered from there when capability and input are the
        same. Everything else is new: it runs at once or waits in the queue.

        Raises:
            UnknownCapabilityError, IdConflictError, RefusedError.
        """
        dispatcher = self.dispatcher
        manifest = dispatcher.capabilities.get(submission.capability)
        if manifest is None:
            if self.gate is not None and not dispatcher.capabilities:
                raise RefusedError(self.gate)
            raise UnknownCapabilityError(submission.capability)
        digest = b""
        if submission.kept:
            digest = input_digest(submission.input)
            known = self._known(submission, digest)
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
        task = self._accept(submission, manifest, digest)
        if connection is not None and not waiting:
            dispatcher.start(task, connection)
        else:
            dispatcher.enqueue(task)
            dispatcher.settle()
        return task

    def find(self, task_id: str) -> TaskRecord | None:
        """Return a kept task."""
        return self.journal.find(task_id)

    def _known(self, submission: Submission, digest: bytes) -> Task | None:
        known = self.journal.find(submission.task_id)
        if known is None:
            return None
        if known.capability.name != submission.capability or known.digest != digest:
            raise IdConflictError(submission.task_id)
        assert isinstance(known, Task)
        return known

    def _accept(self, submission: Submission, manifest: CapabilityManifest, digest: bytes) -> Task:
        self._sequence += 1
        self.counters.submitted(manifest.name)
        task = Task(submission, manifest, created_at=time.time(), sequence=self._sequence)
        timeout_s = self._timeout_s(submission.timeout_s, manifest.timeout_s)
        if timeout_s is not None:
            task.timeout_s = timeout_s
            task.deadline_at = self._deadlines.add(task, timeout_s)
        if submission.kept:
            task.digest = digest
            task.safe = self.journal.accepted(task)
        if manifest.streams:
            self.events.open(task)
        return task

    def _timeout_s(self, asked: float | None, declared: float | None) -> float | None:
        if asked is not None:
            asked = min(asked, self._config.max_timeout_s)
            return asked if declared is None else min(asked, declared)
        return declared if declared is not None else self._config.default_timeout_s

    # Ends

    def release(self, connection: WorkerConnection, number: int) -> Task | None:
        """Take an attempt off a worker that has ended it; None when it holds no such attempt."""
        self._ladders.stop(connection, number)
        return self.dispatcher.release(connection, number)

    def complete(self, task: Task, output: bytes) -> None:
        """End a task with its output."""
        task.output = output
        self._finish(task, TaskState.COMPLETED)

    def fail(self, task: Task, failure: TaskFailure) -> None:
        """End a task with an error; a cancelled one ends as canceled, a late one as timed out."""
        if task.cancel_reason is CancelReason.TIMEOUT:
            failure = timeout_failure(task.timeout_s)
        elif task.cancel_reason is not None:
            task.failure = canceled_failure(task.cancel_reason)
            self._finish(task, TaskState.CANCELED)
            return
        task.failure = failure
        self._finish(task, TaskState.FAILED)

    def _finish(self, task: Task, state: TaskState) -> None:
        if task.is_finished:
            return
        task.state = state
        task.finished_at = now = time.time()
        task.worker = None
        if task.timeout_s != math.inf:
            self._deadlines.remove(task, task.timeout_s)
        self._count(task, state, None if task.started_at is None else now - task.started_at)
        pending = self.journal.finished(task) if task.kept else None
        if pending is None:
            self._tell(task)
        else:
            self.own(self._tell_when_safe(task, pending), is_end=True)

    def _count(self, task: Task, state: TaskState, took_s: float | None) -> None:
        name = task.capability.name
        if state is TaskState.COMPLETED:
            self.counters.completed(name, took_s or 0.0)
        elif state is TaskState.CANCELED:
            self.counters.canceled(name, took_s)
        else:
            self.counters.failed(name, took_s)

    async def _tell_when_safe(self, task: Task, pending: Awaitable[None]) -> None:
        await pending
        self._tell(task)

    def _tell(self, task: Task) -> None:
        if task.events is not None:
            self.events.announce(task, "task", task.document())
        task.wake()
        self.dispatcher.settle()

    # Cancelling

    def cancel(self, task: Task, reason: CancelReason) -> None:
        """Cancel a task: at once if it waits, by the ladder if it runs; idempotent."""
        if task.is_finished or task.cancel_reason is not None:
            return
        task.cancel_reason = reason
        if self.dispatcher.queue.remove(task):
            self.fail(task, canceled_failure(reason))
        elif task.worker is not None:
            self._ladders.start(task.worker, task.number, reason)

    def cancel_all(self, reason: CancelReason) -> None:
        """Cancel every open task."""
        for task in [*self.dispatcher.queue, *self.dispatcher.open_attempts()]:
            self.cancel(task, reason)

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
            if task.is_finished:
                continue
            task.worker = None
            if task.cancel_reason is None and may_run_again and self.can_run_again(task):
                self._run_again(task)
            else:
                self.fail(task, crash_failure(how))
        dispatcher.settle()

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
        """End everything that still waits."""
        for task in list(self.dispatcher.queue):
            self.dispatcher.queue.remove(task)
            self.fail(task, failure)

    def can_run_again(self, task: Task) -> bool:
        """Whether another worker may have it, should this one be lost."""
        capability = task.capability
        return (
            capability.idempotent
            and task.attempt < capability.max_attempts
            and capability.name in self.dispatcher.capabilities
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
        if manifests == self.dispatcher.capabilities:
            return
        self.dispatcher.capabilities = manifests
        self.counters.declare(manifests)
        for task in list(self.dispatcher.queue):
            if task.capability.name in manifests:
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
            self._ends.add(job)
            job.add_done_callback(self._ends.discard)
            self.dispatcher.ending += 1
            job.add_done_callback(self._note_end)

    def _note_end(self, job: asyncio.Task[None]) -> None:
        self.dispatcher.ending -= 1
        self.dispatcher.settle()

    async def aclose(self) -> None:
        """Stop every timer, see the ends of tasks through, and cancel every other job."""
        self._deadlines.close()
        self._ladders.close()
        await asyncio.gather(*self._ends, return_exceptions=True)
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)


def timeout_failure(timeout_s: float) -> TaskFailure:
    """Return the error of a task whose time was up."""
    message = f"not finished within {timeout_s:g} s"
    return TaskFailure(ErrorCode.TIMEOUT, message, retryable=True, status=504)


def canceled_failure(reason: CancelReason) -> TaskFailure:
    """Return the error of a task that was cancelled."""
    message = f"canceled ({reason.value})"
    return TaskFailure(ErrorCode.CANCELED, message, retryable=True, status=409)


def crash_failure(how: str) -> TaskFailure:
    """Return the error of a task whose worker died."""
    message = f"the worker ended while it ran this task ({how})"
    return TaskFailure(ErrorCode.WORKER_CRASHED, message, retryable=True, status=502)


def gone_failure(name: str) -> TaskFailure:
    """Return the error of a task that waited for a capability which a reload removed."""
    message = f"a reload removed the capability {name} while this task waited"
    return TaskFailure(ErrorCode.UNKNOWN_CAPABILITY, message)
