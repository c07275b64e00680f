"""One connection of aiohttp's, which can be held for a call that is answered directly.

aiohttp has a job for every connection, and it waits for a message. While a direct call is due, the
connection looks to aiohttp as though that job were busy: what comes is parsed, queued and bounded
as ever, idle time does not count, and a shutdown waits. The job goes on when the answer is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse

from kagent_sdk.host.http.answers import encode_output
from kagent_sdk.host.http.auth import OPEN_ROUTES
from kagent_sdk.host.http.direct import PLAIN_STARTS, DirectCall, DirectCalls

IDLE_S = 75.0
"""An open connection without a request is closed then; longer than common proxies keep theirs."""

PROTOCOL_NAMES = (
    "_close",
    "_force_close",
    "_handler_waiter",
    "_keepalive_handle",
    "_loop",
    "_messages",
    "_next_keepalive_close_time",
    "_parser",
    "_paused",
    "_payload_parser",
    "_process_keepalive",
    "_request_count",
    "_request_in_progress",
    "_upgraded",
    "_waiter",
)
PARSER_NAMES = ("feed_data", "message_consumed")


def is_known_aiohttp(protocol: type = RequestHandler, parser: type = HttpRequestParser) -> bool:
    """Whether this aiohttp has the private names that a direct call needs, and its parser in C."""
    return (
        parser.__module__ == "aiohttp._http_parser"
        and all(hasattr(protocol, name) for name in PROTOCOL_NAMES)
        and all(hasattr(parser, name) for name in PARSER_NAMES)
    )


IS_KNOWN_AIOHTTP = is_known_aiohttp()
"""Without it every call goes the ordinary way."""

Handler = Callable[[BaseRequest], Awaitable[StreamResponse]]


class DirectConnection(RequestHandler):
    """One connection.

    Args:
        manager: aiohttp's server.
        direct: takes plain calls; None: none is taken.
        options: aiohttp's.
    """

    __slots__ = ("_direct", "_due", "_held_waiter", "_origin", "_ready", "is_for_probes")

    def __init__(self, manager: Any, direct: DirectCalls | None, **options: Any) -> None:
        super().__init__(manager, **options)
        self._direct = direct if IS_KNOWN_AIOHTTP else None
        self._due: DirectCall | None = None
        self._held_waiter: asyncio.Future[None] | None = None
        self._origin: Any = None
        self._ready: StreamResponse | None = None
        self.is_for_probes = False

    # From the transport

    def data_received(self, data: bytes) -> None:
        """Take a plain call that came alone; give everything else to aiohttp."""
        if self._direct is None or not data.startswith(PLAIN_STARTS) or not self._is_idle():
            super().data_received(data)
            return
        assert self._parser is not None
        try:
            parsed = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._pass_on(data, _Parsed(error=error))
            return
        messages, is_upgraded, _ = parsed
        if not is_upgraded and len(messages) == 1 and self._direct.admits(*messages[0], data):
            self._take(self._direct, *messages[0])
        else:
            self._pass_on(data, _Parsed(parsed))

    def resume_writing(self) -> None:
        """Go on: the client has read enough of the answer."""
        super().resume_writing()
        if self._held_waiter is not None and self._due is None:
            self._release()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave the call that is due."""
        due, self._due = self._due, None
        self._held_waiter = self._origin = None
        super().connection_lost(exc)
        if due is not None:
            due.leave()

    # From a direct call

    def give(self, output: bytes) -> None:
        """Write 200 with the output; go on once a slow client has room for more."""
        self._due = self._origin = None
        if self.transport is None:
            return
        self.transport.write(encode_output(output))
        if not self._paused:
            self._release()

    def hand_over(self, response: StreamResponse) -> None:
        """Let the connection's job send this answer to the request that was taken."""
        waiter, self._held_waiter = self._held_waiter, None
        origin, self._due, self._origin = self._origin, None, None
        if self.transport is None or waiter is None or waiter.done():
            return
        self._ready = response
        self._messages.appendleft(origin)
        self._waiter = waiter
        waiter.set_result(None)

    # For the server

    def serve_probes_alone(self) -> None:
        """Answer nothing but probes, and close: all places of others are taken."""
        self.is_for_probes = True
        self._direct = None

    def take_ready(self) -> StreamResponse | None:
        """Return the answer of the message that the job is at, if it was handed over."""
        ready, self._ready = self._ready, None
        return ready

    def _is_idle(self) -> bool:
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and not self._messages
            and not self._upgraded
            and self._payload_parser is None
            and not (self._close or self._force_close or self._paused)
        )

    def _pass_on(self, data: bytes, parsed: _Parsed) -> None:
        """Let aiohttp do what it does with what its parser made of the data."""
        parser, self._parser = self._parser, cast("Any", parsed)
        try:
            super().data_received(data)
        finally:
            self._parser = parser

    def _take(self, direct: DirectCalls, message: Any, payload: Any) -> None:
        # From here on the job counts as busy: reading the body parses on, and may find messages.
        self._held_waiter, self._waiter = self._waiter, None
        self._request_in_progress = True
        self._request_count += 1
        self._origin = message, payload
        cast("Any", self._parser).message_consumed()
        due = direct.start(self, message, payload.read_nowait())
        if due is not None:
            self._due = due
            due.watch()

    def _release(self) -> None:
        """Let the job go on, as it would after an answer of its own."""
        waiter, self._held_waiter = self._held_waiter, None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if waiter is None or waiter.done():
            return
        if self._close or self._force_close:
            waiter.cancel()
            if self.transport is not None:
                self.transport.close()
            return
        self._next_keepalive_close_time = self._loop.time() + IDLE_S
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        self._waiter = waiter
        if self._messages:
            waiter.set_result(None)


class _Parsed:
    """Stands for the parser while aiohttp takes what the parser has made already."""

    __slots__ = ("_error", "_result")

    def __init__(self, result: Any = None, *, error: HttpProcessingError | None = None) -> None:
        self._result = result
        self._error = error

    def feed_data(self, data: bytes) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


def with_ready_answers(handler: Handler) -> Handler:
    """Return a handler that gives the answers which were handed over, and asks for all others."""

    def handle(request: BaseRequest) -> Awaitable[StreamResponse]:
        connection = request.protocol
        if isinstance(connection, DirectConnection):
            ready = connection.take_ready()
            if ready is not None:
                return _return(ready)
            if connection.is_for_probes:
                return _probe_alone(handler, request)
        return handler(request)

    return handle


async def _probe_alone(handler: Handler, request: BaseRequest) -> StreamResponse:
    if request.raw_path not in OPEN_ROUTES:
        if request.transport is not None:
            request.transport.close()
        raise ConnectionResetError("all connections are taken")
    response = await handler(request)
    response.force_close()
    return response


async def _return(response: StreamResponse) -> StreamResponse:
    return response
