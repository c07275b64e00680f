"""Tasks that the author's code sends with `ctx.call`, as far as this agent can take them itself."""

from __future__ import annotations

import asyncio
import json
import math

from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.engine import Engine, RefusedError, UnknownCapabilityError
from kagent_sdk.host.task import CancelReason, Submission
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.headers import parse_traceparent
from kagent_sdk.protocol.messages import decode_object
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
        request = decode_object(payload)
        self._open[connection] = count + 1
        connection.hold_reading()
        self._engine.own(self._answer(connection, number, request))

    def forget(self, connection: WorkerConnection) -> None:
        """Drop what is known of a lost worker."""
        self._open.pop(connection, None)

    async def _answer(
        self, connection: WorkerConnection, number: int, request: dict[str, object]
    ) -> None:
        try:
            answer = await self._run(self._read(request))
        except _CallRefusedError as refused:
            answer = _error_answer(refused.failure)
        finally:
            if connection in self._open:
                self._open[connection] -= 1
        connection.send(Kind.ANSWER, number, answer)

    def _read(self, request: dict[str, object]) -> Submission:
        agent, name = request.get("agent"), request.get("capability")
        timeout_s, traceparent = request.get("timeout_s"), request.get("traceparent")
        if (
            not isinstance(agent, str)
            or not isinstance(name, str)
            or not isinstance(timeout_s, int | float | None)
            or (timeout_s is not None and not 0 < timeout_s < math.inf)
            or not isinstance(traceparent, str | None)
        ):
            raise _CallRefusedError(ErrorCode.INVALID_INPUT, "the call is malformed")
        if agent != self._agent_name:
            message = f"agent {agent!r} cannot be reached: there is no link to an orchestrator"
            raise _CallRefusedError(ErrorCode.UNREACHABLE, message)
        trace = parse_traceparent(traceparent)
        return Submission(
            self._engine.ids.new(),
            name,
            json.dumps(request.get("input")).encode(),
            timeout_s=timeout_s,
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
