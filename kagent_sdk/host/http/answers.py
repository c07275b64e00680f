"""Responses: JSON bytes and problem documents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import cast

from aiohttp.http_writer import HttpVersion11
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from kagent_sdk.protocol.problem import PROBLEM_CONTENT_TYPE, Problem

JSON_HEADERS = {"Content-Type": "application/json"}


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer with a JSON body."""
    if headers is None:
        return Response(body=body, status=status, headers=JSON_HEADERS)
    return Response(body=body, status=status, headers={**JSON_HEADERS, **headers})


def problem_response(problem: Problem) -> Response:
    """Return a problem document as an answer."""
    headers = {"Content-Type": PROBLEM_CONTENT_TYPE, **problem.headers}
    return Response(body=problem.to_bytes(), status=problem.status, headers=headers)


def output_response(request: BaseRequest, output: bytes) -> StreamResponse:
    """Return the answer of a plain call: 200 with the output."""
    if request.version == HttpVersion11 and request.keep_alive:
        return cast("StreamResponse", OutputResponse(output))
    return json_response(output)


class OutputResponse:
    """The one answer that is given ten thousand times a second, written in one go.

    It does what `aiohttp.web.Response` does for a 200 with a JSON body on a connection that stays
    open, without building a table of headers first: measured, that table is a third of the cost of
    a call. It is what aiohttp's protocol asks of a response: ``prepare``, ``write_eof``,
    ``keep_alive`` and ``status``.
    """

    __slots__ = ("_output",)
    status = 200
    keep_alive = True

    def __init__(self, output: bytes) -> None:
        self._output = output

    async def prepare(self, request: BaseRequest) -> None:
        """Write head and body."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        transport.write(encode_output(self._output))
        # What a slow client has not read yet is held once, in the transport's buffer.
        self._output = b""
        # A client that does not read gets one answer into memory, not one per pipelined request.
        if request.protocol.writing_paused:
            await request.writer.drain()

    async def write_eof(self) -> None:
        """Nothing is left to write."""


def encode_output(output: bytes) -> bytes:
    """Return a 200 with this JSON as it goes over a connection that stays open."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Date: %b\r\n\r\n%b" % (len(output), _date(), output)
    )


class _Date:
    """The header Date, made once a second (RFC 9110, 6.6.1)."""

    second = -1
    text = b""


def _date() -> bytes:
    second = int(time.time())
    if second != _Date.second:
        _Date.second = second
        _Date.text = formatdate(second, usegmt=True).encode()
    return _Date.text
