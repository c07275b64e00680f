"""Reading and cancelling kept tasks over HTTP."""

from __future__ import annotations

import asyncio
import json

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from kagent_sdk.errors import StorageError
from kagent_sdk.host.engine import Engine, RefusedError
from kagent_sdk.host.http.answers import json_response
from kagent_sdk.host.http.queries import parse_number, parse_state, read_query
from kagent_sdk.host.http.streams import EventStream
from kagent_sdk.host.task import CancelReason, Task
from kagent_sdk.host.task_failures import journal_failure
from kagent_sdk.journal.port import Query
from kagent_sdk.protocol.headers import parse_last_event_id
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import from_failure, starting, unknown_task

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_WAIT_S = 60.0
START_RETRY_S = 1.0
"""Reading what the host before has left takes less."""


class Tasks:
    """The routes under ``/v1/tasks`` that start nothing.

    Args:
        engine: where the tasks are.
        streams: answers callers that want events.
    """

    def __init__(self, engine: Engine, streams: EventStream) -> None:
        self._engine = engine
        self._streams = streams

    async def list(self, request: BaseRequest) -> Response:
        """``GET /v1/tasks``: the newest first, filtered, a page at a time."""
        query = read_query(request, ("state", "capability", "limit", "after"))
        state = parse_state(query.get("state"))
        limit = int(parse_number("limit", query.get("limit"), DEFAULT_LIMIT, 1, MAX_LIMIT))
        asked = Query(state, query.get("capability"), limit, query.get("after"))
        try:
            page = await self._engine.journal.page(asked)
        except StorageError:
            raise _unreadable() from None
        documents = [record.document(with_output=False) for record in page.records]
        body = b'{"tasks":[%b],"next":%b}' % (
            b",".join(documents),
            json.dumps(page.following).encode(),
        )
        return json_response(body)

    async def read(self, request: BaseRequest, task_id: str) -> Response:
        """``GET /v1/tasks/{id}``: the task; with ``wait_s`` not before its end or that time."""
        query = read_query(request, ("wait_s",))
        wait_s = parse_number("wait_s", query.get("wait_s"), 0, 0, MAX_WAIT_S)
        task = await self._find(task_id)
        if wait_s and not task.is_finished:
            try:
                async with asyncio.timeout(wait_s):
                    await task.wait()
            except TimeoutError:
                pass  # the answer says how far it is
        return json_response(task.document())

    async def events(self, request: BaseRequest, task_id: str) -> StreamResponse:
        """``GET /v1/tasks/{id}/events``: replay from ``Last-Event-ID``, then follow."""
        read_query(request, ())
        task = await self._find(task_id)
        after_id = parse_last_event_id(request.headers.get("Last-Event-ID")) or 0
        return await self._streams.send(request, task, after_id=after_id)

    async def cancel(self, request: BaseRequest, task_id: str) -> Response:
        """``POST /v1/tasks/{id}/cancel``: ask for it; the answer shows the task as it is now."""
        task = await self._find(task_id)
        self._engine.cancel(task, CancelReason.CALLER)
        return json_response(task.document(), 200 if task.is_finished else 202)

    async def _find(self, task_id: str) -> Task:
        try:
            task = await self._engine.recall(task_id)
        except RefusedError:
            raise RequestError(starting(START_RETRY_S)) from None
        except StorageError:
            raise _unreadable() from None
        if task is None:
            raise RequestError(unknown_task(task_id))
        return task


def _unreadable() -> RequestError:
    return RequestError(from_failure(journal_failure()))
