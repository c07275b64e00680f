"""One task of an agent in a harness."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from pydantic import TypeAdapter
from pydantic_core import from_json

from kagent_sdk.errors import TaskError
from kagent_sdk.host.task import CancelReason, Task
from kagent_sdk.host.task_failures import left_failure
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

if TYPE_CHECKING:
    from kagent_sdk.host.engine import Engine

Output = TypeVar("Output")


class Progress(NamedTuple):
    """What a task has said of how far it is: a fraction from 0 to 1, or None, and a few words."""

    fraction: float | None
    message: str | None = None


class HarnessTask:
    """A task that was given to the agent. Made by `AgentHarness.start`.

    Args:
        engine: has the task.
        task: the host's record of it.
    """

    def __init__(self, engine: Engine, task: Task) -> None:
        self._engine = engine
        self._task = task

    def __repr__(self) -> str:
        return f"<HarnessTask {self.capability} {self.id} {self.state}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._task.id

    @property
    def capability(self) -> str:
        """The capability's name."""
        return self._task.capability.name

    @property
    def state(self) -> TaskState:
        """``submitted``, ``working``, ``completed``, ``failed``, ``canceled`` or ``rejected``."""
        return self._task.state

    @property
    def attempt(self) -> int:
        """Which attempt runs, or was the last; 0 before the first."""
        return self._task.attempt

    @property
    def error(self) -> TaskError | None:
        """Why the task failed or was cancelled, once it has."""
        failure = self._task.failure
        return None if failure is None else error_of(failure)

    @property
    def progress(self) -> list[Progress]:
        """What the task has reported so far, as a caller sees it: some 20 reports a second."""
        log = self._task.events
        if log is None:
            return []
        events = log.after(0, limit=log.last_id)
        reports = (from_json(event.data) for event in events if event.kind == "progress")
        return [Progress(report["fraction"], report["message"]) for report in reports]

    @overload
    async def result(self) -> Any: ...

    @overload
    async def result(self, output: type[Output]) -> Output: ...

    async def result(self, output: Any = None) -> Any:
        """Wait for the task's end and return its output.

        Args:
            output: a model or any other type that pydantic knows; JSON's own types if not given.

        Raises:
            TaskError: it failed, was cancelled or timed out; ``code`` says which.
        """
        await self.wait()
        if self._task.state is not TaskState.COMPLETED:
            raise error_of(self._task.failure or left_failure())
        data = self._task.output or b"null"
        return from_json(data) if output is None else TypeAdapter(output).validate_json(data)

    async def wait(self) -> TaskState:
        """Wait for the task's end, however it ends, and return its state."""
        task = self._task
        if task.safe is not None:
            await task.safe
        await task.wait()
        return task.state

    async def cancel(self) -> TaskState:
        """Cancel the task as its caller would, and return the state that it ends in."""
        self._engine.cancel(self._task, CancelReason.CALLER)
        return await self.wait()

    async def events(self) -> AsyncIterator[Any]:
        """Iterate over what the task yields or emits, from its first item on, as it comes.

        Ends with the task, however that ends: `result` tells. A reader that stops reading stops the
        task after 256 items, as any caller's does.
        """
        follower = self._engine.events.open(self._task).follow()
        try:
            while not follower.is_at_end:
                for event in await follower.next_batch():
                    if event.kind == "event":
                        yield from_json(event.data)
        finally:
            follower.close()


def error_of(failure: TaskFailure) -> TaskError:
    """Return a task's error as what the agent's author would have raised."""
    return TaskError(
        failure.code,
        failure.message,
        retryable=failure.retryable,
        details=failure.details,
        status=failure.status,
    )
