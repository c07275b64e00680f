"""Tasks that the author's code sends with `ctx.call`: run here, or sent by way of the link."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.call_desk import CallDesk, OpenCall
from kagent_sdk.host.counters import CallOutcome, CallWay
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.json_checks import is_json_soon
from kagent_sdk.host.local_calls import CallRefusedError, LocalCalls, OnItem
from kagent_sdk.host.task import Submission
from kagent_sdk.host.task_failures import timeout_failure
from kagent_sdk.host.worker_connection import FrameHandler, WorkerConnection
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.headers import is_task_id, parse_traceparent
from kagent_sdk.protocol.messages import CallHead, decode_call, decode_count
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

if TYPE_CHECKING:
    from kagent_sdk.link.port import Link

_OUTCOMES: dict[str, CallOutcome] = {
    ErrorCode.TIMEOUT: "timeout",
    ErrorCode.CANCELED: "canceled",
    ErrorCode.UNREACHABLE: "unreachable",
}
"""What the code of an error counts as; every other one: ``failed``."""

FindLink = Callable[[], "Link | None"]
"""Returns the link to the orchestrator as it is now; None when there is none."""


class _Bounds(NamedTuple):
    """What the task that sends a call leaves to it."""

    hops: int
    timeout_s: float | None


def no_link() -> None:
    """Return no link: that of an agent without an orchestrator."""


class OwnCalls:
    """Answers CALL frames, from the engine or by way of the link; it trusts none of them.

    A call that names no labels is run here when this agent offers the capability and is the one that
    is asked for, by name or because any will do. All others go to the link.

    Args:
        engine: runs the calls of this agent to itself.
        agent_name: the name under which the agent may call itself.
        link: the way to other agents.
    """

    def __init__(self, engine: Engine, agent_name: str, link: FindLink = no_link) -> None:
        self._engine = engine
        self._local = LocalCalls(engine)
        self._agent_name = agent_name
        self._link = link
        self._desks: dict[WorkerConnection, CallDesk] = {}

    def handlers(self) -> dict[int, FrameHandler]:
        """Return what to call for each kind of frame."""
        return {
            Kind.CALL: self.on_call,
            Kind.CALL_CANCEL: self.on_cancel,
            Kind.CALL_ACK: self.on_ack,
        }

    def on_call(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """Take a CALL frame; its ANSWER goes back when the task has ended."""
        head, input = decode_call(payload)
        if head.id is not None and not is_task_id(head.id):
            raise ProtocolError("malformed CALL frame: id")
        desk = self._desks.get(connection)
        if desk is None:
            desk = self._desks[connection] = CallDesk(connection)
        connection.hold_reading()
        way: CallWay = "local" if self._is_local(head) else "link"
        try:
            # At once: the next frame may be the end of the task that sends the call.
            bounds = _admit(connection, desk, head)
        except CallRefusedError as refused:
            self._engine.counters.called(way, "refused", None)
            connection.send(Kind.ANSWER, number, _error_answer(refused.failure))
            return
        call = desk.enter(number, len(payload))
        answer = partial(self._answer, desk, call, head, input, bounds)
        self._engine.own(self._count(way, partial(desk.run, call, answer)))

    def on_cancel(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """Take a CALL_CANCEL frame; nothing is answered to it."""
        del payload
        desk = self._desks.get(connection)
        if desk is not None:
            desk.cancel(number)

    def on_ack(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        """Take a CALL_ACK frame; that of a call which has ended is dropped."""
        count = decode_count(payload)
        desk = self._desks.get(connection)
        call = None if desk is None else desk.open.get(number)
        if call is not None:
            call.acknowledge(count)

    def on_room(self, connection: WorkerConnection) -> None:
        """Go on sending to a worker that has caught up with reading."""
        desk = self._desks.get(connection)
        if desk is not None:
            desk.note_flushed()

    def forget(self, connection: WorkerConnection) -> None:
        """Cancel the calls of a lost worker: nobody waits for them."""
        desk = self._desks.pop(connection, None)
        if desk is not None:
            desk.cancel_all()

    async def _count(
        self, way: CallWay, run: Callable[[], Coroutine[Any, Any, CallOutcome | None]]
    ) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        outcome: CallOutcome | None = None
        try:
            outcome = await run()
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._engine.counters.called(way, outcome or "canceled", loop.time() - began_s)

    async def _answer(
        self, desk: CallDesk, call: OpenCall, head: CallHead, input: bytes, bounds: _Bounds
    ) -> CallOutcome:
        on_item = partial(desk.send_item, call) if head.stream else None
        outcome: CallOutcome = "completed"
        try:
            submission = await self._read(head, input, bounds)
            output = await self._run(submission, head, on_item)
        except CallRefusedError as refused:
            answer = _error_answer(refused.failure)
            outcome = _OUTCOMES.get(refused.failure.code, "failed")
        except Exception:
            # Of the link's, or ours: the loop's handler logs it, and the author's code goes on.
            message = "the call failed inside the agent's host; its log has more"
            failure = TaskFailure(ErrorCode.INTERNAL_ERROR, message)
            await desk.send_answer(call, _error_answer(failure))
            raise
        else:
            # The items were the output.
            answer = b'{"output":' + (b"null" if head.stream else output) + b"}"
        await desk.send_answer(call, answer)
        return outcome

    async def _read(self, head: CallHead, input: bytes, bounds: _Bounds) -> Submission:
        if not self._is_local(head) and self._link() is None:
            raise CallRefusedError(_no_link(head))
        if not await is_json_soon(input):
            raise CallRefusedError(
                TaskFailure(
                    ErrorCode.INVALID_INPUT, "the input of the call is not JSON", status=422
                )
            )
        trace = parse_traceparent(head.traceparent)
        child = None if trace is None else replace(trace, parent_id=token_hex(8))
        return Submission(
            head.id or self._engine.ids.new(),
            head.capability,
            input,
            timeout_s=bounds.timeout_s,
            traceparent="" if child is None else child.traceparent,
            trace_id=None if child is None else child.trace_id,
            kept=head.id is not None,
            is_own=True,
            hops=bounds.hops,
        )

    def _is_local(self, head: CallHead) -> bool:
        if head.labels:
            return False
        if head.agent is None:
            return self._local.offers(head.capability)
        return head.agent == self._agent_name

    async def _run(self, submission: Submission, head: CallHead, on_item: OnItem | None) -> bytes:
        if self._is_local(head):
            return await self._local.run(submission, on_item)
        link = self._link()
        if link is None:
            raise CallRefusedError(_no_link(head))
        return await _send(link, submission, head, on_item)


async def _send(
    link: Link, submission: Submission, head: CallHead, on_item: OnItem | None
) -> bytes:
    from kagent_sdk.link.port import CallFailedError, OutgoingCall  # noqa: PLC0415 - with a link

    call = OutgoingCall(
        submission.task_id,
        head.agent,
        submission.capability,
        submission.input,
        labels=head.labels,
        timeout_s=submission.timeout_s,
        traceparent=submission.traceparent,
        hops=submission.hops,
        is_streamed=head.stream,
    )
    try:
        # The link keeps to the time too; but what the caller was promised is the host's business.
        async with asyncio.timeout(submission.timeout_s):
            return await link.call(call, on_item)
    except CallFailedError as failed:
        raise CallRefusedError(failed.failure) from None
    except TimeoutError:
        raise CallRefusedError(timeout_failure(submission.timeout_s or math.inf)) from None


def _admit(connection: WorkerConnection, desk: CallDesk, head: CallHead) -> _Bounds:
    from kagent_sdk.protocol.link import MAX_HOPS  # noqa: PLC0415 - few agents call others

    if desk.is_full:
        raise CallRefusedError(_too_many_calls())
    if not head.task:
        return _Bounds(1, head.timeout_s)
    task = connection.calls.get(head.task)
    if task is None or task.is_ended:
        message = "the task that sent this call has ended"
        raise CallRefusedError(TaskFailure(ErrorCode.CANCELED, message, status=409))
    if task.hops >= MAX_HOPS:
        raise CallRefusedError(_too_many_hops(MAX_HOPS))
    asked_s = math.inf if head.timeout_s is None else head.timeout_s
    left_s = min(asked_s, task.deadline_at - asyncio.get_running_loop().time())
    if left_s <= 0:
        raise CallRefusedError(timeout_failure(task.timeout_s))
    return _Bounds(task.hops + 1, None if left_s == math.inf else left_s)


def _no_link(head: CallHead) -> TaskFailure:
    if head.labels:
        reason = (
            "agents with labels are found by an orchestrator, and this agent has no link to one"
        )
    elif head.agent is None:
        name = f"{head.capability!r:.100}"
        reason = (
            f"there is no capability {name} here, and no link to an orchestrator to ask elsewhere"
        )
    else:
        name = f"{head.agent!r:.100}"
        reason = f"agent {name} cannot be reached: there is no link to an orchestrator"
    message = f"{reason}; set orchestrator.url in config.yaml"
    return TaskFailure(ErrorCode.UNREACHABLE, message, status=503)


def _too_many_hops(limit: int) -> TaskFailure:
    message = (
        f"this call has come through {limit} agents already: do they call each other in a circle?"
    )
    return TaskFailure(ErrorCode.TOO_MANY_HOPS, message, status=508)


def _too_many_calls() -> TaskFailure:
    message = "this worker has too many calls under way, or too large ones: wait for some of them"
    return TaskFailure(ErrorCode.TOO_MANY_CALLS, message, retryable=True, status=429)


def _error_answer(failure: TaskFailure) -> bytes:
    return json.dumps({"error": {**failure.as_dict(), "status": failure.status}}).encode()
