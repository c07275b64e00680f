"""One task in the worker: from the RUN frame to the RESULT or ERROR frame.

`Execution` holds what all kinds share and is the port of the `TaskContext`; its subclasses run an
async function in a job, an async generator in a job, a sync function in a thread. One is made for
every task: what only some tasks need (events, progress, the cancel flag) is made when it is needed.

A ``sys.exit()`` or ``KeyboardInterrupt`` in a capability fails its task and nothing else.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextvars import copy_context
from time import time
from typing import TYPE_CHECKING, Any, NoReturn

from kagent_sdk.capability import Capability, Kind
from kagent_sdk.context import (
    CURRENT_TASK,
    CallRequest,
    Flag,
    PendingCall,
    PendingItems,
    Secrets,
    TaskContext,
)
from kagent_sdk.errors import TaskError
from kagent_sdk.protocol.frames import Kind as FrameKind
from kagent_sdk.protocol.messages import Run, encode_failure
from kagent_sdk.protocol.tasks import ErrorCode
from kagent_sdk.worker.calls import Caller
from kagent_sdk.worker.events import EventStream
from kagent_sdk.worker.failures import describe, is_expected
from kagent_sdk.worker.progress import Progress, ProgressReport, check_progress
from kagent_sdk.worker.services import Services
from kagent_sdk.worker.state import TaskTransaction
from kagent_sdk.worker.tracebacks import print_exception
from kagent_sdk.worker.turns import DONE

if TYPE_CHECKING:
    from kagent_sdk.context.state import State

# Plain ints: an IntEnum member costs a lookup of its value in every pack.
RESULT = int(FrameKind.RESULT)
ERROR = int(FrameKind.ERROR)
COMMIT = int(FrameKind.COMMIT)


class Execution(ABC):
    """One attempt of one task, from RUN to its answer, which takes it out of `Services.running`.

    Attributes:
        job: the asyncio job that it runs in, if any.
        started_at: when it came, in seconds since the epoch.
        thread_ident: the thread that runs it; 0: none does.
    """

    __slots__ = (
        "_cancel_reason",
        "_capability",
        "_events",
        "_flag",
        "_has_called",
        "_is_done",
        "_number",
        "_progress",
        "_run",
        "_services",
        "_state",
        "job",
        "started_at",
        "thread_ident",
    )

    def __init__(self, services: Services, number: int, capability: Capability, run: Run) -> None:
        self._services = services
        self._number = number
        self._capability = capability
        self._run = run
        self._cancel_reason = ""
        self._is_done = False
        self._has_called = False
        self._flag: Flag | None = None
        self._events: EventStream | None = None
        self._progress: ProgressReport | None = None
        self._state: TaskTransaction | None = None
        self.job: asyncio.Task[None] | None = None
        self.thread_ident = 0
        self.started_at = time()

    # What debug sessions look at; in any thread.

    @property
    def run(self) -> Run:
        """The frame that it runs for."""
        return self._run

    @property
    def capability_name(self) -> str:
        """What it runs."""
        return self._capability.name

    @property
    def is_canceling(self) -> bool:
        """Whether it was asked to stop."""
        return bool(self._cancel_reason)

    @property
    def last_progress(self) -> Progress | None:
        """What it has reported last."""
        return None if self._progress is None else self._progress.last

    # What the host asks; in the loop's thread.

    @abstractmethod
    def start(self) -> None:
        """Begin."""

    @abstractmethod
    def cancel(self, reason: str) -> None:
        """Ask the author's code to stop: ``reason`` is the CANCEL frame's."""

    @abstractmethod
    def interrupt(self) -> None:
        """Ask again, harder."""

    def acknowledge(self, count: int) -> None:
        """Take an ACK of the host for events."""
        if self._events is not None:
            self._events.acknowledge(count)

    # What the context asks (`kagent_sdk.context.TaskPort`); in any thread.

    @property
    def secrets(self) -> Secrets:
        """The secrets that the configuration exposes."""
        return self._services.secrets

    @property
    def cancelled(self) -> Flag:
        """The flag that CANCEL raises, made when it is first asked for."""
        flag = self._flag or self._make_flag()
        if self._cancel_reason:
            flag.set()
        return flag

    @property
    def state(self) -> State:
        """The task's transaction, begun when it is first asked for."""
        return (self._state or self._make_state()).state

    def progress(self, fraction: float | None, message: str | None) -> Awaitable[None]:
        """Show progress; after the task's end it is ignored."""
        checked = check_progress(fraction, message)
        if self._is_done:
            return DONE
        report = self._progress or self._make_progress()
        if self._services.mailbox.is_here:
            return report.report(checked)
        return report.report_from_thread(checked)

    def emit(self, event: object) -> Awaitable[None]:
        """Send one event."""
        return self._emit(self._capability.dump_event(event))

    def call(self, request: CallRequest) -> PendingCall[Any]:
        """Send a task to another capability."""
        return self._services.calls.send(self._caller(), request)

    def stream(self, request: CallRequest) -> PendingItems[Any]:
        """Send a task whose items are wanted as they come."""
        return self._services.calls.stream(self._caller(), request)

    # What the subclasses share.

    def _caller(self) -> Caller:
        if self._is_done:
            raise RuntimeError(f"task {self._run.task_id} has ended: it can call nobody more")
        self._has_called = True
        return Caller(self, self._number, self._run.traceparent)

    def _note_cancel(self, reason: str) -> None:
        self._cancel_reason = reason or "caller"
        if self._flag is not None:
            self._flag.set()
        if self._events is not None:
            self._events.cancel()

    def _emit(self, payload: bytes) -> Awaitable[None]:
        if self._is_done:
            raise RuntimeError(f"task {self._run.task_id} has ended: it can emit no more")
        self._check_size("event", payload)
        events = self._events or self._make_events()
        if self._services.mailbox.is_here:
            return events.emit(payload)
        return events.emit_from_thread(payload)

    def _make_flag(self) -> Flag:
        # Under the lock, here and below: an author's threads may share the context of a task.
        with self._services.lock:
            if self._flag is None:
                self._flag = Flag()
            return self._flag

    def _make_events(self) -> EventStream:
        services = self._services
        with services.lock:
            if self._events is None:
                self._events = EventStream(
                    self._number, services.event_window, services.connection, services.mailbox
                )
                if self._cancel_reason:
                    self._events.cancel()
            return self._events

    def _make_progress(self) -> ProgressReport:
        services = self._services
        with services.lock:
            if self._progress is None:
                self._progress = ProgressReport(
                    self._number, services.loop, services.connection, services.mailbox
                )
            return self._progress

    def _make_state(self) -> TaskTransaction:
        services = self._services
        with services.lock:
            if self._state is None:
                self._state = TaskTransaction(services.state, self._number, self._run.task_id)
                if self._is_done:
                    self._state.close()
            return self._state

    def _check_size(self, what: str, payload: bytes) -> None:
        limit = self._services.max_output_bytes
        if len(payload) > limit:
            message = f"the {what} has {len(payload)} bytes, over the limit of {limit}"
            raise TaskError(ErrorCode.OUTPUT_TOO_LARGE, message)

    def _encode_failure(self, exc: BaseException) -> bytes:
        if not is_expected(exc, self._cancel_reason):
            title = f"capability {self._capability.name!r} failed in task {self._run.task_id}:"
            print_exception(title, exc)
        return encode_failure(describe(exc, self._cancel_reason))

    def _answer(self, kind: int, payload: bytes) -> None:
        self._is_done = True
        # The job's context variables lead back here: without this, each task would be a ring that
        # only the garbage collector can undo.
        self.job = None
        if self._progress is not None:
            self._progress.close()
        if self._events is not None:
            self._events.close()
        services = self._services
        if services.output.kept:
            services.output.end(self)
        if self._has_called:
            services.calls.leave(self, has_failed=kind == ERROR)
        if self._state is not None:
            self._commit(self._state, kind)
        services.connection.send(kind, self._number, payload)
        del services.running[self._number]

    def _commit(self, state: TaskTransaction, kind: int) -> None:
        """Send what the task has changed right before its RESULT: the host commits both as one."""
        if kind == RESULT and state.sealed is not None:
            self._services.connection.send(COMMIT, self._number, state.sealed)
        state.close()


class JobExecution(Execution):
    """An async capability, in a job of its own."""

    __slots__ = ("_has_begun",)

    def __init__(self, services: Services, number: int, capability: Capability, run: Run) -> None:
        super().__init__(services, number, capability, run)
        self._has_begun = False

    def start(self) -> None:
        """Begin."""
        self.job = self._services.loop.create_task(self._live(), name=self._run.task_id)

    def cancel(self, reason: str) -> None:
        """Raise `asyncio.CancelledError` where the job waits."""
        self._note_cancel(reason)
        self.interrupt()

    def interrupt(self) -> None:
        """Raise it again."""
        # A job that is cancelled before its first step never runs at all: nobody would answer.
        if self._has_begun and self.job is not None:
            self.job.cancel()

    async def _live(self) -> None:
        self._has_begun = True
        try:
            if self._cancel_reason:
                _refuse_to_begin()
            context = TaskContext(self._run, self._capability.name, self)
            CURRENT_TASK.set(context)
            output = await self._work(context)
            self._check_size("output", output)
            if self._events is not None:
                await self._events.drained()
            if self._state is not None:
                self._state.seal()
        except BaseException as exc:  # noqa: BLE001 - the boundary: whatever it is, the task ends
            self._answer(ERROR, self._encode_failure(exc))
        else:
            self._answer(RESULT, output)

    async def _work(self, context: TaskContext) -> bytes:
        capability = self._capability
        arguments = capability.validate(self._run.input)
        result = await capability.call(arguments, context)
        # Many large outputs, written one after the other before any is sent, would hold the loop
        # for seconds and fill the memory.
        if self._services.connection.is_full:
            await self._services.connection.room()
        return capability.dump(result)


class StreamExecution(JobExecution):
    """An async generator: every item is an event."""

    __slots__ = ()

    async def _work(self, context: TaskContext) -> bytes:
        capability = self._capability
        stream = capability.call(capability.validate(self._run.input), context)
        try:
            async for item in stream:
                await self._emit(capability.dump_event(item))
        finally:
            await stream.aclose()
        return b""


class ThreadExecution(Execution):
    """A sync capability, in a thread of the pool (`kagent_sdk.worker.threads.Work`)."""

    __slots__ = (
        "_outcome",
        "_variables",
        "has_begun",
        "is_interrupted",
        "is_withdrawn",
    )

    def __init__(self, services: Services, number: int, capability: Capability, run: Run) -> None:
        super().__init__(services, number, capability, run)
        self._variables = copy_context()
        self._outcome: tuple[int, bytes] | None = None
        self.has_begun = False
        self.is_withdrawn = False
        self.is_interrupted = False

    def start(self) -> None:
        """Queue for a thread."""
        self._services.threads.submit(self)

    def cancel(self, reason: str) -> None:
        """Set ``ctx.cancelled``; a task that still waits for a thread ends here."""
        self._note_cancel(reason)
        if self._services.threads.withdraw(self):
            self._answer(ERROR, self._encode_failure(asyncio.CancelledError()))
            return
        self._services.calls.interrupt(self)
        self._services.state.interrupt(self._number)

    def interrupt(self) -> None:
        """Raise `TaskInterrupted` in the thread."""
        self._services.threads.interrupt(self)

    def work(self) -> None:
        """Do it, in the thread."""
        try:
            variables = self._variables
            del self._variables  # they lead back here, as a job's do: see `_answer`
            self._outcome = variables.run(self._work)
        except BaseException as exc:  # noqa: BLE001 - the boundary: whatever it is, the task ends
            self._outcome = (ERROR, self._encode_failure(exc))

    def finish(self) -> None:
        """Send the answer; without an outcome an interrupt has come between."""
        if self._outcome is None:
            self._outcome = (ERROR, self._encode_failure(asyncio.CancelledError()))
        self._services.mailbox.post(self._answer, *self._outcome)

    def _work(self) -> tuple[int, bytes]:
        capability = self._capability
        context = TaskContext(self._run, capability.name, self)
        CURRENT_TASK.set(context)
        try:
            arguments = capability.validate(self._run.input)
            output = capability.dump(capability.call(arguments, context))
            self._check_size("output", output)
            if self._state is not None:
                self._state.seal()
        except BaseException as exc:  # noqa: BLE001 - here, where the log knows the task
            return ERROR, self._encode_failure(exc)
        return RESULT, output


def _refuse_to_begin() -> NoReturn:
    raise asyncio.CancelledError


_KINDS: dict[Kind, type[Execution]] = {
    Kind.ASYNC: JobExecution,
    Kind.STREAM: StreamExecution,
    Kind.SYNC: ThreadExecution,
}


def execution_type(capability: Capability) -> type[Execution]:
    """Return the class that runs such a capability."""
    return _KINDS[capability.kind]
