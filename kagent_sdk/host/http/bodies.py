"""Reading request bodies: bounded in size, in time, and all together."""

from __future__ import annotations

import asyncio

from aiohttp.http_writer import HttpVersion11
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
from aiohttp.web_request import BaseRequest

from kagent_sdk.config.models import HttpConfig
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import (
    body_too_large,
    queue_full,
    request_timeout,
    unsupported_media_type,
)

MAX_READING_BODIES = 8
"""Bodies of the largest size that may be on their way at a time; smaller ones count by size."""


class BodyReader:
    """Reads the bodies of one server.

    Args:
        config: ``max_body_bytes`` and ``read_timeout_s``.
    """

    def __init__(self, config: HttpConfig) -> None:
        self._limit_bytes = config.max_body_bytes
        self._timeout_s = config.read_timeout_s
        self._room_bytes = config.max_body_bytes * MAX_READING_BODIES

    async def read(self, request: BaseRequest) -> bytes:
        """Return the whole body.

        Raises:
            RequestError: 413, 415 (compressed), 408 (too slow), 429 (too much on its way at once).
        """
        length = request.content_length
        if length is not None and length > self._limit_bytes:
            raise RequestError(body_too_large(self._limit_bytes))
        if "Content-Encoding" in request.headers:
            raise RequestError(unsupported_media_type())
        content = request.content
        if content.is_eof() and length is not None:
            return content.read_nowait() if length else b""
        return await self._read_slowly(request, self._limit_bytes if length is None else length)

    async def _read_slowly(self, request: BaseRequest, size: int) -> bytes:
        if size > self._room_bytes:
            raise RequestError(queue_full(1))
        self._room_bytes -= size
        try:
            _ask_for_body(request)
            async with asyncio.timeout(self._timeout_s):
                return await request.read()
        except HTTPRequestEntityTooLarge:
            raise RequestError(body_too_large(self._limit_bytes)) from None
        except TimeoutError:
            raise RequestError(request_timeout(self._timeout_s)) from None
        finally:
            self._room_bytes += size


def _ask_for_body(request: BaseRequest) -> None:
    """Send the interim answer that a client may wait for before it sends a body (RFC 9110, 10.1.1)."""
    expected = request.headers.get("Expect", "").lower() == "100-continue"
    if expected and request.version >= HttpVersion11 and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
