"""Calls of the author's code that this agent takes itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kagent_sdk.errors import StorageError
from kagent_sdk.host.engine import (
    Engine,
    IdConflictError,
    RefusedError,
    UnknownCapabilityError,
)
from kagent_sdk.host.task import CancelReason, Submission, Task
from kagent_sdk.host.task_failures import journal_failure, left_failure
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure, TaskState

OnItem = Callable[[bytes], Awaitable[None]]
"""Told of a streamed item, as raw JSON; returns when there may be another one."""


class CallRefusedError(Exception):
    """A call is not made, or has failed; carries what its caller is told."""

    def __init__(self, failure: TaskFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class LocalCalls:
    """Has the engine run calls as tasks of this agent.

    Args:
        engine: runs them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def offers(self, capability: str) -> bool:
        """Whether this agent has such a capability at present."""
        return capability in self._engine.dispatcher.capabilities

    async def run(self, submission: Submission, on_item: OnItem | None) -> bytes:
        """Run a call as a task, and return its output as raw JSON; cancelling this cancels the task.

        Raises:
            CallRefusedError: it is not taken, or fails.
        """
        if submission.kept:
            await self._recall(submission.task_id)
        task = self._submit(submission)
        try:
            if task.safe is not None:
                await task.safe
            if on_item is not None:
                await self._pass_on(task, on_item)
            await task.wait()
        except StorageError:
            raise CallRefusedError(journal_failure()) from None
        except BaseException:
            self._leave(task)
            raise
        if task.state is TaskState.COMPLETED:
            return task.output or b"null"
        raise CallRefusedError(task.failure or left_failure())

    async def _recall(self, task_id: str) -> None:
        try:
            await self._engine.recall(task_id)
        except RefusedError as refused:
            raise _not_taken(refused) from None
        except StorageError:
            raise CallRefusedError(journal_failure()) from None

    def _submit(self, submission: Submission) -> Task:
        try:
            return self._engine.submit(submission)
        except UnknownCapabilityError:
            raise CallRefusedError(self._unknown(submission.capability)) from None
        except IdConflictError:
            message = f"the id {submission.task_id} belongs to a task with another input"
            failure = TaskFailure(ErrorCode.ID_CONFLICT, message, status=409)
            raise CallRefusedError(failure) from None
        except RefusedError as refused:
            raise _not_taken(refused) from None

    async def _pass_on(self, task: Task, on_item: OnItem) -> None:
        """Hand on the items of a task, at the pace of who takes them."""
        follower = self._engine.events.open(task).follow()
        try:
            while not follower.is_at_end:
                batch = await follower.next_batch()
                if follower.missed:
                    raise CallRefusedError(_items_lost())
                for event in batch:
                    if event.kind == "event":
                        await on_item(event.data)
        finally:
            follower.close()

    def _leave(self, task: Task) -> None:
        """Cancel a task that its caller wants no more of, unless others wait for it."""
        if not (task.is_promised or task.is_watched):
            self._engine.cancel(task, CancelReason.CALLER)

    def _unknown(self, capability: str) -> TaskFailure:
        # Difflib is for those who mistype.
        from kagent_sdk.protocol.problems import unknown_capability  # noqa: PLC0415

        problem = unknown_capability(capability, list(self._engine.dispatcher.capabilities))
        return TaskFailure(ErrorCode.UNKNOWN_CAPABILITY, problem.detail, status=404)


def _not_taken(refused: RefusedError) -> CallRefusedError:
    message = f"not taken now: {refused.refusal}"
    return CallRefusedError(TaskFailure(ErrorCode.UNREACHABLE, message, retryable=True, status=503))


def _items_lost() -> TaskFailure:
    return TaskFailure(
        ErrorCode.ITEMS_LOST,
        "items of the stream came faster than they were read and are lost: read faster, or raise "
        "tasks.max_event_bytes",
        status=502,
    )
