"""Taking tasks over HTTP: the plain call of a capability, and ``POST /v1/tasks``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from kagent_sdk.errors import StorageError
from kagent_sdk.host.admission import Refusal, retry_after_s
from kagent_sdk.host.engine import Engine, IdConflictError, RefusedError, UnknownCapabilityError
from kagent_sdk.host.http.answers import json_response, output_response, problem_response
from kagent_sdk.host.http.bodies import BodyReader
from kagent_sdk.host.http.offers import Offers
from kagent_sdk.host.http.streams import EventStream
from kagent_sdk.host.task import CancelReason, Submission, Task
from kagent_sdk.host.task_failures import journal_failure, left_failure
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.envelope import Envelope, parse_envelope
from kagent_sdk.protocol.headers import (
    KLINK_LEASE,
    Preference,
    accepts_events,
    parse_idempotency_key,
    parse_prefer,
    parse_traceparent,
)
from kagent_sdk.protocol.json_text import SMALL_BYTES
from kagent_sdk.protocol.problem import Problem, RequestError
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure, TaskState


class Calls:
    """The two routes that start tasks.

    Args:
        engine: runs them.
        bodies: reads the requests.
        streams: answers callers that want events.
        refuse_callback: says why a task may not have a callback to a URL, if it may not.
        offers: tells which tasks come from the orchestrator.
    """

    def __init__(
        self,
        engine: Engine,
        bodies: BodyReader,
        streams: EventStream,
        refuse_callback: Callable[[str], Problem | None],
        offers: Offers,
    ) -> None:
        self._engine = engine
        self._bodies = bodies
        self._streams = streams
        self._refuse_callback = refuse_callback
        self._offers = offers

    async def call(self, request: BaseRequest, name: str) -> StreamResponse:
        """``POST /v1/capabilities/{name}``: the body is the input, the answer the output."""
        body = await self._bodies.read(request)
        headers = request.headers
        key = parse_idempotency_key(headers.get("Idempotency-Key"))
        submission = Submission(key or self._engine.ids.new(), name, body, kept=key is not None)
        trace(headers, submission)
        task = await self._take(submission, is_chosen=key is not None)
        if accepts_events(headers.get("Accept")):
            return await self._stream(request, task)
        await self._wait_or_cancel(task)
        problem = problem_of(task)
        if problem is not None or task.output is None:
            return problem_response(problem or problems.internal_error())
        return output_response(request, task.output)

    async def create(self, request: BaseRequest) -> StreamResponse:
        """``POST /v1/tasks``: the body is an envelope, the answer the task."""
        body = await self._bodies.read(request)
        headers = request.headers
        envelope = await _parse(body)
        prefer = parse_prefer(headers.get("Prefer"))
        submission = submission_of(envelope, envelope.id or self._engine.ids.new())
        trace(headers, submission)
        if KLINK_LEASE in headers:
            self._offers.read(headers, submission, has_id=envelope.id is not None)
        task = await self._take(submission, is_chosen=envelope.id is not None)
        if accepts_events(headers.get("Accept")):
            return await self._stream(request, task)
        if task.state is TaskState.REJECTED:
            raise RequestError(problems.from_failure(journal_failure()))
        if prefer.respond_async:
            return accepted(task, prefer)
        if prefer.wait_s is None:
            await self._wait_or_cancel(task)
        else:
            try:
                async with asyncio.timeout(prefer.wait_s):
                    await task.wait()
            except TimeoutError:
                return accepted(task, prefer)
        # One that is left goes on when the agent has been restarted: it is accepted, and no more.
        return accepted(task, prefer) if task.is_left else json_response(task.document())

    async def _take(self, submission: Submission, *, is_chosen: bool) -> Task:
        """Take a task, and return when it is safe.

        Args:
            submission: the task.
            is_chosen: its id is the caller's, so there may be such a task.
        """
        try:
            if is_chosen:
                await self._engine.recall(submission.task_id)
            if submission.callback_url is not None:
                self._check_callback(submission, submission.callback_url)
            if submission.lease is not None:
                with self._explained(submission):
                    return await self._offers.intake.admit(submission)
            task = self.submit(submission)
            if task.safe is not None:
                await task.safe
        except RefusedError as refused:
            raise RequestError(self._refusal(refused.refusal)) from None
        except StorageError:
            raise RequestError(problems.from_failure(journal_failure())) from None
        return task

    def _check_callback(self, submission: Submission, url: str) -> None:
        """Refuse a callback that may not be, of a task that would be taken as a new one."""
        engine = self._engine
        is_known = engine.journal.find(submission.task_id) is not None
        if is_known or submission.capability not in engine.dispatcher.capabilities:
            return
        problem = self._refuse_callback(url)
        if problem is not None:
            raise RequestError(problem)

    def submit(self, submission: Submission) -> Task:
        """Take a task.

        Raises:
            RequestError: it is refused; the problem says why.
        """
        with self._explained(submission):
            return self._engine.submit(submission)

    @contextmanager
    def _explained(self, submission: Submission) -> Iterator[None]:
        """Turn the engine's refusals into answers."""
        try:
            yield
        except RefusedError as refused:
            raise RequestError(self._refusal(refused.refusal)) from None
        except UnknownCapabilityError:
            known = self._engine.dispatcher.capabilities
            raise RequestError(problems.unknown_capability(submission.capability, known)) from None
        except IdConflictError:
            raise RequestError(problems.id_conflict(submission.task_id)) from None

    def _refusal(self, refusal: Refusal) -> Problem:
        engine = self._engine
        wait_s = retry_after_s(
            refusal, queued=len(engine.dispatcher.queue), finished_per_s=engine.finished_per_s
        )
        match refusal:
            case (
                Refusal.QUEUE_FULL
                | Refusal.QUEUE_BYTES
                | Refusal.OUTBOX
                | Refusal.CANCELING
                | Refusal.LATE
            ):
                return problems.queue_full(wait_s)
            case Refusal.STARTING:
                return problems.starting(wait_s)
            case Refusal.DRAINING:
                return problems.draining(wait_s)
            case Refusal.MEMORY:
                return problems.memory_short(wait_s)
            case Refusal.WORKER_DOWN | Refusal.STALLED:
                return problems.worker_down(wait_s)

    async def _stream(self, request: BaseRequest, task: Task) -> StreamResponse:
        try:
            return await self._streams.send(request, task)
        except (asyncio.CancelledError, ConnectionError):
            self.leave(task)
            raise

    async def _wait_or_cancel(self, task: Task) -> None:
        try:
            await task.wait()
        except asyncio.CancelledError:
            self.leave(task)
            raise

    def leave(self, task: Task) -> None:
        """The client is gone: cancel what nobody else waits for, unless it is to go on."""
        if task.is_promised or task.is_watched:
            return
        if task.capability.on_disconnect == "cancel":
            self._engine.cancel(task, CancelReason.DISCONNECT)


async def _parse(body: bytes) -> Envelope:
    if len(body) <= SMALL_BYTES:
        return parse_envelope(body)
    return await asyncio.to_thread(parse_envelope, body)


def submission_of(envelope: Envelope, task_id: str) -> Submission:
    """Return what an envelope asks for."""
    return Submission(
        task_id,
        envelope.capability,
        envelope.input,
        timeout_s=envelope.timeout_s,
        metadata=envelope.metadata,
        kept=True,
        callback_url=envelope.callback_url,
    )


def accepted(task: Task, prefer: Preference) -> Response:
    """Answer 202: the task goes on whether its caller stays or not."""
    task.is_promised = True
    headers = {"Location": f"/v1/tasks/{task.id}"}
    if prefer.applied:
        headers["Preference-Applied"] = prefer.applied
    return json_response(task.document(), 202, headers)


def problem_of(task: Task) -> Problem | None:
    """Return how to answer the call of a task that failed; None when it has an output."""
    if task.state is TaskState.COMPLETED and task.output is not None:
        return None
    if task.is_left:
        return problems.from_failure(left_failure())
    failure = task.failure or TaskFailure(
        ErrorCode.OUTPUT_TOO_LARGE,
        "the stream is longer than what is kept of it; ask for text/event-stream",
    )
    return problems.from_failure(failure)


def trace(headers: Mapping[str, str], submission: Submission) -> None:
    """Note the trace that a request belongs to."""
    value = headers.get("traceparent")
    if value is not None:
        trace = parse_traceparent(value)
        if trace is not None:
            # Not the text that came: a later version's may go on with anything, even no UTF-8.
            submission.traceparent = trace.traceparent
            submission.trace_id = trace.trace_id
