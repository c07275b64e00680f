"""Takes tasks from callers, and answers for them."""

from __future__ import annotations

import asyncio

from kagent_sdk.errors import StorageError
from kagent_sdk.orchestrator.basis import Basis
from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.dispatcher import Dispatcher
from kagent_sdk.orchestrator.leases import GRACE_LEASES, Leases
from kagent_sdk.orchestrator.registry import Registry
from kagent_sdk.orchestrator.routing import fitting, may_come
from kagent_sdk.orchestrator.submission import Submission
from kagent_sdk.orchestrator.task import OpenTask, Target, TaskRecord
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.envelope import is_same_input
from kagent_sdk.protocol.headers import TaskIds
from kagent_sdk.protocol.link import MAX_HOPS
from kagent_sdk.protocol.problem import Problem, RequestError
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

RETRY_AFTER_S = 2.0


class Broker:
    """The tasks, from the callers' side.

    Args:
        book: keeps them.
        registry: of the agents.
        leases: who has them.
        dispatcher: brings them to the agents.
        ids: for tasks whose callers chose none.
        basis: clock, bounds and counters.

    Attributes:
        stopping: set when no more tasks are taken.
    """

    def __init__(
        self,
        book: Book,
        registry: Registry,
        leases: Leases,
        dispatcher: Dispatcher,
        *,
        ids: TaskIds,
        basis: Basis,
    ) -> None:
        self.book = book
        self.registry = registry
        self.leases = leases
        self._dispatcher = dispatcher
        self.counters = basis.counters
        self._ids = ids
        self._clock = basis.clock
        self._limits = basis.limits
        self._expects = basis.expects
        self._settled_at_s = basis.clock.now_s() + GRACE_LEASES * basis.limits.lease_s
        self.stopping = asyncio.Event()

    async def load(self) -> int:
        """Go on with the tasks that an orchestrator before this one has left; return how many.

        Raises:
            StorageError: they cannot be read.
        """
        tasks = await self.book.load()
        self.leases.take_up(tasks)
        return len(tasks)

    def stop(self) -> None:
        """Take no more tasks and make no more offers."""
        self.stopping.set()
        self._dispatcher.stop()

    async def submit(self, submission: Submission) -> OpenTask:
        """Take a task, or find it by its id; it is on disk when this returns.

        Raises:
            RequestError: it is refused; the problem says why.
        """
        if self.stopping.is_set():
            raise RequestError(problems.draining(RETRY_AFTER_S))
        if submission.hops > MAX_HOPS:
            raise RequestError(_too_many_hops())
        try:
            task = await self._find_same(submission)
            if task is None:
                self._check_route(submission.target)
                self._check_room(len(submission.envelope.input))
                task = self._take(submission)
            if task.saved is not None:
                await asyncio.shield(task.saved)
        except StorageError:
            raise RequestError(unavailable()) from None
        return task

    async def _find_same(self, submission: Submission) -> OpenTask | None:
        task_id = submission.envelope.id
        if task_id is None:
            return None
        task = await self.book.find(task_id)
        if task is None:
            return None
        record = task.record
        is_same = record.target[:2] == submission.target[:2] and is_same_input(
            record.input, submission.envelope.input
        )
        if not is_same:
            raise RequestError(problems.id_conflict(task_id))
        return task

    def _take(self, submission: Submission) -> OpenTask:
        envelope = submission.envelope
        now_s = self._clock.wall_s()
        timeout_s = envelope.timeout_s
        record = TaskRecord(
            self.book.next_sequence(),
            envelope.id or self._ids.new(),
            submission.target,
            envelope.input,
            envelope.metadata,
            now_s,
            now_s + min(timeout_s or self._limits.max_task_s, self._limits.max_task_s),
            timeout_s,
            submission.traceparent,
            submission.trace_id,
            submission.hops,
        )
        task = self.book.insert(record)
        assert task.saved is not None
        task.saved.add_done_callback(lambda done: self._note_saved(task, done))
        self.counters.submitted += 1
        self.leases.enqueue(task)
        self.leases.watch_deadline(task)
        # At once: the task and its offer are then on disk with one commit.
        self._dispatcher.dispatch()
        return task

    def _note_saved(self, task: OpenTask, done: asyncio.Future[None]) -> None:
        if done.cancelled() or done.exception() is not None:
            self.leases.abandon(task)
        else:
            task.saved = None

    def _check_route(self, target: Target) -> None:
        if any(True for _ in fitting(self.registry, target)):
            return
        now_s = self._clock.now_s()
        if now_s < self._settled_at_s or not len(self.registry):
            return
        if may_come(self.registry, target, now_s, self._expects):
            return
        known = self.registry.names(now_s)
        names = {f"{agent}/{name}" if target.agent else name for agent, name in known}
        raise RequestError(problems.unknown_capability(str(target), names))

    def _check_room(self, size_bytes: int) -> None:
        queues, book = self.leases.queues, self.book
        if (
            len(book.open) >= self._limits.max_open
            or book.open_bytes + size_bytes > self._limits.max_open_bytes
            or queues.count >= self._limits.max_queue
            or queues.size_bytes + size_bytes > self._limits.max_queue_bytes
        ):
            raise RequestError(problems.queue_full(RETRY_AFTER_S))

    async def find(self, task_id: str) -> OpenTask:
        """Return a task.

        Raises:
            RequestError: 404, or 503 when the disk cannot be read.
        """
        try:
            task = await self.book.find(task_id)
        except StorageError:
            raise RequestError(unavailable()) from None
        if task is None:
            raise RequestError(problems.unknown_task(task_id))
        return task

    async def cancel(self, task: OpenTask) -> None:
        """Cancel a task; it ends when its agent says so, or at once when no agent has it.

        Raises:
            RequestError: 503 when the disk does not take it.
        """
        try:
            await self.leases.cancel(task)
        except StorageError:
            raise RequestError(unavailable()) from None


def unavailable() -> Problem:
    """Answer 503: the database does not take or give anything at present."""
    return problems.from_failure(
        TaskFailure(
            ErrorCode.JOURNAL_UNAVAILABLE,
            "the orchestrator's database takes no tasks at present; try again later",
            retryable=True,
        )
    )


def _too_many_hops() -> Problem:
    return Problem(
        422,
        "Agents call each other in a circle",
        "too_many_hops",
        f"the task has passed more than {MAX_HOPS} agents: it is part of a circle of calls",
    )
