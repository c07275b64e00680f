"""Calls to other agents, by way of the orchestrator: sent again and asked for until they have ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from kagent_sdk.errors import ProtocolError
from kagent_sdk.link import decisions
from kagent_sdk.link.decisions import ContactError, Fault
from kagent_sdk.link.http.client import MAX_ANSWER_BYTES, LinkClient, Request, read_chunk
from kagent_sdk.link.http.messages import Answer, not_klink
from kagent_sdk.link.http.session import LinkSession, check
from kagent_sdk.link.http.task_documents import (
    RemoteTask,
    encode_call,
    lost_items,
    parse_task,
    read_refusal,
    timed_out,
    unreachable,
)
from kagent_sdk.link.port import CallFailedError, OutgoingCall
from kagent_sdk.protocol.json_text import SMALL_BYTES
from kagent_sdk.protocol.link import HOPS_HEADER
from kagent_sdk.protocol.sse import SSE_CONTENT_TYPE, SseEvent, SseParser

if TYPE_CHECKING:
    import aiohttp

OnItem = Callable[[bytes], Awaitable[None]]

TASKS_PATH = "/v1/tasks"
CALL_CONNECTIONS = 256
"""Each call under way holds one."""

WAIT_S = 20.0
"""Of one question for a task's end."""

SILENCE_S = 45.0
"""A stream says something every 15 s; three times that, and its connection is dead."""

CANCEL_S = 2.0

_FINAL_FAULTS = frozenset({Fault.REFUSED, Fault.MALFORMED, Fault.UNKNOWN})
_UNKNOWN = frozenset({Fault.UNKNOWN})


class Caller:
    """Sends tasks to other agents.

    Args:
        session: how to persist, and what the host gives.
    """

    def __init__(self, session: LinkSession) -> None:
        settings = session.settings
        self._session = session
        self._host = session.host
        self._timeout_s = settings.timeout_s
        self._limit_bytes = MAX_ANSWER_BYTES + settings.max_body_bytes
        self._client = LinkClient(settings.url, session.host.token, settings.tls, CALL_CONNECTIONS)
        self._cancels: set[asyncio.Task[None]] = set()

    async def call(self, call: OutgoingCall, on_item: OnItem | None) -> bytes:
        """See `kagent_sdk.link.port.Link.call`."""
        loop = asyncio.get_running_loop()
        until_s = None if call.timeout_s is None else loop.time() + call.timeout_s
        effort = _Effort(self, call, until_s)
        limit = asyncio.timeout_at(until_s)
        try:
            async with limit:
                task = await effort.finish(on_item if call.is_streamed else None)
        except TimeoutError:
            await self._cancel(call.task)
            if not limit.expired():
                raise
            raise CallFailedError(timed_out(call, effort.last_error)) from None
        except CallFailedError:
            if effort.is_open:
                await self._cancel(call.task)
            raise
        except BaseException:
            await self._cancel(call.task)
            raise
        if task.failure is not None:
            raise CallFailedError(task.failure)
        return task.output

    async def _cancel(self, task_id: str) -> None:
        """Cancel a task at the orchestrator, in a bounded time, whoever cancels us meanwhile."""
        job = asyncio.create_task(self._send_cancel(task_id))
        self._cancels.add(job)
        job.add_done_callback(self._cancels.discard)
        await asyncio.shield(job)

    async def _send_cancel(self, task_id: str) -> None:
        try:
            check(await self.send("POST", f"{TASKS_PATH}/{task_id}/cancel", b"", CANCEL_S))
        except ContactError as exc:
            self._host.log("info", "link_call_not_canceled", call_id=task_id, reason=exc.reason)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request and return its answer, whatever its status."""
        request = Request(method, path, body, timeout_s, headers or {}, self._limit_bytes)
        return await self._client.send(request)

    async def submit(self, call: OutgoingCall, left_s: float | None) -> RemoteTask:
        """Hand a call over once.

        Raises:
            ContactError: the orchestrator could not be told, and may be in a moment.
            CallFailedError: it does not take it.
        """
        headers = {"Prefer": "respond-async", HOPS_HEADER: str(call.hops)}
        if call.traceparent:
            headers["traceparent"] = call.traceparent
        body = encode_call(call, left_s)
        answer = await self.send("POST", TASKS_PATH, body, self._timeout_s, headers)
        refusal = read_refusal(answer)
        if refusal is not None:
            raise CallFailedError(refusal)
        return await _read_task(check(answer).body)

    async def ask(self, task_id: str) -> RemoteTask:
        """Wait for a task's end, for some time."""
        began_s = time.monotonic()
        path = f"{TASKS_PATH}/{task_id}?wait_s={WAIT_S:g}"
        try:
            async with self._session.waits.scope():
                answer = await self.send("GET", path, None, WAIT_S + self._timeout_s)
        except TimeoutError:
            raise _outdated() from None
        task = await _read_task(check(answer).body)
        if not task.is_finished:
            took_s = time.monotonic() - began_s
            await asyncio.sleep(decisions.empty_fetch_wait_s(took_s, WAIT_S))
        return task

    async def follow(self, task_id: str, stream: _Stream) -> RemoteTask:
        """Follow a task's events to its end, or until the connection breaks.

        Raises:
            ContactError: it broke.
            CallFailedError: items are lost.
        """
        headers = {"Accept": SSE_CONTENT_TYPE}
        if stream.last_id >= 0:
            headers["Last-Event-ID"] = str(stream.last_id)
        path = f"{TASKS_PATH}/{task_id}/events"
        request = Request("GET", path, None, self._timeout_s, headers)
        async with self._client.stream(request) as response:
            check(Answer(response.status, response.headers, b""))
            if response.content_type != SSE_CONTENT_TYPE:
                raise not_klink("a task's events are no event stream")
            parser = SseParser(limit_bytes=self._limit_bytes)
            while chunk := await self._listen(response):
                for event in _parse(parser, chunk):
                    task = await stream.take(event)
                    if task is not None:
                        return task
        raise ContactError("the stream of a task's events ended before the task")

    async def _listen(self, response: aiohttp.ClientResponse) -> bytes:
        silence = asyncio.timeout(SILENCE_S)
        try:
            async with self._session.waits.scope(), silence:
                return await read_chunk(response)
        except TimeoutError:
            if not silence.expired():
                raise _outdated() from None
            reason = f"a task's events were silent for {SILENCE_S:g} s"
            raise ContactError(reason) from None

    async def aclose(self) -> None:
        """Wait for cancellations that are under way, and close every connection."""
        if self._cancels:
            await asyncio.wait(self._cancels)
        await self._client.aclose()

    @property
    def session(self) -> LinkSession:
        """How to persist."""
        return self._session


class _Stream:
    """Passes the items of a task's events on: each once, in their order."""

    def __init__(self, on_item: OnItem) -> None:
        self._on_item = on_item
        self.last_id = -1

    async def take(self, event: SseEvent) -> RemoteTask | None:
        """Take an event; return the task when it is the last."""
        if event.event == "task":
            task = await _read_task(event.data)
            if not task.is_finished:
                raise not_klink("a task's last event is not its end")
            return task
        number = int(event.id) if event.id.isascii() and event.id[:15].isdecimal() else -1
        if number <= self.last_id:
            return None  # seen before the connection broke
        if event.event == "gap":
            raise CallFailedError(lost_items())
        if event.event == "event":
            await self._on_item(event.data)
        self.last_id = number
        return None


class _Effort:
    """One call on its way.

    Attributes:
        is_open: the orchestrator has the task, and has not told its end.
        last_error: why it could not be asked; empty while it can.
    """

    def __init__(self, caller: Caller, call: OutgoingCall, until_s: float | None) -> None:
        self._caller = caller
        self._session = caller.session
        self._call = call
        self._until_s = until_s
        self.is_open = False
        self.last_error = ""

    async def finish(self, on_item: OnItem | None) -> RemoteTask:
        """Send the call and return its task when that has ended.

        Raises:
            CallFailedError: it was not taken, or items are lost.
        """
        stream = None if on_item is None else _Stream(on_item)
        while True:
            task = await self._hand_over()
            if task.is_finished and stream is None:
                return task
            with contextlib.suppress(ContactError):
                task = await self._attend(stream)
                self.is_open = False
                return task
            # The orchestrator has forgotten the task: it is sent again, not without pause.
            await asyncio.sleep(self._session.interval_s)

    async def _hand_over(self) -> RemoteTask:
        try:
            task = await self._session.persist(
                self._submit, self._complain, give_up_on=_FINAL_FAULTS
            )
        except ContactError as exc:
            self.is_open = True  # for all we know
            raise CallFailedError(unreachable(exc)) from None
        self.last_error = ""
        self.is_open = not task.is_finished
        return task

    async def _submit(self) -> RemoteTask:
        loop = asyncio.get_running_loop()
        left_s = None if self._until_s is None else max(self._until_s - loop.time(), 0.001)
        return await self._caller.submit(self._call, left_s)

    async def _attend(self, stream: _Stream | None) -> RemoteTask:
        async def step() -> RemoteTask:
            if stream is not None:
                return await self._caller.follow(self._call.task, stream)
            return await self._caller.ask(self._call.task)

        while True:
            task = await self._session.persist(step, self._complain, give_up_on=_UNKNOWN)
            self.last_error = ""
            if task.is_finished:
                return task

    def _complain(self, reason: str) -> None:
        self.last_error = reason


async def _read_task(body: bytes) -> RemoteTask:
    if len(body) <= SMALL_BYTES:
        return parse_task(body)
    return await asyncio.to_thread(parse_task, body)


def _outdated() -> ContactError:
    return ContactError("asked before the link was back: asked again")


def _parse(parser: SseParser, chunk: bytes) -> list[SseEvent]:
    try:
        return parser.feed(chunk)
    except ProtocolError:
        raise not_klink("an event of a task is over the limit") from None
