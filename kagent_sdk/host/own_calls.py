"""Tasks that the author's code sends with `ctx.call`, as far as this agent can take them itself."""

from __future__ import annotations

import asyncio
import json

from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.engine import Engine, RefusedError, UnknownCapabilityError
from kagent_sdk.host.json_checks import is_json_soon
from kagent_sdk.host.task import CancelReason, Submission
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.headers import parse_traceparent
from kagent_sdk.protocol.messages import CallHead, decode_call
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure, TaskState

MAX_OPEN_CALLS = 1000


class OwnCalls:
    """Answers CALL frames: a call of this agent itself is run, any other is unreachable.

    Args:
        engine: runs them.
        agent_name: the name under which the agent may call itself.
    """

    def __init__(self, engine: Engine, agent_name: str) -> None:
        self._engine = engine
        self._agent_name = agent_name
        self._open: dict[WorkerConnection, int] = {}

    def on_call(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """Take a CALL frame; its ANSWER goes back when the task has ended."""
        count = self._open.get(connection, 0)
        if count >= MAX_OPEN_CALLS:
            raise ProtocolError("too many open calls")
        head, input = decode_call(payload)
        self._open[connection] = count + 1
        connection.hold_reading()
        self._engine.own(self._answer(connection, number, head, input))

    def forget(self, connection: WorkerConnection) -> None:
        """Drop what is known of a lost worker."""
        self._open.pop(connection, None)

    async def _answer(
        self, connection: WorkerConnection, number: int, head: CallHead, input: bytes
    ) -> None:
        try:
            answer = await self._run(await self._read(head, input))
        except _CallRefusedError as refused:
            answer = _error_answer(refused.failure)
        finally:
            if connection in self._open:
                self._open[connection] -= 1
        connection.send(Kind.ANSWER, number, answer)

    async def _read(self, head: CallHead, input: bytes) -> Submission:
        if head.agent != self._agent_name:
            message = f"agent {head.agent!r} cannot be reached: there is no link to an orchestrator"
            raise _CallRefusedError(ErrorCode.UNREACHABLE, message)
        if not await is_json_soon(input):
            raise _CallRefusedError(ErrorCode.INVALID_INPUT, "the input of the call is not JSON")
        trace = parse_traceparent(head.traceparent)
        return Submission(
            self._engine.ids.new(),
            head.capability,
            input,
            timeout_s=head.timeout_s,
            traceparent="" if trace is None else trace.traceparent,
            trace_id=None if trace is None else trace.trace_id,
            is_own=True,
        )

    async def _run(self, submission: Submission) -> bytes:
        try:
            task = self._engine.submit(submission)
        except UnknownCapabilityError:
            message = f"no capability named {submission.capability!r}"
            raise _CallRefusedError(ErrorCode.UNREACHABLE, message) from None
        except RefusedError as refused:
            message = f"not taken now: {refused.refusal}"
            raise _CallRefusedError(ErrorCode.UNREACHABLE, message, retryable=True) from None
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
