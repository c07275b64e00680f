"""The task engine: takes tasks, gives them to workers, and brings each to one definite end."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host.admission import QueueLimits, Refusal, admit
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.deadlines import Deadlines
from kagent_sdk.host.follower import Followers
from kagent_sdk.host.ladder import Ladders
from kagent_sdk.host.queue import TaskQueue
from kagent_sdk.host.task import CancelReason, Task
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.journal.events import EventLog
from kagent_sdk.journal.port import Journal
from kagent_sdk.journal.record import TaskRecord
from kagent_sdk.protocol.envelope import input_digest
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.messages import COUNT, encode_run
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure, TaskState

EVENT_WINDOW = 256
"""Events that a worker may send ahead of the slowest reader."""


class Refused(Exception):
    """A task is not taken now; carries why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class UnknownCapability(Exception):
    """There is no capability of that name."""


class IdConflict(Exception):
    """The id belongs to a task with another capability or input."""


@dataclass(slots=True)
class Submission:
    """What a caller asks for. ``input`` and ``metadata`` are raw JSON.

    Attributes:
        kept: the journal keeps the task, so that it can be found by its id.
    """

    task_id: str
    capability: str
    input: bytes
    timeout_s: float | None = None
    metadata: bytes = b"{}"
    traceparent: str = ""
    trace_id: str | None = None
    kept: bool = False


class Engine:
    """Owns every open task. Lives in the host's loop; none of its methods blocks.

    Args:
        config: the agent's configuration.
        journal: keeps the tasks of ``POST /v1/tasks``.
        counters: told of every end.
        kill: ends the worker behind a connection, with a reason for the log.

    Attributes:
        gate: why no task is taken at present; None when tasks are taken.
        capabilities: the manifests of the current workers, by name.
        connections: the workers that may be given tasks.
        running: attempts that workers hold.
        finished_per_s: how fast tasks end at present, measured by the monitor.
    """

    def __init__(
        self,
        config: AgentConfig,
        journal: Journal,
        counters: Counters,
        kill: Callable[[WorkerConnection, str], None],
    ) -> None:
        self._config = config.tasks
        self._limits = QueueLimits(config.tasks.max_queue, config.tasks.max_queue_bytes)
        self._loop = asyncio.get_running_loop()
        self._sequence = 0
        self._running_by_name: dict[str, int] = {}
        self._deadlines = Deadlines(self._loop, self._expired)
        self._ladders = Ladders(config.tasks.cancel_grace_s, kill)
        self._jobs: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self.journal = journal
        self.counters = counters
        self.queue = TaskQueue()
        self.gate: Refusal | None = Refusal.STARTING
        self.capabilities: dict[str, CapabilityManifest] = {}
        self.connections: list[WorkerConnection] = []
        self.running = 0
        self.finished_per_s = 0.0

    # Taking tasks

    def submit(self, submission: Submission) -> Task:
        """Take a task, or say why not. Acknowledge a kept one only after `Task.safe`.

        A task whose id the journal knows is answered from there when capability and input are the
        same. Everything else is new: it runs at once or waits in the queue.

        Raises:
            UnknownCapability, IdConflict, Refused.
        """
        manifest = self.capabilities.get(submission.capability)
        if manifest is None:
            if self.gate is not None and not self.capabilities:
                raise Refused(self.gate)
            raise UnknownCapability(submission.capability)
        digest = b""
        if submission.kept:
            digest = input_digest(submission.input)
            known = self._known(submission, digest)
            if known is not None:
                return known
        connection = self._free_connection(manifest.name)
        refusal = admit(
            self.gate,
            can_start=connection is not None,
            queued=len(self.queue),
            queued_bytes=self.queue.size_bytes,
            input_bytes=len(submission.input),
            limits=self._limits,
        )
        if refusal is not None:
            self.counters.rejected(manifest.name)
            raise Refused(refusal)
        task = self._accept(submission, manifest, digest)
        if connection is not None and not len(self.queue):
            self._start(task, connection)
        else:
            self._enqueue(task)
        return task

    def find(self, task_id: str) -> TaskRecord | None:
        """Return a kept task."""
        return self.journal.find(task_id)

    def _known(self, submission: Submission, digest: bytes) -> Task | None:
        known = self.journal.find(submission.task_id)
        if known is None:
            return None
        if known.capability.name != submission.capability or known.digest != digest:
            raise IdConflict(submission.task_id)
        assert isinstance(known, Task)
        return known

    def _accept(self, submission: Submission, manifest: CapabilityManifest, digest: bytes) -> Task:
        self._sequence += 1
        self.counters.submitted(manifest.name)
        task = Task(
            submission.task_id,
            manifest,
            submission.input,
            created_at=time.time(),
            sequence=self._sequence,
            kept=submission.kept,
            metadata=submission.metadata,
            traceparent=submission.traceparent,
            trace_id=submission.trace_id,
        )
        timeout_s = self._timeout_s(submission.timeout_s, manifest.timeout_s)
        if timeout_s is not None:
            task.timeout_s = timeout_s
            task.deadline_at = self._deadlines.add(task, timeout_s)
        if submission.kept:
            task.digest = digest
            task.safe = self.journal.accepted(task)
        if manifest.streams:
            self.open_events(task)
        return task

    def _timeout_s(self, asked: float | None, declared: float | None) -> float | None:
        if asked is not None:
            asked = min(asked, self._config.max_timeout_s)
            return asked if declared is None else min(asked, declared)
        return declared if declared is not None else self._config.default_timeout_s

    # Giving tasks to workers

    def dispatch(self) -> None:
        """Start waiting tasks as long as there are places."""
        while len(self.queue):
            if not any(connection.has_place for connection in self.connections):
                return
            task = self.queue.pop(self._has_room)
            if task is None:
                return
            connection = self._free_connection(task.capability.name)
            if connection is None:
                self.queue.push(task, front=True)
                return
            self._start(task, connection)

    def _has_room(self, name: str) -> bool:
        manifest = self.capabilities.get(name)
        limit = None if manifest is None else manifest.max_concurrency
        return limit is None or self._running_by_name.get(name, 0) < limit

    def _free_connection(self, name: str) -> WorkerConnection | None:
        best: WorkerConnection | None = None
        for connection in self.connections:
            if connection.has_place and (best is None or len(connection.calls) < len(best.calls)):
                best = connection
        if best is None or name not in best.capabilities or not self._has_room(name):
            return None
        return best

    def _enqueue(self, task: Task, *, front: bool = False) -> None:
        task.queued_at = self._loop.time()
        self.queue.push(task, front=front)
        self._idle.clear()

    def _start(self, task: Task, connection: WorkerConnection) -> None:
        name = task.capability.name
        task.attempt += 1
        task.state = TaskState.WORKING
        task.started_at = time.time()
        task.worker = connection
        task.number = number = connection.next_number()
        connection.calls[number] = task
        self.running += 1
        self._running_by_name[name] = self._running_by_name.get(name, 0) + 1
        self._idle.clear()
        if task.queued_at:
            self.counters.started(self._loop.time() - task.queued_at)
            task.queued_at = 0.0
        remaining_s = (
            math.inf if task.deadline_at == math.inf else task.deadline_at - self._loop.time()
        )
        connection.send(
            Kind.RUN,
            number,
            encode_run(
                connection.capabilities[name],
                min(task.attempt, 0xFFFF),
                remaining_s,
                task_id=task.id,
                traceparent=task.traceparent,
                metadata=task.metadata,
                input=task.input,
            ),
        )
        if task.events is not None:
            self._announce_state(task)

    def release(self, connection: WorkerConnection, number: int) -> Task | None:
        """Take an attempt off a worker that has ended it; None when it holds no such attempt."""
        task = connection.calls.pop(number, None)
        if task is None:
            return None
        self._ladders.stop(connection, number)
        self.running -= 1
        name = task.capability.name
        left = self._running_by_name[name] - 1
        if left:
            self._running_by_name[name] = left
        else:
            del self._running_by_name[name]
        return task

    # Ends

    def complete(self, task: Task, output: bytes) -> None:
        """End a task with its output."""
        task.output = output
        self._finish(task, TaskState.COMPLETED)

    def fail(self, task: Task, failure: TaskFailure) -> None:
        """End a task with an error; a cancelled one ends as canceled, a late one as timed out."""
        if task.cancel_reason is CancelReason.TIMEOUT:
            failure = timeout_failure(task.timeout_s)
        elif task.cancel_reason is not None:
            task.failure = TaskFailure(
                ErrorCode.CANCELED,
                f"canceled ({task.cancel_reason.value})",
                retryable=True,
                status=409,
            )
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
        if not task.kept:
            self._after_finish(task)
            return
        pending = self.journal.finished(task)
        if pending is None:
            self._after_finish(task)
        else:
            self._own(self._finish_durably(task, pending))

    def _count(self, task: Task, state: TaskState, took_s: float | None) -> None:
        name = task.capability.name
        if state is TaskState.COMPLETED:
            self.counters.completed(name, took_s or 0.0)
        elif state is TaskState.CANCELED:
            self.counters.canceled(name, took_s)
        else:
            self.counters.failed(name, took_s)

    async def _finish_durably(self, task: Task, pending: Awaitable[None]) -> None:
        await pending
        self._after_finish(task)

    def _after_finish(self, task: Task) -> None:
        if task.events is not None:
            self.announce(task, "task", task.document())
        task.wake()
        if len(self.queue):
            self.dispatch()
        elif not self.running:
            self._idle.set()

    def settle(self) -> None:
        """Go on after attempts have ended: start what waits, or note that nothing is left."""
        if len(self.queue):
            self.dispatch()
        elif not self.running:
            self._idle.set()

    # Cancelling

    def cancel(self, task: Task, reason: CancelReason) -> None:
        """Cancel a task: at once if it waits, by the ladder if it runs; idempotent."""
        if task.is_finished or task.cancel_reason is not None:
            return
        task.cancel_reason = reason
        if self.queue.remove(task):
            self.fail(task, TaskFailure(ErrorCode.CANCELED, "canceled before it started"))
        elif task.worker is not None:
            self._ladders.start(task.worker, task.number, reason)

    def cancel_all(self, reason: CancelReason) -> None:
        """Cancel every open task."""
        for task in [*self.queue, *self.open_attempts()]:
            self.cancel(task, reason)

    def open_attempts(self) -> list[Task]:
        """Return the tasks that workers hold and that have not ended."""
        return [
            task
            for connection in self.connections
            for task in connection.calls.values()
            if not task.is_finished
        ]

    def _expired(self, task: Task) -> None:
        """A task's time is up: its caller is told now, whatever the worker still does."""
        worker, number = task.worker, task.number
        was_queued = self.queue.remove(task)
        task.cancel_reason = task.cancel_reason or CancelReason.TIMEOUT
        if not was_queued and worker is not None:
            self._ladders.start(worker, number, CancelReason.TIMEOUT)
        self.fail(task, timeout_failure(task.timeout_s))

    # Workers that are lost

    def lose(self, connection: WorkerConnection, how: str, *, may_run_again: bool = True) -> None:
        """Bring every task of a dead worker to an end, or back into the queue."""
        if connection in self.connections:
            self.connections.remove(connection)
        for number in sorted(connection.calls, reverse=True):
            task = self.release(connection, number)
            assert task is not None
            if task.is_finished:
                continue
            task.worker = None
            if task.cancel_reason is not None:
                self.fail(task, worker_crashed(how))
            elif may_run_again and _has_attempts_left(task):
                self._run_again(task)
            else:
                self.fail(task, worker_crashed(how))
        self.settle()

    def _run_again(self, task: Task) -> None:
        task.state = TaskState.SUBMITTED
        task.progress = None
        if task.followers is not None:
            task.followers.restart()
        self._enqueue(task, front=True)
        if task.events is not None:
            self._announce_state(task)

    def abandon_queue(self, failure: TaskFailure) -> None:
        """End everything that still waits."""
        for task in list(self.queue):
            self.queue.remove(task)
            self.fail(task, failure)

    # Events

    def open_events(self, task: Task) -> Followers:
        """Return the task's readers; its event log begins here if it had none."""
        if task.followers is None:
            task.events = task.events or EventLog(
                max_events=self._config.max_events, max_bytes=self._config.max_event_bytes
            )
            task.followers = Followers(
                task.events, EVENT_WINDOW, lambda count: self._acknowledge(task, count)
            )
            if task.events.last_id == 0:
                self._announce_state(task)
                if task.is_finished:
                    self.announce(task, "task", task.document())
        return task.followers

    def announce(self, task: Task, kind: str, data: bytes) -> None:
        """Add to a task's events and tell its readers; nothing when nobody opened them."""
        if task.events is not None and task.followers is not None:
            task.followers.publish(task.events.append(kind, data))

    def _announce_state(self, task: Task) -> None:
        self.announce(
            task, "state", b'{"state":"%b","attempt":%d}' % (task.state.encode(), task.attempt)
        )

    def _acknowledge(self, task: Task, count: int) -> None:
        if task.worker is not None:
            task.worker.send(Kind.ACK, task.number, COUNT.pack(count))

    # Life

    def expire(self) -> None:
        """Let the journal go of finished tasks past their retention."""
        self.journal.expire(time.time())

    def running_of(self, name: str) -> int:
        """Return how many attempts of a capability workers hold."""
        return self._running_by_name.get(name, 0)

    @property
    def is_idle(self) -> bool:
        """Whether no task runs or waits."""
        return not self.running and not len(self.queue)

    async def wait_idle(self) -> None:
        """Return when no task runs or waits."""
        await self._idle.wait()

    async def aclose(self) -> None:
        """Stop every timer and finish what is being written."""
        self._deadlines.close()
        self._ladders.close()
        if self._jobs:
            await asyncio.gather(*self._jobs, return_exceptions=True)

    def own(self, job: asyncio.Task[None]) -> None:
        """Keep a job of the engine's until it is done."""
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _own(self, work: Awaitable[None]) -> None:
        self.own(asyncio.ensure_future(work))  # type: ignore[arg-type]


def _has_attempts_left(task: Task) -> bool:
    return task.capability.idempotent and task.attempt < task.capability.max_attempts


def timeout_failure(timeout_s: float) -> TaskFailure:
    """Return the error of a task whose time was up."""
    return TaskFailure(
        ErrorCode.TIMEOUT, f"not finished within {timeout_s:g} s", retryable=True, status=504
    )


def worker_crashed(how: str) -> TaskFailure:
    """Return the error of a task whose worker died."""
    return TaskFailure(
        ErrorCode.WORKER_CRASHED,
        f"the worker ended while it ran this task ({how})",
        retryable=True,
        status=502,
    )
