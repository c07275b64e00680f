"""The callers' routes: the same shapes as at an agent."""

from __future__ import annotations

import asyncio
import json
import re

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from kagent_sdk.errors import StorageError
from kagent_sdk.host.http.answers import json_response
from kagent_sdk.host.http.bodies import BodyReader
from kagent_sdk.host.http.queries import parse_number, parse_state, read_query
from kagent_sdk.orchestrator.broker import Broker, unavailable
from kagent_sdk.orchestrator.http.streams import EventStream
from kagent_sdk.orchestrator.port import Route
from kagent_sdk.orchestrator.submission import Submission, parse_submission
from kagent_sdk.orchestrator.task import OpenTask, Target
from kagent_sdk.protocol.envelope import Envelope
from kagent_sdk.protocol.headers import (
    HeaderError,
    Preference,
    accepts_events,
    parse_last_event_id,
    parse_prefer,
    parse_traceparent,
)
from kagent_sdk.protocol.json_text import SMALL_BYTES
from kagent_sdk.protocol.link import HOPS_HEADER
from kagent_sdk.protocol.problem import RequestError

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_WAIT_S = 60.0
LIST_KEYS = ("state", "capability", "agent", "limit", "after")

_is_hops = re.compile(r"[0-9]{1,4}").fullmatch


class TaskRoutes:
    """Answers callers.

    Args:
        broker: the tasks.
        bodies: reads the requests.
        streams: answers callers that want events.
    """

    def __init__(self, broker: Broker, bodies: BodyReader, streams: EventStream) -> None:
        self._broker = broker
        self._bodies = bodies
        self._streams = streams

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("POST", "/v1/tasks", self._create),
            Route("GET", "/v1/tasks", self._list),
            Route("GET", "/v1/tasks/{id}", self._read),
            Route("GET", "/v1/tasks/{id}/events", self._events),
            Route("POST", "/v1/tasks/{id}/cancel", self._cancel),
        ]

    async def _create(self, request: BaseRequest) -> StreamResponse:
        envelope, target = await _parse(await self._bodies.read(request))
        prefer = parse_prefer(request.headers.get("Prefer"))
        trace = parse_traceparent(request.headers.get("traceparent"))
        task = await self._broker.submit(
            Submission(
                envelope,
                target,
                "" if trace is None else trace.traceparent,
                None if trace is None else trace.trace_id,
                _parse_hops(request.headers.get(HOPS_HEADER)),
            )
        )
        if accepts_events(request.headers.get("Accept")):
            return await self._streams.send(request, task)
        if not prefer.respond_async:
            await self._wait(task, prefer.wait_s)
        if not task.ended.is_set():
            return _accepted(task, prefer)
        return json_response(task.record.document())

    async def _wait(self, task: OpenTask, wait_s: float | None) -> None:
        """Wait for the end of a task, for so long, or until the orchestrator stops."""
        jobs = [
            asyncio.create_task(task.ended.wait()),
            asyncio.create_task(self._broker.stopping.wait()),
        ]
        try:
            await asyncio.wait(jobs, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()

    async def _list(self, request: BaseRequest) -> Response:
        query = read_query(request, LIST_KEYS)
        state = parse_state(query.get("state"))
        limit = int(parse_number("limit", query.get("limit"), DEFAULT_LIMIT, 1, MAX_LIMIT))
        try:
            records = await self._broker.book.page(
                after=query.get("after"),
                limit=limit + 1,  # one more tells whether there is another page
                state=state,
                capability=query.get("capability"),
                agent=query.get("agent"),
            )
        except StorageError:
            raise RequestError(unavailable()) from None
        following = records[limit - 1].id if len(records) > limit else None
        body = b'{"tasks":[%b],"next":%b}' % (
            b",".join(record.document(with_output=False) for record in records[:limit]),
            json.dumps(following).encode(),
        )
        return json_response(body)

    async def _read(self, request: BaseRequest, task_id: str) -> Response:
        query = read_query(request, ("wait_s",))
        wait_s = parse_number("wait_s", query.get("wait_s"), 0, 0, MAX_WAIT_S)
        task = await self._broker.find(task_id)
        if wait_s and not task.ended.is_set():
            await self._wait(task, wait_s)
        return json_response(task.record.document())

    async def _events(self, request: BaseRequest, task_id: str) -> StreamResponse:
        read_query(request, ())
        task = await self._broker.find(task_id)
        after_id = parse_last_event_id(request.headers.get("Last-Event-ID")) or 0
        return await self._streams.send(request, task, after_id=after_id)

    async def _cancel(self, request: BaseRequest, task_id: str) -> Response:
        task = await self._broker.find(task_id)
        if not task.ended.is_set():
            await self._broker.cancel(task)
        return json_response(task.record.document(), 200 if task.ended.is_set() else 202)


async def _parse(body: bytes) -> tuple[Envelope, Target]:
    if len(body) <= SMALL_BYTES:
        return parse_submission(body)
    return await asyncio.to_thread(parse_submission, body)


def _accepted(task: OpenTask, prefer: Preference) -> Response:
    headers = {"Location": f"/v1/tasks/{task.id}"}
    if prefer.applied:
        headers["Preference-Applied"] = prefer.applied
    return json_response(task.record.document(), 202, headers)


def _parse_hops(value: str | None) -> int:
    if value is None:
        return 0
    if not _is_hops(value):
        raise HeaderError(HOPS_HEADER, "must be a whole number")
    return int(value)
