"""What the engine does with the frames of a worker, none of which it trusts."""

from __future__ import annotations

import asyncio
import json

from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.engine import Engine, RefusedError, UnknownCapabilityError
from kagent_sdk.host.task import CancelReason, Submission, Task
from kagent_sdk.host.worker_connection import FrameHandler, WorkerConnection
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.json_text import is_json
from kagent_sdk.protocol.messages import decode_failure, decode_object, decode_progress
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure, TaskState

MAX_ERROR_BYTES = 256 * 1024
MAX_PROGRESS_BYTES = 64 * 1024
MAX_OPEN_CALLS = 1000
INLINE_CHECK_BYTES = 64 * 1024
"""Outputs up to this size are checked in the loop (well under a millisecond), larger in a thread."""


class WorkerFrames:
    """Turns RESULT, ERROR, PROGRESS, EVENT and CALL frames into steps of the engine.

    Args:
        engine: where the tasks are.
        max_output_bytes: the largest output of a task.
        agent_name: the name under which the agent may call itself.
    """

    def __init__(self, engine: Engine, *, max_output_bytes: int, agent_name: str) -> None:
        self._engine = engine
        self._max_output_bytes = max_output_bytes
        self._agent_name = agent_name
        self._open_calls: dict[WorkerConnection, int] = {}

    def handlers(self) -> dict[int, FrameHandler]:
        """Return what to call for each kind of frame."""
        return {
            Kind.RESULT: self.on_result,
            Kind.ERROR: self.on_error,
            Kind.PROGRESS: self.on_progress,
            Kind.EVENT: self.on_event,
            Kind.CALL: self.on_call,
        }

    def on_result(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """End a task with its output."""
        task = self._ended(connection, number)
        if task.is_finished:
            self._engine.dispatcher.settle()
        elif task.capability.streams:
            self._complete_stream(task)
        elif len(payload) > self._max_output_bytes:
            self._engine.fail(task, _too_large(self._max_output_bytes))
        elif not task.kept and task.events is None:
            self._engine.complete(task, payload)
        elif len(payload) <= INLINE_CHECK_BYTES:
            self._complete_checked(task, payload, is_valid=is_json(payload))
        else:
            self._engine.own(self._check_then_complete(task, payload))

    def on_error(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """End a task with its error."""
        if len(payload) > MAX_ERROR_BYTES:
            raise ProtocolError("ERROR frame is too large")
        failure = decode_failure(payload)
        task = self._ended(connection, number)
        if task.is_finished:
            self._engine.dispatcher.settle()
        else:
            self._engine.fail(task, failure)

    def on_progress(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """Note how far a task is; what comes after its end is dropped."""
        if len(payload) > MAX_PROGRESS_BYTES:
            raise ProtocolError("PROGRESS frame is too large")
        progress = decode_progress(payload)
        task = connection.calls.get(number)
        if task is None or task.is_finished:
            return
        task.progress = progress
        if task.events is not None:
            document = {"fraction": progress[0], "message": progress[1]}
            self._engine.events.announce(task, "progress", json.dumps(document).encode())

    def on_event(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """Add an item to a task's stream; what comes after its end is dropped."""
        task = connection.calls.get(number)
        if task is None or task.is_finished:
            return
        if len(payload) > self._max_output_bytes or not is_json(payload):
            raise ProtocolError("EVENT frame is not JSON, or too large")
        self._engine.events.open(task)
        self._engine.events.announce(task, "event", payload)

    def on_call(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """Run a task that the author's code sent with `ctx.call`."""
        count = self._open_calls.get(connection, 0)
        if count >= MAX_OPEN_CALLS:
            raise ProtocolError("too many open calls")
        request = decode_object(payload)
        self._open_calls[connection] = count + 1
        self._engine.own(self._answer_call(connection, number, request))

    def forget(self, connection: WorkerConnection) -> None:
        """Drop what is known of a lost worker."""
        self._open_calls.pop(connection, None)

    def _ended(self, connection: WorkerConnection, number: int) -> Task:
        task = self._engine.release(connection, number)
        if task is None:
            raise ProtocolError(f"answer to a task that this worker does not hold: {number}")
        connection.answered += 1
        return task

    def _complete_stream(self, task: Task) -> None:
        events = task.events
        if events is None or events.items_dropped:
            task.output = None
        else:
            task.output = b"[" + b",".join(events.items()) + b"]"
        self._engine.complete(task, task.output or b"null")

    async def _check_then_complete(self, task: Task, payload: bytes) -> None:
        is_valid = await asyncio.to_thread(is_json, payload)
        if not task.is_finished:
            self._complete_checked(task, payload, is_valid=is_valid)

    def _complete_checked(self, task: Task, payload: bytes, *, is_valid: bool) -> None:
        if is_valid:
            self._engine.complete(task, payload)
        else:
            message = "the worker answered with something that is not JSON"
            self._engine.fail(task, TaskFailure(ErrorCode.INVALID_OUTPUT, message))

    async def _answer_call(
        self, connection: WorkerConnection, number: int, request: dict[str, object]
    ) -> None:
        try:
            answer = await self._run_call(request)
        except _CallRefusedError as refused:
            answer = _error_answer(refused.failure)
        finally:
            if connection in self._open_calls:
                self._open_calls[connection] -= 1
        connection.send(Kind.ANSWER, number, answer)

    async def _run_call(self, request: dict[str, object]) -> bytes:
        agent, name, timeout_s = (
            request.get("agent"),
            request.get("capability"),
            request.get("timeout_s"),
        )
        if not isinstance(name, str) or not isinstance(timeout_s, int | float | None):
            raise _CallRefusedError(ErrorCode.INVALID_INPUT, "capability or timeout_s is malformed")
        if agent != self._agent_name:
            raise _CallRefusedError(
                ErrorCode.UNREACHABLE,
                f"agent {agent!r} cannot be reached: this agent has no link to an orchestrator",
            )
        raw = json.dumps(request.get("input")).encode()
        submission = Submission(self._engine.ids.new(), name, raw, timeout_s=timeout_s)
        try:
            task = self._engine.submit(submission)
        except UnknownCapabilityError:
            raise _CallRefusedError(
                ErrorCode.UNREACHABLE, f"no capability named {name!r}"
            ) from None
        except RefusedError as refused:
            raise _CallRefusedError(
                ErrorCode.UNREACHABLE, f"not taken now: {refused.refusal}", retryable=True
            ) from None
        try:
            await task.wait()
        except asyncio.CancelledError:
            self._engine.cancel(task, CancelReason.CALLER)
            raise
        if task.state is TaskState.COMPLETED:
            return b'{"output":' + (task.output or b"null") + b"}"
        assert task.failure is not None
        return _error_answer(task.failure)


class _CallRefusedError(Exception):
    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.failure = TaskFailure(code, message, retryable=retryable, status=503)


def _error_answer(failure: TaskFailure) -> bytes:
    return json.dumps({"error": {**failure.as_dict(), "status": failure.status}}).encode()


def _too_large(limit_bytes: int) -> TaskFailure:
    return TaskFailure(ErrorCode.OUTPUT_TOO_LARGE, f"the output is over {limit_bytes} bytes")
