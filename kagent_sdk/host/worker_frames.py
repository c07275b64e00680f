"""What the engine does with the frames of a worker, none of which it trusts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import replace

from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.task import Task
from kagent_sdk.host.vault_keeper import VaultKeeper
from kagent_sdk.host.worker_connection import FrameHandler, WorkerConnection
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.json_text import SMALL_BYTES, is_json
from kagent_sdk.protocol.messages import MAX_MESSAGE_CHARS, decode_failure, decode_progress
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

MAX_ERROR_BYTES = 256 * 1024
MAX_PROGRESS_BYTES = 64 * 1024


class WorkerFrames:
    """Turns RESULT, ERROR, PROGRESS and EVENT frames into steps of the engine.

    Args:
        engine: where the tasks are.
        max_output_bytes: the largest output of a task.
        keeper: if outputs are searched for secrets, has the redactor that does.
    """

    def __init__(
        self, engine: Engine, *, max_output_bytes: int, keeper: VaultKeeper | None = None
    ) -> None:
        self._engine = engine
        self._keeper = keeper
        self._max_output_bytes = max_output_bytes

    def handlers(self) -> dict[int, FrameHandler]:
        """Return what to call for each kind of frame."""
        return {
            Kind.RESULT: self.on_result,
            Kind.ERROR: self.on_error,
            Kind.PROGRESS: self.on_progress,
            Kind.EVENT: self.on_event,
        }

    def on_result(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """End a task with its output."""
        task = self._ended(connection, number)
        if task.is_ended:
            self._engine.dispatcher.settle()
        elif task.capability.streams:
            self._complete_stream(task)
        elif len(payload) > self._max_output_bytes:
            self._engine.fail(task, _too_large(self._max_output_bytes))
        elif not task.kept and task.events is None and self._keeper is None:
            self._engine.complete(task, payload)
        elif len(payload) <= SMALL_BYTES:
            self._complete_checked(task, payload, self._find_fault(payload))
        else:
            self._engine.own(self._check_then_complete(task, payload), is_end=True)

    def on_error(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """End a task with its error."""
        if len(payload) > MAX_ERROR_BYTES:
            raise ProtocolError("ERROR frame is too large")
        failure = decode_failure(payload)
        task = self._ended(connection, number)
        if task.is_ended:
            self._engine.dispatcher.settle()
        else:
            self._engine.fail(task, self._clean(failure))

    def on_progress(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """Note how far a task is; what comes after its end is dropped."""
        if len(payload) > MAX_PROGRESS_BYTES:
            raise ProtocolError("PROGRESS frame is too large")
        progress = decode_progress(payload)
        task = connection.calls.get(number)
        if task is None or task.is_ended:
            return
        if self._keeper is not None and progress[1]:
            message = self._keeper.redactor.redact_cut(progress[1], MAX_MESSAGE_CHARS)
            progress = progress[0], message
        task.progress = progress
        if task.lease is not None:
            self._engine.events.open(task)  # else nothing is told before somebody asks for it
        if task.events is not None:
            document = {"fraction": progress[0], "message": progress[1]}
            self._engine.events.announce(task, "progress", json.dumps(document).encode())

    def on_event(
        self, connection: WorkerConnection, number: int, payload: bytes
    ) -> Coroutine[None, None, None] | None:
        """Add an item to a task's stream; what comes after its end is dropped."""
        task = connection.calls.get(number)
        if task is None or task.is_ended:
            return None
        if len(payload) > self._max_output_bytes:
            self._engine.give_up(task, _too_large(self._max_output_bytes))
            return None
        if len(payload) > SMALL_BYTES:
            return self._check_then_add(task, payload)
        self._add_checked(task, payload, self._find_fault(payload))
        return None

    async def _check_then_add(self, task: Task, payload: bytes) -> None:
        self._add_checked(task, payload, await asyncio.to_thread(self._find_fault, payload))

    def _add_checked(self, task: Task, payload: bytes, fault: TaskFailure | None) -> None:
        if task.is_ended:
            return
        if fault is not None:
            self._engine.give_up(task, fault)
            return
        self._engine.events.open(task)
        self._engine.events.announce(task, "event", payload)

    def _ended(self, connection: WorkerConnection, number: int) -> Task:
        task = self._engine.release(connection, number)
        if task is None:
            raise ProtocolError(f"answer to a task that this worker does not hold: {number}")
        connection.answered += 1
        return task

    def _complete_stream(self, task: Task) -> None:
        events = task.events
        # An empty list would claim that nothing was yielded.
        is_whole = events is not None and not events.items_dropped
        output = b"[" + b",".join(events.items()) + b"]" if events and is_whole else b"null"
        self._engine.complete(task, output)

    async def _check_then_complete(self, task: Task, payload: bytes) -> None:
        fault = await asyncio.to_thread(self._find_fault, payload)
        if not task.is_ended:
            self._complete_checked(task, payload, fault)

    def _complete_checked(self, task: Task, payload: bytes, fault: TaskFailure | None) -> None:
        if fault is None:
            self._engine.complete(task, payload)
        else:
            self._engine.fail(task, fault)

    def _find_fault(self, payload: bytes) -> TaskFailure | None:
        if not is_json(payload):
            return _not_json()
        if self._keeper is not None and self._keeper.redactor.finds_in(payload):
            return _secret_found()
        return None

    def _clean(self, failure: TaskFailure) -> TaskFailure:
        """Take secrets out of an error, if that is asked for."""
        if self._keeper is None:
            return failure
        redactor = self._keeper.redactor
        details = failure.details
        if details is not None and redactor.finds_in(json.dumps(details).encode()):
            details = None
        message = redactor.redact_cut(failure.message, MAX_MESSAGE_CHARS)
        return replace(failure, message=message, details=details)


def _secret_found() -> TaskFailure:
    return TaskFailure(
        ErrorCode.SECRET_IN_OUTPUT,
        "the output holds a secret of the agent's, which secrets.guard_results keeps back",
    )


def _not_json() -> TaskFailure:
    message = "the worker sent something that is not JSON, or nests too deeply"
    return TaskFailure(ErrorCode.INVALID_OUTPUT, message)


def _too_large(limit_bytes: int) -> TaskFailure:
    return TaskFailure(ErrorCode.OUTPUT_TOO_LARGE, f"the output is over {limit_bytes} bytes")
