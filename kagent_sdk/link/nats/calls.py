"""Calls of this agent to others: a task is sent, waited for, and cancelled when nobody waits any more."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from kagent_sdk.link.nats import bodies, jobs
from kagent_sdk.link.nats.caller import NatsCaller, Submission
from kagent_sdk.link.nats.connection import FAILURES
from kagent_sdk.link.nats.record_store import RecordError
from kagent_sdk.link.port import CallFailedError
from kagent_sdk.protocol.link import MAX_HOPS
from kagent_sdk.protocol.tasks import TaskFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kagent_sdk.link.nats.records import TaskRecord
    from kagent_sdk.link.port import OutgoingCall

CANCEL_S = 2.0
"""For saying that nobody waits any more: whoever cancels a call does not wait for long."""

RETRY_S = 0.5
NOBODY_S = 5.0
"""How long a capability that nobody offers is waited for: agents and servers are restarted."""


class NatsCalls:
    """Makes calls over whatever connection there is at the time.

    Args:
        connected: returns when there is one, with a caller that uses it.
    """

    def __init__(self, connected: Callable[[], Awaitable[NatsCaller]]) -> None:
        self._connected = connected

    async def call(
        self, call: OutgoingCall, on_item: Callable[[bytes], Awaitable[None]] | None
    ) -> bytes:
        """See `kagent_sdk.link.port.Link.call`.

        Raises:
            CallFailedError: it has failed.
        """
        if call.hops > MAX_HOPS:
            raise CallFailedError(
                TaskFailure(
                    "too_many_hops", f"the call has passed {MAX_HOPS} agents: it is a circle"
                )
            )
        attempt = _Call(call, on_item, self._connected)
        try:
            document = await jobs.finish(attempt.run(), call.timeout_s)
        except jobs.OverdueError:
            await attempt.cancel()
            raise CallFailedError(
                TaskFailure("timeout", "the call was not answered in its time", retryable=True)
            ) from None
        except asyncio.CancelledError:
            await attempt.cancel()
            raise
        return _output(document)


class _Call:
    """One call, over all the connections that it takes."""

    def __init__(
        self,
        call: OutgoingCall,
        on_item: Callable[[bytes], Awaitable[None]] | None,
        connected: Callable[[], Awaitable[NatsCaller]],
    ) -> None:
        self._call = call
        self._on_item = on_item
        self._connected = connected
        self._submitting: asyncio.Task[TaskRecord] | None = None
        self._seen = (0, 0)
        self._started_s = time.monotonic()

    async def run(self) -> dict[str, Any]:
        """Return the task when it has ended; what fails on the way there is tried again."""
        while True:
            try:
                return await self._run(await self._connected())
            except RecordError:
                raise CallFailedError(
                    TaskFailure("unreachable", "the record of the task is malformed")
                ) from None
            except CallFailedError as exc:
                is_new = time.monotonic() - self._started_s < NOBODY_S
                if exc.failure.code != "unknown_capability" or not is_new:
                    raise
            except FAILURES:
                pass
            await asyncio.sleep(RETRY_S * (0.5 + random.random() / 2))  # noqa: S311 - jitter

    async def _run(self, caller: NatsCaller) -> dict[str, Any]:
        call = self._call
        record = await self._submit(caller)
        with_items = call.is_streamed and self._on_item is not None
        async for event in caller.events(record.agent, record.task, with_items=with_items):
            await self._pass_on(event.attempt, event.payload)
        ended = await caller.find(record.agent, record.task)
        if ended is None or not ended.has_ended:
            raise CallFailedError(TaskFailure("unreachable", "the task is not known any more"))
        return await caller.document(ended)

    async def _submit(self, caller: NatsCaller) -> TaskRecord:
        """Send the task. Who gives up meanwhile does not stop it half-way: see `cancel`."""
        call = self._call
        submission = Submission(
            task=call.task,
            capability=call.capability,
            input=call.input,
            agent=call.agent,
            labels=call.labels,
            timeout_s=call.timeout_s,
            traceparent=call.traceparent,
            hops=call.hops,
        )
        self._submitting = asyncio.create_task(caller.submit(submission))
        return await asyncio.shield(self._submitting)

    async def _pass_on(self, attempt: int, payload: bytes) -> None:
        """Tell of an item, unless it was told of before the connection was lost."""
        assert self._on_item is not None
        try:
            event = await bodies.decode_object(payload)
        except ValueError:
            return
        number = event.get("id")
        place = (attempt, number if isinstance(number, int) else 0)
        if place <= self._seen or event.get("event") != "event":
            return
        self._seen = place
        await self._on_item(bodies.encode(event.get("data")))

    async def cancel(self) -> None:
        """Say that nobody waits any more; who cannot hear it runs until the task's own time is over.

        An agent may have taken the task before the server has told us that it was sent: only a
        submission that has ended tells what there is to be cancelled.
        """
        if self._submitting is None:
            return
        try:
            await jobs.finish(self._tell(self._submitting), CANCEL_S)
        except (*FAILURES, RecordError, CallFailedError):
            pass  # nothing was sent, or nobody can be told
        finally:
            await jobs.end({self._submitting})

    async def _tell(self, submitting: asyncio.Task[TaskRecord]) -> None:
        record = await asyncio.shield(submitting)
        caller = await self._connected()
        await caller.cancel(record.agent, record.task)


def _output(document: dict[str, Any]) -> bytes:
    if document.get("state") == "completed":
        return bodies.encode(document.get("output"))
    error = document.get("error")
    found = error if isinstance(error, dict) else {}
    raise CallFailedError(
        TaskFailure(
            str(found.get("code", "internal_error"))[:100],
            str(found.get("message", "the task failed"))[:10_000],
            retryable=found.get("retryable") is True,
            details=found.get("details"),
        )
    )
