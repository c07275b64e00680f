"""A task's events as server-sent events."""

from __future__ import annotations

import asyncio

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse

from kagent_sdk.host.engine import Engine
from kagent_sdk.host.follower import Follower
from kagent_sdk.host.task import Task
from kagent_sdk.protocol.sse import KEEP_ALIVE, SSE_CONTENT_TYPE, encode_event

KEEP_ALIVE_S = 15.0

STREAM_HEADERS = {
    "Content-Type": SSE_CONTENT_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


class EventStream:
    """Sends the events of a task to one client, at the client's pace.

    Args:
        engine: where the task is.
        write_timeout_s: a client that takes longer to make room is cut off.
    """

    def __init__(self, engine: Engine, *, write_timeout_s: float) -> None:
        self._engine = engine
        self._write_timeout_s = write_timeout_s

    async def send(self, request: BaseRequest, task: Task, *, after_id: int = 0) -> StreamResponse:
        """Replay what is held after ``after_id``, follow until the task ends, and close."""
        follower = self._engine.events.open(task).follow(after_id)
        response = StreamResponse(headers=STREAM_HEADERS)
        try:
            await response.prepare(request)
            # HEAD asks for the head alone: a body would be taken for the next answer.
            if request.method != "HEAD":
                await self._follow(request, response, follower)
            await response.write_eof()
        finally:
            follower.close()
        return response

    async def _follow(
        self, request: BaseRequest, response: StreamResponse, follower: Follower
    ) -> None:
        while not follower.is_at_end:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    batch = await follower.next_batch()
            except TimeoutError:
                await self._write(request, response, KEEP_ALIVE)
                continue
            parts = []
            if follower.missed:
                data = b'{"missed":%d}' % follower.missed
                parts.append(encode_event(data, event="gap", event_id=batch[0].id - 1))
            parts += [
                encode_event(event.data, event=event.kind, event_id=event.id) for event in batch
            ]
            await self._write(request, response, b"".join(parts))

    async def _write(self, request: BaseRequest, response: StreamResponse, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await response.write(data)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client stopped reading") from None
