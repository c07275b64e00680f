"""A task's events as server-sent events, read from the disk at the client's pace."""

from __future__ import annotations

import asyncio

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse

from kagent_sdk.errors import StorageError
from kagent_sdk.host.http.streams import KEEP_ALIVE_S, STREAM_HEADERS
from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.rows import EventRow
from kagent_sdk.orchestrator.task import OpenTask
from kagent_sdk.protocol.sse import KEEP_ALIVE, encode_event


class EventStream:
    """Sends the events of a task to one client.

    Args:
        book: where they are.
        write_timeout_s: a client that takes longer to make room is cut off.
    """

    def __init__(self, book: Book, *, write_timeout_s: float) -> None:
        self._book = book
        self._write_timeout_s = write_timeout_s

    async def send(
        self, request: BaseRequest, task: OpenTask, *, after_id: int = 0
    ) -> StreamResponse:
        """Replay what is kept after ``after_id``, follow until the task ends, and close.

        When the disk cannot be read the stream breaks off, to be asked for again.
        """
        response = StreamResponse(headers=STREAM_HEADERS)
        await response.prepare(request)
        # HEAD asks for the head alone: a body would be taken for the next answer.
        if request.method != "HEAD":
            try:
                await self._follow(request, response, task, after_id)
            except StorageError:
                _abort(request)
                raise ConnectionResetError("the events cannot be read") from None
        await response.write_eof()
        return response

    async def _follow(
        self, request: BaseRequest, response: StreamResponse, task: OpenTask, after_id: int
    ) -> None:
        told_state: bytes | None = None
        while True:
            version = task.version
            is_ended = task.ended.is_set()
            events = await self._book.events(task, after_id)
            parts = _encode(events, after_id)
            after_id = events[-1].id if events else after_id
            state = _state(task)
            if not is_ended and state != told_state:
                told_state = state
                parts.append(encode_event(state, event="state", event_id=after_id))
            if is_ended and not events:
                last_id = max(after_id, await self._book.last_event_id(task)) + 1
                parts.append(encode_event(task.record.document(), event="task", event_id=last_id))
            if parts:
                await self._write(request, response, b"".join(parts))
            if is_ended and not events:
                return
            if not events:
                await self._wait(request, response, task, version)

    async def _wait(
        self, request: BaseRequest, response: StreamResponse, task: OpenTask, version: int
    ) -> None:
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                await task.news(version)
        except TimeoutError:
            await self._write(request, response, KEEP_ALIVE)

    async def _write(self, request: BaseRequest, response: StreamResponse, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await response.write(data)
        except TimeoutError:
            _abort(request)
            raise ConnectionResetError("the client stopped reading") from None


def _abort(request: BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


def _encode(events: list[EventRow], after_id: int) -> list[bytes]:
    parts = []
    if events and events[0].id > after_id + 1:
        missed = events[0].id - after_id - 1
        parts.append(
            encode_event(b'{"missed":%d}' % missed, event="gap", event_id=events[0].id - 1)
        )
    parts += [encode_event(event.data, event=event.kind, event_id=event.id) for event in events]
    return parts


def _state(task: OpenTask) -> bytes:
    return b'{"state":"%b","attempt":%d}' % (task.record.state.encode(), task.record.attempt)
